"""Limits on what is read from a run folder: a folder of a stranger cannot fill memory or time.

Each is far above what a run writes, and is looked at before the thing itself is read. A run that
would go beyond `MOST_RANKS` is refused when it begins; the others no run reaches.
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "FREE_BYTES",
    "MOST_ATTRIBUTES",
    "MOST_CHUNK_BYTES",
    "MOST_COLUMN_BYTES",
    "MOST_DEPTH",
    "MOST_DIMENSIONS",
    "MOST_FILE_BYTES",
    "MOST_FOLDERS",
    "MOST_LINKS",
    "MOST_RANKS",
    "MOST_SMALL_FILE_BYTES",
    "MOST_TEXT_BYTES",
    "MOST_UNFOLDING",
]

#: Ranks of a run. A trainer holds at least one layer; networks of thousands of layers are unknown.
MOST_RANKS: Final = 4096
#: Links (names) in one HDF5 file. A shard has about 50, an index of layout "single" 50 a rank.
MOST_LINKS: Final = 250_000
#: Groups within groups. Findings of attacks have five levels, all else has fewer.
MOST_DEPTH: Final = 8
#: Folders within folders of a run folder. A run makes two levels; paths have a bound of the system.
MOST_FOLDERS: Final = 8
#: Dimensions of a dataset. Pictures of attacks have four.
MOST_DIMENSIONS: Final = 8
#: Attributes of one object that are read as a whole. The root of an index has about 20.
MOST_ATTRIBUTES: Final = 1000
#: Bytes of one text: the resolved job is the longest, and ranks pass it on in at most this.
MOST_TEXT_BYTES: Final = 1 << 20
#: Bytes of one chunk, which HDF5 unpacks as a whole. Ours have 64 KiB, or one row.
MOST_CHUNK_BYTES: Final = 1 << 24
#: Bytes of one dataset in memory: 131,072 signed statements, or 67 million digests of messages.
MOST_COLUMN_BYTES: Final = 1 << 32
#: Times its own size that a file may unfold to in memory. Ours reach about 10; of their columns
#: padded statements 26, padded notes 64. gzip alone could reach 1,000, and space that was never
#: written has no bound at all.
MOST_UNFOLDING: Final = 100
#: Bytes that any file may unfold to, however small it is.
FREE_BYTES: Final = 1 << 26
#: Bytes of a file that is read as a whole: a segment with its optimizer, a delivery.
MOST_FILE_BYTES: Final = 1 << 36
#: Bytes of a file of settings or keys: an index of a checkpoint, a mark key.
MOST_SMALL_FILE_BYTES: Final = 1 << 24
