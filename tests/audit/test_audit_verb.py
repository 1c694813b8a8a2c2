"""`clicooper audit` on real runs: what signatures and marks cannot show."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from mpirun import mpirun
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from torch import Tensor

from clicooper_hpc.audit import auditor
from clicooper_hpc.cli import main
from clicooper_hpc.owner.release_gate import ReleaseGate
from clicooper_hpc.training.replay_conditions import CONDITIONS

pytestmark = [pytest.mark.mpi, pytest.mark.usefixtures("one_thread")]

#: 10 steps in 5 stages; the first segment is wide enough to carry marks.
JOB = """
[data]
path = "digits"
train_rows = 150
test_rows = 20
[front]
kind = "random"
dim = 12
[privacy]
epsilon = 50.0
[model]
options = { widths = [224, 224], dropout = 0.1 }
[pipeline]
micro_batches = 2
partition = [6]
[training]
epochs = 2
batch_size = 32
clip_norm = 0.5
[provenance]
stages = 5
mark_every_steps = 1
"""
CHEATING = Path(__file__).parent / "programs" / "cheating_run.py"


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str


@pytest.fixture
def clicooper(capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """The command line in this process: starting Python takes longer than an audit."""

    def run(*args: str) -> Done:
        code = main(args)
        texts = capsys.readouterr()
        return Done(code, texts.out, texts.err)

    return run


def started(folder: Path, *program: str) -> Path:
    (folder / "job.toml").write_text(JOB)
    run = folder / "run"
    done = mpirun(3, [*program, "run", str(folder / "job.toml"), "-o", str(run), "--quiet"])
    assert done.returncode == 0, done.stderr
    return run


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return started(tmp_path_factory.mktemp("honest"), "-m", "clicooper_hpc")


def content(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_an_honest_run_with_marks_is_exact_and_stays_as_it_is(
    honest: Path, clicooper: Callable[..., Done]
) -> None:
    before = content(honest)
    done = clicooper("audit", str(honest), "--stage", "0", "1", "2", "3", "4")
    assert done.code == 0, done.err + done.out
    assert done.out.count("EXACT  ") == 5
    verified = clicooper("verify", str(honest))
    assert verified.code == 0, verified.out
    assert "marks: 5" in verified.out
    drawn = [clicooper("audit", str(honest), "--sample", "2", "--json") for _ in range(2)]
    assert [one.code for one in drawn] == [0, 0], drawn[0].err
    assert drawn[0].out.count('"outcome": "EXACT"') == 2
    json.loads(drawn[0].out)
    assert content(honest) == before


@pytest.mark.matrix
@pytest.mark.parametrize("cheat", ["noise", "half", "stale"])
def test_a_free_rider_has_proofs_and_marks_in_order_and_fails_the_audit(
    tmp_path: Path, clicooper: Callable[..., Done], cheat: str
) -> None:
    """Old weights with noise, every second update left out, the same rows all the time."""
    run = started(tmp_path, str(CHEATING), cheat, "6")
    key = tmp_path / "mark.json"
    opened = clicooper(
        "keys", "open-mark", str(run), "--segment", "1", "--stage", "4", "-o", str(key)
    )
    assert opened.code == 0, opened.err
    verified = clicooper("verify", str(run), "--mark-key", str(key))
    assert verified.code == 0, verified.out
    assert "marks: 5" in verified.out
    before = clicooper("audit", str(run), "--stage", "0", "1", "2")
    assert before.code == 0, before.out + before.err
    assert before.out.count("EXACT  ") == 3
    found = clicooper("audit", str(run), "--stage", "3")
    assert found.code == 4, found.out + found.err
    assert "FAIL  " in found.out
    assert "segment 1: " in found.out
    assert "segment 2: " not in found.out


def test_a_changed_or_lost_checkpoint_is_made_again_and_accuses_nobody(
    honest: Path, tmp_path: Path, clicooper: Callable[..., Done]
) -> None:
    """It once ended the audit of all: whoever spoilt one file kept everybody's work from sight."""
    run = tmp_path / "run"
    shutil.copytree(honest, run)
    victim = run / "checkpoints" / "stage-00001" / "segment-002.safetensors"
    changed = bytearray(victim.read_bytes())
    changed[-1] ^= 1
    victim.write_bytes(changed)
    done = clicooper("audit", str(run), "--stage", "2")
    assert done.code == 4, done.err
    assert "EXACT  " in done.out
    assert "nobody is accused: " in done.out
    assert f"{victim}: weights are not those that were proved" in done.out
    # The stage before was trained too, for the state.
    assert "cost: 4 of 10 steps" in done.out
    victim.unlink()
    done = clicooper("audit", str(run), "--stage", "2", "--segment", "1")
    assert done.code == 0, done.err + done.out
    assert "EXACT  " in done.out


