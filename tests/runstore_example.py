"""A small run written through the public interface, with numbers that can be told apart."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from clicooper_hpc.runstore.index import (
    PipelineText,
    PrivacyText,
    RunHeader,
    RunResult,
    create_index,
)
from clicooper_hpc.runstore.index_end import complete_index, finish_index
from clicooper_hpc.runstore.metrics import Layout
from clicooper_hpc.runstore.run_folder import RunFolder, create_run_folder
from clicooper_hpc.runstore.tables.schema import OWNER_TABLES, STEPS, TRAINER_TABLES, Table
from clicooper_hpc.runstore.tables.shard_writer import ShardWriter
from clicooper_hpc.runstore.tables.writer import TableWriter

RUN_ID = "5f0c9a52-0000-4000-8000-000000000001"
JOB = {"data": {"name": "digits"}, "training": {"epochs": 2, "learning_rate": 0.1}}
PRIVACY = PrivacyText(
    {"unit": "sample", "epsilon": 8.0, "delta": 1e-5, "conditional": False},
    "unit: sample (replace-one)\nepsilon 8 at delta 1e-05",
)
PIPELINE = PipelineText((0, 2), "rank 1: F0 B0\nrank 2: F0 B0", ("conv", "relu", "flatten", "out"))
RESULTS = {
    "clean_accuracy": RunResult(0.875, "1", "Accuracy of the delivered model on clean samples"),
    "wall_s": RunResult(12.5, "s", "Wall time of the run"),
}


def header(ranks: int = 3, layout: Layout = "shards") -> RunHeader:
    return RunHeader(
        run_id=RUN_ID,
        created="2026-01-02T03:04:05+00:00",
        creator_version="0.1.0",
        git_commit="0" * 40,
        layout=layout,
        resolved_job=json.dumps(JOB),
        job_digest="ab" * 32,
        mpi_library="MPICH 5.0 (ä)",
        versions={"torch": "2.0", "h5py": "3.12"},
        hosts=tuple(f"node{rank}" for rank in range(ranks)),
    )


def tables_by_rank(ranks: int = 3) -> dict[int, Sequence[Table]]:
    return {rank: OWNER_TABLES if rank == 0 else TRAINER_TABLES for rank in range(ranks)}


def step_row(rank: int, step: int, table: str = "steps") -> dict[str, Any]:
    if table == "training":
        return {
            "step": step,
            "loss": 2.0 / (1 + step) + rank,
            "learning_rate": 0.1,
            "gradient_norm": 10.0 * rank + step,
            "sub_label_accuracy": 0.5,
        }
    columns = {column.name: column.units for column in STEPS.columns}
    counts = {name: 1000 * rank + step for name, units in columns.items() if units == "byte"}
    seconds = {name: 0.25 for name, units in columns.items() if units == "s"}
    return {
        **counts,
        **seconds,
        "step": step,
        "epoch": step // 4,
        "compute_s": 0.5,
        "step_s": 1.0 + rank + step / 100,
        "messages_sent": 4,
        "rows": 32,
    }


def write_steps(writer: TableWriter, rank: int, steps: range) -> None:
    for step in steps:
        writer.append("steps", step_row(rank, step))
        if rank:
            writer.append("training", step_row(rank, step, "training"))


def write_owner_events(writer: TableWriter) -> None:
    writer.append(
        "releases",
        {
            "step": 0,
            "split": 0,
            "samples_new": 32,
            "samples_total": 32,
            "epsilon": 8.0,
            "epsilon_sample": 8.0,
            "delta": 1e-5,
            "sigma": 1.5,
        },
    )
    writer.append(
        "evaluation",
        {"epoch": 0, "step": 3, "clean_accuracy": 0.75, "clean_loss": 0.5, "samples": 100},
    )


def shard_attributes(rank: int) -> Mapping[str, str | int]:
    return {"run_id": RUN_ID, "rank": rank, "role": "trainer" if rank else "owner"}


def start_run(path: Path, ranks: int = 3) -> tuple[RunFolder, list[ShardWriter]]:
    folder = create_run_folder(path)
    tables = tables_by_rank(ranks)
    create_index(folder.index, header(ranks), tables=tables, pipeline=PIPELINE, privacy=PRIVACY)
    writers = [
        ShardWriter(folder.shard(rank), tables[rank], shard_attributes(rank))
        for rank in range(ranks)
    ]
    return folder, writers


def finished_run(path: Path, ranks: int = 3, steps: int = 8) -> RunFolder:
    folder, writers = start_run(path, ranks)
    for rank, writer in enumerate(writers):
        with writer:
            write_steps(writer, rank, range(steps))
            if rank == 0:
                write_owner_events(writer)
    finish_index(folder.index, results=RESULTS, privacy=PRIVACY)
    complete_index(folder.index)
    return folder
