"""Parsers of what other ranks send, apart from proofs: headers, reports, contract, requests."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from fuzz_target import FuzzTarget

from clicooper_hpc.config.data_section import DataSection
from clicooper_hpc.config.job import Job
from clicooper_hpc.doctor.rank_facts import FACTS, collect_facts, read_rank_facts
from clicooper_hpc.errors import FAILURE_CODES, ExitCode
from clicooper_hpc.run.network import _parse_layout_costs
from clicooper_hpc.run.run_request import RunRequest
from clicooper_hpc.training.checkpoint_writer import _parse_checkpoint_digests
from clicooper_hpc.training.contract import Contract
from clicooper_hpc.transport.failure_report import REPORT_BYTES, read_failure_report
from clicooper_hpc.transport.header import HEADER_BYTES, Header, pack_header, unpack_header
from clicooper_hpc.transport.launcher import Launcher, read_launcher
from clicooper_hpc.transport.message_kind import Kind
from clicooper_hpc.transport.wire_dtype import DType

_CAPACITY = 1 << 20


def _headers() -> list[bytes]:
    shapes: tuple[tuple[int, ...], ...] = ((), (0,), (32, 3, 8, 8), (1, 1, 1, 1, 1, 1), (256, 64))
    plain = [
        pack_header(Header(kind, dtype, shape, 7, 2))
        for kind, dtype, shape in zip(Kind, DType, shapes, strict=False)
    ]
    return [*plain, pack_header(Header(next(iter(Kind)), DType.UINT8, (100,), 0, 1, 1000))]


def _read_header(content: bytes) -> None:
    header = unpack_header(content, capacity_bytes=_CAPACITY, peer=1, direction="forward")
    assert header.payload_bytes <= _CAPACITY
    assert pack_header(header) == content[:HEADER_BYTES]


def _reports() -> list[bytes]:
    return [b"\0" * 8, (2).to_bytes(8, "little") + b"job.toml:3: unknown key", b"\x4b" + b"\0" * 7]


def _read_report(content: bytes) -> None:
    code = int.from_bytes(content[:8], "little", signed=True)
    outcome, text = read_failure_report(code, content[8:], 3)
    assert outcome == ExitCode.DONE or outcome in FAILURE_CODES
    assert text.isprintable()
    assert len(text) <= REPORT_BYTES


def _contracts() -> list[bytes]:
    return [Contract((3, 8, 8), 1000, 0, 40).encode_contract()]


def _requests() -> list[bytes]:
    job, path = Job(data=DataSection(path="digits")), Path("runs/one")
    return [RunRequest(job, path).encode_request(), RunRequest(job, path, job).encode_request()]


def _facts() -> list[bytes]:
    launcher = Launcher("mpiexec", "MPICH", 4, 1)
    with TemporaryDirectory() as folder:
        return [FACTS.dump_json(collect_facts(launcher, "MPICH 5.0", None, Path(folder)))]


def _digest_lists() -> list[bytes]:
    return [json.dumps({"rank-001.safetensors": [123, "0" * 64]}).encode()]


def _costs(content: bytes) -> None:
    half = len(content) // 2
    costs = _parse_layout_costs([content[:half], content[half:]], layers=3, limit_s=60.0)
    assert ((costs >= 0) & (costs <= 60)).all()


def _environment(content: bytes) -> None:
    """NAME=VALUE lines, as a launcher leaves them."""
    lines = content.decode("utf-8", "surrogateescape").split("\n")
    read_launcher(dict(line.split("=", 1) for line in lines if "=" in line))


TARGETS: Sequence[FuzzTarget] = (
    FuzzTarget("run-request", _requests, RunRequest.decode_request, form="json"),
    FuzzTarget("rank-facts", _facts, lambda content: read_rank_facts(content, 1), form="json"),
    FuzzTarget("message-header", _headers, _read_header),
    FuzzTarget("failure-report", _reports, _read_report),
    FuzzTarget("contract", _contracts, Contract.decode_contract, form="json"),
    FuzzTarget(
        "checkpoint-digests",
        _digest_lists,
        lambda content: _parse_checkpoint_digests(content, 1, [1]),
        form="json",
    ),
    FuzzTarget("layer-costs", lambda: [bytes(48)], _costs),
    FuzzTarget(
        "launcher-environment",
        lambda: [b"PMI_SIZE=4\nPMI_RANK=1", b"SLURM_PROCID=0\nSLURM_STEP_ID=0\nSLURM_NTASKS=3"],
        _environment,
    ),
)
