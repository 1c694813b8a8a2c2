"""Builds the objects of a run from its job: the same on all ranks, and for `clicooper plan`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from clicooper_hpc.config.job import Job
from clicooper_hpc.models.build_model import build_model
from clicooper_hpc.models.local_head import local_head
from clicooper_hpc.models.module_options import ModuleOptions
from clicooper_hpc.models.segmentable import check_segmentable
from clicooper_hpc.pipeline.layout import Layout, make_layout
from clicooper_hpc.pipeline.optim import build_optimizer
from clicooper_hpc.pipeline.runtime import Edges, SegmentRuntime, StepSettings
from clicooper_hpc.pipeline.segment import Segment
from clicooper_hpc.runstore.hdf5.parallel import require_parallel_hdf5
from clicooper_hpc.trainer.channels import ChannelPlan
from clicooper_hpc.training.contract import Contract
from clicooper_hpc.training.learning_rate import LearningRateSchedule
from clicooper_hpc.training.run_plan import RunPlan
from clicooper_hpc.transport.slot import check_slot_capacity

__all__ = [
    "build_channel_plan",
    "build_layout",
    "build_network",
    "build_own_layers",
    "build_run_plan",
    "build_runtime",
    "check_run_plan",
]


def build_network(job: Job, contract: Contract) -> nn.Sequential:
    """Return the whole network behind the cut, with its initial weights."""
    model = build_model(
        job.model.name,
        input_shape=contract.release_shape,
        outputs=contract.outputs,
        seed=job.training.seed,
        options=job.model.options,
        search_path=Path(job.folder),
        choices=ModuleOptions(job.model.batch_norm, job.model.cuts),
    )
    # A network that is no chain of layers fails here, on every rank and in `clicooper plan`.
    check_segmentable(model)
    return model


def build_run_plan(
    job: Job, contract: Contract, sub_labels: NDArray[np.int32], segments: int
) -> RunPlan:
    """Return the steps of the run; ``sub_labels`` int32 [training samples]."""
    training, pipeline = job.training, job.pipeline
    return RunPlan(
        seed=training.seed,
        epochs=training.epochs,
        batch_size=training.batch_size,
        average_rows=training.average_rows,
        sub_labels=sub_labels,
        validation_rows=contract.validation_samples,
        evaluate_every=training.evaluate_every_epochs,
        cached=job.release.cache != "none",
        segments=segments,
        micro_batches=pipeline.micro_batches,
        schedule=pipeline.schedule,
        coupling=pipeline.coupling,
        rates=LearningRateSchedule(
            training.learning_rate,
            training.schedule,
            training.warmup_steps,
            training.final_fraction,
        ),
        stages=job.provenance.stages if job.provenance.enabled else 0,
        save_every=job.checkpoint.every_steps,
    )


def build_layout(
    job: Job,
    model: nn.Sequential,
    contract: Contract,
    segments: int,
    costs: NDArray[np.float64] | None = None,
) -> Layout:
    """Cut the network as the job says; ``costs`` are the ranks' measurements for `auto`."""
    cuts = job.pipeline.partition
    return make_layout(
        model,
        contract.release_shape,
        segments=segments,
        cuts=cuts if isinstance(cuts, list) else None,
        costs=costs,
        memory_gib=job.pipeline.memory_gib,
        # Of a whole batch: GPipe holds the activations of all its micro-batches at once.
        live_rows=job.training.batch_size,
    )


def build_own_layers(model: nn.Sequential, layout: Layout, segment: int) -> nn.Sequential:
    """Return the network with the layers of all other segments let go, so that they free memory."""
    span = layout.segments[segment]
    return nn.Sequential(
        *(layer if index in span else nn.Identity() for index, layer in enumerate(model))
    )


def build_channel_plan(job: Job, plan: RunPlan, contract: Contract) -> ChannelPlan:
    """Return the sizes of all channels."""
    return ChannelPlan(
        # The largest, for buffers are made once and every micro-batch has to fit.
        rows=plan.largest_micro_batch,
        average_rows=job.training.average_rows,
        slots=plan.planned_slots(),
        outputs=contract.outputs,
        deadline_s=job.pipeline.startup_timeout_s,
    )


def check_run_plan(job: Job, plan: RunPlan, layout: Layout, contract: Contract) -> None:
    """Find what would stop the run only once it trains, while nothing has been sent.

    Raises
    ------
    UsageError
        More warm-up than steps, or a message that MPI cannot carry.
    EnvironmentUnfitError
        ``output.layout = "single"`` without parallel HDF5.
    """
    plan.planned_rate(0)  # every step has the same limits, so one shows a warm-up that is too long
    sizes = build_channel_plan(job, plan, contract)
    check_slot_capacity(sizes.payload_bytes(layout.shapes[0], sizes.average_rows), 1)
    for segment in range(1, plan.segments):
        check_slot_capacity(sizes.payload_bytes(layout.input_shape(segment)), segment + 1)
    # Only found out when the file is opened, which comes after all the work of preparing.
    if job.output.layout == "single":
        require_parallel_hdf5()


def build_runtime(
    job: Job,
    model: nn.Sequential,
    layout: Layout,
    *,
    segment: int,
    outputs: int,
    device: torch.device,
    edges: Edges,
) -> SegmentRuntime:
    """Return the runtime of ``segment`` (0-based) with its optimizer and, one-way, its head."""
    span = layout.segments[segment]
    is_last = segment == len(layout.segments) - 1
    training = job.training
    part = Segment(
        layout.layers_of(model, segment),
        # Layers draw their random numbers by their place in the whole network, not in the segment.
        first_layer=span.start,
        seed=training.seed,
        device=device,
        precision=training.precision,
    )
    head = None
    if job.pipeline.coupling == "one-way" and not is_last:
        # Seeded by where the segment ends, so that a head depends on the cut and not on the rank
        # that holds it.
        head = local_head(layout.output_shape(segment), outputs, training.seed + span.stop)
        head.to(device)
    # One optimizer for both: a local head is trained with its segment, but is never delivered.
    modules = [part] if head is None else [part, head]
    optimizer = build_optimizer(
        [parameter for module in modules for parameter in module.parameters()],
        name=training.optimizer,
        momentum=training.momentum,
        weight_decay=training.weight_decay,
        betas=training.betas,
    )
    return SegmentRuntime(
        part,
        input_shape=layout.input_shape(segment),
        edges=edges,
        settings=StepSettings(
            label_smoothing=training.label_smoothing,
            clip_norm=training.clip_norm,
            precision=training.precision,
            wire_dtype=job.pipeline.wire_dtype,
        ),
        is_last=is_last,
        head=head,
        optimizer=optimizer,
    )
