from __future__ import annotations

import json
import math
from typing import Any

import pytest

from clicooper_hpc.privacy.accounting import CrossCheck
from clicooper_hpc.privacy.master_key import INSECURE, SECURE
from clicooper_hpc.privacy.privacy_card import (
    FrontSummary,
    LabelSummary,
    MeasuredFigures,
    PrivacyCard,
)
from clicooper_hpc.privacy.release_spec import solve_release_spec
from clicooper_hpc.privacy.sensitivity import Guarantee

PUBLIC = FrontSummary("public", "cifar100-conv64", "frozen statistics")


def card(guarantee: dict[str, Any] | None = None, **changes: Any) -> PrivacyCard:
    asked: dict[str, Any] = {
        "unit": "sample",
        "relation": "replace-one",
        "clip": 1.0,
        "dimension": 64,
        "epsilon": 2.0,
        "delta": 1e-5,
    }
    values: dict[str, Any] = {
        "spec": solve_release_spec(Guarantee(**(asked | (guarantee or {})))),
        "check": CrossCheck(rdp=2.17318),
        "front": PUBLIC,
        "labels": LabelSummary(10, "random", 4),
        "rng_mode": SECURE,
    }
    return PrivacyCard(**(values | changes))


def line(made: PrivacyCard, name: str) -> str:
    return next(text for text in made.lines() if text.startswith(name))


def test_the_card_shows_every_figure_of_the_claim() -> None:
    text = card().text()
    for figure in (
        "unit sample",
        "replace-one",
        "epsilon 2, delta 1e-05 per sample",
        "d = 64",
        "2 C: any two rows",
        "sigma 3.98762",
        "grid 0.000976562",
        "mu 0.501552",
        "2.17318 by Renyi differential privacy",
        "1 per sample",
        "public, cifar100-conv64",
        "frozen statistics",
        "secure",
        "secret label map 'random', 4 names",
        "no differential privacy of labels",
        "15.1 % (Gaussian), 45.1 % (any mechanism), chance 10 %",
        "3.4 % at 1 % false positives",
        "right at most 1.9 % for 1 %",
        "zero-out         epsilon 0.929495, delta 1e-05 per sample",
    ):
        assert figure in text, figure


@pytest.mark.parametrize(
    ("guarantee", "word", "sample_epsilon"),
    [
        ({"unit": "element", "dimension": 16384, "non_negative": True}, "per ELEMENT only", "2333"),
        ({"unit": "metric", "metric_distance": 0.125}, "metric-DP(D0 = 0.125)", "64.7"),
    ],
)
def test_smaller_units_carry_the_sample_epsilon_in_the_same_line(
    guarantee: dict[str, Any], word: str, sample_epsilon: str
) -> None:
    claim = line(card(guarantee), "guarantee")
    assert "epsilon 2" in claim
    assert word in claim
    assert f"per SAMPLE epsilon {sample_epsilon}" in claim


def test_nothing_unmeasured_is_shown_or_stored() -> None:
    bare = card()
    assert not any(text.startswith("evaluated") for text in bare.lines())
    assert bare.to_dict()["measured"] == {}
    full = card(measured=MeasuredFigures(accuracy_clean=0.372, accuracy_released=0.115))
    assert "37.2 % on clean rows, never released" in full.text()
    assert "11.5 % on released (noised) rows" in full.text()


def test_privacy_off_is_loud() -> None:
    off = card(spec=None, check=None, rng_mode=SECURE)
    assert off.lines()[0].startswith("NO PRIVACY")
    assert "epsilon is infinite" in off.text()
    assert off.sample_total() == (math.inf, 1.0)
    assert off.to_dict()["private"] is False


def test_a_seeded_run_is_branded_twice() -> None:
    seeded = card(rng_mode=INSECURE)
    assert INSECURE in line(seeded, "guarantee")
    assert INSECURE in line(seeded, "random numbers")
    assert INSECURE not in card().text()


def test_a_front_that_saw_private_data_makes_the_claim_conditional() -> None:
    front = FrontSummary("conditional", "own.safetensors", "frozen statistics")
    assert "CONDITIONAL" in line(card(front=front), "front")


def test_dp_sgd_front_and_label_response_are_added_up() -> None:
    front = FrontSummary("dp-sgd", "own.safetensors", "group norm", epsilon=1.0, delta=1e-6)
    made = card(front=front, labels=LabelSummary(10, "none", 1, response_epsilon=0.5))
    epsilon, delta = made.sample_total()
    assert epsilon == pytest.approx(2.0 + 2 * 1.0 + 0.5)
    assert delta == pytest.approx(1e-5 + 1e-6 * (1 + math.e))
    assert "epsilon 4.5, delta 1.37183e-05 per sample" in line(made, "all together")
    assert "label epsilon 0.5" in line(made, "labels")
    with pytest.raises(ValueError, match="DP-SGD"):
        FrontSummary("public", "x", "y", epsilon=1.0, delta=1e-6)


def test_samples_spent_on_the_front_pay_for_it_alone() -> None:
    """They are not released, so the total is the dearer of the two, never the sum."""
    front = FrontSummary(
        "class-sums", "LDA by class sums", "none", epsilon=2.0, delta=1e-5, spent=70
    )
    made = card(front=front)
    assert made.sample_total() == pytest.approx((2.0, 1e-5))
    assert "of 70 training samples, never released: epsilon 2, delta 1e-05" in line(made, "front")
    dearer = FrontSummary("class-sums", "x", "y", epsilon=3.0, delta=1e-5, spent=70)
    assert card(front=dearer).sample_total()[0] == 3.0
    exact = FrontSummary("class-sums", "x", "y", spent=70)
    assert "without noise, no guarantee" in exact.line()
    for kind, spent in (("class-sums", 0), ("public", 70)):
        with pytest.raises(ValueError, match="class sums are paid with samples"):
            FrontSummary(kind, "x", "y", spent=spent)  # type: ignore[arg-type]


def test_ceilings_under_zero_out_are_for_row_against_row() -> None:
    """A zero-out claim bounds a row against nothing; a guess compares rows, at twice the mu."""
    made = card({"relation": "zero-out"})
    assert "21.8 % (Gaussian)" in line(made, "label ceiling")
    assert "90 % (any mechanism)" in line(made, "label ceiling")
    assert "true positives 9.29 % at 1 %" in line(made, "member ceiling")


def test_the_stored_card_holds_no_float_and_keeps_its_digest() -> None:
    made = card({"unit": "metric", "metric_distance": 0.125})

    def walk(value: object) -> None:
        assert isinstance(value, (dict, list, str, int)), value
        children = value.values() if isinstance(value, dict) else value
        if isinstance(children, (list, type({}.values()))):
            for child in children:
                walk(child)

    walk(made.to_dict())
    assert json.loads(json.dumps(made.to_dict())) == made.to_dict()
    assert made.digest() == card({"unit": "metric", "metric_distance": 0.125}).digest()
    assert made.digest() != card().digest()


def test_a_mechanism_comes_with_its_cross_check() -> None:
    with pytest.raises(ValueError, match="belong together"):
        card(check=None)
