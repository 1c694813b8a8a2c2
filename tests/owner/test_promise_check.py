"""Privacy keys that cannot be meant: `plan` and the owner refuse them alike, before any send."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from clicooper_hpc.commands.plan_report import plan_report
from clicooper_hpc.config.job import Job
from clicooper_hpc.config.load_job import load_job
from clicooper_hpc.data.importers.import_dataset import import_dataset
from clicooper_hpc.errors import ClicooperError, ExitCode, UsageError
from clicooper_hpc.fronts.dpsgd_noise import solve_dpsgd_noise
from clicooper_hpc.fronts.dpsgd_settings import DpSgdSettings
from clicooper_hpc.owner.promise_check import check_promise
from clicooper_hpc.owner.release_setup import set_up_release
from clicooper_hpc.owner.run_card import make_run_card
from clicooper_hpc.privacy.accounting import Charge, compose_charges
from clicooper_hpc.runstore.private_folder import PrivateFolder

ROWS = 120
JOB = """
[data]
path = "samples.h5"
[front]
projection = "pca"
dim = 4
public_data = "samples.h5"
normalise = true
[labels]
method = "none"
expansion = 1
[model]
options = { stem = [4], widths = [] }
[pipeline]
segments = 1
"""
EXTREMES = {
    "least epsilon": ["privacy.epsilon=1e-9"],
    "least epsilon, large delta": [
        "privacy.epsilon=1e-9",
        "privacy.delta=0.5",
        "privacy.allow_large_delta=true",
    ],
    "small epsilon": ["privacy.epsilon=1e-3"],
    "large epsilon": ["privacy.epsilon=1e6"],
    "largest epsilon": ["privacy.epsilon=1e300"],
    "infinite epsilon": ["privacy.epsilon=inf"],
    "least delta": ["privacy.delta=5e-324"],
    "no delta for epsilon": ["privacy.epsilon=1e-3", "privacy.delta=1e-300"],
    "delta of a sample": [f"privacy.delta={1 / ROWS!r}"],
    "delta near 1": ["privacy.delta=0.9999999"],
    "delta near 1, meant": ["privacy.delta=0.9999999", "privacy.allow_large_delta=true"],
    "budget delta": ["privacy.budget_epsilon=9", "privacy.budget_delta=0.5"],
    "budget": ["privacy.budget_epsilon=7.9", "privacy.budget_delta=1e-5"],
}
OF_ROWS = {
    "element": ["privacy.unit=element", "privacy.epsilon=1e6"],
    "least element": ["privacy.unit=element", "privacy.epsilon=1e-9"],
    "metric": ["privacy.unit=metric", "privacy.metric_distance=0.01", "privacy.epsilon=1e6"],
    "zero-out": ["privacy.relation=zero-out", "privacy.epsilon=1e6"],
    "response": ["labels.randomized_response_epsilon=1e6"],
    "least response": ["labels.randomized_response_epsilon=1e-9"],
    "clip": ["front.normalise=false", "privacy.clip=1e300"],
}
OF_GRADIENTS = {
    "many rounds": ["release.rounds=1000", "privacy.epsilon=0.05"],
    "least share": ["release.gradient_share=1e-12"],
    "largest share": ["release.gradient_share=0.999999999999"],
}
GRID = [
    *((mode, name) for mode in ("rows", "sums", "moments", "gradients") for name in EXTREMES),
    *(("rows", name) for name in OF_ROWS),
    *(("gradients", name) for name in OF_GRADIENTS),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("promise")
    rng = np.random.default_rng(0)
    x, y = rng.random((ROWS, 6), dtype=np.float32), np.arange(ROWS) % 3
    np.savez(place / "samples.npz", x_train=x, y_train=y, x_test=x[:9], y_test=y[:9])
    import_dataset("npz", place / "samples.npz", place / "samples.h5")
    (place / "job.toml").write_text(JOB)
    return place


def outcome_of_plan(folder: Path, settings: list[str]) -> int:
    try:
        plan_report(load_job(folder / "job.toml", settings), ranks=None)
    except ClicooperError as error:
        return error.exit_code
    return ExitCode.DONE


def outcome_of_owner(folder: Path, private: Path, settings: list[str]) -> int:
    """Prepare as a run does, and go through all that it computes of the promise after that."""
    try:
        job = load_job(folder / "job.toml", settings)
        setup = set_up_release(job, PrivateFolder(private))
    except ClicooperError as error:
        return error.exit_code
    ids = np.arange(4, dtype=np.int64)
    setup.gate.release_sub_labels()
    setup.gate.release("train", ids)
    assert setup.gate.table_release("train", 0, ids)
    assert make_run_card(job, setup).to_dict()
    setup.close_data()
    return ExitCode.DONE


@pytest.mark.parametrize(("mode", "name"), GRID)
def test_plan_and_owner_agree_on_extremes_and_nothing_fails_later(
    folder: Path, tmp_path: Path, mode: str, name: str
) -> None:
    settings = [f"release.mode={mode}", *(EXTREMES | OF_ROWS | OF_GRADIENTS)[name]]
    if mode == "gradients" and name not in OF_GRADIENTS:
        settings.append("release.rounds=2")
    planned = outcome_of_plan(folder, settings)
    assert planned in (ExitCode.DONE, ExitCode.USAGE, ExitCode.BUDGET)
    assert outcome_of_owner(folder, tmp_path / "private", settings) == planned
    if name in ("delta of a sample", "delta near 1", "budget delta", "infinite epsilon"):
        assert planned == ExitCode.USAGE
    if name == "budget":
        assert planned == ExitCode.BUDGET
    if name == "large epsilon":
        assert planned == ExitCode.DONE


def job_with(**sections: Mapping[str, object]) -> Job:
    return Job.model_validate({"data": {"path": "digits"}, **sections})


def dpsgd(**values: float) -> dict[str, object]:
    return {"kind": "dp-sgd", "dim": 4, "dp_sgd": values}


def test_a_large_delta_is_named_with_its_key_the_rows_and_the_remedy() -> None:
    with pytest.raises(UsageError) as caught:
        check_promise(job_with(privacy={"delta": 0.01}), 100, 3)
    assert caught.value.where == "privacy.delta"
    for part in ("0.01", "1 / 100", "allow_large_delta = true"):
        assert part in caught.value.line()
    check_promise(job_with(privacy={"delta": 0.01}), 99, 3)
    check_promise(job_with(privacy={"delta": 0.5, "allow_large_delta": True}), 100, 3)
    check_promise(job_with(privacy={"enabled": False, "delta": 0.5}), 100, 3)
    # Another job may have the same rows and a front trained on them: each delta is asked.
    with pytest.raises(UsageError, match="1 / 100"):
        check_promise(job_with(front=dpsgd(epsilon=1.0, delta=0.01)), 100, 3)


def test_a_restated_delta_that_promises_nothing_is_refused() -> None:
    """A DP-SGD front of epsilon 20 has delta 485 between two samples: rows left, then it failed."""
    job = job_with(front=dpsgd(epsilon=20.0, delta=1e-6))
    with pytest.raises(UsageError) as caught:
        check_promise(job, 600, 10)
    for part in ("front.dp_sgd", "epsilon 20", "485", "600 samples"):
        assert part in caught.value.line()
    # No yes of the owner's makes a promise of it.
    both = {"allow_large_delta": True}
    with pytest.raises(UsageError, match="promises nothing"):
        check_promise(job_with(privacy=both, front=dpsgd(epsilon=20.0, delta=1e-6)), 600, 10)
    with pytest.raises(UsageError, match="inf"):
        check_promise(job_with(privacy=both, front=dpsgd(epsilon=1e5, delta=1e-6)), 600, 10)
    # Below 1, but not below 1 / 600: 8.4e-3.
    some = dpsgd(epsilon=9.0, delta=1e-6)
    with pytest.raises(UsageError, match="allow_large_delta"):
        check_promise(job_with(front=some), 600, 10)
    check_promise(job_with(privacy=both, front=some), 600, 10)
    # Under the accountant's own relation nothing is restated.
    check_promise(job_with(privacy={"relation": "zero-out"}, front=some), 600, 10)


def test_charges_at_a_delta_of_one_are_no_promise() -> None:
    assert compose_charges([Charge.gaussian(1.0)], 1.0) == (float("inf"), 1.0)


@pytest.mark.parametrize(
    "settings",
    [
        DpSgdSettings(epsilon=2.0, delta=1e-16, epochs=1),
        DpSgdSettings(epsilon=2.0, delta=5e-324, epochs=1),
        DpSgdSettings(epsilon=1e6, delta=1e-6, epochs=1),
        DpSgdSettings(epsilon=1e300, delta=1e-6, epochs=1),
        DpSgdSettings(epsilon=2.0, delta=1e-6, epochs=10**9),
        DpSgdSettings(epsilon=100.0, delta=1e-6, epochs=10**6, batch_rows=1),
    ],
)
def test_what_the_accountant_of_dpsgd_cannot_state_is_refused(settings: DpSgdSettings) -> None:
    with pytest.raises(UsageError, match=r"front\.dp_sgd: .*of 600 samples"):
        solve_dpsgd_noise(settings, 600)
    assert "tensorflow" not in sys.modules
