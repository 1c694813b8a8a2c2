"""CIFAR-10 and CIFAR-100, "binary version", as published or unpacked.

Layout (A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009, data page):
every file is a row of entries of fixed size, each one label byte (CIFAR-100: coarse, then fine)
and 3072 pixel bytes: 32x32 red, then green, then blue. File sizes are exact, so a cut file shows.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clicooper_hpc.data.importers.archive_members import (
    ArchiveMember,
    ArchiveMembers,
    open_archive_members,
)
from clicooper_hpc.data.importers.exact_reader import BLOCK_BYTES
from clicooper_hpc.data.sample_sink import SampleSink
from clicooper_hpc.errors import DataError

__all__ = ["CIFAR10", "CIFAR100", "CifarLayout", "import_cifar"]

_PIXELS = 3 * 32 * 32
# The published files have under 1 kB; the bound keeps a wrong file out of memory.
_MAX_NAMES_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class CifarLayout:
    """What a published archive holds.

    Attributes
    ----------
    label_classes
        Number of classes of each label byte; the last label is the one imported.
    names_file
        Text file with one class name a line.
    files
        (split, file, rows) in the order written.
    """

    title: str
    label_classes: tuple[int, ...]
    names_file: str
    files: tuple[tuple[str, str, int], ...]

    @property
    def entry_bytes(self) -> int:
        """Bytes of one sample: its labels and pixels."""
        return len(self.label_classes) + _PIXELS


CIFAR10 = CifarLayout(
    "CIFAR-10",
    (10,),
    "batches.meta.txt",
    (
        *(("train", f"data_batch_{i}.bin", 10_000) for i in range(1, 6)),
        ("test", "test_batch.bin", 10_000),
    ),
)
CIFAR100 = CifarLayout(
    "CIFAR-100",
    (20, 100),
    "fine_label_names.txt",
    (("train", "train.bin", 50_000), ("test", "test.bin", 10_000)),
)


def import_cifar(layout: CifarLayout, source: Path, sink: SampleSink) -> tuple[str, ...]:
    """Stream all files of ``source`` into ``sink``; return the class names.

    Parameters
    ----------
    source
        The published .tar.gz, the folder it unpacks to, or the folder around that.

    Raises
    ------
    DataError
        Naming archive, member and byte offset of the first thing that is not as published.
    """
    with open_archive_members(source) as members:
        _refuse_other_archive(layout, members)
        parts = [(split, members.pick_member(file), rows) for split, file, rows in layout.files]
        names = _read_class_names(layout, members.pick_member(layout.names_file))
        # All sizes before the first row is read: a cut download shows at once, not after minutes.
        for _, member, rows in parts:
            if member.size != rows * layout.entry_bytes:
                raise DataError(
                    f"has {member.size:,} bytes, the published file has "
                    f"{rows * layout.entry_bytes:,}",
                    where=member.where,
                    remedy="Fetch the archive again",
                )
        for split, member, rows in parts:
            _copy_samples(layout, split, member, rows, sink)
    return names


def _refuse_other_archive(layout: CifarLayout, members: ArchiveMembers) -> None:
    if layout.names_file in members:
        return
    for other in (CIFAR10, CIFAR100):
        if other.names_file in members:
            raise DataError(f"is {other.title}, not {layout.title}", where=str(members.source))
    # Named, as it is published beside the binary version; its pickles could run code when read.
    if "batches.meta" in members or "meta" in members:
        raise DataError(
            "is the Python version, which is pickled and cannot be read safely",
            where=str(members.source),
            remedy="Fetch the binary version",
        )


def _read_class_names(layout: CifarLayout, member: ArchiveMember) -> tuple[str, ...]:
    expected = layout.label_classes[-1]
    with member.open_reader() as reader:
        text = reader.read(min(member.size, _MAX_NAMES_BYTES)).decode("utf-8", "replace")
    names = tuple(line.strip() for line in text.splitlines() if line.strip())
    if len(names) != expected:
        raise DataError(f"holds {len(names)} class names, expected {expected}", where=member.where)
    return names


def _copy_samples(
    layout: CifarLayout, split: str, member: ArchiveMember, rows: int, sink: SampleSink
) -> None:
    labels_bytes = len(layout.label_classes)
    step = max(1, BLOCK_BYTES // layout.entry_bytes)
    with member.open_reader() as reader:
        for start in range(0, rows, step):
            count = min(step, rows - start)
            raw = np.frombuffer(reader.read(count * layout.entry_bytes), dtype=np.uint8)
            entries = raw.reshape(count, layout.entry_bytes)
            # The coarse label of CIFAR-100 is not imported, but a wrong one shows a damaged entry
            # too.
            for column, classes in enumerate(layout.label_classes):
                bad = np.flatnonzero(entries[:, column] >= classes)
                if len(bad):
                    row = start + int(bad[0])
                    raise DataError(
                        f"label {entries[bad[0], column]} is outside 0..{classes - 1} (row {row})",
                        where=f"{member.where}, byte {row * layout.entry_bytes + column}",
                    )
            # Stored plane by plane (channels first); the native format is channels last, as image
            # libraries have it.
            images = entries[:, labels_bytes:].reshape(count, 3, 32, 32).transpose(0, 2, 3, 1)
            sink.append_samples(split, images, entries[:, labels_bytes - 1].astype(np.int64))
        reader.expect_end()
