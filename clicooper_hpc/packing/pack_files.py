"""Names of the files of a pack, and the files of one read as those of a stranger."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from clicooper_hpc.errors import EvidenceError, RunFolderError
from clicooper_hpc.runstore.limits import MOST_FOLDERS
from clicooper_hpc.runstore.regular_files import read_regular_file

__all__ = [
    "BILL",
    "CARD",
    "CHECKPOINTS_FILE",
    "CRATE",
    "DOCUMENT_BYTES",
    "MODEL",
    "MODEL_KEY",
    "MODEL_SIGNATURE",
    "PROOFS",
    "README",
    "SLSA",
    "STATEMENT",
    "PackedFile",
    "is_pack",
    "list_empty_folders",
    "list_files",
    "pack_file_digests",
    "read_document",
]

#: What the owner signed of the pack.
STATEMENT: Final = "pack.dsse.json"
CRATE: Final = "ro-crate-metadata.json"
BILL: Final = "bom.cdx.json"
SLSA: Final = "provenance.slsa.dsse.json"
CARD: Final = "privacy-card.txt"
README: Final = "README.md"
#: Folder of the model; beside it the signature over its files, and the key that made it.
MODEL: Final = "model"
MODEL_SIGNATURE: Final = "model.sig"
MODEL_KEY: Final = "model-signing.pub.pem"
#: Folder of the ledger, as `clicooper verify --export` writes it, and all its checkpoints.
PROOFS: Final = "proofs"
CHECKPOINTS_FILE: Final = "checkpoints.jsonl"

_REMEDY: Final = "Get an unchanged copy of the pack."
#: What one is known by that lost its statement: any two of these, as no folder of others has them.
_SIGNS: Final = (
    CRATE,
    BILL,
    SLSA,
    CARD,
    MODEL_SIGNATURE,
    MODEL_KEY,
    f"{PROOFS}/{CHECKPOINTS_FILE}",
)

#: Most bytes of a document that is parsed; the longest, the ledger, has more room of its own.
DOCUMENT_BYTES: Final = 1 << 24
#: Files and folders. No pack has so many; whoever hands one on can put any number there.
_MOST_ENTRIES: Final = 10_000


@dataclass(frozen=True, slots=True)
class PackedFile:
    """A file of a pack: SHA-256 (hex) and size in bytes."""

    sha256: str
    size: int

    @classmethod
    def of(cls, content: bytes) -> PackedFile:
        """Return what describes ``content``."""
        return cls(hashlib.sha256(content).hexdigest(), len(content))


def is_pack(path: Path) -> bool:
    """Tell whether ``path`` is the folder of a pack, whole or with parts taken out or put in.

    The statement alone makes one, whatever else is there: a run has none. Without it two other
    documents do, unless a run is there.
    """
    if os.path.lexists(path / STATEMENT):
        return True
    signs = sum(os.path.lexists(path / name) for name in _SIGNS)
    return signs > 1 and not os.path.lexists(path / "run.h5")


def list_files(folder: Path) -> list[str]:
    """Return the paths of all files below ``folder``, relative to it, sorted.

    Raises
    ------
    EvidenceError
        A link, or something else that is neither file nor folder; too many of them, or folders
        nested too deeply.
    OSError
        A folder cannot be read.
    """
    return _walk(folder)[0]


def list_empty_folders(folder: Path) -> list[str]:
    """Return the paths of all folders below ``folder`` with nothing in them; else as above."""
    return _walk(folder)[1]


def _walk(folder: Path) -> tuple[list[str], list[str]]:
    """Return files and empty folders."""
    files: list[str] = []
    empty: list[str] = []
    waiting, count = [""], 0
    while waiting:
        place = waiting.pop()
        before = count
        for entry in os.scandir(folder / place):
            count += 1
            name = f"{place}/{entry.name}" if place else entry.name
            mode = entry.stat(follow_symlinks=False).st_mode
            if stat.S_ISDIR(mode) and name.count("/") < MOST_FOLDERS and count <= _MOST_ENTRIES:
                waiting.append(name)
            elif stat.S_ISREG(mode) and count <= _MOST_ENTRIES:
                files.append(name)
            else:
                raise EvidenceError(
                    "no pack holds this: it is neither a file nor a folder, or one too many",
                    where=str(folder / name),
                    remedy=_REMEDY,
                )
        if count == before and place:
            empty.append(place)
    return sorted(files), sorted(empty)


def pack_file_digests(folder: Path, below: str = "") -> Mapping[str, PackedFile]:
    """Return all files of the pack in ``folder`` whose paths begin with ``below``, in order.

    Errors as `list_files`; one that grew too large or has vanished is an error of the same kinds.
    """
    return {
        name: PackedFile.of(read_regular_file(folder / name, within=folder))
        for name in list_files(folder)
        if name.startswith(below)
    }


def read_document(folder: Path, name: str, *, most: int = DOCUMENT_BYTES) -> bytes:
    """Return the file ``name`` of the pack in ``folder``.

    Raises
    ------
    EvidenceError
        It is missing, no regular file, or has more than ``most`` bytes.
    RunFolderError
        This user or machine cannot read it.
    """
    try:
        return read_regular_file(folder / name, within=folder, most=most)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise EvidenceError(
            f"{name} of the pack is missing", where=str(folder / name), remedy=_REMEDY
        ) from error
    except RunFolderError as error:
        raise EvidenceError(error.what, where=error.where, remedy=_REMEDY) from error
    except OSError as error:
        raise RunFolderError(
            f"the file of the pack cannot be read ({error.strerror})",
            where=str(folder / name),
            remedy="Make it readable for yourself.",
        ) from error
