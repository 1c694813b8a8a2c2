"""The front of a job: what its [front] section asks for, and what shape that will have."""

from __future__ import annotations

import hashlib

import numpy as np

from clicooper_hpc.config.job import Job
from clicooper_hpc.data.dataset import DataSet, open_dataset
from clicooper_hpc.data.split import Split
from clicooper_hpc.owner.front import BaseFront, Front, build_front, untrained_stages
from clicooper_hpc.owner.front_dpsgd import DpSgd, PrivateRows
from clicooper_hpc.owner.front_projection import Projection, PublicRows
from clicooper_hpc.owner.front_random import takes_convolutions
from clicooper_hpc.owner.front_rows import output_shape
from clicooper_hpc.privacy import card

__all__ = ["front_from_job", "front_outline", "front_words"]

_PASS_ROWS = 1024


def front_words(front: Front) -> card.Front:
    """Return the front as the privacy card names it."""
    return front.provenance.words()


def _row_keys(split: Split) -> set[bytes]:
    """Return a short digest of every row, as the front reads it."""
    return {
        hashlib.blake2b(row.tobytes(), digest_size=16).digest()
        for start in range(0, len(split), _PASS_ROWS)
        for row in split.rows(np.arange(start, min(start + _PASS_ROWS, len(split))))
    }


def _public_rows(source: str, limit: int | None, data: DataSet) -> PublicRows:
    """Read the public training rows; count those that any private split holds too."""
    with open_dataset(source) as public:
        whole = public.split("train")
        split = whole.subset(range(min(limit or len(whole), len(whole))))
        private: set[bytes] = set()
        for name in data.splits:
            private |= _row_keys(data.split(name))
        return PublicRows(
            rows=split.rows(np.arange(len(split))),
            labels=split.labels(),
            fingerprint=whole.fingerprint(),
            name=f"{public.name}/train",
            shared=len(_row_keys(split) & private),
        )


def _base_dim(job: Job, input_shape: tuple[int, ...]) -> int | None:
    """Features before a projection; pooled random maps go into a projection whole."""
    section = job.front
    pooled = section.kind == "random" and takes_convolutions(input_shape)
    return None if section.projection != "none" and pooled else section.dim


def front_from_job(job: Job, data: DataSet, train: Split) -> Front:
    """Build the front of a job's [front] section for the private data set ``data``.

    ``train`` is the part of the training split that DP-SGD may learn from.
    """
    section = job.front
    projection = public = None
    if section.projection != "none" and section.public_data and section.dim:
        projection = Projection(section.projection, section.dim, section.whiten)
        public = _public_rows(section.public_data, section.public_rows, data)
    dp_sgd = private = None
    if section.kind == "dp-sgd":
        wanted = section.dp_sgd
        dp_sgd = DpSgd(
            epsilon=wanted.epsilon,
            delta=wanted.delta,
            epochs=wanted.epochs,
            batch_rows=wanted.batch_size,
            clip_norm=wanted.clip,
            learning_rate=wanted.learning_rate,
        )
        private = PrivateRows(train.rows(np.arange(len(train))), train.labels(), data.num_classes)
    return build_front(
        kind=section.kind,
        input_shape=train.input_shape,
        seed=section.seed,
        weights=section.weights,
        cut=section.cut,
        dim=_base_dim(job, train.input_shape),
        flatten=False,
        projection=projection,
        public=public,
        private_fingerprint=data.split("train").fingerprint(),
        dp_sgd=dp_sgd,
        private=private,
        normalise=job.privacy.clip if section.normalise else None,
    )


def front_outline(job: Job, train: Split) -> tuple[tuple[int, ...], bool]:
    """Return the release shape and whether rows are provably >= 0, without building the front."""
    section = job.front
    if section.dim and (section.projection != "none" or section.kind == "dp-sgd"):
        return (section.dim,), False
    shape = train.input_shape
    base = BaseFront(
        section.kind, shape, section.seed, section.weights, section.cut, section.dim, flatten=False
    )
    stages, _ = untrained_stages(base)
    non_negative = False
    for stage in stages:
        non_negative = stage.non_negative(non_negative)
    return output_shape(stages, shape), non_negative
