"""`clicooper attack` on a real run: views are what went over the wire, and nothing is changed."""

from __future__ import annotations

import copy
import hashlib
import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from mpirun import mpirun
from numpy.typing import NDArray

from clicooper_hpc.attacks.harness.recorded_run import RecordedRun
from clicooper_hpc.attacks.toolbox.label_names import class_scores_by_name
from clicooper_hpc.cli import main
from clicooper_hpc.runstore.attack_record import read_attack_findings, read_attack_record
from clicooper_hpc.runstore.reader import open_run
from clicooper_hpc.training.batches import order_epoch_batches
from clicooper_hpc.transport.message_kind import Kind
from clicooper_hpc.transport.tap import read_tap

sys.path.insert(0, str(Path(__file__).parent))
from toy_attacks import TOYS

pytestmark = [pytest.mark.mpi, pytest.mark.usefixtures("one_thread")]

#: Learning that changes no weight: what a trainer sent in any epoch is what the delivered segment
#: makes of the same rows. Sub-labels are averaged in threes.
JOB = """
[data]
path = "digits"
train_rows = 120
[front]
kind = "random"
dim = 12
normalise = true
[privacy]
epsilon = 20.0
[labels]
expansion = 2
[model]
options = { widths = [16, 16] }
[pipeline]
micro_batches = 2
[training]
epochs = 2
batch_size = 16
average_rows = 3
learning_rate = 1e-30
[provenance]
enabled = false
[output]
record_wire = true
"""
SAMPLES, EPOCHS, DIM = 120, 2, 12
TOY_SUITE = Path(__file__).parent / "programs" / "toy_suite.py"


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str


@pytest.fixture
def clicooper(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Done]:
    """The command line in this process, with the toy attacks as its suite."""
    monkeypatch.setattr("clicooper_hpc.attacks.harness.run.SUITE", TOYS)

    def run(*args: str | Path) -> Done:
        code = main([str(arg) for arg in args])
        texts = capsys.readouterr()
        return Done(code, texts.out, texts.err)

    return run


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recorded")
    (folder / "job.toml").write_text(JOB)
    args = ["-m", "clicooper_hpc", "run", str(folder / "job.toml"), "-o", str(folder / "run"), "-q"]
    done = mpirun(3, args)
    assert done.returncode == 0, done.stderr
    return folder / "run"


@pytest.fixture(scope="module")
def recorded_run(recorded: Path) -> RecordedRun:
    return RecordedRun(open_run(recorded))


@pytest.fixture
def run(recorded: Path, tmp_path: Path) -> Path:
    """A copy of the run that a test may write to."""
    return Path(shutil.copytree(recorded, tmp_path / "run"))


def sent(run: Path, rank: int, kind: Kind) -> NDArray[np.float32]:
    """All rows a rank sent as messages of one kind, in order."""
    found = {
        (header.step, header.micro_batch): np.frombuffer(payload, "<f4").reshape(header.shape)
        for header, payload, _ in read_tap(run / "wire" / f"rank-{rank:03d}.wire")
        if header.kind is kind
    }
    return np.concatenate([found[place] for place in sorted(found)])


def groups_of(recorded_run: RecordedRun, epoch: int) -> NDArray[np.int64]:
    labels = recorded_run.view(recorded_run.adversary("trainer 1")).sub_labels
    order = order_epoch_batches(
        seed=0, epoch=epoch, sub_labels=labels, batch_size=16, average_rows=3
    )
    return np.concatenate([batch.ids for batch in order.batches])


