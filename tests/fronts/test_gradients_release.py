"""A release of moments and rounds of gradients: charged first, made once, kept, taken up again."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from private_lda_cases import TRAIN, private_lda_job
from test_moments_release import JOB, PUBLIC, ids

from clicooper_hpc.commands.plan_report import plan_report
from clicooper_hpc.config.job import Job
from clicooper_hpc.errors import BudgetExceededError, UsageError
from clicooper_hpc.owner import make_gradients
from clicooper_hpc.owner.gradient_rounds import stable_step
from clicooper_hpc.owner.release_setup import ReleaseSetup, set_up_release
from clicooper_hpc.owner.run_card import make_run_card
from clicooper_hpc.owner.secrets import OwnerSecrets
from clicooper_hpc.owner.sum_charges import SumCharges
from clicooper_hpc.privacy.receipts import ReleaseChangedError
from clicooper_hpc.runstore.private_folder import PrivateFolder

ROUNDS = 4
TEXT = JOB.replace('mode = "moments"', f'mode = "gradients"\nrounds = {ROUNDS}')


def job_of(folder: Path, *overrides: str) -> Job:
    return private_lda_job(folder, *overrides, text=TEXT)


def set_up(folder: Path, *overrides: str, name: str = "private") -> ReleaseSetup:
    return set_up_release(job_of(folder, *overrides), PrivateFolder(folder / name))


def kinds(made: ReleaseSetup) -> list[str]:
    return [entry.kind for entry in made.gate.ledger.entries]


def accuracies(made: ReleaseSetup) -> tuple[float, float]:
    """Held-out accuracy of the models before and after the rounds."""
    baselines = made.held_out.baselines
    assert baselines is not None
    assert baselines.moments is not None
    assert baselines.gradients is not None
    batches = [(part.double().numpy(), labels) for part, labels in made.held_out.clean_batches()]
    rows, classes = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    first, last = (
        float((one.class_probabilities(rows).argmax(axis=1) == classes).mean())
        for one in (baselines.moments, baselines.gradients)
    )
    return first, last


def test_moments_and_every_round_are_paid_before_anything_leaves(tmp_path: Path) -> None:
    made = set_up(tmp_path)
    assert kinds(made) == ["moments", *["gradients"] * ROUNDS]
    assert made.gate.ledger.spent_epsilon(1e-5)[0] == pytest.approx(8.0, rel=1e-9)
    assert made.gate.ledger.spent_epsilon(1e-5)[0] <= 8.0
    stored = json.loads((tmp_path / "private" / "ledger.json").read_text())
    assert stored == made.gate.ledger.to_dict()
    made.gate.release_sub_labels()
    made.gate.release("train", ids())
    # Rows and names are made of them: no more is paid.
    assert kinds(made)[1 + ROUNDS :] == ["labels", "training-release"]
    assert made.gate.ledger.spent_epsilon(1e-5)[0] <= 8.0
    names = {entry.release for entry in made.gate.ledger.entries if entry.kind == "gradients"}
    assert len(names) == ROUNDS
    assert all(entry.samples == TRAIN for entry in made.gate.ledger.entries)


def test_rounds_improve_what_half_of_the_moments_give(tmp_path: Path) -> None:
    """With next to no noise, where gradients say more than moments of public rows' likeness."""
    made = set_up(tmp_path, "privacy.epsilon=500.0", "release.rounds=60")
    first, last = accuracies(made)
    assert last >= first
    plain = set_up(tmp_path, "privacy.enabled=false", "release.rounds=60", name="off")
    assert kinds(plain) == []
    assert accuracies(plain)[1] >= accuracies(plain)[0]


def test_the_rounds_model_names_the_rows(tmp_path: Path) -> None:
    made = set_up(tmp_path, "privacy.epsilon=100.0", "release.sharpness=50.0")
    rows = made.gate.release("train", ids())[0].double().numpy()
    named = made.label_map.map_to_classes(made.sub_labels)
    baselines = made.held_out.baselines
    assert baselines is not None
    agree = {}
    for name in ("moments", "gradients"):
        says = getattr(baselines, name).class_probabilities(rows).argmax(axis=1)
        agree[name] = float((says == named).mean())
    assert agree["gradients"] > max(0.9, agree["moments"])


def test_a_restart_releases_the_same_bits_and_makes_no_sum_again(tmp_path: Path) -> None:
    first = set_up(tmp_path)
    rows, _ = first.gate.release("train", ids())
    first.gate.release_sub_labels()
    first.gate.keep_receipts()
    for lost in ((), ("moments.safetensors",)):
        for name in lost:
            (tmp_path / "private" / name).unlink()
        again = set_up(tmp_path)
        same, new = again.gate.release("train", ids())
        assert new == 0
        assert np.array_equal(same.numpy(), rows.numpy())
        assert again.gate.ledger.to_dict() == first.gate.ledger.to_dict()


class Struck(BaseException):
    """The process ends here."""


