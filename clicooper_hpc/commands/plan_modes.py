"""What `clicooper plan --recommend` says: accuracy to expect of each release mode."""

from __future__ import annotations

from clicooper_hpc.config.job import Job
from clicooper_hpc.data.dataset import open_dataset
from clicooper_hpc.owner.mode_forecast import ModeForecast, choose_forecast
from clicooper_hpc.owner.recommend_mode import Recommendation, forecast_modes
from clicooper_hpc.owner.samples import split_samples

__all__ = ["recommend_mode"]


def recommend_mode(job: Job) -> str:
    """Return the forecasts for a job, and which mode they are for, as lines of text."""
    with open_dataset(job.data.path) as data:
        samples, classes = len(split_samples(job, data)["train"]), data.num_classes
    return "\n".join(_lines(job, forecast_modes(job, samples=samples, classes=classes)))


def _lines(job: Job, found: Recommendation) -> list[str]:
    privacy = job.privacy
    promise = "privacy off"
    if privacy.enabled:
        promise = (
            f"epsilon {privacy.epsilon:g}, delta {privacy.delta:g} per {privacy.unit}, "
            f"{privacy.relation}"
        )
    lines = [
        f"modes: forecast for {found.samples} samples of {found.classes} classes, {promise},",
        f"       simulated on {found.rows} rows of {found.source} that stand in for them; no "
        "private row was read",
        f"       ({found.seconds:.0f} s, {found.front_s:.0f} s of them for the front)",
    ]
    if found.stand_in_classes < found.classes:
        lines.append(
            f"       OF {found.stand_in_classes} STAND-IN CLASSES, not {found.classes}: accuracies "
            "are far too high, only their order says something"
        )
    if privacy.enabled and privacy.unit != "sample":
        lines.append("       sums and the like are for unit sample, which promises more")
    lines += [f"       {_range(one)}" for one in found.forecasts]
    lines += [f"       no forecast of {text}" for text in found.missing]
    if found.forecasts:
        lines.append(_advice(job, found))
    return lines


def _range(one: ModeForecast) -> str:
    low, high = 100 * min(one.accuracies), 100 * max(one.accuracies)
    how = f" ({one.how})" if one.how else ""
    return f"{one.mode}{how}: {low:.0f} to {high:.0f} %, mean {100 * one.mean:.1f} %"


def _advice(job: Job, found: Recommendation) -> str:
    best, close = choose_forecast(found.forecasts)
    text = f'recommended: release.mode = "{best.mode}"{best.how and f", {best.how}"}'
    if close:
        equal = ", ".join(f"{one.mode}{one.how and f' ({one.how})'}" for one in close)
        text += f"; less than a point behind: {equal}"
    return f'{text}; the job has "{job.release.mode}". A forecast, no promise: docs/accuracy.md'
