"""Whole runs behind a front that another run delivered, and `verify` over the chain of both."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from restarts import check_verified, resume, struck
from start import start, train
from tampering import reseal
from test_moments_run import public_data

from clicooper_hpc.commands.plan_report import plan_report
from clicooper_hpc.config.load_job import load_job
from clicooper_hpc.errors import ClicooperError, ExitCode
from clicooper_hpc.owner.recommend_mode import forecast_modes
from clicooper_hpc.privacy.front_run import find_front_run
from clicooper_hpc.runstore.reader import open_run
from clicooper_hpc.verification.verification_report import verification_report

pytestmark = pytest.mark.mpi

#: A network on public images, privacy off: the chain that makes the front.
PUBLIC = """
[data]
path = "public.h5"
test_rows = 20
[privacy]
enabled = false
mode = "reproducible-INSECURE"
[labels]
method = "none"
expansion = 1
[model]
name = "resnet11"
options = { width = 4, mean = [0.5], std = [0.25], shift = 1, mirror = true }
[pipeline]
segments = 2
micro_batches = 2
partition = [7]
[training]
epochs = 1
batch_size = 25
[provenance]
stages = 2
"""
#: Rows of digits behind it.
PRIVATE = """
[data]
path = "digits"
train_rows = 60
test_rows = 20
[front]
kind = "run"
run = "public"
cut = 12
read_outs = ["7:2x2", "11:mean", "11:rms"]
mirror = true
projection = "pca"
dim = 12
public_data = "public.h5"
normalise = true
[privacy]
mode = "reproducible-INSECURE"
[labels]
expansion = 2
[model]
options = { widths = [16, 16] }
[pipeline]
segments = 2
micro_batches = 2
[training]
epochs = 1
batch_size = 20
"""
RANKS = 3


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the runs ``public`` and, behind it, ``private``."""
    folder = tmp_path_factory.mktemp("chain")
    public_data(folder)
    train(folder, RANKS, text=PUBLIC, name="public")
    train(folder, RANKS, text=PRIVATE, name="private")
    return folder


@pytest.fixture
def copy(chain: Path, tmp_path: Path) -> Path:
    """Return a folder with copies of both; the path in the job still leads to the original."""
    for name in ("public", "private"):
        shutil.copytree(chain / name, tmp_path / name)
    return tmp_path


def verified(run: Path, *front_runs: Path) -> tuple[dict[str, object], ExitCode]:
    text, code = verification_report(
        run,
        owner_key=None,
        trainer_keys=[],
        mark_keys=[],
        segment_file=None,
        front_runs=front_runs,
        as_json=True,
    )
    return json.loads(text), code


def links(run: Path, *front_runs: Path) -> tuple[list[tuple[bool | None, str]], ExitCode]:
    report, code = verified(run, *front_runs)
    found = report["front_runs"]
    assert isinstance(found, list)
    assert report["verified"] == (code == ExitCode.DONE)
    return [(one["passed"], one["detail"]) for one in found], code


def test_card_plan_and_stored_front_name_the_run(chain: Path) -> None:
    public, private = open_run(chain / "public"), open_run(chain / "private")
    end = find_front_run(str(private.privacy["promised"]))
    assert end is not None
    assert end[0] == public.attrs["run_id"]
    card = str(private.privacy["promised"])
    assert "front            public, resnet11 as run" in card
    assert "no privacy there: public by its owner's word" in card
    accuracy = f"{100 * float(public.results['clean_accuracy']):.3g} %"
    fingerprint = private.privacy["front.run.fingerprint"]
    assert f"front data       public, fingerprint {fingerprint}" in card
    assert accuracy in card
    names = ("run_id", "entries", "root", "network")
    assert tuple(private.privacy[f"front.run.{name}"] for name in names) == end
    kept = json.loads((chain / "private" / "private" / "front.json").read_text())
    assert kept["provenance"]["run"]["root"] == end[2]
    (chain / "plan.toml").write_text(PRIVATE)
    job = load_job(chain / "plan.toml")
    assert len(forecast_modes(job, samples=60, classes=10).forecasts) == 5
    plan = plan_report(job, ranks=RANKS)
    assert f"front run {end[0]}, ledger {end[1]} {end[2]}, network {end[3]}" in plan
    # Whoever has the folder alone finds it by its own words.
    assert verified(chain / "private")[1] == ExitCode.DONE


def test_verify_follows_the_chain(chain: Path, tmp_path: Path) -> None:
    found, code = links(chain / "private")
    assert (found[0][0], code, len(found)) == (True, ExitCode.DONE, 1)
    assert "19 checks" in found[0][1]
    assert links(chain / "public") == ([], ExitCode.DONE)
    # Elsewhere: beside it, or where the user says.
    shutil.copytree(chain / "public", tmp_path / "moved")
    found, code = links(chain / "private", tmp_path / "moved")
    assert (found[0][0], code) == (True, ExitCode.DONE)
    with pytest.raises(ClicooperError, match="more folders than runs"):
        verified(chain / "private", tmp_path / "moved", tmp_path / "moved")
    with pytest.raises(ClicooperError, match="nowhere"):
        verified(chain / "private", tmp_path / "nowhere")


