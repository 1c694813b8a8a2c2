"""Everything the owner decides before the first message: data, front, noise, labels, budget.

Nothing in here talks to another rank. When it fails, nothing has been sent.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clicooper_hpc.config.job import Job
from clicooper_hpc.data.dataset import DataSet, open_dataset
from clicooper_hpc.data.split import Split
from clicooper_hpc.digests import Digest, digest_bytes
from clicooper_hpc.fronts.from_job import front_from_job
from clicooper_hpc.fronts.front import Front
from clicooper_hpc.fronts.private_lda import SpentMeans, spend_samples
from clicooper_hpc.owner.budget import ask_for_front, set_up_desk
from clicooper_hpc.owner.release import ReleaseGate
from clicooper_hpc.owner.samples import Samples, draw_samples
from clicooper_hpc.owner.secrets import OwnerSecrets
from clicooper_hpc.owner.stream import ReleaseStream
from clicooper_hpc.privacy.anchors import summaries
from clicooper_hpc.privacy.keys import MasterKey, RngMode
from clicooper_hpc.privacy.labelmap import LabelMap
from clicooper_hpc.privacy.noise import NoiseStream, ReleaseContext
from clicooper_hpc.privacy.randomized_response import RandomizedResponse
from clicooper_hpc.privacy.release import PlainReleaser, Releaser, RowReleaser
from clicooper_hpc.privacy.sensitivity import Guarantee
from clicooper_hpc.privacy.spec import ReleaseSpec, solve
from clicooper_hpc.runstore.private_folder import PrivateFolder
from clicooper_hpc.training.contract import Contract

__all__ = ["Preparation", "guarantee_of", "prepare"]

_PASS_ROWS = 256


@dataclass(frozen=True, slots=True)
class Preparation:
    """What the owner starts a run with; ``samples`` are numbered as they leave."""

    data: DataSet
    samples: Samples
    front: Front
    spec: ReleaseSpec | None
    label_map: LabelMap
    sub_labels: NDArray[np.int32]
    desk: ReleaseGate
    held_out: ReleaseStream
    contract: Contract
    mode: RngMode


def guarantee_of(job: Job, front_shape: tuple[int, ...], *, non_negative: bool) -> Guarantee:
    """Return the promise of the job's [privacy] section for rows of ``front_shape``."""
    privacy = job.privacy
    return Guarantee(
        unit=privacy.unit,
        relation=privacy.relation,
        clip=privacy.clip,
        dimension=int(np.prod(front_shape)),
        epsilon=privacy.epsilon,
        delta=privacy.delta,
        non_negative=non_negative,
        metric_distance=privacy.metric_distance,
    )


def prepare(job: Job, private: PrivateFolder) -> Preparation:
    """Open the data, build the front, solve the noise, name the labels, ask the budget.

    What ``private`` holds of an earlier life of the run is taken from there.

    Raises
    ------
    DataError, UsageError
        A mistake in the job or its data.
    BudgetExceededError
        The run as a whole would spend more than the budget. Nothing was sent.
    """
    data = open_dataset(job.data.path)
    ask_for_front(job)
    secrets = OwnerSecrets(private)
    master = secrets.master_key(job)
    samples = draw_samples(job, data, master)
    splits, train = samples.splits, samples.splits["train"]

    def spend(before: Front) -> SpentMeans:
        if samples.spent is None:
            raise ValueError("no samples were set aside for the front")
        return spend_samples(
            before,
            samples.spent,
            data.num_classes,
            job.privacy,
            master,
            response_epsilon=job.labels.randomized_response_epsilon,
        )

    front = secrets.front(lambda: front_from_job(job, data, train, spend=spend))
    spec = None
    if job.privacy.enabled:
        guarantee = guarantee_of(job, front.output_shape, non_negative=front.non_negative)
        spec = solve(guarantee)

    releasers: dict[str, RowReleaser] = {}
    contexts: dict[str, Digest] = {}
    for name, split in splits.items():
        releasers[name], contexts[name] = _releaser(name, split, front, spec, master)
    classes = train.labels()
    if job.labels.randomized_response_epsilon is not None:
        answers = RandomizedResponse(
            job.labels.randomized_response_epsilon, data.num_classes, master, contexts["train"]
        )
        classes = answers.answers(classes, np.arange(len(train)))
    released = _Released(train, front, releasers["train"])
    label_map = secrets.label_map(
        lambda: _make_label_map(job, data.num_classes, classes, master, released)
    )
    sub_labels = _name(label_map, classes, released)

    streams = {
        name: ReleaseStream(
            split,
            front,
            releasers[name],
            receipts=secrets.receipts(
                name, len(split), master.derive("receipts", contexts[name].value)
            ),
            sub_labels=sub_labels if name == "train" else None,
        )
        for name, split in splits.items()
    }
    desk = set_up_desk(job, front, spec, streams, contexts, secrets)
    return Preparation(
        data=data,
        samples=samples,
        front=front,
        spec=spec,
        label_map=label_map,
        sub_labels=sub_labels,
        desk=desk,
        held_out=streams["test"],
        contract=Contract(
            release_shape=front.output_shape,
            samples=len(train),
            validation_samples=len(splits.get("validation", ())),
            outputs=label_map.num_sub_labels,
        ),
        mode=master.mode,
    )


def _releaser(
    name: str, split: Split, front: Front, spec: ReleaseSpec | None, master: MasterKey
) -> tuple[RowReleaser, Digest]:
    """Return the releaser of a split and the digest that its noise is keyed by."""
    if spec is None:
        plain = digest_bytes("clicooper/v1/plain-release", f"{name} {front.digest}".encode())
        return PlainReleaser(), plain
    context = ReleaseContext(name, front.digest, split.fingerprint(), spec)
    return Releaser(spec, NoiseStream(master, context)), context.digest()


@dataclass(frozen=True, slots=True)
class _Released:
    """Released rows of the training split, flat, for naming cells before anything is sent."""

    split: Split
    front: Front
    releaser: RowReleaser

    def rows(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        rows = self.front.rows(self.split.rows(ids))
        return self.releaser.release(rows.reshape(len(ids), -1), ids)

    def maps(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return released rows in the front's shape, float32 [n, ...]."""
        return self.rows(ids).reshape(len(ids), *self.front.output_shape)

    def __len__(self) -> int:
        return len(self.split)


def _make_label_map(
    job: Job, count: int, classes: NDArray[np.int64], master: MasterKey, released: _Released
) -> LabelMap:
    label_map = LabelMap.create(job.labels.method, count, job.labels.expansion, master)
    if label_map.ready:
        return label_map
    # Summaries are small, so every row serves to find the directions, up to a bound.
    used = np.arange(min(len(released), 50_000))
    points = np.concatenate([summaries(released.maps(part)) for part in _passes(used)])
    return label_map.with_anchors(points, classes[used])


def _name(
    label_map: LabelMap, classes: NDArray[np.int64], released: _Released
) -> NDArray[np.int32]:
    """Return the sub-label of every training sample."""
    ids = np.arange(len(released))
    if label_map.method != "anchors":
        return label_map.sub_labels(classes, ids, split="train")
    return np.concatenate(
        [
            label_map.sub_labels(classes[part], part, released.maps(part), split="train")
            for part in _passes(ids)
        ]
    )


def _passes(ids: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    return [ids[start : start + _PASS_ROWS] for start in range(0, len(ids), _PASS_ROWS)]
