"""Cells of predictions as text: no spreadsheet computes them, and every name can be had back."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from clicooper_hpc.errors import UsageError
from clicooper_hpc.inference.csv_predictions import plain_cell
from clicooper_hpc.inference.input_check import other_scale
from clicooper_hpc.inference.prediction_files import open_prediction_file
from clicooper_hpc.owner.input_facts import InputFacts, NumberMoments

FORMULAS = ["=1+1", "+A1", "-A1", "@SUM(A1)", "\t=1", "\r=1", "'=1", "''@x", "\uff1dx"]
PLAIN = ["cat", "'tis", "", "a=b", "-1", "+2.5", "3", "'", " =1"]


@pytest.mark.parametrize("text", FORMULAS)
def test_a_formula_becomes_text(text: str) -> None:
    assert plain_cell(text) == f"'{text}"


@pytest.mark.parametrize("text", PLAIN)
def test_every_other_text_stays(text: str) -> None:
    assert plain_cell(text) == text


def test_no_two_names_become_one() -> None:
    texts = [*FORMULAS, *PLAIN]
    assert len({plain_cell(text) for text in texts}) == len(texts)


def test_names_of_classes_and_files_are_such_cells(tmp_path: Path) -> None:
    out, files = tmp_path / "out.csv", ["=cmd.png", "b.png"]
    with open_prediction_file(out, ("@a", "-1"), files, overwrite=False) as file:
        file.append_predictions(np.array([0, 1]), np.array([[0.75, 0.25], [0.5, 0.5]], np.float32))
    with out.open(newline="") as stored:
        assert list(csv.reader(stored)) == [
            ["row", "file", "class", "p_@a", "p_-1"],
            ["0", "'=cmd.png", "'@a", "0.75", "0.25"],
            ["1", "b.png", "-1", "0.5", "0.5"],
        ]


def moments_of(numbers: np.ndarray) -> NumberMoments:
    moments = NumberMoments()
    for part in np.array_split(numbers.astype(np.float32), 7):
        moments.add_numbers(part)
    return moments


def test_mean_and_deviation_are_those_of_all_numbers() -> None:
    # Far from 0, where a sum of squares would have lost the deviation.
    numbers = np.random.default_rng(0).normal(1000, 0.5, (5000, 3)).astype(np.float32)
    found = moments_of(numbers)
    assert found.count == 15_000
    assert found.mean == pytest.approx(numbers.mean(dtype=np.float64), rel=1e-12)
    assert found.deviation == pytest.approx(numbers.std(dtype=np.float64), rel=1e-9)
    assert moments_of(np.empty((0, 3))).deviation == 0


def test_bytes_divided_by_255_are_told_from_standardised_numbers() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (500, 28)) / 255
    standard = (pixels - pixels.mean()) / pixels.std()
    trained = moments_of(standard)
    facts = InputFacts(
        ("a", "b"), "float32", -2.0, 2.0, mean=trained.mean, deviation=trained.deviation
    )
    text = other_scale(moments_of(pixels), facts)
    assert text is not None
    assert f"mean {pixels.mean():.3g} and deviation {pixels.std():.3g}, those the model" in text
    assert "the predictions mean nothing" in text
    # As bright on the whole as a half of the training samples are, or a bit darker: that is usual.
    assert other_scale(moments_of(standard[:50]), facts) is None
    assert other_scale(moments_of(0.7 * standard - 0.5), facts) is None
    assert other_scale(moments_of(standard + 1.1), facts) is not None
    assert other_scale(moments_of(2.1 * standard), facts) is not None
    # Nothing to compare with: a run of an earlier version, or constant samples.
    assert other_scale(moments_of(pixels), InputFacts(("a", "b"), "float32", -2.0, 2.0)) is None
    constant = InputFacts(("a", "b"), "float32", 1.0, 1.0, mean=1.0, deviation=0.0)
    assert other_scale(moments_of(pixels), constant) is None


def test_facts_read_back_with_and_without_a_scale() -> None:
    for facts in (
        InputFacts(("a", "b"), "uint8", 0.0, 1.0),
        InputFacts(("a", "b"), "uint8", 0.0, 1.0, mean=0.25, deviation=0.5),
    ):
        assert InputFacts.from_private_bytes(facts.to_private_bytes()) == facts
    stored = InputFacts(("a", "b"), "uint8", 0.0, 1.0, mean=0.25, deviation=0.5).to_private_bytes()
    for damage in (b'"mean": null', b'"mean": NaN', b'"mean": "x"', b'"mean": []'):
        with pytest.raises(ValueError, match=r"facts of samples|could not convert"):
            InputFacts.from_private_bytes(stored.replace(b'"mean": 0.25', damage))


def test_a_file_named_with_a_slash_is_refused() -> None:
    from clicooper_hpc.data.output_place import named_file

    assert named_file("out.csv") == Path("out.csv")
    with pytest.raises(UsageError, match=r"-o out\.csv/: ends in a slash"):
        named_file("out.csv/")
