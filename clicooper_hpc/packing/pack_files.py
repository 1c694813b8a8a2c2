"""Names of the files of a pack, and the files of one read as those of a stranger."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from clicooper_hpc.errors import RunFolderError
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
    "list_files",
    "pack_file_digests",
    "read_document",
]

#: What the owner signed of the pack; its name is what tells a pack from a run.
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

#: Most bytes of a document that is parsed; the longest, the ledger, has more room of its own.
DOCUMENT_BYTES: Final = 1 << 24
#: No pack has so many; whoever hands one on can put any number there.
_MOST_FILES: Final = 10_000


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
    """Tell whether ``path`` is the folder of a pack, not that of a run."""
    return os.path.lexists(path / STATEMENT) and not os.path.lexists(path / "run.h5")


def list_files(folder: Path) -> list[str]:
    """Return the paths of all files below ``folder``, relative to it, sorted.

    Raises
    ------
    RunFolderError
        A link, or something else that is neither file nor folder; too many of them, or folders
        nested too deeply.
    OSError
        A folder cannot be read.
    """
    found: list[str] = []
    waiting = [""]
    while waiting:
        place = waiting.pop()
        for entry in os.scandir(folder / place):
            name = f"{place}/{entry.name}" if place else entry.name
            mode = entry.stat(follow_symlinks=False).st_mode
            if stat.S_ISDIR(mode) and name.count("/") < MOST_FOLDERS:
                waiting.append(name)
            elif stat.S_ISREG(mode) and len(found) < _MOST_FILES:
                found.append(name)
            else:
                raise RunFolderError(
                    "no pack holds this: it is neither a file nor a folder, or one too many",
                    where=str(folder / name),
                    remedy="Get an unchanged copy of the pack.",
                )
    return sorted(found)


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
    RunFolderError
        It is missing, no regular file, or has more than ``most`` bytes.
    """
    try:
        return read_regular_file(folder / name, within=folder, most=most)
    except OSError as error:
        raise RunFolderError(
            f"the file of the pack cannot be read ({error.strerror})",
            where=str(folder / name),
            remedy="Get an unchanged copy of the pack.",
        ) from error
