"""Options that change what a run does: evaluations, cuts, precision, relations, slow owners."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from replay import wire_messages
from start import SMALL, start, train

from clicooper_hpc.runstore.reader import open_run
from clicooper_hpc.transport.message_kind import Kind
from clicooper_hpc.transport.tap import read_tap

pytestmark = pytest.mark.mpi

SLOW = '''
import time

from torch import nn


class Slow(nn.Module):
    """Takes five seconds for every batch it sees in evaluation."""

    def forward(self, x):
        if not self.training:
            time.sleep(5.0)
        return x * 1.0


def network(*, input_shape, outputs):
    return nn.Sequential(nn.Linear(input_shape[0], 8), Slow(), nn.Linear(8, outputs))
'''


@pytest.mark.matrix
def test_evaluations_during_the_run_are_in_the_file(tmp_path: Path) -> None:
    run = train(tmp_path, 3, "training.evaluate_every_epochs=1", "training.epochs=3")
    found = run.table("evaluation", rank=0)
    assert found["epoch"].tolist() == [0, 1, 2]
    assert found["clean_accuracy"].iloc[-1] == run.results["clean_accuracy"]
    assert found["released_accuracy"].notna().all()
    assert run.results["released_samples"] == 20


@pytest.mark.matrix
def test_an_owner_that_evaluates_longer_than_a_step_may_take_is_waited_for(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(SLOW)
    settings = [
        "model.name=slow:network",
        "model.options={}",
        "pipeline.timeout_s=3.0",
        "training.evaluate_every_epochs=1",
        "release.cache=none",
        "data.validation_rows=0",
    ]
    done = start(tmp_path, 3, *settings)
    assert done.returncode == 0, done.stderr
    assert open_run(tmp_path / "run").status == "complete"


@pytest.mark.matrix
def test_measured_cuts_are_stored_and_hold(tmp_path: Path) -> None:
    run = train(tmp_path, 3, "pipeline.partition=auto", "training.optimizer=adamw")
    cuts = run.pipeline["cuts"]
    assert len(cuts) == 2
    assert cuts[0] == 0
    assert 0 < cuts[1] < len(run.pipeline["layer_names"])


@pytest.mark.parametrize(
    "precision", [pytest.param("float32", marks=pytest.mark.matrix), "bfloat16"]
)
def test_wire_dtype_is_what_travels(tmp_path: Path, precision: str) -> None:
    settings = ["pipeline.wire_dtype=bfloat16", f"training.precision={precision}"]
    # Without noise: with it, a run of two epochs may end above where it began.
    run = train(tmp_path, 3, *settings, "privacy.enabled=false", "training.epochs=6")
    for rank, kind, peer in ((1, Kind.ACTIVATION, 2), (2, Kind.GRADIENT, 1)):
        messages = list(wire_messages(run, rank, kind))
        assert messages
        for _, _, to, payload, shape in messages:
            assert to == peer
            assert len(payload) == 2 * np.prod(shape)
    losses = run.table("training", rank=2)["loss"]
    assert losses.iloc[-1] < losses.iloc[0]


@pytest.mark.matrix
def test_one_way_sends_no_gradient_at_all(tmp_path: Path) -> None:
    run = train(tmp_path, 4, "pipeline.coupling=one-way")
    for rank in range(4):
        kinds = {
            header.kind
            for header, _, _ in read_tap(run.folder.path / "wire" / f"rank-{rank:03d}.wire")
        }
        assert Kind.GRADIENT not in kinds


@pytest.mark.matrix
def test_no_gradient_ever_reaches_the_owner(tmp_path: Path) -> None:
    run = train(tmp_path, 3)
    for rank in (1, 2):
        for header, _, peer in read_tap(run.folder.path / "wire" / f"rank-{rank:03d}.wire"):
            assert not (peer == 0 and header.kind in (Kind.GRADIENT, Kind.ACTIVATION))


@pytest.mark.matrix
@pytest.mark.parametrize("relation", ["replace-one", "zero-out"])
def test_recorded_epsilon_is_the_jobs(tmp_path: Path, relation: str) -> None:
    run = train(tmp_path, 2, f"privacy.relation={relation}")
    events = run.table("releases", rank=0)
    assert events["epsilon"].max() == pytest.approx(8.0, rel=1e-6)
    assert events["epsilon_sample"].max() == pytest.approx(8.0, rel=1e-6)
    assert events["samples_total"].max() == 60


def test_a_budget_counts_whole_samples_whatever_the_unit(tmp_path: Path) -> None:
    done = start(
        tmp_path,
        2,
        "privacy.unit=element",
        "privacy.budget_epsilon=10.0",
        "privacy.budget_delta=1e-5",
    )
    assert done.returncode == 3
    assert "per sample" in done.stderr


@pytest.mark.matrix
def test_a_file_sorted_by_class_says_nothing_about_the_label_map(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    classes = np.repeat(np.arange(4), 20)
    with h5py.File(tmp_path / "sorted.h5", "w") as file:
        file.attrs["class_names"] = np.array(list("abcd"), dtype="S1")
        for split in ("train", "test"):
            file[f"{split}/x"] = rng.normal(size=(80, 12)).astype(np.float32)
            file[f"{split}/y"] = classes
    text = SMALL.replace('path = "digits"\ntrain_rows = 80', 'path = "sorted.h5"')
    run = train(tmp_path, 2, "data.validation_rows=0", "front.dim=8", text=text)
    labels = next(
        np.frombuffer(payload, dtype=np.int32)
        for header, payload, _ in read_tap(run.folder.path / "wire" / "rank-000.wire")
        if header.kind is Kind.CONTROL and header.blob_bytes == 4 * 80
    )
    # With ids in file order each block of 20 would hold the 2 names of one class.
    names = [len(set(labels[first : first + 20].tolist())) for first in range(0, 80, 20)]
    assert min(names) > 4


def test_a_failed_start_leaves_nothing_and_the_corrected_job_takes_the_folder(
    tmp_path: Path,
) -> None:
    done = start(tmp_path, 2, "training.warmup_steps=999")
    assert done.returncode == 2
    assert "warm-up" in done.stderr
    assert not (tmp_path / "run").exists()
    assert train(tmp_path, 2).status == "complete"


def test_the_card_is_printed_before_training_and_stored(tmp_path: Path) -> None:
    done = start(tmp_path, 2, 'privacy.mode="reproducible-INSECURE"')
    assert done.returncode == 0
    first = done.stderr.index("guarantee")
    assert first < done.stderr.index("epoch 2/2")
    assert "reproducible-INSECURE" in done.stderr
    run = open_run(tmp_path / "run")
    assert "epsilon 8" in str(run.privacy["text"])
    assert "on clean rows" in str(run.privacy["text"])
    assert json.loads(str(run.attrs["resolved_job"]))["privacy"]["epsilon"] == 8.0


@pytest.mark.matrix
def test_eight_trainers_run_what_the_simulator_accepts(tmp_path: Path) -> None:
    # The last batch has 12 rows, which are 6 micro-batches: fewer than trainers.
    run = train(
        tmp_path,
        9,
        "pipeline.micro_batches=8",
        "model.options={ widths = [8, 8, 8, 8] }",
        "training.epochs=1",
        "data.train_rows=76",
        "data.validation_rows=0",
        "output.record_wire=false",
    )
    assert run.status == "complete"
    assert len(run.table("steps", rank=8)) == 5
