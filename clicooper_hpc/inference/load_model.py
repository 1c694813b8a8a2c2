"""`load_model`: the delivered model of a finished run, from its folder."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from torch import nn

from clicooper_hpc.config.job import Job
from clicooper_hpc.data.dataset import open_dataset
from clicooper_hpc.errors import DataError, EvidenceError, RunFolderError
from clicooper_hpc.fronts.front import Front
from clicooper_hpc.inference.signed_delivery import read_signed_delivery
from clicooper_hpc.owner.classifier import Classifier
from clicooper_hpc.owner.input_facts import InputFacts, observe_input
from clicooper_hpc.owner.secrets import OwnerSecrets, require_model_secrets
from clicooper_hpc.privacy.label_map import LabelMap
from clicooper_hpc.provenance.statements import DeliveryStatement
from clicooper_hpc.run.delivered_segments import load_delivered_segments, recorded_cuts
from clicooper_hpc.run.vouching import vouched_job
from clicooper_hpc.runstore.private_folder import PrivateFolder
from clicooper_hpc.runstore.reader import Run
from clicooper_hpc.runstore.whole_run import open_whole_run
from clicooper_hpc.training.contract import Contract

__all__ = ["LoadedModel", "load_model", "load_model_of_run"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """The model of a run, and what is known of it.

    Attributes
    ----------
    run, job
        It was trained in.
    delivery
        What the owner signed of its segments; None where the run has no proofs.
    classifier
        The model.
    input
        Facts of the samples it was trained on.
    front
        The owner's part of the network, with its origin.
    """

    run: Run
    job: Job
    delivery: DeliveryStatement | None
    classifier: Classifier
    input: InputFacts
    front: Front


def load_model(path: str | Path) -> Classifier:
    """Return the delivered model of the finished run in the folder ``path``.

    A module of torch on the CPU, in evaluation mode: raw rows float32 ``[n, *input_shape]`` to
    probabilities float32 ``[n, classes]``, with the attributes ``input_shape`` and ``class_names``.
    Images are ``(channels, height, width)``; uint8 samples are divided by 255 first.

    It needs the owner's private folder: the front and the meaning of the labels are nowhere else.
    The segments are compared with what the owner signed when they were delivered. Of the private
    files, the front's weights are compared with the digest stored beside them, the rest with
    nothing: a sound label map of another run is not noticed.

    Raises
    ------
    RunFolderError
        There is no run, it did not reach its end, or its private folder is missing or does not
        fit together.
    EvidenceError
        A segment, or the job, is not the one that was signed.
    """
    return load_model_of_run(path).classifier


def load_model_of_run(
    path: str | Path, *, accept: Callable[[tuple[int, ...]], object] | None = None
) -> LoadedModel:
    """Return the model of a run and what is known of it; parameters and errors as `load_model`.

    ``accept`` is called with the shape of the model's input before the network is loaded.
    """
    run = open_whole_run(Path(path))
    if run.status != "complete":
        raise RunFolderError(
            "the run did not reach its end, so its segments were not delivered",
            where=str(run.folder.path),
            remedy="Go on with it: mpirun -n ... clicooper resume RUN.",
        )
    require_model_secrets(run.folder.private)
    # Nothing the job names is read or imported before this.
    job = vouched_job(run)
    delivery = None
    if job.provenance.enabled:
        delivery = read_signed_delivery(run)
        if len(delivery.segments) != len(recorded_cuts(run)) + 1:
            raise EvidenceError(
                f"{len(delivery.segments)} segments were signed as delivered, the network is cut "
                f"into {len(recorded_cuts(run)) + 1}",
                where=str(run.folder.index),
                remedy="Bring back the run.h5 that the run wrote.",
            )
    else:
        _log.warning(
            "%s: the run has no proofs, so nothing shows that its segments are unchanged",
            run.folder.path,
        )
    secrets = OwnerSecrets(PrivateFolder(run.folder.private))
    front = secrets.secret_front(_missing)
    if accept is not None:
        accept(front.input_shape)
    label_map: LabelMap = secrets.secret_label_map(_missing)
    contract = Contract(
        release_shape=front.output_shape,
        # Of training; a network is built without them.
        samples=1,
        validation_samples=0,
        outputs=label_map.num_sub_labels,
    )
    roots = None if delivery is None else [one.weights for one in delivery.segments]
    segments = load_delivered_segments(run, job, contract, roots=roots)
    facts = _input_facts(run, job)
    if len(facts.class_names) != label_map.num_classes:
        raise RunFolderError(
            f"there are {len(facts.class_names)} names of classes, the label map knows "
            f"{label_map.num_classes} classes",
            where=str(run.folder.private),
            remedy="Bring back input.json and label-map.safetensors as the run wrote them; where "
            "it kept no input.json, the data set of the run.",
        )
    network = nn.Sequential(*(layer for segment in segments for layer in segment))
    classifier = Classifier(job, front, network, label_map, facts.class_names)
    return LoadedModel(run, job, delivery, classifier, facts, front)


def _missing() -> NoReturn:
    # Their files were there a moment ago.
    raise RunFolderError("the owner's parts of the model are gone")


def _input_facts(run: Run, job: Job) -> InputFacts:
    """Return the facts of the training samples, of a run of an earlier version from its data."""
    private = PrivateFolder(run.folder.private)
    stored = OwnerSecrets(private).stored_input_facts()
    if stored is not None:
        return stored
    try:
        with open_dataset(job.data.path) as data:
            return observe_input(data.class_names, data.split("train"), data.table)
    except DataError as error:
        raise DataError(
            f"the run kept no names of classes, and its data set cannot be read ({error.what})",
            where=error.where,
            remedy="Bring the data set of the run back to where its job says.",
        ) from None
