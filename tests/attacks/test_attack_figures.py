"""Figures of findings: what is drawn, from which arrays, and in which order."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from report_example import written_run

from clicooper_hpc.attacks.harness.figures import (
    draw_figures,
    sorted_confusion,
    sorted_grouping_table,
    sub_labels_by_class,
)
from clicooper_hpc.attacks.harness.options import AttackOptions, attack_options_target
from clicooper_hpc.errors import UsageError
from clicooper_hpc.runstore.attack_record import ArrayKey, AttackRecord
from clicooper_hpc.runstore.reader import open_run

pytest.importorskip("matplotlib")

CLASSES = np.array([2, 0, 1, 0, 2, 1])
SEEN = np.array([True, True, True, True, True, False])


def drawn(arrays: dict[ArrayKey, NDArray[np.generic]], folder: Path) -> list[str]:
    return [path.name for path in draw_figures(AttackRecord({}, [], arrays), folder)]


def test_a_grouping_right_but_for_its_names_lies_on_the_diagonal() -> None:
    truth = np.repeat(np.arange(4), 5)
    found = (truth + 3) % 4
    assert np.array_equal(sorted_grouping_table(found, truth), 5 * np.eye(4))


def test_groups_without_a_class_come_last_and_nothing_is_lost() -> None:
    truth = np.array([0, 0, 0, 1, 1, 1])
    found = np.array([4, 4, 0, 2, 2, 2])
    table = sorted_grouping_table(found, truth)
    assert table[:, :2].tolist() == [[2, 0], [0, 3]]
    assert table.sum() == len(truth)
    assert table.sum(axis=1).tolist() == [3, 3]


def test_fewer_groups_than_classes_leave_classes_without_a_column() -> None:
    table = sorted_grouping_table(np.zeros(6, dtype=np.int64), np.repeat(np.arange(3), 2))
    assert table.tolist() == [[2], [2], [2]]


def test_confusion_is_sorted_by_class_and_leaves_out_what_never_occurs() -> None:
    order = sub_labels_by_class(CLASSES, SEEN)
    assert order.tolist() == [1, 3, 2, 0, 4]
    confusion = np.arange(36.0).reshape(6, 6)
    made = sorted_confusion(confusion, order)
    assert made.shape == (5, 5)
    assert made[0, 3] == confusion[1, 0]
    blocks = sorted_confusion((CLASSES[:, None] == CLASSES).astype(np.float64), order)
    assert (
        blocks.tolist()
        == np.kron(np.eye(3), np.ones((2, 2)))[[0, 1, 2, 4, 5]][:, [0, 1, 2, 4, 5]].tolist()
    )


def test_each_attack_gets_the_figure_of_its_arrays(tmp_path: Path) -> None:
    rates = np.geomspace(1e-4, 1, 20)
    arrays: dict[ArrayKey, NDArray[np.generic]] = {
        ("merge", "trainer 1", 0, "groups: rows"): CLASSES,
        ("merge", "trainer 1", 0, "classes"): CLASSES,
        ("merge", "trainer 1", 0, "seen"): SEEN,
        ("merge", "trainer 3", 0, "groups: rows"): CLASSES[::-1].copy(),
        ("merge", "trainer 3", 0, "classes"): CLASSES,
        ("merge", "trainer 3", 0, "seen"): SEEN,
        ("merge", "trainer 3", 0, "confusion"): np.eye(6, dtype=np.float32),
        ("membership", "outsider", 0, "roc network, loss"): np.stack([rates, rates]),
        ("membership", "outsider", 0, "bound"): np.stack([rates, np.sqrt(rates)]),
        ("membership", "outsider", 1, "roc network, loss"): np.stack([rates, rates]),
        ("membership", "trainer 1", 0, "roc released rows"): np.stack([rates, rates]),
        ("other", "outsider", 0, "numbers"): rates,
    }
    names = drawn(arrays, tmp_path)
    assert names == [
        "merge-trainer-1.png",
        "merge-trainer-3.png",
        "membership-outsider.png",
        "membership-trainer-1.png",
    ]
    assert all((tmp_path / name).stat().st_size > 5000 for name in names)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)


def test_findings_of_an_older_program_without_the_truth_are_left_out(tmp_path: Path) -> None:
    arrays: dict[ArrayKey, NDArray[np.generic]] = {
        ("merge", "trainer 1", 0, "groups: rows"): CLASSES
    }
    assert drawn(arrays, tmp_path) == []


def test_pictures_that_are_there_are_replaced_only_when_asked(tmp_path: Path) -> None:
    run = open_run(written_run(tmp_path / "run"))
    options = AttackOptions(output=tmp_path / "findings.h5", figures=tmp_path)
    assert attack_options_target(run, options) == options.output
    (tmp_path / "mine.png").write_bytes(b"")
    with pytest.raises(UsageError, match=r"there are pictures already \(mine\.png\)"):
        attack_options_target(run, options)
    attack_options_target(run, replace(options, overwrite=True))