def _swapped_network(folder: Path) -> None:
    path = folder / "public" / "delivery" / "segment-001.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def _edited_ledger(folder: Path) -> None:
    path = folder / "public" / "rank-000.h5"
    with h5py.File(path, "r+", locking=False) as file:
        entries = file["ledger/envelope"]
        values = np.array(entries[()])
        text = bytearray(values[3])
        text[len(text) // 2] ^= 1
        values[3] = bytes(text)
        entries[()] = values
    reseal(folder / "public")


def _edited_card(folder: Path) -> None:
    with h5py.File(folder / "private" / "run.h5", "r+", locking=False) as file:
        text = file["privacy/promised"][()]
        name = find_front_run(text.decode())
        assert name is not None
        file["privacy/promised"][()] = text.replace(name[2][:8].encode(), b"01234567")


def _unfinished(folder: Path) -> None:
    with h5py.File(folder / "public" / "run.h5", "r+", locking=False) as file:
        file.attrs["status"] = np.bytes_("incomplete")  # as the run stores it: of fixed length


@pytest.mark.parametrize(
    ("tamper", "says"),
    [
        (_swapped_network, "check 13 (Delivery) failed"),
        pytest.param(_edited_ledger, "failed", marks=pytest.mark.matrix),
        pytest.param(_unfinished, "check 5 (Completeness) failed", marks=pytest.mark.matrix),
        (_edited_card, "check 2 failed"),
    ],
)
def test_what_was_touched_fails(copy: Path, tamper: Callable[[Path], None], says: str) -> None:
    tamper(copy)
    found, code = links(copy / "private", *([] if tamper is _edited_card else [copy / "public"]))
    assert code == ExitCode.VERIFICATION
    assert found[0][0] is (None if tamper is _edited_card else False)
    assert says in found[0][1]


def test_an_honest_run_in_its_place_fails(copy: Path, chain: Path) -> None:
    found, code = links(copy / "private", chain / "private")
    assert (found[0][0], code) == (False, ExitCode.VERIFICATION)
    assert "holds another run" in found[0][1]


def test_a_run_that_is_not_there_is_said_to_be_not_checked(chain: Path, tmp_path: Path) -> None:
    shutil.copytree(chain / "private", tmp_path / "private")
    (chain / "public").rename(chain / "away")
    try:
        found, code = links(tmp_path / "private")
        assert (found[0][0], code) == (None, ExitCode.DONE)
        assert "not checked" in found[0][1]
        assert "--front-run" in found[0][1]
        # Beside it, under its name.
        shutil.copytree(chain / "away", tmp_path / "public")
        assert links(tmp_path / "private")[0][0][0] is True
    finally:
        (chain / "away").rename(chain / "public")


def test_a_run_that_does_not_verify_is_no_front(copy: Path) -> None:
    public_data(copy)
    _swapped_network(copy)
    done = start(copy, RANKS, text=PRIVATE, name="again")
    assert done.returncode == ExitCode.VERIFICATION, done.stderr
    assert "check 13 (Delivery) failed" in done.stderr
    assert not (copy / "again" / "run.h5").exists()


def test_a_restart_has_the_front_and_refuses_another_run(chain: Path, tmp_path: Path) -> None:
    """It needs no folder of the run any more; what lies there must still be that run."""
    public_data(tmp_path)
    shutil.copytree(chain / "public", tmp_path / "public")
    (tmp_path / "job.toml").write_text(PRIVATE + "[provenance]\nstages = 2\n")
    done = struck(tmp_path, RANKS, 1, "proof", 1)
    assert done.returncode != 0, "nothing was killed"
    (tmp_path / "public").rename(tmp_path / "away")
    shutil.copytree(chain / "private", tmp_path / "public")
    refused = resume(tmp_path, RANKS)
    assert refused.returncode == ExitCode.VERIFICATION, refused.stderr
    assert "the front was made from run" in refused.stderr
    shutil.rmtree(tmp_path / "public")
    again = resume(tmp_path, RANKS)
    assert again.returncode == 0, again.stderr
    assert links(tmp_path / "run", tmp_path / "away")[0][0][0] is True


#: Kills of the chain that makes a front: rank, moment, which call (programs/killed.py).
KILLS = [
    (0, "release", 3),
    (0, "proof", 2),
    (0, "delivery", 1),
    (1, "forward", 5),
    (1, "checkpoint", 1),
    (1, "delivery", 1),
    (2, "backward", 5),
    (2, "proof", 2),
]


@pytest.mark.matrix
@pytest.mark.parametrize(("rank", "moment", "count"), KILLS)
def test_a_killed_pretraining_goes_on_to_the_same_network(
    chain: Path, tmp_path: Path, rank: int, moment: str, count: int
) -> None:
    """Random shifts and mirrors too are those of the step, whichever life makes it."""
    public_data(tmp_path)
    (tmp_path / "job.toml").write_text(PUBLIC)
    done = struck(tmp_path, RANKS, rank, moment, count)
    assert done.returncode != 0, "nothing was killed"
    assert open_run(tmp_path / "run").status != "complete"
    again = resume(tmp_path, RANKS)
    assert again.returncode == 0, again.stderr
    check_verified(open_run(tmp_path / "run"))
    for segment in (chain / "public" / "delivery").iterdir():
        made = tmp_path / "run" / "delivery" / segment.name
        assert made.read_bytes() == segment.read_bytes()
