"""Every built-in network can be exported and says the same afterwards."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from clicooper_hpc.config.load_job import load_job
from clicooper_hpc.fronts.front import assemble_front
from clicooper_hpc.fronts.operations import Clamp, Operation, Resize
from clicooper_hpc.fronts.origin import FrontOrigin
from clicooper_hpc.inference.exports.onnx_graph import write_onnx_graph
from clicooper_hpc.inference.exports.torch_program import write_torch_program
from clicooper_hpc.inference.load_model import LoadedModel
from clicooper_hpc.models.build_model import MODEL_NAMES, build_model
from clicooper_hpc.owner.classifier import Classifier
from clicooper_hpc.owner.input_facts import InputFacts
from clicooper_hpc.privacy.label_map import LabelMap
from clicooper_hpc.privacy.master_key import MasterKey

JOB = '[data]\npath = "digits"\n[front]\nkind = "identity"\n[model]\nname = "mlp"\n'
CLASSES = ("a", "b", "c")


@pytest.mark.matrix
@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("name", MODEL_NAMES)
def test_its_answers_are_the_same_bits(name: str, tmp_path: Path) -> None:
    (tmp_path / "job.toml").write_text(JOB)
    job = load_job(tmp_path / "job.toml", [])
    # Images grow on their way in; rows are clipped behind that.
    operations: list[Operation] = [Clamp(flatten=False), Resize(32)]
    front = assemble_front((3, 20, 20), operations, FrontOrigin("identity", "test"), block_rows=8)
    label_map = LabelMap.draw_label_map("random", len(CLASSES), 3, MasterKey.from_seed(1))
    network = build_model(
        name,
        input_shape=front.output_shape,
        outputs=label_map.num_sub_labels,
        seed=1,
        options={},
    )
    classifier = Classifier(job, front, network, label_map, CLASSES)
    facts = InputFacts(CLASSES, "uint8", 0.0, 1.0)
    no_run: Any = None
    model = LoadedModel(no_run, job, None, classifier, facts, front)
    assert write_torch_program(model, tmp_path / "model.pt2") == 0.0
    if importlib.util.find_spec("onnxruntime") and importlib.util.find_spec("onnxscript"):
        assert write_onnx_graph(model, tmp_path / "model.onnx") < 1e-5