def state_of(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_trainer_1_holds_the_very_bytes_that_left(
    recorded: Path, recorded_run: RecordedRun
) -> None:
    view = recorded_run.view(recorded_run.adversary("trainer 1"))
    on_the_wire = sent(recorded, 0, Kind.RELEASE)
    ids = groups_of(recorded_run, 0).reshape(-1)
    assert np.array_equal(np.unique(ids), np.arange(SAMPLES))
    assert np.array_equal(view.rows[ids], on_the_wire)
    assert view.groups.tolist() == [[sample] for sample in range(SAMPLES)]


def test_trainer_2_holds_what_trainer_1_sent_in_the_last_epoch(
    recorded: Path, recorded_run: RecordedRun
) -> None:
    view = recorded_run.view(recorded_run.adversary("trainer 2"))
    on_the_wire = sent(recorded, 1, Kind.ACTIVATION)[-len(view.rows) :]
    assert np.array_equal(view.groups, groups_of(recorded_run, EPOCHS - 1))
    np.testing.assert_allclose(view.rows, on_the_wire, rtol=1e-5, atol=1e-6)
    singles = recorded_run.view(recorded_run.adversary("trainer 1")).sub_labels
    assert np.array_equal(singles[view.groups], np.repeat(view.sub_labels[:, None], 3, axis=1))


def test_the_other_parties_hold_what_they_should(recorded_run: RecordedRun) -> None:
    views = {party.name: recorded_run.view(party) for party in recorded_run.adversaries}
    assert list(views) == ["trainer 1", "trainer 2", "trainers 1+2", "outsider", "verifier"]
    assert np.array_equal(views["trainers 1+2"].rows, views["trainer 1"].rows)
    held = {name: (len(view.rows), sorted(view.segments)) for name, view in views.items()}
    assert held["trainers 1+2"] == (SAMPLES, [1, 2])
    assert held["outsider"] == (0, [1, 2])
    assert held["verifier"] == (0, [])
    assert all(view.groups.shape == (0, 1) for view in views.values() if not len(view.rows))


def test_clean_rows_lie_one_noise_away_from_the_released_ones(recorded_run: RecordedRun) -> None:
    view = recorded_run.view(recorded_run.adversary("trainer 1"))
    assert view.front is not None
    clean = view.clip(view.front(recorded_run.truth.train.images))
    assert np.linalg.norm(clean, axis=1).max() <= view.mechanism.radius
    noise = view.rows - clean
    # 1440 numbers: their standard deviation is known to 2 %.
    assert noise.std() == pytest.approx(view.mechanism.sigma, rel=0.1)
    assert abs(noise.mean()) < 0.1 * view.mechanism.sigma


def test_the_front_with_gradients_is_the_front(recorded_run: RecordedRun) -> None:
    view = recorded_run.view(recorded_run.adversary("trainer 1"))
    assert view.front is not None
    assert view.front_module is not None
    images = torch.from_numpy(recorded_run.aux.same.images[:5]).requires_grad_()
    rows = copy.deepcopy(view.front_module)(images)
    np.testing.assert_allclose(
        rows.detach(), view.front(recorded_run.aux.same.images[:5]), atol=1e-6
    )
    rows.square().sum(dim=0)[0].backward()
    assert images.grad is not None
    assert float(images.grad.abs().sum()) > 0


def test_the_truth_is_the_owners(recorded: Path, recorded_run: RecordedRun) -> None:
    view, truth = recorded_run.view(recorded_run.adversary("trainer 1")), recorded_run.truth
    assert np.array_equal(truth.class_of_sub_label[view.sub_labels], truth.train.classes)
    halves = (recorded_run.aux.same, truth.test)
    images = np.concatenate([half.images for half in halves])
    classes = np.concatenate([half.classes for half in halves])
    assert len({image.tobytes() for image in images}) == len(images) == 360
    # Counted through the prediction, the network is as good as the run said it was.
    by_class = class_scores_by_name(
        truth.predict(images), truth.class_of_sub_label, truth.classes, pooled=truth.pooled
    )
    accuracy = float(np.mean(by_class.argmax(axis=1) == classes))
    assert accuracy == pytest.approx(float(open_run(recorded).results["clean_accuracy"]))


def test_only_the_findings_are_added_and_no_attack_spoils_another(
    run: Path, clicooper: Callable[..., Done]
) -> None:
    before = state_of(run)
    done = clicooper("attack", run, "--seeds", 2)
    assert done.code == 1, done.err
    after = state_of(run)
    assert after.pop("private/attacks.h5")
    assert after == before
    assert (run / "private" / "attacks.h5").stat().st_mode & 0o777 == 0o600  # holds images
    frame = read_attack_findings(run)
    assert frame.attrs["run_id"] == open_run(run).attrs["run_id"]
    broken = frame[frame["metric"] == "failed"]
    assert (broken["attack"] == "broken").all()
    assert broken["note"].iloc[0].startswith("ArithmeticError: the matrix is singular (toy_attacks")
    assert len(broken) == 4 * 2
    unsuited = frame[frame["metric"] == "not applicable"]
    assert sorted(unsuited["party"]) == ["outsider"] * 2 + ["verifier"] * 3
    assert (
        unsuited[unsuited["party"] == "verifier"]["note"] == "it holds neither rows nor weights"
    ).all()
    sums = frame[frame["metric"] == "sum"].set_index(["party", "seed"])["value"]
    # `spoil` has written into the views of trainers 1 and 2, and both attack together afterwards.
    assert np.isfinite(sums).all()
    assert sums["trainers 1+2", 0] == sums["trainer 1", 0] == sums["trainer 1", 1] - 1
    assert "not applicable: measure, outsider: it holds no rows" in done.out
    assert "not applicable: broken, verifier: it holds neither rows nor weights" in done.out
    assert max(map(len, done.out.splitlines()[:-1])) <= 120


def test_findings_are_not_overwritten_unasked(
    run: Path, recorded_run: RecordedRun, clicooper: Callable[..., Done]
) -> None:
    (run / "private" / "attacks.h5").write_bytes(b"old")
    done = clicooper("attack", run, "--only", "measure")
    assert done.code == 2
    assert "there are findings already" in done.err
    narrow = ("--only", "measure", "--party", "trainer 2", "--seeds", 1, "--scale", 0.5, "--json")
    done = clicooper("attack", run, *narrow, "--overwrite")
    assert done.code == 0
    content = json.loads(done.out)
    assert content["scale"] == 0.5
    assert {row["party"] for row in content["findings"]} == {"trainer 2"}
    assert content["table"][1]["value"] == len(
        recorded_run.view(recorded_run.adversary("trainer 2")).rows
    )


def test_ranks_and_shares_find_what_one_process_finds(
    run: Path, clicooper: Callable[..., Done]
) -> None:
    alone = run.parent / "alone.h5"
    wanted = ("--only", "measure", "broken", "--seeds", "3")
    assert clicooper("attack", run, *wanted, "-o", alone).code == 1
    together = run.parent / "together.h5"
    mistake = ("attack", str(run), "--party", "trainer 9")
    done = mpirun(
        2, [str(TOY_SUITE), *mistake, "then", "attack", str(run), *wanted, "-o", str(together)]
    )
    assert done.returncode == 1  # a broken attack
    assert done.stderr.count("there is no party 'trainer 9'") == 1
    assert done.stdout.splitlines().count("exit code 2") == 2
    assert done.stdout.count("measure, trainer 1\n") == 1
    assert clicooper("attack", run, "--merge").code == 2
    for share in ("2/2", "1/2"):
        assert clicooper("attack", run, *wanted, "--share", share).code == 1
    assert clicooper("attack", run, "--merge").code == 1
    first = read_attack_record(alone)
    for other in (read_attack_record(together), read_attack_record(run / "private" / "attacks.h5")):
        assert repr(other.findings) == repr(first.findings)
        assert other.arrays.keys() == first.arrays.keys()
        assert all(np.array_equal(other.arrays[key], first.arrays[key]) for key in first.arrays)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--only", "magic"), "there is no attack 'magic'. Attacks: measure, broken, spoil."),
        (("--party", "trainer 9"), "there is no party 'trainer 9'. Parties of this run: trainer 1"),
        (("--seeds", 0), "0 seeds are none"),
        (("--scale", 1.5), "1.5 is not above 0 and at most 1"),
        (("--share", "3/2"), "'3/2' is no share"),
        (("--public", "digits"), "the owner's own data set"),
        (("--public", "nothing.h5"), "no such file"),
        (("-o", "nowhere/attacks.h5"), "no such folder"),
    ],
)
def test_mistakes_are_named(
    recorded: Path, clicooper: Callable[..., Done], args: tuple[str, ...], words: str
) -> None:
    done = clicooper("attack", recorded, "--quiet", *args)
    assert done.code == 2
    assert words in done.err
    assert done.err.count("\n") == 1


