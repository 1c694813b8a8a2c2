"""What `clicooper plan --recommend` says: accuracy to expect of each release mode."""

from __future__ import annotations

from clicooper_hpc.config.job import Job
from clicooper_hpc.data.dataset import open_dataset
from clicooper_hpc.owner.mode_forecast import ModeForecast, ReleaseWay, choose_forecast
from clicooper_hpc.owner.recommend_mode import Recommendation, forecast_modes
from clicooper_hpc.owner.samples import split_samples

__all__ = ["recommend_mode"]


def recommend_mode(job: Job) -> str:
    """Return the forecasts for a job, and which mode they are for, as lines of text."""
    with open_dataset(job.data.path) as data:
        samples, classes = len(split_samples(job, data)["train"]), data.num_classes
    return "\n".join(_lines(job, forecast_modes(job, samples=samples, classes=classes)))


def _lines(job: Job, found: Recommendation) -> list[str]:
    privacy, sets = job.privacy, len(found.forecasts[0].accuracies)
    split = "its test split" if found.unseen else "its training split"
    lines = [
        f"FORECAST of accuracy by release mode, for {found.samples} samples of {found.classes} "
        f"classes: epsilon {privacy.epsilon:g}, delta {privacy.delta:g} per sample, replace-one",
        f"made in {found.seconds:.0f} s without a private row: {found.rows} rows of "
        f"{found.source} stand in for them, scored on {found.held_out} of {split};",
        f"PCA to {found.numbers} numbers, norm 1; lowest to highest of {sets} sets of classes, "
        "and their mean",
    ]
    if found.public_classes < found.classes:
        lines.append(
            f"PARTS of {found.public_classes} public classes stand in for {found.classes}: "
            "a rough guess, of the order as well"
        )
    lines += [f"  {_range(one)}" for one in found.forecasts]
    if all(one.way.mode != "gradients" for one in found.forecasts):
        lines.append("  no forecast of gradients: rounds cannot share so small an epsilon")
    best, close = choose_forecast(found.forecasts)
    text = f"recommended: {_name(best.way)}"
    if close:
        names = ", ".join(_name(one.way) for one in close)
        text += f"; as good, as far as this can tell: {names}"
    return [*lines, f'{text}; the job has "{job.release.mode}". No promise: docs/accuracy.md']


def _name(way: ReleaseWay) -> str:
    return f"{way.mode} ({way.how})" if way.how else way.mode


def _range(one: ModeForecast) -> str:
    low, high = 100 * min(one.accuracies), 100 * max(one.accuracies)
    return f"{low:4.1f} to {high:4.1f} %, mean {100 * one.mean:4.1f} %  {_name(one.way)}"
