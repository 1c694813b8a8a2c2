"""Tensors on disk as safetensors: no code runs on loading, and no file is ever half written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save, save_file

from clicooper_hpc.errors import ClicooperError, EnvironmentUnfitError, RunFolderError
from clicooper_hpc.runstore.atomic_files import replace_atomically

__all__ = [
    "load_safetensors",
    "pack_safetensors",
    "read_safetensors_metadata",
    "save_safetensors",
    "unpack_safetensors",
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


def load_safetensors(
    path: Path, *, error: type[ClicooperError] = RunFolderError
) -> dict[str, torch.Tensor]:
    """Read every tensor of ``path`` to the CPU, dtypes and shapes as saved.

    ``error`` is raised, naming the file, if it is missing, cut short or damaged: `RunFolderError`
    for a checkpoint, `DataError` for weights that the user gave.
    """
    try:
        return load(path.read_bytes())
    except (OSError, SafetensorError) as cause:
        raise _unreadable_safetensors(path, cause, error) from cause


def read_safetensors_metadata(
    path: Path, *, error: type[ClicooperError] = RunFolderError
) -> dict[str, str]:
    """Read the texts stored with the tensors of ``path``; errors as in `load_safetensors`."""
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except (OSError, SafetensorError) as cause:
        raise _unreadable_safetensors(path, cause, error) from cause


def pack_safetensors(tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> bytes:
    """Return the safetensors file as bytes, for a `PrivateFolder`."""
    return save(_plain_tensors(tensors), _safetensors_texts(metadata))


def unpack_safetensors(content: bytes, *, where: str) -> dict[str, torch.Tensor]:
    """Undo `pack_safetensors`; `RunFolderError` naming ``where`` if the bytes are damaged."""
    try:
        return load(content)
    except SafetensorError as cause:
        raise _unreadable_safetensors(Path(where), cause, RunFolderError) from cause


def _plain_tensors(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    # safetensors refuses views that share memory or have gaps; a copy of those is what is meant.
    return {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}


def _safetensors_texts(metadata: Mapping[str, str] | None) -> dict[str, str] | None:
    # safetensors 0.8 writes a header that is not JSON for no tensors and empty metadata.
    return dict(metadata) if metadata else None


def _unreadable_safetensors(
    path: Path, cause: Exception, error: type[ClicooperError]
) -> ClicooperError:
    missing = isinstance(cause, FileNotFoundError)
    reason = "is missing" if missing else f"is damaged or not safetensors ({cause})"
    return error(
        f"the tensor file {reason}",
        where=str(path),
        remedy="Check the path." if missing else "Use an older checkpoint or a fresh copy.",
    )
