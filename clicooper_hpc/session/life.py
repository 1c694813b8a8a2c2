"""A run from the agreed job to the last file, as all ranks live it.

Numbered as in the code: (1) the owner prepares; (2) contract to all; (3) every rank builds the
network; (4) cuts to all; (5) sub-labels to all; (6) files; (7) channels and training; (8) files
closed; (9) results written, last of all the mark of a complete run.
"""

from __future__ import annotations

import json
import logging
import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from clicooper_hpc import __version__
from clicooper_hpc.config.job import Job
from clicooper_hpc.errors import PeerError
from clicooper_hpc.owner.card import card_of, entries_of
from clicooper_hpc.owner.preparation import Preparation, prepare
from clicooper_hpc.owner.role import Owner
from clicooper_hpc.pipeline.agenda import Delivery, TrainStep, ValidationStep
from clicooper_hpc.pipeline.contract import Contract
from clicooper_hpc.pipeline.course import Course
from clicooper_hpc.pipeline.device import choose_device
from clicooper_hpc.pipeline.layout import Layout, measured_costs
from clicooper_hpc.pipeline.partition import check_cuts
from clicooper_hpc.pipeline.schedule import check_depth
from clicooper_hpc.runstore.buffer import TableWriter
from clicooper_hpc.runstore.folder import RunFolder, create_run_folder
from clicooper_hpc.runstore.index import (
    PipelineText,
    PrivacyText,
    Result,
    RunHeader,
    create_index,
    finish_index,
)
from clicooper_hpc.runstore.private import PrivateFolder
from clicooper_hpc.runstore.single import SingleWriter
from clicooper_hpc.runstore.tables import OWNER_TABLES, TRAINER_TABLES
from clicooper_hpc.runstore.writer import ShardWriter
from clicooper_hpc.session.agreement import agree
from clicooper_hpc.session.assembly import course_of, layout_of, network_of
from clicooper_hpc.session.environment import git_commit, versions
from clicooper_hpc.session.progress import Progress
from clicooper_hpc.session.roles import make_owner, make_trainer
from clicooper_hpc.transport.world import World

