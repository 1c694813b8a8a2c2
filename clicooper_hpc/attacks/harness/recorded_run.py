"""A recorded run as its parties saw it: views, what attackers may know besides, and the truth.

Needs the owner's private folder, since only the owner can make the released rows again, and only
it knows what they show. Nothing is written: the rows are those whose receipts the run left, and
anything else is refused.
"""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from clicooper_hpc.attacks.harness.adversary import (
    Adversary,
    AdversaryView,
    GroundTruth,
    adversaries_of,
    adversary_holds_rows,
    adversary_named,
)
from clicooper_hpc.attacks.harness.images import (
    auxiliary_images,
    halve_test_images,
    read_labelled_images,
)
from clicooper_hpc.attacks.harness.public_mechanism import (
    DifferentiableFront,
    public_clip,
    public_front,
    public_mechanism,
)
from clicooper_hpc.attacks.harness.recorded_rounds import add_up_rounds
from clicooper_hpc.attacks.harness.recorded_sums import add_up_release, check_recorded_sums
from clicooper_hpc.attacks.harness.summed_release import RELEASE_HOLDERS, HeldRelease
from clicooper_hpc.config.job import Job
from clicooper_hpc.errors import EvidenceError, RunFolderError
from clicooper_hpc.owner.moments_setup import job_promise
from clicooper_hpc.owner.release_setup import set_up_release
from clicooper_hpc.owner.secrets import OwnerSecrets, require_owner_secrets
from clicooper_hpc.privacy.gradient_sums import SplitPromise
from clicooper_hpc.run.delivered_segments import load_delivered_segments, recorded_cuts
from clicooper_hpc.run.vouching import vouched_job
from clicooper_hpc.runstore.private_folder import PrivateFolder
from clicooper_hpc.runstore.reader import Run
from clicooper_hpc.training.batches import average_batch_groups, order_epoch_batches

__all__ = ["RecordedRun"]

_PASS_ROWS: Final = 256


