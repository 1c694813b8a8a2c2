"""Tensors on disk as safetensors: no code runs on loading, and no file is ever half written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save, save_file

from clicooper_hpc.errors import EnvironmentUnfitError, RunFolderError
from clicooper_hpc.runstore.atomic_files import replace_atomically
from clicooper_hpc.runstore.regular_files import read_regular_file

__all__ = [
    "load_safetensors",
    "pack_safetensors",
    "save_safetensors",
    "unpack_safetensors",
    "unpack_safetensors_texts",
]


def save_safetensors(
    path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write ``tensors`` to ``path``: aside, fsynced, renamed. Any dtype, any device.

    Raises
    ------
    EnvironmentUnfitError
        The file cannot be written; an older file of that name is untouched.
    """
    try:
        with replace_atomically(path) as aside:
            save_file(_plain_tensors(tensors), aside, _safetensors_texts(metadata))
    except (OSError, SafetensorError) as error:
        raise EnvironmentUnfitError(
            f"the tensors cannot be written ({error})",
            where=str(path),
            remedy="Free space on the file system of the run, then start again.",
        ) from error


def load_safetensors(path: Path, *, within: Path) -> dict[str, torch.Tensor]:
    """Read every tensor of a file in the run folder ``within``, dtypes and shapes as saved.

    Raises
    ------
    RunFolderError
        The file is missing, no regular file, cut short or damaged.
    """
    try:
        return load(read_regular_file(path, within=within))
    except (OSError, SafetensorError) as cause:
        raise _unreadable_safetensors(str(path), cause) from cause


def pack_safetensors(tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> bytes:
    """Return the safetensors file as bytes, for a `PrivateFolder`."""
    return save(_plain_tensors(tensors), _safetensors_texts(metadata))


def unpack_safetensors(content: bytes, *, where: str) -> dict[str, torch.Tensor]:
    """Undo `pack_safetensors`; `RunFolderError` naming ``where`` if the bytes are damaged."""
    try:
        return load(content)
    except SafetensorError as cause:
        raise _unreadable_safetensors(where, cause) from cause


def unpack_safetensors_texts(content: bytes, *, where: str) -> dict[str, str]:
    """Return the texts stored with the tensors in ``content``; errors as `unpack_safetensors`."""
    try:
        # safetensors reads texts from a file by its name only, and that file could be another.
        length = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + length])
        return {str(name): str(text) for name, text in header.get("__metadata__", {}).items()}
    except (ValueError, AttributeError, RecursionError) as cause:
        raise _unreadable_safetensors(where, cause) from cause


def _plain_tensors(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    # safetensors refuses views that share memory or have gaps; a copy of those is what is meant.
    return {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}


def _safetensors_texts(metadata: Mapping[str, str] | None) -> dict[str, str] | None:
    # safetensors 0.8 writes a header that is not JSON for no tensors and empty metadata.
    return dict(metadata) if metadata else None


def _unreadable_safetensors(where: str, cause: Exception) -> RunFolderError:
    missing = isinstance(cause, FileNotFoundError)
    reason = "is missing" if missing else f"is damaged or not safetensors ({cause})"
    return RunFolderError(
        f"the tensor file {reason}",
        where=where,
        remedy="Check the path." if missing else "Use an older checkpoint or a fresh copy.",
    )