def test_without_secrets_or_run_nothing_is_attacked_or_made(
    run: Path, clicooper: Callable[..., Done]
) -> None:
    assert clicooper("attack").code == 2
    assert f"Name one of them: {run}" in clicooper("attack", run.parent).err
    (run / "private" / "label-map.safetensors").unlink()
    before = state_of(run)
    done = clicooper("attack", run)
    assert done.code == 2
    assert "label-map.safetensors is missing" in done.err
    shutil.rmtree(run / "private")
    assert "the owner's secrets are not there" in clicooper("attack", run).err
    assert not (run / "private").exists()
    assert before.keys() > state_of(run).keys()


def test_a_segment_that_is_not_the_runs_is_refused(
    run: Path, clicooper: Callable[..., Done]
) -> None:
    delivery = run / "delivery"
    shutil.copy(delivery / "segment-001.safetensors", delivery / "segment-002.safetensors")
    done = clicooper("attack", run)
    assert done.code == 2
    assert "this is not segment 2 of the run's network" in done.err


def test_the_list_names_attacks_and_parties(recorded: Path, clicooper: Callable[..., Done]) -> None:
    assert "measure\n  knows: nothing" in clicooper("attack", "--list").out
    assert (
        "parties: trainer 1, trainer 2, trainers 1+2" in clicooper("attack", recorded, "--list").out
    )


def test_the_dp_audit_of_a_run_stays_below_the_runs_claim(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The true suite, by its command: the mechanism is the run's, and its noise key is not used."""
    before = state_of(run)
    code = main(["attack", str(run), "--only", "dp-audit", "--seeds", "2", "--scale", "0.1"])
    shown = capsys.readouterr().out
    assert code == 0
    assert "epsilon (sample, replace-one)" in " ".join(shown.split())
    assert "not applicable: dp-audit, trainer 2" in shown
    assert "!" not in shown
    frame = read_attack_findings(run)
    figures = frame[frame["metric"].str.startswith("epsilon")]
    assert set(figures["party"]) == {"trainer 1"}
    assert (figures["ceiling"] == 20.0).all()
    assert (figures["value"] <= 20.0).all()
    assert figures[figures["variant"] == "boundary"]["value"].min() > 10.0
    faults = frame[frame["variant"].isin(["noise", "front"])]
    assert len(faults) == 4
    assert (faults["value"] == 0).all()
    after = state_of(run)
    assert after.pop("private/attacks.h5")
    assert after == before


def test_the_suite_lists_the_dp_audit(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["attack", "--list"]) == 0
    assert "dp-audit\n  knows: the mechanism with its claim" in capsys.readouterr().out
