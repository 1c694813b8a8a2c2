"""The job file layer by layer: TOML text, tables of values, --set, the stored job."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fuzz_target import FuzzTarget

from clicooper_hpc.config.data_section import DataSection
from clicooper_hpc.config.job import Job
from clicooper_hpc.config.load_job import load_canonical_job, load_job, reload_job

_JOBS = Path(__file__).resolve().parents[2] / "jobs"


@functools.cache
def _folder() -> TemporaryDirectory[str]:
    return TemporaryDirectory(prefix="fuzz-")


@functools.cache
def _plain_job() -> Job:
    return Job(data=DataSection(path="digits"))


def _job_files() -> list[bytes]:
    return [path.read_bytes() for path in sorted(_JOBS.glob("*.toml"))]


def _place(content: bytes) -> Path:
    """Write a job file beside the jobs it may extend."""
    folder = Path(_folder().name)
    if not (folder / "digits.toml").exists():
        for seed in _JOBS.glob("*.toml"):
            (folder / seed.name).write_bytes(seed.read_bytes())
    (folder / "job.toml").write_bytes(content)
    return folder / "job.toml"


def _read_job(content: bytes) -> None:
    job = load_job(_place(content))
    # A job that is taken can be stored, and is the same job when it is read back.
    assert load_canonical_job(job.canonical()).canonical() == job.canonical()


def _tables() -> list[bytes]:
    job = json.loads(_plain_job().canonical())
    return [json.dumps(job).encode(), json.dumps({"data": {"path": "digits"}}).encode()]


def _toml_of(value: Any) -> str:
    """Write a JSON value as TOML; what TOML cannot say is left to its reader to refuse."""
    if isinstance(value, dict):
        return (
            "{"
            + ", ".join(
                f"{json.dumps(k)} = {_toml_of(v)}" for k, v in value.items() if v is not None
            )
            + "}"
        )
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml_of, value)) + "]"
    if isinstance(value, float):
        return repr(value)
    return json.dumps(value, ensure_ascii=False)


def _read_table(content: bytes) -> None:
    """A JSON object, given as TOML: well-formed text with wrong values."""
    try:
        table = json.loads(content)
    except (ValueError, RecursionError):
        return
    if not isinstance(table, dict):
        return
    text = "".join(f"{json.dumps(k)} = {_toml_of(v)}\n" for k, v in table.items() if v is not None)
    _read_job(text.encode("utf-8", "surrogatepass"))


def _overrides() -> list[bytes]:
    return [
        b"training.epochs=3",
        b"front.kind=dct\0front.dim=8",
        b"model.options={widths=[8]}",
        b"training.betas=[0.9, 0.99]",
        b"privacy.enabled=false",
        b"slurm.extra=['--exclusive']",
    ]


def _read_override(content: bytes) -> None:
    texts = [part.decode("utf-8", "surrogateescape") for part in content.split(b"\0")[:4]]
    reload_job(_plain_job(), texts).canonical()


def _read_stored(content: bytes) -> None:
    text = content.decode("utf-8", "replace")
    job = load_canonical_job(text)
    assert load_canonical_job(job.canonical()) == job


TARGETS: Sequence[FuzzTarget] = (
    FuzzTarget("job-toml", _job_files, _read_job),
    FuzzTarget("job-values", _tables, _read_table, form="json"),
    FuzzTarget("job-set", _overrides, _read_override),
    FuzzTarget("job-stored", _tables, _read_stored, form="json"),
)