def other_conditions(device: object) -> dict[str, str]:
    return dict.fromkeys(CONDITIONS, "elsewhere")


def test_a_machine_that_is_nobodys_is_said_to_be_and_bits_count_if_asked_for(
    honest: Path, clicooper: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auditor, "replay_conditions", other_conditions)
    refused = clicooper("audit", str(honest), "--stage", "1")
    assert (refused.code, refused.out) == (5, "")
    assert "no trainer stated that it ran on what there is here" in refused.err
    done = clicooper("audit", str(honest), "--stage", "1", "--exact")
    assert done.code == 0, done.err + done.out
    assert "EXACT  " in done.out
    assert "stated by the trainer of segment 1: " in done.out
    both = clicooper("audit", str(honest), "--stage", "1", "--exact", "--tolerance", "0.02")
    assert both.code == 2
    assert "two audits" in both.err


def test_an_owner_with_other_sub_labels_accuses_nobody(
    honest: Path, tmp_path: Path, clicooper: Callable[..., Done]
) -> None:
    """It once did: the order of samples was signed, their sub-labels were not."""
    place = Path(shutil.copytree(honest, tmp_path / "copy"))
    private = place / "private"
    path = private / "label-map.safetensors"
    labels = load_file(path)
    with safe_open(path, framework="np") as file:
        notes = file.metadata()
    labels["permutation"] = labels["permutation"][::-1].copy()
    save_file(labels, path, notes)
    path.chmod(0o600)
    done = clicooper("audit", str(place), "--stage", "1")
    assert (done.code, done.out) == (4, "")
    assert "samples or sub-labels are not those it ordered in stage 1" in done.err


def test_an_audit_makes_no_owners_file_anew(
    honest: Path, tmp_path: Path, clicooper: Callable[..., Done]
) -> None:
    """It once prepared the run anew: another front, or ledger, written into the private folder."""
    private = Path(shutil.copytree(honest, tmp_path / "copy")) / "private"
    for name in ("front.json", "ledger.json", "receipts-train.bin"):
        content = (private / name).read_bytes()
        (private / name).unlink()
        before = sorted(path.name for path in private.iterdir())
        done = clicooper("audit", str(private.parent), "--stage", "1")
        assert (done.code, done.out) == (2, "")
        assert f"{name} is missing" in done.err
        assert sorted(path.name for path in private.iterdir()) == before
        os.mkfifo(private / name, 0o600)
        done = clicooper("audit", str(private.parent), "--stage", "1")
        assert (done.code, done.out) == (2, "")
        assert f"{name} is missing or no file" in done.err
        (private / name).unlink()
        (private / name).write_bytes(content)
        (private / name).chmod(0o600)


def test_an_owner_with_other_rows_accuses_nobody(
    honest: Path, clicooper: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stage 4 took its rows from trainer 1's cache: nothing in its own messages shows them."""
    kept = ReleaseGate.release

    def other(gate: ReleaseGate, split: str, ids: NDArray[np.int64]) -> tuple[Tensor, int]:
        rows, new = kept(gate, split, ids)
        return rows + 0.5, new

    monkeypatch.setattr(ReleaseGate, "release", other)
    done = clicooper("audit", str(honest), "--stage", "4")
    assert (done.code, done.out) == (4, "")
    assert "the owner's rows are not those it sent in stage 0" in done.err
