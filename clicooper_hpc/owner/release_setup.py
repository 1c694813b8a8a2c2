"""Setup of the owner before the first message: data, front, noise, budget, sub-labels.

Nothing in here talks to another rank. When it fails, nothing has been sent.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clicooper_hpc.config.job import Job
from clicooper_hpc.data.dataset import DataSet, open_dataset
from clicooper_hpc.fronts.front import Front
from clicooper_hpc.fronts.job_front import build_job_front
from clicooper_hpc.fronts.private_lda import PrivateClassMeans, private_lda_means
from clicooper_hpc.owner.evaluation import HeldOutSamples
from clicooper_hpc.owner.front_source import check_front_source, compared_front_run
from clicooper_hpc.owner.input_facts import observe_input
from clicooper_hpc.owner.moments_setup import open_moments_release
from clicooper_hpc.owner.release_gate import ReleaseGate
from clicooper_hpc.owner.rows_setup import open_rows_release
from clicooper_hpc.owner.run_cost import RunCost, check_before_front, settle_run_cost
from clicooper_hpc.owner.samples import Samples, draw_samples
from clicooper_hpc.owner.secrets import OwnerSecrets
from clicooper_hpc.owner.sub_labels import assign_sub_labels, make_sub_label_map
from clicooper_hpc.privacy.label_map import LabelMap
from clicooper_hpc.privacy.master_key import MasterKey, RngMode
from clicooper_hpc.privacy.release_spec import ReleaseSpec
from clicooper_hpc.runstore.private_folder import PrivateFolder
from clicooper_hpc.training.contract import Contract

__all__ = ["ReleaseSetup", "set_up_release"]


@dataclass(frozen=True, slots=True)
class ReleaseSetup:
    """What the owner starts a run with; ``samples`` are numbered as they leave.

    ``cost``: what the run costs a sample; it is reserved before anything leaves.
    """

    data: DataSet
    samples: Samples
    front: Front
    spec: ReleaseSpec | None
    label_map: LabelMap
    sub_labels: NDArray[np.int32]
    gate: ReleaseGate
    held_out: HeldOutSamples
    contract: Contract
    mode: RngMode
    cost: RunCost

    def check_front_source(self, job: Job) -> None:
        """Refuse a restart of ``job`` if the run its front was made from is another one now."""
        check_front_source(job, self.front)

    def keep_input_facts(self, private: PrivateFolder) -> None:
        """Note in ``private`` what is needed to use the model when the data are not at hand."""
        train = self.samples.splits["train"]
        OwnerSecrets(private).secret_input_facts(
            lambda: observe_input(self.data.class_names, train, self.data.table)
        )

    def close_data(self) -> None:
        """Close the data set."""
        self.data.close()


def set_up_release(job: Job, private: PrivateFolder, *, run_id: str | None = None) -> ReleaseSetup:
    """Open the data, build the front, solve the noise, ask the budget, name what leaves.

    What ``private`` holds of an earlier start of the run is taken from there; ``run_id`` is that of
    the run, None if it is new.

    Raises
    ------
    DataError, UsageError
        A mistake in the job or its data.
    BudgetExceededError
        The run as a whole would spend more than the budget, or all runs together more than the
        limit of their account. Nothing was sent.
    """
    data = open_dataset(job.data.path)
    # First of all: training a front takes hours, and its cost is known beforehand.
    check_before_front(job, data, run_id)
    secrets = OwnerSecrets(private)
    # Read for its refusals, before anything is made anew.
    secrets.secret_ledger(None)
    master = secrets.secret_master_key(job)
    # Before the front, which is paid for by samples that are drawn here.
    samples = draw_samples(job, data, master)
    front = secrets.secret_front(lambda: _build_front(job, data, samples, master))
    # Before sums are made, which takes minutes.
    cost = settle_run_cost(job, data, front, run_id)
    open_release = open_rows_release if job.release.mode == "rows" else open_moments_release
    opened = open_release(job, data, samples, front, master, secrets)
    gate, classes = opened.gate, opened.classes
    # Stored before a sub-label leaves: linear algebra differs between machines in its last bits, a
    # stored map does not.
    label_map = secrets.secret_label_map(
        lambda: make_sub_label_map(job, data.num_classes, classes, master, gate)
    )
    sub_labels = assign_sub_labels(label_map, classes, gate)
    # Receipts hash rows with their sub-labels, so the gate holds them from here on.
    gate.set_sub_labels(sub_labels)
    return ReleaseSetup(
        data=data,
        samples=samples,
        front=front,
        spec=opened.spec,
        label_map=label_map,
        sub_labels=sub_labels,
        gate=gate,
        held_out=opened.held_out,
        contract=Contract(
            release_shape=front.output_shape,
            samples=len(classes),
            validation_samples=opened.validation_samples,
            outputs=label_map.num_sub_labels,
        ),
        mode=master.mode,
        cost=cost,
    )


def _build_front(job: Job, data: DataSet, samples: Samples, master: MasterKey) -> Front:
    def class_means(before: Front) -> PrivateClassMeans:
        if samples.set_aside is None:
            raise ValueError("no samples were set aside for the front")
        return private_lda_means(
            before,
            samples.set_aside,
            data.num_classes,
            job.privacy,
            master,
            response_epsilon=job.labels.randomized_response_epsilon,
        )

    return build_job_front(
        job,
        data,
        samples.splits["train"],
        class_means=class_means,
        delivered=compared_front_run(job, data),
    )
