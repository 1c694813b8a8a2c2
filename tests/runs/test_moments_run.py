"""Whole runs that release sums of all samples: proofs, audits and restarts are those of any run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import h5py
import numpy as np
import pytest
from mpirun import mpirun
from restarts import check_verified, resume, struck
from start import SMALL, train

from clicooper_hpc.attacks.harness.recorded_run import RecordedRun
from clicooper_hpc.attacks.harness.recorded_sums import check_recorded_sums
from clicooper_hpc.data.importers.import_dataset import import_dataset
from clicooper_hpc.errors import EvidenceError
from clicooper_hpc.owner.moments_release import MomentsRelease
from clicooper_hpc.runstore.attack_record import read_attack_findings
from clicooper_hpc.runstore.reader import Run, open_run

pytestmark = pytest.mark.mpi

RANKS = 3
JOB = (
    SMALL.replace('kind = "random"\ndim = 12', 'kind = "identity"\nprojection = "pca"\ndim = 12')
    .replace("[front]", '[front]\npublic_data = "public.h5"')
    .replace("epsilon = 8.0", 'epsilon = 8.0\nmode = "reproducible-INSECURE"')
    .replace("validation_rows = 20\n", "")
    .replace("expansion = 2", "expansion = 1")
    .replace("record_wire = true", "")
    + '[release]\nmode = "moments"\n[provenance]\nstages = 3\n'
)


def public_data(folder: Path) -> None:
    """Write 100 images that have nothing to do with digits into ``folder``."""
    images = np.random.default_rng(0).integers(0, 256, (100, 8, 8), dtype=np.uint8)
    classes = np.arange(100) % 5
    np.savez(folder / "p.npz", x_train=images, x_test=images, y_train=classes, y_test=classes)
    import_dataset("npz", folder / "p.npz", folder / "public.h5")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The run that is not interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    public_data(folder)
    return train(folder, RANKS, text=JOB)


def test_it_is_verified_and_says_what_the_owner_reaches_alone(whole: Run) -> None:
    check_verified(whole)
    assert {"clean_accuracy", "class_sums_accuracy", "moments_accuracy"} <= set(whole.results)
    assert "front_accuracy" not in whole.results
    text = str(whole.privacy["text"])
    assert "class sums, second moment and class sizes of 80 samples" in text
    released = whole.table("releases", 0)
    # Public rows, in the units of the table: each once.
    assert released["samples_new"].sum() == 100
    assert np.allclose(released["epsilon_sample"], 8.0)


def test_a_stage_is_replayed_to_the_byte(whole: Run) -> None:
    words = ["-m", "clicooper_hpc", "audit", str(whole.folder.path), "--stage", "0", "2", "--exact"]
    done = mpirun(1, words, cwd=whole.folder.path.parent)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("EXACT") == 2


@pytest.mark.matrix
def test_a_run_of_class_sums_alone_is_verified_too(tmp_path: Path) -> None:
    public_data(tmp_path)
    text = JOB.replace('mode = "moments"', 'mode = "sums"\nmixes = 1\nsharpness = 2.0')
    run = train(tmp_path, RANKS, text=text)
    check_verified(run)
    assert "class_sums_accuracy" in run.results
    assert "moments_accuracy" not in run.results
    assert "class sums of 80 samples" in str(run.privacy["text"])
    assert run.table("releases", 0)["samples_new"].sum() == 200
    words = ["-m", "clicooper_hpc", "audit", str(run.folder.path), "--stage", "1", "--exact"]
    done = mpirun(1, words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("EXACT") == 1


#: Of the start: sums are noised and nothing made of them is stored; it is stored, nothing left.
SUM_MOMENTS = ("sum", "kept")
#: Of a round of gradients at the start: before and after its charge, and before the next one.
ROUND_MOMENTS = {"round": 2, "charged": 2, "made": 3}
#: Which call is the last, by moment: the owner's, a trainer's.
COUNTS = {
    "release": (5, 3),
    "forward": (5, 9),
    "backward": (5, 12),
    "checkpoint": (1, 2),
    "proof": (2, 2),
    "delivery": (1, 1),
}
MODES = ("moments", "sums", "gradients")
CELLS = [
    *(
        (mode, rank, moment, COUNTS[moment][rank > 0])
        for mode in MODES
        for rank in range(RANKS)
        for moment in COUNTS
    ),
    *((mode, 0, moment, 1) for mode in MODES for moment in SUM_MOMENTS),
    *(("gradients", 0, moment, count) for moment, count in ROUND_MOMENTS.items()),
]
#: One each of those that run every time.
OFTEN = {("moments", 0, "sum"), ("moments", 1, "forward"), ("gradients", 0, "charged")}
ROUNDS = 3
#: What the samples are charged for, in order.
CHARGED = {
    "moments": ["labels", "training-release"],
    "sums": ["labels", "training-release"],
    "gradients": ["moments", *["gradients"] * ROUNDS, "labels", "training-release"],
}
#: How many of these are stored when the owner ends there.
PAID = {"sum": 1, "kept": 1 + ROUNDS, "round": 2, "charged": 3, "made": 3}


@pytest.fixture(scope="module")
def wholes(tmp_path_factory: pytest.TempPathFactory, whole: Run) -> Callable[[str], Run]:
    """The runs that are not interrupted, by release mode; that of sums when it is asked for."""

    @cache
    def of(mode: str) -> Run:
        if mode == "moments":
            return whole
        folder = tmp_path_factory.mktemp(mode)
        public_data(folder)
        return train(folder, RANKS, text=job_of(mode))

    return of


def job_of(mode: str) -> str:
    rounds = f"\nrounds = {ROUNDS}" if mode == "gradients" else ""
    return JOB.replace('mode = "moments"', f'mode = "{mode}"{rounds}')


@pytest.mark.parametrize(
    ("mode", "rank", "moment", "count"),
    [
        pytest.param(
            *cell,
            id="-".join(map(str, cell[:3])),
            marks=() if cell[:3] in OFTEN else pytest.mark.matrix,
        )
        for cell in CELLS
    ],
)
def test_a_killed_run_goes_on_to_the_same_end_and_pays_once(
    tmp_path: Path, wholes: Callable[[str], Run], mode: str, rank: int, moment: str, count: int
) -> None:
    public_data(tmp_path)
    (tmp_path / "job.toml").write_text(job_of(mode))
    done = struck(tmp_path, RANKS, rank, moment, count)
    assert done.returncode != 0, "nothing was killed"
    ledger = tmp_path / "run" / "private" / "ledger.json"
    starting = moment in (*SUM_MOMENTS, *ROUND_MOMENTS)
    if not starting:
        assert open_run(tmp_path / "run").status != "complete"
    elif mode == "gradients":
        # Nothing has left by then, but sums were made, or were about to be.
        assert len(json.loads(ledger.read_text())["entries"]) == PAID[moment]
    else:
        # Nothing has left by then, and nothing is charged.
        assert not ledger.exists()
    if starting:
        # There is no run to resume yet: as every Slurm script starts it.
        words = ["-m", "clicooper_hpc", "run", "job.toml", "-o", "run", "--resume", "-q"]
        done = mpirun(RANKS, words, cwd=tmp_path)
    else:
        done = resume(tmp_path, RANKS)
    assert done.returncode == 0, done.stderr
    run, whole = open_run(tmp_path / "run"), wholes(mode)
    check_verified(run)
    for segment in whole.folder.delivery.iterdir():
        assert (run.folder.delivery / segment.name).read_bytes() == segment.read_bytes()
    for name in ("clean", "class_sums", "moments", "gradients"):
        name = f"{name}_accuracy"
        assert run.results.get(name) == whole.results.get(name)
    charged = [json.loads((one.folder.private / "ledger.json").read_text()) for one in (run, whole)]
    assert charged[0] == charged[1]
    assert [entry["kind"] for entry in charged[0]["entries"]] == CHARGED[mode]
    if mode == "gradients":
        assert "gradients_accuracy" in run.results
        made = [one.folder.private / "moments.safetensors" for one in (run, whole)]
        assert made[0].read_bytes() == made[1].read_bytes()


@pytest.mark.usefixtures("one_thread")
def test_parties_hold_public_rows_and_only_an_upper_bound_holds_the_moments(whole: Run) -> None:
    recorded = RecordedRun(whole)
    views = {party.name: recorded.view(party) for party in recorded.adversaries}
    first, holder = views["trainer 1"], views["whoever held the moments"]
    assert list(views)[-1] == holder.adversary.name
    assert first.rows.shape == (100, 12)
    assert first.groups.shape == (100, 0)
    assert (first.mechanism.sigma, first.samples) == (0.0, 80)
    assert all(view.held is None for name, view in views.items() if view is not holder)
    held = holder.held
    assert held is not None
    assert (len(holder.rows), len(holder.segments)) == (0, 0)
    assert held.exact.sizes is not None
    assert held.exact.sizes.sum() == held.exact.samples == 80
    assert held.released.sigma == pytest.approx(1.2, abs=0.01)
    # The bytes that left have the mean of these very moments, and no others.
    check_recorded_sums(held.released, first.rows)
    with pytest.raises(EvidenceError, match="not those that the released rows were made of"):
        check_recorded_sums(held.exact, first.rows)
    # Counted through the prediction, the network is as good as the run said it was.
    test = recorded._preparation.samples.splits["test"]
    images, classes = test.read(np.arange(len(test))), test.labels()
    named = recorded.truth.class_of_sub_label[recorded.truth.predict(images).argmax(axis=1)]
    assert np.mean(named == classes) == pytest.approx(float(whole.results["clean_accuracy"]))


def test_attackers_of_a_run_of_gradients_are_given_its_rounds(
    wholes: Callable[[str], Run], tmp_path: Path
) -> None:
    run = wholes("gradients")
    recorded = RecordedRun(run)
    holder = recorded.view(recorded.adversary("whoever held the gradients"))
    held, promise = holder.held, holder.promise
    assert held is not None
    assert promise is not None
    assert holder.mechanism.spec == promise.moments
    assert holder.mechanism.mu == pytest.approx(2 / promise.whole.sigma)
    assert held.released.sigma == promise.moments.sigma
    rounds = held.rounds
    assert rounds is not None
    assert rounds.released.shape == rounds.exact.shape == (ROUNDS, 13, 10)
    spread = (rounds.released - rounds.exact).std()
    # Of 390 draws: five standard errors.
    assert spread == pytest.approx(promise.gradients.sigma, rel=5 / np.sqrt(2 * 390))
    # Each round was taken at a model of its own.
    assert len({model.matrix.tobytes() for model in rounds.models}) == ROUNDS
    assert recorded.view(recorded.adversary("trainer 1")).held is None
    # Another model than they lead to is no record of this run.
    copied = tmp_path / "run"
    shutil.copytree(run.folder.path, copied)
    path = copied / "private" / "moments.safetensors"
    kept = MomentsRelease.from_private_bytes(path.read_bytes(), where=str(path))
    assert kept.baselines.gradients is not None
    kept.baselines.gradients.matrix[0, 0] += 1e-6
    path.write_bytes(kept.to_private_bytes())
    other = RecordedRun(open_run(copied))
    with pytest.raises(EvidenceError, match="do not lead to the model of the run"):
        other.view(other.adversary("whoever held the gradients"))


@pytest.mark.matrix
def test_attacks_on_a_run_of_gradients_are_those_on_moments_and_its_rounds(
    wholes: Callable[[str], Run],
) -> None:
    folder = wholes("gradients").folder.path
    words = ["-m", "clicooper_hpc", "attack", str(folder), "--seeds", "1", "--scale", "0.03"]
    words += ["--party", "trainer 1", "whoever held the gradients"]
    done = mpirun(1, words, cwd=folder.parent)
    assert done.returncode == 0, done.stderr
    assert "!" not in done.stdout
    frame = read_attack_findings(folder)
    assert "failed" not in set(frame["metric"])
    asked = frame[frame["metric"] != "not applicable"]
    attacks = asked.groupby("party")["attack"].unique()
    assert set(attacks["whoever held the gradients"]) == {
        *("decoder", "property", "membership", "dp-audit")
    }
    assert set(attacks["trainer 1"]) == {
        *("merge", "completion", "property", "membership", "extraction")
    }
    assert {"gradients, informed", "names, reference same", "noise of rounds"} < {*asked["variant"]}


@pytest.mark.matrix
def test_attacks_on_it_stay_below_their_ceilings_and_say_what_has_no_object(whole: Run) -> None:
    folder = whole.folder.path
    words = ["-m", "clicooper_hpc", "attack", str(folder), "--seeds", "1", "--scale", "0.03"]
    words += ["--party", "trainer 1", "trainer 2", "outsider", "whoever held the moments"]
    done = mpirun(1, words, cwd=folder.parent)
    assert done.returncode == 0, done.stderr
    shown = " ".join(done.stdout.split())
    assert "!" not in shown
    for attack in ("clustering", "optimise", "diffusion"):
        assert f"not applicable: {attack}, trainer 1, trainer 2, outsider" in shown
    assert "nothing of a sample left the owner, only noised sums over all of them" in shown
    frame = read_attack_findings(folder)
    assert (frame["value"].isna() == (frame["metric"] == "not applicable")).all()
    attacks = frame[frame["metric"] != "not applicable"].groupby("party")["attack"].unique()
    assert set(attacks["whoever held the moments"]) == {
        *("decoder", "property", "membership", "dp-audit")
    }
    assert set(attacks["trainer 1"]) == {
        *("merge", "completion", "property", "membership", "extraction")
    }
    audit = frame[frame["attack"] == "dp-audit"].dropna(subset=["value"])
    values, ceilings = (
        dict(zip(audit["variant"], audit[name], strict=True)) for name in ("value", "ceiling")
    )
    assert 4 < values["opposite rows"] <= ceilings["opposite rows"] == 8
    assert values["noise"] == 0
    listed = mpirun(1, ["-m", "clicooper_hpc", "attack", "--list", str(folder)], cwd=folder)
    assert "verifier, whoever held the moments" in listed.stdout


@pytest.mark.matrix
def test_attacks_on_class_sums_alone_are_those_on_moments(
    wholes: Callable[[str], Run],
) -> None:
    folder = wholes("sums").folder.path
    words = ["-m", "clicooper_hpc", "attack", str(folder), "--seeds", "1", "--scale", "0.03"]
    words += ["--party", "trainer 1", "whoever held the sums"]
    done = mpirun(1, words, cwd=folder.parent)
    assert done.returncode == 0, done.stderr
    assert "!" not in done.stdout
    frame = read_attack_findings(folder)
    asked = frame[frame["metric"] != "not applicable"]
    attacks = asked.groupby("party")["attack"].unique()
    assert set(attacks["whoever held the sums"]) == {
        *("decoder", "property", "membership", "dp-audit")
    }
    assert set(attacks["trainer 1"]) == {
        *("merge", "completion", "property", "membership", "extraction")
    }
    variants = set(asked["variant"])
    assert {"sums, informed", "names, reference same", "class shares, class sums"} < variants
    audit = asked[asked["attack"] == "dp-audit"].set_index("variant")["value"]
    assert 4 < audit["opposite rows"] <= 8
    assert audit["noise"] == 0


def test_no_file_outside_private_holds_the_noised_moments_or_the_model(whole: Run) -> None:
    # They cost nothing more to show, but they are the owner's to show.
    assert (whole.folder.private / "moments.safetensors").stat().st_mode & 0o777 == 0o600
    for path in whole.folder.path.glob("*.h5"):
        with h5py.File(path) as file:
            names: list[str] = []
            file.visit(names.append)
        assert not any("moment" in name and "accuracy" not in name for name in names)
