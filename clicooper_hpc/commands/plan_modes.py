"""What `clicooper plan --recommend` says: accuracy to expect of each release mode."""

from __future__ import annotations

from clicooper_hpc.config.job import Job
from clicooper_hpc.data.dataset import open_dataset
from clicooper_hpc.owner.mode_forecast import ModeForecast, ReleaseWay, choose_forecast
from clicooper_hpc.owner.recommend_mode import Recommendation, forecast_modes
from clicooper_hpc.owner.samples import split_samples

__all__ = ["recommend_mode"]

#: Stand-ins a sample below which what few rows cost is said.
_FEW = 0.1


def recommend_mode(job: Job) -> str:
    """Return the forecasts for a job, and which mode they are for, as lines of text."""
    with open_dataset(job.data.path) as data:
        samples, classes = len(split_samples(job, data)["train"]), data.num_classes
    return "\n".join(_lines(job, forecast_modes(job, samples=samples, classes=classes)))


def _lines(job: Job, found: Recommendation) -> list[str]:
    privacy = job.privacy
    split = "its test split" if found.unseen else "them, held out"
    few, most = min(found.stand_ins), max(found.stand_ins)
    lines = [
        f"FORECAST of accuracy by release mode, for {found.samples} samples of {found.classes} "
        f"classes: epsilon {privacy.epsilon:g}, delta {privacy.delta:g} per sample, replace-one",
        f"made in {found.seconds:.0f} s without a private row, with {found.rows} rows of "
        f"{found.source}, scored on {found.held_out} of {split};",
        f"PCA to {found.numbers} numbers, norm 1; lowest to highest of {len(found.stand_ins)} sets "
        f"of classes, {few} to {most} rows in each standing in for samples, and their mean",
    ]
    if most < _FEW * found.samples:
        lines.append(
            "SO FEW: stand-ins are a tenth of the samples or less, which makes accuracies too low"
        )
    lines += [f"  {_range(one)}" for one in found.forecasts]
    if all(one.way.mode != "gradients" for one in found.forecasts):
        lines.append("  no forecast of gradients: rounds cannot share so small an epsilon")
    return [*lines, f'{_advice(found)}; the job has "{job.release.mode}" (docs/accuracy.md)']


def _advice(found: Recommendation) -> str:
    if found.public_classes < found.classes:
        return (
            f"NO RECOMMENDATION: {found.public_classes} public classes, in parts, stand in for "
            f"{found.classes}, which makes figures too high and their order wrong"
        )
    best, close = choose_forecast(found.forecasts)
    text = f"recommended, without promise: {_name(best.way)}"
    if close:
        names = ", ".join(_name(one.way) for one in close)
        text += f"; as good, as far as this can tell: {names}"
    return text


def _name(way: ReleaseWay) -> str:
    return f"{way.mode} ({way.how})" if way.how else way.mode


def _range(one: ModeForecast) -> str:
    low, high = 100 * min(one.accuracies), 100 * max(one.accuracies)
    return f"{low:4.1f} to {high:4.1f} %, mean {100 * one.mean:4.1f} %  {_name(one.way)}"
