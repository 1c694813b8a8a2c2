"""The classifier of a run is what the owner evaluates, whatever left, however labels are named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from private_lda_cases import JOB, private_lda_job

from clicooper_hpc.owner.classifier import Classifier, scores_temperature
from clicooper_hpc.owner.evaluation import EVALUATION_ROWS, evaluate_clean
from clicooper_hpc.owner.release_setup import set_up_release
from clicooper_hpc.run.build import build_network
from clicooper_hpc.runstore.private_folder import PrivateFolder

MOMENTS = (
    JOB.replace("validation_rows = 100", "")
    .replace('"private-lda"', '"pca"\ndim = 20')
    .replace("expansion = 2", "expansion = 1")
)
PLAIN = JOB.replace('projection = "private-lda"\npublic_data = "public.h5"\nwhiten = 0.5\n', "")

CASES = {
    "class scores": (JOB, ()),
    "class scores, privacy off": (JOB, ("privacy.enabled=false",)),
    "anchors": (PLAIN, ("labels.method='anchors'", "labels.expansion=8")),
    "no map": (PLAIN, ("labels.method='none'", "labels.expansion=1")),
    "element": (PLAIN, ("privacy.unit='element'", "privacy.clip=0.5", "front.normalise=false")),
    "dp-sgd": (
        PLAIN,
        ("front.kind='dp-sgd'", "front.dim=8", "front.normalise=false", "front.dp_sgd.epochs=1"),
    ),
    **{mode: (MOMENTS, (f"release.mode={mode!r}",)) for mode in ("sums", "moments", "gradients")},
}


#: Take seconds, and the parts they are made of stand in others too.
SLOW = {"dp-sgd", "gradients"}


@pytest.mark.parametrize(
    "case", [pytest.param(one, marks=[pytest.mark.matrix] * (one in SLOW)) for one in CASES]
)
def test_its_answers_are_those_that_are_scored(case: str, tmp_path: Path, one_thread: None) -> None:
    text, changes = CASES[case]
    job = private_lda_job(tmp_path, *changes, text=text)
    setup = set_up_release(job, PrivateFolder(tmp_path / "private"))
    network = build_network(job, setup.contract)
    # With initial weights nearly all classes would be equally likely.
    with torch.no_grad():
        for weights in network.parameters():
            weights.mul_(2)
    classifier = Classifier(job, setup.front, network, setup.label_map, setup.data.class_names)
    scored = evaluate_clean(
        network,
        setup.held_out.clean_batches(),
        setup.label_map,
        temperature=scores_temperature(setup.front),
        baselines=setup.held_out.baselines,
    ).scores.model
    ids = np.arange(len(setup.held_out.split))
    raw = torch.split(torch.from_numpy(setup.held_out.split.read(ids)), EVALUATION_ROWS)
    said = torch.cat([classifier(part) for part in raw])
    labels = setup.held_out.split.labels(ids)
    setup.close_data()
    assert said.sum(1).numpy() == pytest.approx(np.ones(len(ids)), abs=1e-5)
    assert float((said.argmax(1).numpy() == labels).mean()) == scored.accuracy
    # Probabilities of the true classes alone: to be equal, all of them must be.
    loss = -np.log(said.double().numpy()[ids, labels]).mean()
    assert loss == pytest.approx(scored.loss, rel=1e-6)
