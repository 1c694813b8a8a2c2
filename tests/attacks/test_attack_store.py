"""Findings in HDF5, dealt to shares, put together, and as a table."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clicooper_hpc.attacks.harness.attack import AttackResult
from clicooper_hpc.attacks.harness.merge_shares import merge_records
from clicooper_hpc.attacks.harness.record import (
    order_record,
    record_exit_code,
    record_results,
)
from clicooper_hpc.attacks.harness.table import (
    strongest_table_lines,
    table_lines,
    table_text,
)
from clicooper_hpc.attacks.harness.tasks import (
    FAILED,
    NOT_APPLICABLE,
    TaskShare,
    deal_tasks,
    list_tasks,
    parse_task_share,
)
from clicooper_hpc.errors import RunFolderError, UsageError
from clicooper_hpc.runstore.attack_record import (
    AttackRecord,
    pack_attack_record,
    read_attack_findings,
    read_attack_record,
    unpack_attack_record,
    write_attack_record,
)

A = AttackResult(
    "clustering", "k-means", "trainer 1", "ARI", "honest", 0.25, 0.2, 0.3, 0.0, 0.1, 0.9
)
B = AttackResult(
    "décodeur", "", "trainers 1+2", "SSIM", "paper", math.nan, seed=2, note="warum: §3"
)
ABOUT: dict[str, str | float] = {
    "run_id": "abc",
    "seeds": 3,
    "scale": 0.5,
    "created": "2026-01-02T03:04:05+00:00",
}
PICTURE = np.arange(12, dtype=np.float32).reshape(3, 4)


def record(*findings: AttackResult, **about: str | float) -> AttackRecord:
    return AttackRecord(
        {**ABOUT, **about},
        [asdict(finding) for finding in findings],
        {
            ("clustering", "trainer 1", 0, "map of all"): PICTURE,
            ("clustering", "trainer 1", 1, "none"): np.zeros((0, 4), dtype=np.int64),
            ("décodeur", "trainers 1+2", 2, "flag"): np.array(True),
        },
    )


def same(left: AttackRecord, right: AttackRecord) -> bool:
    arrays = left.arrays.keys() == right.arrays.keys() and all(
        values.dtype == right.arrays[key].dtype and np.array_equal(values, right.arrays[key])
        for key, values in left.arrays.items()
    )
    # repr, since nan is not equal to itself.
    rows = repr(record_results(left)) == repr(record_results(right))
    return arrays and rows and dict(left.attributes) == dict(right.attributes)


def test_a_record_comes_back_from_disk_and_from_bytes_as_it_was(tmp_path: Path) -> None:
    written = record(A, B)
    write_attack_record(tmp_path / "attacks.h5", written)
    assert same(read_attack_record(tmp_path / "attacks.h5"), written)
    assert same(unpack_attack_record(pack_attack_record(written), where="wire"), written)


def test_a_record_without_findings_can_be_kept() -> None:
    empty = AttackRecord(ABOUT, [], {})
    assert same(unpack_attack_record(pack_attack_record(empty), where="wire"), empty)


def test_the_reader_gives_a_frame_with_all_columns(tmp_path: Path) -> None:
    (tmp_path / "private").mkdir()
    write_attack_record(tmp_path / "private" / "attacks.h5", record(A, B))
    for place in (tmp_path, tmp_path / "private" / "attacks.h5"):
        frame = read_attack_findings(place)
        assert list(frame["attack"]) == ["clustering", "décodeur"]
        assert list(frame["run_id"]) == ["abc", "abc"]
        assert frame["value"][0] == 0.25
        assert math.isnan(frame["value"][1])
        assert set(frame.columns) == {*asdict(A), "run_id"}
        assert frame.attrs["scale"] == 0.5


def test_the_file_explains_itself_to_any_hdf5_reader(tmp_path: Path) -> None:
    write_attack_record(tmp_path / "attacks.h5", record(A, B))
    with h5py.File(tmp_path / "attacks.h5", "r") as file:
        assert file["findings/value"].attrs["units"] == b"1"
        picture = file["arrays/clustering/trainer 1/0/map of all"]
        assert np.array_equal(picture[()], PICTURE)
        assert picture.attrs["long_name"] == b"map of all of clustering by trainer 1, seed 0"


def test_another_file_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file.attrs["format"] = "something"
    with pytest.raises(RunFolderError, match="holds no findings"):
        read_attack_findings(tmp_path / "other.h5")
    with pytest.raises(RunFolderError, match="missing"):
        read_attack_findings(tmp_path)
    with pytest.raises(RunFolderError, match="wire: the file is damaged or not HDF5"):
        unpack_attack_record(pack_attack_record(record(A))[:100], where="wire")


def test_parts_put_together_are_the_whole_in_its_order() -> None:
    cells = list_tasks(("clustering",), ("trainer 1",), 3)
    whole = [
        AttackResult("clustering", "v", "trainer 1", "m", "paper", float(s), seed=s)
        for s in range(3)
    ]
    parts = [
        ("b", AttackRecord(ABOUT, [asdict(whole[2]), asdict(whole[0])], {})),
        ("a", AttackRecord({**ABOUT, "created": "2027"}, [asdict(whole[1])], {})),
    ]
    merged = order_record(merge_records(parts), cells)
    assert record_results(merged) == tuple(whole)
    assert merged.attributes["created"] == "2027"


def test_parts_of_different_wholes_are_refused() -> None:
    with pytest.raises(RunFolderError, match=r"scale is 1\.0 here and 0\.5 in first"):
        merge_records([("first", record(A)), ("second", record(A, scale=1.0))])


@given(parts=st.integers(1, 9), seeds=st.integers(1, 4), attacks=st.integers(1, 4))
def test_every_cell_is_dealt_to_exactly_one_part(parts: int, seeds: int, attacks: int) -> None:
    cells = list_tasks([f"a{n}" for n in range(attacks)], ["trainer 1", "outsider"], seeds)
    assert len(set(cells)) == 2 * seeds * attacks
    dealt = [deal_tasks(cells, part, parts) for part in range(parts)]
    assert sorted(map(repr, cells)) == sorted(repr(cell) for part in dealt for cell in part)
    sizes = [len(part) for part in dealt]
    assert max(sizes) - min(sizes) <= 1


def test_shares_are_read_and_name_their_files() -> None:
    assert parse_task_share("3/8").file_name("attacks.h5") == "attacks-3-of-8.h5"
    assert TaskShare().file_name("attacks.h5") == "attacks.h5"
    for text in ("0/4", "5/4", "1", "a/b", "1/0", "-1/2"):
        with pytest.raises(UsageError, match="no share"):
            parse_task_share(text)


def test_seeds_come_together_as_mean_and_range() -> None:
    seeds = [
        AttackResult("a", "v", "p", "m", "honest", value, value - 0.1, value + 0.1, 0.5, seed=seed)
        for seed, value in enumerate((0.2, 0.4, 0.6))
    ]
    (line,) = table_lines(seeds)
    assert line.value == pytest.approx(0.4)
    assert (line.smallest, line.largest) == (0.2, 0.6)
    assert line.low == pytest.approx(0.1)
    assert line.high == pytest.approx(0.7)
    assert line.chance == 0.5
    assert line.seeds == 3
    assert line.as_dict()["ceiling"] is None


def test_without_intervals_the_range_over_seeds_is_shown_and_none_for_one_seed() -> None:
    seeds = [AttackResult("a", "v", "p", "m", "honest", value, seed=0) for value in (0.2, 0.6)]
    assert (table_lines(seeds)[0].low, table_lines(seeds)[0].high) == (0.2, 0.6)
    assert math.isnan(table_lines(seeds[:1])[0].low)
    assert "0.2000 [" not in table_text(table_lines(seeds[:1]))


def test_the_table_fits_120_columns_and_keeps_every_figure() -> None:
    long = "a variant with an exceedingly long name that goes on and on"
    findings = [
        A,
        AttackResult("decoder", long, "trainers 1+2", long, "paper", -0.123456, -0.2, 1234.5),
        AttackResult(
            "decoder", "-", "verifier", NOT_APPLICABLE, "honest", math.nan, note="no rows"
        ),
        AttackResult(
            "decoder", "-", "outsider", NOT_APPLICABLE, "honest", math.nan, note="no rows"
        ),
        AttackResult("decoder", "-", "trainer 1", FAILED, "honest", math.nan, note="word " * 40),
    ]
    text = table_text(table_lines(findings))
    assert max(map(len, text.splitlines())) <= 120
    for part in (
        "0.2500 [0.2000, 0.3000]",
        "-0.1235 [-0.2000, 1234]",
        "clustering, trainer 1\n",
        "not applicable: decoder, verifier, outsider: no rows",
        "failed: decoder, trainer 1: word",
    ):
        assert part in text
    assert "the mechanism has a bug" not in text


def test_long_names_go_on_below_and_lose_nothing() -> None:
    long = "a variant whose name goes on and on and on beyond every column there could be here"
    text = table_text(table_lines([AttackResult("a", long, "trainer 1", long[::-1], "paper", 0.5)]))
    for word in (*long.split(), *long[::-1].split()):
        assert word in text


def test_of_each_metric_the_strongest_variant_is_kept() -> None:
    def found(variant: str, metric: str, value: float) -> AttackResult:
        return AttackResult("a", variant, "trainer 1", metric, "honest", value)

    lines = table_lines(
        [
            *(found(name, "ARI", value) for name, value in (("u", 0.1), ("v", 0.3), ("w", 0.2))),
            *(found(name, "MSE", value) for name, value in (("u", 0.1), ("v", 0.3), ("w", 0.05))),
            *(found(name, "F1", value) for name, value in (("u", 0.9), ("strongest", 0.8))),
            *(found(name, "AUC", value) for name, value in (("u", math.nan), ("v", 0.4))),
        ]
    )
    kept = {line.metric: line.variant for line in strongest_table_lines(lines)}
    assert kept == {"ARI": "v", "MSE": "w", "F1": "strongest", "AUC": "v"}


def test_a_figure_above_its_ceiling_is_pointed_out() -> None:
    over = AttackResult("a", "v", "trainer 1", "m", "honest", 0.5, 0.45, 0.55, ceiling=0.4)
    within = AttackResult("a", "v", "trainer 1", "m", "honest", 0.5, 0.35, 0.55, ceiling=0.4)
    assert "!0.4000" in table_text(table_lines([over]))
    assert "the mechanism has a bug" in table_text(table_lines([over]))
    assert "!" not in table_text(table_lines([within]))


def test_failures_are_seen() -> None:
    failed = AttackResult("a", "-", "trainer 1", FAILED, "honest", math.nan, note="why")
    assert record_exit_code(record(A, failed)) == 1
    assert record_exit_code(record(A)) == 0