def strike(monkeypatch: pytest.MonkeyPatch, holder: Any, name: str, count: int) -> None:
    """End the process at the ``count``-th call; before it is done."""
    whole: Callable[..., Any] = getattr(holder, name)
    calls = 0

    def fatal(*args: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == count:
            raise Struck
        return whole(*args, **options)

    monkeypatch.setattr(holder, name, fatal)


#: Moment: what is called next there, the how many-th time, how many charges are stored by then.
ENDS: dict[str, tuple[Any, str, int, int]] = {
    "nothing charged": (SumCharges, "charge_moments", 1, 0),
    "moments charged": (make_gradients, "noise_moments", 1, 1),
    "before a charge": (SumCharges, "charge_round", 3, 3),
    "round charged": (make_gradients, "sum_gradients", 3, 4),
    "round made": (make_gradients, "round_context", 4, 4),
    "all made": (OwnerSecrets, "secret_receipts", 1, 1 + ROUNDS),
}


@pytest.mark.parametrize("moment", ENDS)
def test_an_ended_start_is_taken_up_to_the_bit_and_pays_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    whole = set_up(tmp_path, name="whole")
    holder, name, count, charged = ENDS[moment]
    with monkeypatch.context() as patched:
        strike(patched, holder, name, count)
        with pytest.raises(Struck):
            set_up(tmp_path)
    ledger = tmp_path / "private" / "ledger.json"
    entries = json.loads(ledger.read_text())["entries"] if ledger.exists() else []
    assert len(entries) == charged
    made = set_up(tmp_path)
    assert made.gate.ledger.to_dict() == whole.gate.ledger.to_dict()
    one, other = (each.gate.release("train", ids())[0].numpy() for each in (made, whole))
    assert np.array_equal(one, other)
    assert np.array_equal(made.sub_labels, whole.sub_labels)
    file = "moments.safetensors"
    same = [(tmp_path / folder / file).read_bytes() for folder in ("private", "whole")]
    assert same[0] == same[1]


@pytest.mark.parametrize(
    "changed",
    [
        f"data.train_rows={TRAIN - 1}",
        "privacy.epsilon=4.0",
        f"release.rounds={ROUNDS + 1}",
        "release.gradient_share=0.4",
        "release.mode=moments",
    ],
)
@pytest.mark.parametrize("moment", ["round charged", "all made"])
def test_other_data_or_terms_are_refused_once_a_sum_was_paid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: str, moment: str
) -> None:
    # Rounds have no meaning for moments alone, so the job takes them out.
    more = [changed, *(["release.rounds=20"] if changed.endswith("=moments") else [])]
    holder, name, count, _ = ENDS[moment]
    with monkeypatch.context() as patched:
        strike(patched, holder, name, count)
        with pytest.raises(Struck):
            set_up(tmp_path)
    with pytest.raises(ReleaseChangedError, match="made of other data"):
        set_up(tmp_path, *more)


def test_a_round_at_another_model_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        strike(patched, make_gradients, "sum_gradients", 3)
        with pytest.raises(Struck):
            set_up(tmp_path)
    # Another machine may compute another model: its round would have noise of its own.
    with monkeypatch.context() as patched:
        real = stable_step
        patched.setattr(make_gradients, "stable_step", lambda *given: real(*given) / 2)
        with pytest.raises(ReleaseChangedError, match="made of other data"):
            set_up(tmp_path)


def test_a_budget_is_asked_for_all_rounds_before_the_first_sum(tmp_path: Path) -> None:
    for budget in ("7.9", "0.1"):
        with pytest.raises(BudgetExceededError):
            set_up(tmp_path, f"privacy.budget_epsilon={budget}", "privacy.budget_delta=1e-5")
        names = [path.name for path in (tmp_path / "private").iterdir()]
        assert not any("moments" in name or "ledger" in name for name in names)
    made = set_up(tmp_path, "privacy.budget_epsilon=8.0", "privacy.budget_delta=1e-5")
    made.gate.release_sub_labels()
    made.gate.release("train", ids())


def test_card_and_plan_say_what_is_released(tmp_path: Path) -> None:
    job = job_of(tmp_path)
    text = make_run_card(job, set_up(tmp_path)).text()
    assert "epsilon 8, delta 1e-05 per sample (unit sample, replace-one)" in text
    what = f"second moment and class sizes, {ROUNDS} sums of gradients of {TRAIN} samples"
    noise = f"sigma 1.6977 for moments, 3.39541 for each of {ROUNDS} rounds"
    assert f"{1 + ROUNDS} in all: class sums, {what}; no row of a sample" in text
    assert f"{noise}, together mu 1.66603" in text
    assert re.search(r"add-remove +epsilon 4\.4\d*, delta 1e-05 per sample", text)
    report = plan_report(job, ranks=3)
    assert what in report
    assert noise in report
    assert "add-remove: epsilon 4.4" in report
    assert f"{PUBLIC} public rows, recoloured and named by them" in report
    off = job_of(tmp_path, "privacy.enabled=false")
    assert "leave the owner without noise" in plan_report(off, ranks=3)


@pytest.mark.parametrize(
    "override", ["release.rounds=3", "release.gradient_share=0.3", "release.gradient_step=1.0"]
)
def test_keys_of_rounds_need_rounds(tmp_path: Path, override: str) -> None:
    for mode in ("rows", "moments", "sums"):
        with pytest.raises(UsageError, match=re.escape('needs release.mode = "gradients"')):
            private_lda_job(tmp_path, f"release.mode={mode}", override, text=JOB)
