"""Sealed checkpoints for a restart, from docs/provenance.md ("Checkpoints for a restart") alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from independent_formats import MismatchError, is_hex, signature_holds
from independent_ledger import need

FIELDS = {"files", "format", "run_id", "seals", "sha256", "step", "version"}
SEALED = FIELDS - {"seals", "sha256"}


def read_restart_index(folder: Path) -> dict[str, Any]:
    """Fields of the index of a checkpoint; `MismatchError` if a reader passes over it."""
    try:
        index: dict[str, Any] = json.loads((folder / "index.json").read_bytes())
    except (OSError, ValueError) as error:
        raise MismatchError(f"no index: {error}") from None
    need(isinstance(index, dict) and set(index) == FIELDS, "an index with other fields")
    need((index["format"], index["version"]) == ("clicooper-checkpoint", 2), "another version")
    rest = {name: value for name, value in index.items() if name != "sha256"}
    need(index["sha256"] == hashlib.sha256(_text(rest)).hexdigest(), "a changed index")
    need(folder.name == f"step-{index['step']:08d}", "an index of another folder")
    return index


def look_at_restart(folder: Path, keys: Sequence[str], run_id: str) -> int:
    """Refuse a checkpoint whose seals or files do not fit; number of its files.

    `keys` are those of all ranks (hex), in their order.
    """
    index = read_restart_index(folder)
    need(index["run_id"] == run_id, "a checkpoint of another run")
    sealed = {name: index[name] for name in SEALED}
    text = b"clicooper/v1/run-checkpoint\x00" + _text(sealed)
    need(len(index["seals"]) == len(keys), "another number of seals")
    for rank, (key, seal) in enumerate(zip(keys, index["seals"], strict=True)):
        good = is_hex(seal, 64) and signature_holds(bytes.fromhex(key), bytes.fromhex(seal), text)
        need(good, f"rank {rank} sealed something else")
    ranks = range(len(keys))
    names = {f"rank-{rank:03d}.safetensors" for rank in ranks}
    names |= {f"segment-{rank:03d}.safetensors" for rank in ranks if rank}
    need(set(index["files"]) == names, "other files")
    for name, (size, digest) in index["files"].items():
        data = (folder / name).read_bytes()
        found = (len(data), hashlib.sha256(data).hexdigest())
        need(found == (size, digest), f"{name} is another file")
    return len(names)


def _text(fields: Mapping[str, Any]) -> bytes:
    return json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()
