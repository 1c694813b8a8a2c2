"""What `clicooper plan` says of privacy and labels of a release of rows."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from clicooper_hpc.config.job import Job
from clicooper_hpc.owner.promise_spec import promise_spec
from clicooper_hpc.owner.release_mechanism import mechanism_guarantee
from clicooper_hpc.privacy.both_relations import (
    RelationStatement,
    state_row_release,
    state_summed_release,
)
from clicooper_hpc.privacy.card_bounds import reconstruction_words
from clicooper_hpc.privacy.ceiling import gaussian_ceiling
from clicooper_hpc.privacy.class_sums import class_sums_guarantee
from clicooper_hpc.privacy.label_forecast import (
    ReleasedRows,
    forecast_fewest_names,
    forecast_labels,
    forecast_signal,
)
from clicooper_hpc.privacy.release_spec import solve_release_spec
from clicooper_hpc.privacy.sensitivity import Guarantee
from clicooper_hpc.training.contract import Contract

__all__ = ["label_lines", "promise_facts", "relation_lines", "row_privacy_lines", "spent_lines"]


def relation_lines(stated: Iterable[RelationStatement], claim: Guarantee) -> list[str]:
    """Return a line for every relation but that of the ``claim``, which stands above."""
    return [
        f"         {one.relation}: {one.words()}"
        for one in stated
        if (one.relation, one.unit) != (claim.relation, claim.unit_label)
    ]


def promise_facts(
    job: Job, shape: tuple[int, ...], *, non_negative: bool, classes: int
) -> dict[str, object] | None:
    """Return what the release promises as JSON values; None without privacy.

    ``sigma`` and ``sensitivity`` are those of one release, null where several share the promise.
    """
    spec = promise_spec(job, shape, non_negative=non_negative, classes=classes)
    if spec is None:
        return None
    stated = state_row_release(spec) if job.release.mode == "rows" else ()
    g = spec.guarantee
    alone = job.release.mode != "gradients"
    return {
        "unit": g.unit,
        "relation": g.relation,
        "epsilon": g.epsilon,
        "delta": g.delta,
        "sample_epsilon": spec.sample_epsilon,
        "sensitivity": spec.sensitivity if alone else None,
        "sigma": spec.sigma if alone else None,
        "other_relations": [
            {"relation": one.relation, "unit": one.unit, "epsilon": one.epsilon, "delta": one.delta}
            for one in stated
            if (one.relation, one.unit) != (g.relation, g.unit_label)
        ],
    }


def row_privacy_lines(
    job: Job, shape: tuple[int, ...], *, non_negative: bool, classes: int
) -> list[str]:
    """Return what is promised of a release of rows float32 ``shape``, as a run's card will."""
    if not job.privacy.enabled:
        return ["NO PRIVACY: rows leave the owner as the front makes them"]
    spec = solve_release_spec(mechanism_guarantee(job, shape, non_negative=non_negative))
    g = spec.guarantee
    lines = [
        f"privacy: epsilon {g.epsilon:g}, delta {g.delta:g} per {g.unit_label}, {g.relation}; "
        f"per sample epsilon {spec.sample_epsilon:.6g}",
        *relation_lines(state_row_release(spec), g),
        f"         sensitivity {spec.sensitivity:.6g} ({spec.sensitivity_reason}), "
        f"sigma {spec.sigma:.6g} on {g.dimension} coordinates",
    ]
    if classes >= 2:
        radius = g.clip * (g.dimension**0.5 if g.unit == "element" else 1.0)
        ceiling = gaussian_ceiling(classes, radius, spec.sigma)
        lines.append(
            f"         nobody can tell the class of one released row better than "
            f"{100 * ceiling:.1f} % (chance {100 / classes:.1f} %)"
        )
    lines.append(
        f"         rebuilding a row: {reconstruction_words(spec, state_row_release(spec))}"
    )
    extra = job.labels.randomized_response_epsilon
    if extra is not None:
        lines.append(
            f"         labels: randomised response, epsilon {extra:g} against any other "
            "label, on top"
        )
    if job.front.kind == "dp-sgd":
        dp = job.front.dp_sgd
        lines.append(
            f"         front: DP-SGD, epsilon {dp.epsilon:g}, delta {dp.delta:g} per sample "
            "(add-remove), on top"
        )
    return lines


def spent_lines(job: Job, samples: int) -> list[str]:
    """Say what a private projection costs, if there is one."""
    if not samples:
        return []
    head = f"front: {samples} more training samples are spent on its class sums, never released"
    privacy = job.privacy
    if not privacy.enabled:
        return [f"{head}; the sums are exact"]
    promise = class_sums_guarantee(
        1, epsilon=privacy.epsilon, delta=privacy.delta, relation=privacy.relation
    )
    stated = state_summed_release(solve_release_spec(promise), sums_alone=True)
    return [
        f"{head}; each pays epsilon {privacy.epsilon:g}, delta {privacy.delta:g} per sample, "
        f"{privacy.relation}, once",
        *relation_lines(stated, promise),
    ]


def label_lines(job: Job, contract: Contract, *, non_negative: bool, classes: int) -> list[str]:
    """Return the forecast of what grouping attacks find in the sub-labels, and of the price."""
    method, gamma = job.labels.method, job.labels.expansion
    if method == "none":
        return ["labels: sent as they are; every trainer sees the classes"]
    shape = contract.release_shape
    head = f"labels: {method}, {gamma} names for each of {classes} classes"
    # The simulation needs a sample for each name.
    if classes < 2 or contract.samples < classes * gamma:
        return [f"{head}; too few samples for a forecast"]
    sigma = 0.0
    if job.privacy.enabled:
        sigma = solve_release_spec(mechanism_guarantee(job, shape, non_negative=non_negative)).sigma
    dimension = int(np.prod(shape))
    signal = forecast_signal(
        job.privacy.unit,
        job.privacy.clip,
        dimension,
        discriminant=job.front.projection == "private-lda",
    )
    released = ReleasedRows(signal, sigma, dimension, contract.samples, classes)
    forecast = forecast_labels(method, released, gamma)
    best = forecast_fewest_names(released)
    if best is None:
        advice = "no number of random names hides the grouping at this noise"
    else:
        advice = f"fewest random names that hide it: {best[0]} (ARI {best[1].leak_known:.2f})"
    return [
        f"{head}, {forecast.rows_per_name:.0f} samples a name; forecast, if classes lie as in "
        "docs/label-map.md:",
        f"         grouping attack finds ARI {forecast.leak:.2f}, {forecast.leak_known:.2f} with "
        "known class means (0 is chance, 1 all)",
        f"         price about {forecast.price:.1f} points of accuracy; {advice}",
    ]
