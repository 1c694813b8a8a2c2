"""The report of `clicooper plan`: what a run would do, from the job file alone, on a login node."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import nn

from clicooper_hpc.commands.plan_cost import check_plan_promise, plan_cost_lines
from clicooper_hpc.commands.plan_privacy import (
    label_lines,
    promise_facts,
    relation_lines,
    row_privacy_lines,
    spent_lines,
)
from clicooper_hpc.config.job import Job
from clicooper_hpc.data.dataset import open_dataset
from clicooper_hpc.models.layer_shapes import count_layer_parameters
from clicooper_hpc.owner.front_outline import count_public_rows, outline_front
from clicooper_hpc.owner.moments_setup import job_promise
from clicooper_hpc.owner.run_card import summarise_moments
from clicooper_hpc.owner.samples import count_set_aside_samples, split_samples
from clicooper_hpc.pipeline.device import choose_device
from clicooper_hpc.pipeline.layout import (
    Layout,
    counted_layout_costs,
    layout_memory,
    measured_layout_costs,
)
from clicooper_hpc.pipeline.schedule import check_schedule_depth, make_schedule
from clicooper_hpc.pipeline.schedule_grid import render_schedule_grid
from clicooper_hpc.pipeline.simulator import Simulation, simulate
from clicooper_hpc.privacy.both_relations import state_summed_release
from clicooper_hpc.privacy.gradient_sums import SplitPromise
from clicooper_hpc.run.build import (
    build_channel_plan,
    build_layout,
    build_network,
    build_run_plan,
    check_run_plan,
)
from clicooper_hpc.training.contract import Contract
from clicooper_hpc.training.run_plan import RunPlan

__all__ = ["plan_report", "plan_run"]

_MIB = 2**20
#: A backward pass costs about two forwards (gradients of inputs and of weights).
_BACKWARD = 2.0


def plan_report(job: Job, *, ranks: int | None) -> str:
    """Return the plan of a run with ``ranks`` ranks (default: as the job says, or 4)."""
    return plan_run(job, ranks=ranks)[0]


def plan_run(job: Job, *, ranks: int | None) -> tuple[str, dict[str, object]]:
    """Return the same as text and as JSON values."""
    if ranks is None:
        wanted = job.wanted_segments()
        # As many as the demo has, so that `plan JOB` works without an option.
        ranks = 4 if wanted is None else wanted + 1
    segments = job.check_ranks(ranks, option="--ranks")
    check_schedule_depth(segments, job.pipeline.micro_batches)
    with open_dataset(job.data.path) as data:
        splits = split_samples(job, data)
        check_plan_promise(job, splits, data.num_classes)
        outline = outline_front(job, data, splits["train"])
        shape, non_negative = outline.shape, outline.non_negative
        cost = plan_cost_lines(job, data, outline)
        private = len(splits["train"])
        spent = count_set_aside_samples(job, private, data.num_classes)
        # Samples spent on the front's class sums are never released.
        leaving = private - spent
        if job.release.mode != "rows":
            leaving = count_public_rows(job) * (1 + job.release.mixes)
        contract = Contract(
            release_shape=shape,
            samples=leaving,
            validation_samples=len(splits.get("validation", ())),
            outputs=data.num_classes * job.labels.expansion,
        )
        classes = data.num_classes
        names = _names_like(splits["train"].labels(), spent, job.labels.expansion)
        if job.release.mode != "rows":
            # Which they are depends on the data; for counting steps as many of each class will do.
            names = (np.arange(leaving) % classes).astype(np.int32)
    model = build_network(job, contract)
    costs = None
    if job.pipeline.partition == "auto":
        # Timed as the pipeline runs it: a kernel's time is not proportional to its rows.
        rows = -(-job.training.batch_size // job.pipeline.micro_batches)
        device = choose_device("cpu", 0)
        row = measured_layout_costs(model, shape, rows=rows, device=device)
        costs = np.tile(row, (segments, 1))
    layout = build_layout(job, model, contract, segments, costs)
    run_plan = build_run_plan(job, contract, names, segments)
    # As the run does before anything leaves: what it would refuse, plan refuses.
    check_run_plan(job, run_plan, layout, contract)
    used = costs if costs is not None else counted_layout_costs(model, shape, segments)
    simulation = _simulate(run_plan, layout, used)
    segment_lines, segment_facts = _segments(job, run_plan, layout, model, used)
    promises = (
        _moments(job, contract, private, classes)
        if job.release.mode != "rows"
        else [
            *row_privacy_lines(job, shape, non_negative=non_negative, classes=classes),
            *spent_lines(job, spent),
            *label_lines(job, contract, non_negative=non_negative, classes=classes),
        ]
    )
    promises += cost
    facts: dict[str, object] = {
        "job_digest": job.digest().hex,
        "ranks": ranks,
        "coupling": job.pipeline.coupling,
        "schedule": run_plan.schedule_name,
        "data": {
            "path": job.data.path,
            "training_samples": private - spent,
            "validation_samples": contract.validation_samples,
            "classes": classes,
            "spent_on_front": spent,
        },
        "front": outline.origin,
        "values": [one.text for one in outline.values],
        "release": {
            "mode": job.release.mode,
            "shape": list(shape),
            "rows": contract.samples,
            "sub_labels": contract.outputs,
            "cache": job.release.cache,
        },
        "steps": run_plan.total_steps,
        "epochs": job.training.epochs,
        "rows_per_step": job.training.batch_size,
        "samples_per_row": job.training.average_rows,
        "segments": segment_facts,
        "micro_batches": run_plan.micro_batches,
        "bubble": simulation.bubble,
        "privacy": promise_facts(job, shape, non_negative=non_negative, classes=classes),
        # In words, as the report has them.
        "promises": [line.strip() for line in promises],
    }
    text = "\n".join(
        [
            f"job {job.digest().hex[:16]}: {ranks} ranks, 1 owner and {segments} trainers, "
            f"coupling {job.pipeline.coupling}, schedule {run_plan.schedule_name}",
            f"data {job.data.path}: {private - spent} training samples, "
            f"{contract.validation_samples} released for validation, {classes} classes",
            *([] if outline.origin is None else [f"front {outline.origin}"]),
            *(("WARNING: " if one.cut else "") + one.text for one in outline.values),
            f"release {'x'.join(map(str, shape))} float32, {contract.outputs} sub-labels, "
            f"cache {job.release.cache}",
            f"{run_plan.total_steps} steps of {job.training.batch_size} rows "
            f"({job.training.average_rows} samples each) in {job.training.epochs} epochs",
            "",
            *segment_lines,
            "",
            f"one step, {run_plan.micro_batches} micro-batches, simulated: bubble "
            f"{100 * simulation.bubble:.1f} %, no deadlock with {run_plan.planned_slots()} slots "
            "per channel",
            render_schedule_grid(simulation),
            "",
            *promises,
        ]
    )
    return text, facts


def _moments(job: Job, contract: Contract, samples: int, classes: int) -> list[str]:
    """Return what is said of a release of moments instead of privacy and labels of rows."""
    mixes = job.release.mixes
    each = f" ({1 + mixes} for each: {mixes} are mixes of two)" if mixes else ""
    sent = f"{contract.samples} public rows{each}, recoloured and named by them"
    summary = summarise_moments(job, samples, contract.samples)
    promise = job_promise(job, int(np.prod(contract.release_shape)), classes)
    if promise is None:
        return [f"NO PRIVACY: {summary.what()} leave the owner without noise, as {sent}"]
    privacy, noise = job.privacy, ""
    if isinstance(promise, SplitPromise):
        spec, noise = promise.whole, summary.noise(promise.whole)
    else:
        spec, noise = promise, f"sigma {promise.sigma:.6g}, once"
    stated = state_summed_release(
        spec, sums_alone=summary.sums_alone, gradient_share=summary.gradient_share
    )
    return [
        f"privacy: epsilon {privacy.epsilon:g}, delta {privacy.delta:g} per sample, replace-one; "
        "labels are covered",
        *relation_lines(stated, spec.guarantee),
        f"         of {summary.what()}: sensitivity {spec.sensitivity:.6g}, {noise}",
        f"         trainers get {sent}, and no row of a sample",
    ]


def _names_like(classes: NDArray[np.int64], spent: int, expansion: int) -> NDArray[np.int32]:
    """Return sub-labels int32 [n - spent] drawn as a run draws them, with another key.

    Rows are means of one name's samples, so steps depend on how many samples each name has: few
    names of many samples would give other counts than many of few.
    """
    rng = np.random.default_rng(0)
    left = classes[rng.permutation(len(classes))[spent:]]
    return (left * expansion + rng.integers(0, expansion, len(left))).astype(np.int32)


def _simulate(run_plan: RunPlan, layout: Layout, costs: np.ndarray) -> Simulation:
    forward = [
        float(costs[index, span.start : span.stop].sum())
        for index, span in enumerate(layout.segments)
    ]
    # Relative to the slowest segment: the bubble depends on ratios only.
    unit = max(forward) or 1.0
    forward = [cost / unit for cost in forward]
    schedule = make_schedule(run_plan.schedule_name, run_plan.segments, run_plan.micro_batches)
    return simulate(
        schedule,
        coupling=run_plan.coupling,
        forward_cost=forward,
        backward_cost=[_BACKWARD * cost for cost in forward],
        # With as many as the run opens, so that a schedule that would deadlock shows here.
        slots=run_plan.planned_slots(),
    )


def _segments(
    job: Job, run_plan: RunPlan, layout: Layout, model: nn.Sequential, costs: np.ndarray
) -> tuple[list[str], list[dict[str, object]]]:
    """Return per trainer layers, share of the work, memory, bytes to the next: lines and facts."""
    plan = build_channel_plan(job, run_plan, _contract_of(layout))
    memory = layout_memory(model, layout.shapes, job.training.batch_size)
    total = float(costs[0].sum()) or 1.0
    lines = ["rank  layers      work  parameters      memory  sends per step"]
    facts: list[dict[str, object]] = []
    released = plan.payload_bytes(layout.shapes[0], plan.average_rows) * run_plan.micro_batches
    lines.append(
        f"   0  front          -           -           -  {released / _MIB:.2f} MiB released"
    )
    for index, span in enumerate(layout.segments):
        last = index == run_plan.segments - 1
        out = 0 if last else plan.payload_bytes(layout.output_shape(index)) * run_plan.micro_batches
        back = (
            plan.payload_bytes(layout.input_shape(index)) * run_plan.micro_batches
            if index and run_plan.coupling == "backprop"
            else 0
        )
        layers = list(model)[span.start : span.stop]
        share = float(costs[index, span.start : span.stop].sum()) / total
        held = memory[span.start : span.stop].sum() / _MIB
        lines.append(
            f"{index + 1:>4}  {f'{span.start}-{span.stop - 1}':<9} {100 * share:>5.1f} % "
            f"{count_layer_parameters(layers):>11,} {held:>7.1f} MiB"
            f"  {out / _MIB:.2f} MiB forward, {back / _MIB:.2f} MiB backward"
        )
        facts.append(
            {
                "rank": index + 1,
                "first_layer": span.start,
                "last_layer": span.stop - 1,
                "work": share,
                "parameters": count_layer_parameters(layers),
                "memory_bytes": float(memory[span.start : span.stop].sum()),
                "bytes_forward_per_step": out,
                "bytes_backward_per_step": back,
            }
        )
    return lines, facts


def _contract_of(layout: Layout) -> Contract:
    return Contract(layout.shapes[0], 0, 0, layout.shapes[-1][0])