__all__ = ["live"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Scene:
    """What every rank knows when training starts."""

    world: World
    job: Job
    folder: RunFolder
    contract: Contract
    model: nn.Sequential
    layout: Layout
    course: Course
    device: torch.device


def live(world: World, job: Job, path: Path, *, quiet: bool) -> None:
    """Run ``job`` into the new run folder ``path``."""
    startup_s = job.pipeline.startup_timeout_s
    torch.set_num_threads(job.training.threads)
    folder = RunFolder(path)
    started = time.monotonic()

    def prepared() -> Preparation | None:  # (1)
        if world.rank:
            return None
        create_run_folder(path)
        return prepare(job, PrivateFolder(folder.private))

    preparation = agree(world, prepared, deadline_s=startup_s)
    if job.output.record_wire:
        world.tap_into(path / "wire")
    payload = None if preparation is None else preparation.contract.to_bytes()
    contract = Contract.from_bytes(  # (2)
        world.broadcast_bytes(payload, limit_bytes=2**16, deadline_s=startup_s)
    )
    model, device = agree(
        world, lambda: _network(world, job, contract), deadline_s=startup_s
    )  # (3)
    layout = _agree_on_layout(world, job, model, contract, device)  # (4)
    sub_labels = _share_sub_labels(world, job, contract, preparation)  # (5)
    course = course_of(job, contract, sub_labels, world.size - 1)
    scene = _Scene(world, job, folder, contract, model, layout, course, device)
    writer = _open_files(scene, preparation)  # (6)
    with writer:
        owner = _train(scene, preparation, writer, quiet=quiet)  # (7)
    agree(world, lambda: None, deadline_s=job.pipeline.timeout_s)  # (8)
    if owner is not None and preparation is not None:
        _write_results(scene, preparation, owner, time.monotonic() - started, quiet=quiet)  # (9)


def _network(world: World, job: Job, contract: Contract) -> tuple[nn.Sequential, torch.device]:
    check_depth(world.size - 1, job.pipeline.micro_batches)
    # The owner has little compute and no GPU: it only ever evaluates on the CPU.
    wish = "cpu" if world.rank == 0 else job.pipeline.device
    return network_of(job, contract), choose_device(wish, world.local_rank)


def _agree_on_layout(
    world: World, job: Job, model: nn.Sequential, contract: Contract, device: torch.device
) -> Layout:
    """Let the owner cut the network, by what the trainers measured if the job says so."""
    startup_s = job.pipeline.startup_timeout_s
    costs: NDArray[np.float64] | None = None
    if job.pipeline.partition == "auto":

        def measure() -> bytes:
            if world.rank == 0:
                return b""
            rows = -(-job.training.batch_size // job.pipeline.micro_batches)
            return measured_costs(model, contract.release_shape, rows=rows, device=device).tobytes()

        mine = agree(world, measure, deadline_s=startup_s)
        parts = world.gather_bytes(mine, limit_bytes=8 * len(model), deadline_s=startup_s)
        if parts is not None:
            costs = np.stack([np.frombuffer(part, dtype=np.float64) for part in parts[1:]])

    def cut() -> Layout | None:
        if world.rank:
            return None
        return layout_of(job, model, contract, world.size - 1, costs)

    layout = agree(world, cut, deadline_s=startup_s)
    payload = None if layout is None else json.dumps(layout.cuts).encode()
    shared = json.loads(world.broadcast_bytes(payload, limit_bytes=2**16, deadline_s=startup_s))
    cuts = check_cuts(shared, len(model), world.size - 1)
    return layout_of(
        job.model_copy(update={"pipeline": job.pipeline.model_copy(update={"partition": [*cuts]})}),
        model,
        contract,
        world.size - 1,
    )


def _share_sub_labels(
    world: World, job: Job, contract: Contract, preparation: Preparation | None
) -> NDArray[np.int32]:
    """Give all ranks the sub-label of every training sample; the ledger is asked first."""
    payload = None
    if preparation is not None:
        preparation.desk.authorise_labels()
        payload = preparation.sub_labels.tobytes()
    raw = world.broadcast_bytes(
        payload, limit_bytes=4 * contract.samples, deadline_s=job.pipeline.startup_timeout_s
    )
    labels = np.frombuffer(raw, dtype=np.int32)
    inside = labels.size == contract.samples and labels.min() >= 0
    if not inside or labels.max() >= contract.outputs:
        raise PeerError("the sub-labels do not fit the contract", where="message from rank 0")
    return labels


def _open_files(scene: _Scene, preparation: Preparation | None) -> TableWriter:
    world, job = scene.world, scene.job
    startup_s = job.pipeline.startup_timeout_s
    tables = {0: OWNER_TABLES, **dict.fromkeys(range(1, world.size), TRAINER_TABLES)}
    run_id = world.broadcast_bytes(
        None if world.rank else uuid.uuid4().hex.encode(), limit_bytes=64, deadline_s=startup_s
    ).decode()
    single = job.output.layout == "single"

    def index() -> None:
        if preparation is None:
            return
        card = card_of(job, preparation)
        create_index(
            scene.folder.index,
            _header(scene, run_id),
            tables=tables,
            rows=_row_counts(scene.course) if single else None,
            pipeline=PipelineText(
                cuts=(0, *scene.layout.cuts),
                schedule=_schedule_text(scene),
                layer_names=tuple(type(layer).__name__ for layer in scene.model),
            ),
            privacy=PrivacyText(entries_of(card), card.text()),
        )

    def own() -> TableWriter:
        mine = tables[world.rank]
        if single:
            return SingleWriter(
                scene.folder.index, mine, rank=world.rank, communicator=world.comms.job
            )
        attributes: dict[str, str | int | float | bool] = {"run_id": run_id, "rank": world.rank}
        return ShardWriter(scene.folder.shard(world.rank), mine, attributes)

    agree(world, index, deadline_s=startup_s)
    return agree(world, own, deadline_s=startup_s)


def _train(
    scene: _Scene, preparation: Preparation | None, writer: TableWriter, *, quiet: bool
) -> Owner | None:
    if preparation is None:
        make_trainer(
            scene.world,
            scene.job,
            scene.course,
            scene.layout,
            scene.model,
            contract=scene.contract,
            device=scene.device,
            folder=scene.folder.path,
            writer=writer,
        ).run()
        return None
    spec = preparation.spec
    note = (
        "NO PRIVACY"
        if spec is None
        else (f"epsilon {spec.guarantee.epsilon:g} per {spec.guarantee.unit_label}")
    )
    total = scene.course.agenda.total_steps
    with Progress(total, scene.job.training.epochs, note, quiet=quiet) as progress:
        owner = make_owner(
            scene.world,
            scene.job,
            scene.course,
            scene.layout,
            scene.model,
            contract=scene.contract,
            preparation=preparation,
            folder=scene.folder.path,
            writer=writer,
            news=progress,
        )
        owner.run()
    return owner


def _write_results(
    scene: _Scene, preparation: Preparation, owner: Owner, wall_s: float, *, quiet: bool
) -> None:
    card = card_of(scene.job, preparation, clean=owner.clean, released=owner.released)
    results = {
        "clean_accuracy": Result(
            owner.clean.accuracy, "1", "Delivered model on clean held-out samples"
        ),
        "clean_loss": Result(owner.clean.loss, "nat", "Cross-entropy on clean held-out samples"),
        "clean_samples": Result(owner.clean.samples, "1", "Clean held-out samples"),
        "wall_s": Result(wall_s, "s", "Wall time of the run, from the agreed job on"),
    }
    if owner.released.samples:
        results["released_accuracy"] = Result(
            owner.released.accuracy, "1", "Delivered model on released validation samples"
        )
        results["released_samples"] = Result(
            owner.released.samples, "1", "Released validation samples"
        )
    finish_index(
        scene.folder.index, results=results, privacy=PrivacyText(entries_of(card), card.text())
    )
    if not quiet:
        _log.info("delivered model, clean held-out samples: %.2f %%", 100 * owner.clean.accuracy)
        _log.info("run folder: %s (clicooper inspect %s)", scene.folder.path, scene.folder.path)
    preparation.data.close()


def _header(scene: _Scene, run_id: str) -> RunHeader:
    return RunHeader(
        run_id=run_id,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        creator_version=__version__,
        git_commit=git_commit(),
        layout=scene.job.output.layout,
        resolved_job=scene.job.canonical(),
        job_digest=scene.job.digest().hex,
        mpi_library=scene.world.library,
        versions=versions(),
        hosts=scene.world.processors,
    )


def _schedule_text(scene: _Scene) -> str:
    course = scene.course
    lanes = [course.lane(segment, course.micro_batches) for segment in range(scene.course.segments)]
    return "\n".join(
        f"{rank}: {' '.join(map(str, lane))}" for rank, lane in enumerate(lanes, start=1)
    )


def _row_counts(course: Course) -> dict[str, int]:
    """Rows each table will have, for files that are laid out in advance."""
    counts = {"steps": 0, "training": 0, "evaluation": 0, "releases": 0}
    for event in course.agenda.events():
        if isinstance(event, TrainStep):
            counts["steps"] += 1
            counts["training"] += 1
            counts["releases"] += event.from_owner
        elif isinstance(event, ValidationStep):
            counts["releases"] += event.from_owner
        elif isinstance(event, Delivery):
            counts["evaluation"] += 1
    return counts
