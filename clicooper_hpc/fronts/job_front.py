"""The front of a job: its [front] section turned into a `Front`."""

from __future__ import annotations

import numpy as np
import torch

from clicooper_hpc.config.job import Job
from clicooper_hpc.config.owner_sections import FrontSection
from clicooper_hpc.config.read_out import parse_read_out
from clicooper_hpc.data.dataset import DataSet, open_dataset
from clicooper_hpc.data.split import Split
from clicooper_hpc.errors import UsageError
from clicooper_hpc.fronts.build_front import (
    DpSgdTraining,
    FrontBase,
    ProjectionData,
    build_front,
    front_base_origin,
)
from clicooper_hpc.fronts.delivered_network import DeliveredNetwork, iterate_data_rows
from clicooper_hpc.fronts.dpsgd_settings import DpSgdSettings, PrivateRows, default_dpsgd_layers
from clicooper_hpc.fronts.front import Front
from clicooper_hpc.fronts.layer_spec import layers_stay_non_negative
from clicooper_hpc.fronts.private_lda import ClassMeansSource
from clicooper_hpc.fronts.projection import Projection, PublicRows, count_shared_rows
from clicooper_hpc.fronts.value_scaling import data_doubts, job_scaling

__all__ = [
    "build_base_front",
    "build_job_front",
    "describe_job_front",
    "dpsgd_settings",
    "open_public_rows",
    "outline_job_front",
]


def build_job_front(
    job: Job,
    data: DataSet,
    train: Split,
    *,
    class_means: ClassMeansSource | None = None,
    delivered: DeliveredNetwork | None = None,
) -> Front:
    """Build the front for rows of ``train``; trains or fits where the job says so.

    ``class_means`` is called for ``front.projection = "private-lda"``; ``delivered`` is the network
    of ``front.kind = "run"``, its data compared with ``data``.
    """
    section = job.front
    projection, training = None, None
    if section.projection != "none" and section.public_data is not None:
        projection = ProjectionData(
            wanted=_wanted_projection(section),
            public=_public_rows(job, data),
            private_fingerprint=data.split("train").fingerprint(),
            class_means=class_means,
        )
    if section.kind == "dp-sgd":
        rows = train.read(np.arange(len(train)))
        scaling = job_scaling(job, data, train)
        if scaling is not None:
            rows = scaling.affine.apply(torch.from_numpy(rows)).numpy()
        training = DpSgdTraining(
            dpsgd_settings(section), PrivateRows(rows, train.labels(), data.num_classes)
        )
    return build_front(
        _job_base(job, data, train, delivered),
        projection=projection,
        training=training,
        normalise=job.privacy.clip if section.normalise else None,
    )


def dpsgd_settings(section: FrontSection) -> DpSgdSettings:
    """Return how a front of ``kind = "dp-sgd"`` is trained.

    Raises
    ------
    UsageError
        A setting is out of range.
    """
    return DpSgdSettings(
        epsilon=section.dp_sgd.epsilon,
        delta=section.dp_sgd.delta,
        epochs=section.dp_sgd.epochs,
        batch_rows=section.dp_sgd.batch_size,
        clip_norm=section.dp_sgd.clip,
        learning_rate=section.dp_sgd.learning_rate,
    )


def open_public_rows(job: Job) -> tuple[DataSet, Split]:
    """Open ``front.public_data``; return it, and the samples that serve as public rows.

    The caller closes the data set.
    """
    section = job.front
    if section.public_data is None:
        raise ValueError("this job has no public data")
    data = open_dataset(section.public_data)
    split = data.split("train")
    return data, split.subset(range(min(section.public_rows or len(split), len(split))))


def outline_job_front(
    job: Job, data: DataSet, train: Split, delivered: DeliveredNetwork | None = None
) -> tuple[tuple[int, ...], bool]:
    """Return shape and sign of the front's rows for `plan`, without fitting or training it."""
    section = job.front
    private = section.projection == "private-lda"
    if section.projection != "none" and section.dim is not None and not private:
        return (section.dim,), False
    if section.kind == "dp-sgd" and section.dim is not None:
        layers = default_dpsgd_layers(train.input_shape, section.dim)
        return (section.dim,), layers_stay_non_negative(layers)
    front = build_front(_job_base(job, data, train, delivered))
    # Scores of the classes, whatever the base; only their number is known before the run.
    if private:
        return (data.num_classes,), True
    return front.output_shape, front.non_negative


def describe_job_front(
    job: Job, data: DataSet, train: Split, delivered: DeliveredNetwork | None = None
) -> str | None:
    """Return where the front comes from, for `plan`; None where its kind says all of it.

    Raises
    ------
    DataError
        The weights file is missing, or no such file.
    """
    base = _job_base(job, data, train, delivered)
    plain = base.scaling is None and not base.doubts
    if plain and job.front.kind not in ("weights", "run"):
        return None
    if job.front.kind == "dp-sgd":
        # Where it comes from is known when it is trained.
        return None if base.scaling is None else base.scaling.text
    origin = front_base_origin(base)
    lines = [origin.text]
    if origin.run is not None:
        lines += [f"{name} {text}" for name, text in origin.run.rows()]
    if origin.reason is not None and (origin.run is not None or base.doubts):
        lines.append(f"CONDITIONAL: {origin.reason}")
    return "\n      ".join(lines)


def build_base_front(
    job: Job, data: DataSet, rows: Split, delivered: DeliveredNetwork | None = None
) -> Front:
    """Build what stands before any projection, for rows shaped as those of ``rows`` of ``data``.

    ``delivered``: as in `build_job_front`.

    Raises
    ------
    UsageError
        The front is trained on private samples.
    """
    if job.front.kind == "dp-sgd":
        raise UsageError(
            'front.kind = "dp-sgd" is trained on private samples',
            where="front.kind",
            remedy="Use a public front.",
        )
    return build_front(_job_base(job, data, rows, delivered))


def _wanted_projection(section: FrontSection) -> Projection:
    if section.projection == "none":
        raise ValueError("this job has no projection")
    private = section.projection == "private-lda"
    dim = section.directions if private else section.dim
    return Projection(section.projection, dim, section.whiten)


def _job_base(
    job: Job, data: DataSet, train: Split, delivered: DeliveredNetwork | None
) -> FrontBase:
    section = job.front
    return FrontBase(
        kind=section.kind,
        input_shape=train.input_shape,
        seed=section.seed,
        weights=section.weights,
        delivered=delivered,
        cut=section.cut,
        read_outs=tuple(parse_read_out(text) for text in section.read_outs),
        resize=section.resize,
        mirror=section.mirror,
        dim=section.dim,
        # Rows keep the shape of images, which segments with convolutions need.
        flatten=False,
        scaling=job_scaling(job, data, train),
        doubts=data_doubts(job, data),
    )


def _public_rows(job: Job, private: DataSet) -> PublicRows:
    data, split = open_public_rows(job)
    with data:
        rows = split.read(np.arange(len(split)))
        # Row by row, since equal fingerprints only show equal data sets: a part, or another order,
        # counts too. Rows of another shape are refused by the front.
        shared = count_shared_rows(rows, iterate_data_rows(private))
        whole = data.split("train").fingerprint()
        return PublicRows(rows, split.labels(), whole, data.name, shared)
