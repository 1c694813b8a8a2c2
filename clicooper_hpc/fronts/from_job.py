"""The front of a job: its [front] section turned into a `Front`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from clicooper_hpc.config.job import Job
from clicooper_hpc.data.dataset import DataSet, open_dataset
from clicooper_hpc.data.split import Split
from clicooper_hpc.fronts.build import build_front
from clicooper_hpc.fronts.dpsgd import DpSgd, PrivateRows, default_layers
from clicooper_hpc.fronts.front import Front, Provenance
from clicooper_hpc.fronts.layer_spec import stays_non_negative
from clicooper_hpc.fronts.private_lda import Spend
from clicooper_hpc.fronts.projection import Projection, PublicRows, count_shared_rows
from clicooper_hpc.privacy.card import Front as FrontWords

__all__ = ["front_from_job", "front_outline", "front_words"]


def front_from_job(job: Job, data: DataSet, train: Split, *, spend: Spend | None = None) -> Front:
    """Build the front for rows of ``train``; trains or fits where the job says so.

    ``spend`` gives the class means of ``front.projection = "private-lda"``.
    """
    section = job.front
    projection, public = None, None
    if section.projection != "none" and section.public_data is not None:
        projection = Projection(section.projection, section.dim, section.whiten)
        public = _public_rows(section.public_data, section.public_rows, data)
    private, settings = None, None
    if section.kind == "dp-sgd":
        private = PrivateRows(train.rows(np.arange(len(train))), train.labels(), data.num_classes)
        settings = DpSgd(
            epsilon=section.dp_sgd.epsilon,
            delta=section.dp_sgd.delta,
            epochs=section.dp_sgd.epochs,
            batch_rows=section.dp_sgd.batch_size,
            clip_norm=section.dp_sgd.clip,
            learning_rate=section.dp_sgd.learning_rate,
        )
    return build_front(
        kind=section.kind,
        input_shape=train.input_shape,
        seed=section.seed,
        weights=section.weights,
        cut=section.cut,
        dim=section.dim,
        flatten=False,
        projection=projection,
        public=public,
        private_fingerprint=None if public is None else data.split("train").fingerprint(),
        spend=spend,
        dp_sgd=settings,
        private=private,
        normalise=job.privacy.clip if section.normalise else None,
    )


def front_outline(job: Job, train: Split, classes: int) -> tuple[tuple[int, ...], bool]:
    """Return shape and sign of the front's rows for `plan`, without fitting or training it."""
    section = job.front
    private = section.projection == "private-lda"
    if section.projection != "none" and section.dim is not None and not private:
        return (section.dim,), False
    if section.kind == "dp-sgd" and section.dim is not None:
        return (section.dim,), stays_non_negative(default_layers(train.input_shape, section.dim))
    front = build_front(
        kind=section.kind,
        input_shape=train.input_shape,
        seed=section.seed,
        weights=section.weights,
        cut=section.cut,
        dim=section.dim,
        flatten=False,
    )
    if private:
        return (classes,), True
    return front.output_shape, front.non_negative


def front_words(front: Front) -> FrontWords:
    """Return what the privacy card says of a front."""
    origin: Provenance = front.provenance
    source = origin.text if origin.projection is None else f"{origin.text}, {origin.projection}"
    normalisation = f"{front.normalisation}; rows do not depend on batch-mates"
    if origin.spent is not None and not origin.conditional:
        promise = None if origin.spent.spec is None else origin.spent.spec.guarantee
        return FrontWords(
            "class-sums",
            source,
            normalisation,
            None if promise is None else promise.epsilon,
            None if promise is None else promise.delta,
            spent=origin.spent.samples,
        )
    if origin.conditional:
        return FrontWords("conditional", f"{source} ({origin.reason})", normalisation)
    if origin.kind == "dp-sgd":
        return FrontWords("dp-sgd", source, normalisation, origin.epsilon, origin.delta)
    return FrontWords("random" if origin.kind == "random" else "public", source, normalisation)


def _public_rows(path: str, limit: int | None, private: DataSet) -> PublicRows:
    with open_dataset(path) as data:
        split = data.split("train")
        ids = np.arange(min(limit or len(split), len(split)))
        rows = split.rows(ids)
        shared = 0
        if private.split("train").input_shape == split.input_shape:
            shared = count_shared_rows(rows, _blocks(private))
        return PublicRows(rows, split.labels(ids), split.fingerprint(), data.name, shared)


def _blocks(data: DataSet) -> Iterator[NDArray[np.float32]]:
    """Yield all rows of all splits, some thousand at a time."""
    for split in data.splits.values():
        for start in range(0, len(split), 4096):
            yield split.rows(np.arange(start, min(start + 4096, len(split))))