class RecordedRun:
    """A complete run, ready to be attacked.

    Parameters
    ----------
    run
        Complete, with its owner's private folder.
    public
        A public data set for attackers; default: the one the job names, if any.

    Attributes
    ----------
    adversaries
        See `adversaries_of`.
    aux
        What attackers may have besides; the same for all.
    truth
        For scoring.
    public
        One line on the public data.
    release
        ``release.mode`` of the job.

    Raises
    ------
    RunFolderError
        The run is incomplete, or secrets or delivered segments are missing.
    UsageError, DataError
        ``public`` cannot be used, or the owner's data are not there.
    """

    def __init__(self, run: Run, *, public: str | Path | None = None) -> None:
        _require_recorded_run(run)
        job = vouched_job(run)
        self.release: str = job.release.mode
        self.job: Job = job.cut_at(recorded_cuts(run))
        # As the owner had it: another number adds the front's sums up in another order.
        torch.set_num_threads(job.training.threads)
        private = PrivateFolder(run.folder.private)
        self._preparation = set_up_release(self.job, private)
        self._master = OwnerSecrets(private).secret_master_key(self.job)
        self._segments = load_delivered_segments(run, self.job, self._preparation.contract)
        self.adversaries = adversaries_of(len(self._segments), self.release)
        data = self._preparation.data
        # Neither half was trained on, so membership has outsiders and nobody scores on what
        # attackers hold.
        same, test = halve_test_images(data.split("test"))
        self.aux, self.public = auxiliary_images(
            data, same, public=public, of_job=self.job.front.public_data
        )
        train = self._preparation.samples.splits["train"]
        names = np.arange(self._preparation.label_map.num_sub_labels, dtype=np.int32)
        self.truth = GroundTruth(
            train=read_labelled_images(train, np.arange(len(train))),
            test=test,
            classes=data.num_classes,
            class_of_sub_label=self._preparation.label_map.map_to_classes(names),
            predict=self._predict,
            pooled=self._preparation.label_map.pools,
        )

    def adversary(self, name: str) -> Adversary:
        """Return the one called ``name``; see `adversary_named`."""
        return adversary_named(self.adversaries, name)

    def view(self, party: Adversary) -> AdversaryView:
        """Return what ``party`` was given."""
        preparation = self._preparation
        groups = self._groups(party)
        front, summed = public_front(preparation.front), self.release in RELEASE_HOLDERS
        mechanism = public_mechanism(self.job, preparation.front, preparation.spec)
        if self._promise is not None:
            mechanism = replace(mechanism, spec=self._promise.moments)
        if summed:
            # Rows are public ones: neither clipped nor noised by themselves.
            mechanism = replace(mechanism, sigma=0.0, radius=math.inf)
        return AdversaryView(
            adversary=party,
            rows=self._rows(party, groups),
            sub_labels=preparation.sub_labels[groups[:, 0]],
            groups=groups[:, :0] if summed else groups,
            sub_label_count=preparation.label_map.num_sub_labels,
            # Copies: an attack that trains them must not change the network it is scored by.
            segments={one: copy.deepcopy(self._segments[one - 1]) for one in party.segments},
            mechanism=mechanism,
            front=front,
            front_module=None if front is None else DifferentiableFront(preparation.front),
            clip=public_clip(None if summed else preparation.spec),
            release=self.release,
            held=self._held if party.name in RELEASE_HOLDERS.values() else None,
            samples=len(preparation.samples.splits["train"]) if summed else 0,
            mixes=self.job.release.mixes,
            sharpness=self.job.release.sharpness,
            promise=self._promise,
        )

    @cached_property
    def _promise(self) -> SplitPromise | None:
        """The promise that moments and rounds of gradients fill together; None of other runs."""
        if self.release == "rows":
            return None
        width = math.prod(self._preparation.front.output_shape)
        promise = job_promise(self.job, width, self._preparation.data.num_classes)
        return promise if isinstance(promise, SplitPromise) else None

    @cached_property
    def _held(self) -> HeldRelease:
        """The sums that everything was made of, made again from the private samples."""
        preparation, promise = self._preparation, self._promise
        train = preparation.samples.splits["train"]
        held = add_up_release(
            self.job.release.mode,
            preparation.front,
            train,
            preparation.data.num_classes,
            spec=preparation.spec if promise is None else promise.moments,
            master=self._master,
        )
        # Mixes come after the public rows, and have their mean only nearly.
        plain = len(self._released) // (1 + self.job.release.mixes)
        check_recorded_sums(held.released, self._released[:plain])
        if self.release == "gradients":
            baselines = preparation.held_out.baselines
            if baselines is None:
                raise ValueError("a run of gradients has baselines")
            rounds = add_up_rounds(
                self.job,
                held.released,
                baselines,
                preparation.front,
                train,
                spec=None if promise is None else promise.gradients,
                master=self._master,
            )
            held = replace(held, rounds=rounds)
        return held

    @cached_property
    def _released(self) -> NDArray[np.float32]:
        """All released rows by id, float32 [rows that left, ...]: the bytes that left."""
        samples = self._preparation.contract.samples
        shape = self._preparation.contract.release_shape
        rows = np.empty((samples, *shape), dtype=np.float32)
        for start in range(0, samples, _PASS_ROWS):
            ids = np.arange(start, min(start + _PASS_ROWS, samples))
            # The gate compares each row with the receipt of what left.
            sent, new = self._preparation.gate.release("train", ids)
            if new:
                raise EvidenceError(
                    f"{new} of rows {ids[0]} to {ids[-1]} never left the owner",
                    where="receipts-train.bin",
                    remedy="Attack a complete run, with the private folder it left.",
                )
            rows[ids] = sent.numpy()
        return rows

    def _groups(self, party: Adversary) -> NDArray[np.int64]:
        """Return the released rows in each row that enters the party's first segment."""
        if not adversary_holds_rows(party):
            return np.empty((0, 1), dtype=np.int64)
        training = self.job.training
        samples = self._preparation.contract.samples
        if party.segments[0] == 1 or training.average_rows == 1:
            # Trainer 1 averages, so it holds the single rows.
            return np.arange(samples, dtype=np.int64)[:, np.newaxis]
        # The last epoch: those rows passed the segments that were delivered, or nearly these.
        order = order_epoch_batches(
            seed=training.seed,
            epoch=training.epochs - 1,
            sub_labels=self._preparation.sub_labels,
            batch_size=training.batch_size,
            average_rows=training.average_rows,
        )
        return np.concatenate([batch.ids for batch in order.batches])

    @torch.no_grad()
    def _rows(self, party: Adversary, groups: NDArray[np.int64]) -> NDArray[np.float32]:
        if not adversary_holds_rows(party):
            return np.empty((0, *self._preparation.contract.release_shape), dtype=np.float32)
        # What entered segment i is what the delivered segments before it make of the released rows.
        before = self._segments[: party.segments[0] - 1]
        if not before:
            return self._released.copy()
        parts = []
        for start in range(0, len(groups), _PASS_ROWS):
            part = groups[start : start + _PASS_ROWS]
            rows = torch.from_numpy(self._released[part.reshape(-1)])
            rows = average_batch_groups(rows, len(part))
            for segment in before:
                rows = segment(rows)
            parts.append(rows.float().numpy())
        return np.concatenate(parts)

    @torch.no_grad()
    def _predict(self, images: NDArray[np.float32]) -> NDArray[np.float64]:
        """Sub-label probabilities of the delivered network on clean rows, as its owner uses it."""
        # Clipped but without noise, as the owner's own evaluation does.
        rows = self._preparation.held_out.rows
        parts = [np.empty((0, self._preparation.label_map.num_sub_labels))]
        for start in range(0, len(images), _PASS_ROWS):
            part = images[start : start + _PASS_ROWS]
            raw = np.ascontiguousarray(part.reshape(len(part), *rows.input_shape))
            output = rows(torch.from_numpy(raw))
            for segment in self._segments:
                output = segment(output)
            parts.append(torch.softmax(output.float().double(), dim=1).numpy())
        return np.concatenate(parts)


def _require_recorded_run(run: Run) -> None:
    if run.status != "complete":
        raise RunFolderError(
            "the run did not reach its end, so its segments were not delivered",
            where=str(run.folder.path),
            remedy="Attack a complete run.",
        )
    require_owner_secrets(run.folder.private, "attack")
