"""Tables as data sets: what becomes of columns, classes, splits; what is refused, in one line."""

from __future__ import annotations

import importlib
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clicooper_hpc.cli import main
from clicooper_hpc.data.dataset import open_dataset
from clicooper_hpc.data.tables.import_table import import_table
from clicooper_hpc.data.tables.read_table import open_mapped_table
from clicooper_hpc.data.tables.table_mapping import TableMapping
from clicooper_hpc.data.tables.table_options import TableOptions
from clicooper_hpc.errors import DataError

pyarrow = pytest.importorskip("pyarrow")

ROWS = """\
size ,colour,sunny,class,part,id
1.5,red,true,no,train,1
2.5, blue,false,yes,train,2
NA,red,TRUE,no,train,3
4.5,"green, dark",true,yes,test,4
-1e1,red,false,no,test,5
"""


def written(tmp_path: Path, text: str | bytes, name: str = "t.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def imported(path: Path, *options: str, kind: str = "csv") -> int:
    out = path.with_suffix(".h5")
    return main(["data", "import", kind, str(path), str(out), "-q", "--label", "class", *options])


def refused(capsys: pytest.CaptureFixture[str], path: Path, *options: str) -> str:
    capsys.readouterr()
    assert imported(path, *options) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert not path.with_suffix(".h5").exists()
    return err


def test_columns_become_features_by_a_stated_policy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, "\ufeff" + ROWS)
    options = ["--split", "part", "--leave-out", "id", "--missing", "size=mean"]
    stated = [*options, "--categories", "colour=red,blue,green, dark"]
    assert "categories repeat" not in refused(capsys, path, *options)
    assert imported(path, *stated) == 2  # the category has a comma
    text = ROWS.replace("green, dark", "red")
    assert imported(written(tmp_path, text), *options) == 0
    said = capsys.readouterr().out
    assert "column 'id' is left out, as asked" in said
    assert "column 'size': 1 cells without a value became mean 2" in said
    with open_dataset(tmp_path / "t.h5") as data:
        table = data.table
        assert table is not None
        assert data.class_names == ("no", "yes")
        assert table.feature_names == ("size", "colour=blue", "colour=red", "sunny")
        train = data.split("train").read(np.arange(3))
        # The mean of train rows alone: 4.5 and -10 are test rows.
        assert train.tolist() == [[1.5, 0, 1, 1], [2.5, 1, 0, 0], [2.0, 0, 1, 1]]
        assert data.split("test").read(np.arange(2))[:, 0].tolist() == [4.5, -10.0]
        assert data.statistics is not None
        assert data.statistics.maximum.tolist() == [2.5, 1, 1, 1]
        assert len(table.dependences()) == 2
        assert TableMapping.from_json(table.to_json(), "x") == table
    # A mapping that was tampered with is refused, not guessed at.
    with pytest.raises(DataError, match="no mapping"):
        TableMapping.from_json(table.to_json().replace('"mean"', '"median"'), "x")


@pytest.mark.parametrize(
    ("text", "options", "parts"),
    [
        (ROWS, (), ("row 2: has no value", "--missing size=POLICY")),
        (ROWS.replace("part,id", "id,id"), (), ("more than one column called 'id'",)),
        (ROWS, ("--split", "prt"), ("no column 'prt'", "'part'")),
        (ROWS.replace("test", "dunno"), ("--split", "part", "--missing", "drop"), ("'dunno'",)),
        (ROWS.replace("2.5,", "inf,"), ("--missing", "drop"), ("row 1: the number is infinite",)),
        (ROWS.replace("2.5,", "1e99,"), ("--missing", "drop"), ("beyond the range of float32",)),
        (ROWS.replace("yes", ""), (), ("row 1: has no label", "class=drop")),
        (ROWS.replace("yes", "0.5").replace("no", "2"), ("--missing", "drop"), ("regression",)),
        ("a,class\n1,x\n2,x\n3,x\n", (), ("1 class,", "Take the column")),
        ("a,class\n1,x\n2,y\n", ("--missing", "class=0"), ("does not apply to the label",)),
        (
            "a,class\n1,x\n2,y\n",
            ("--missing", "a=0", "--missing", "a=drop"),
            ("'0' and 'drop' of column 'a'",),
        ),
        ("a,class\n1,x\n2,y\n", ("--missing", "a=1e60"), ("no policy '1e60'",)),
        (
            "a,class\nb,x\nc,y\n",
            ("--categories", "a=b,c,c"),
            ("'c' is empty or repeats", "state each once"),
        ),
        ('a,class\n1,x\n2,"y\n', (), ("a quote that is never closed",)),
        (ROWS.replace(",", ";"), (), ("has one column", "--delimiter ';'")),
        ("", (), ("Empty CSV",)),
        ("a,class\n", (), ("has no rows",)),
        ("class\nx\ny\n", (), ("no column besides the label",)),
        ("a;class\n1,5;x\n2,5;y\n", ("--delimiter", ";"), ("row 0: '1,5'", "--decimal ,")),
        ("a,class\n\xe9,x\n".encode("latin-1"), (), ("UTF-8",)),
        ("a,class\n1,x\n2\n", (), ("Expected 2 columns, got 1",)),
        ("a,class\n" + "1,x\n" * 20 + "?,y\n", (), ("row 20: says '?'", "--null")),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    text: str | bytes,
    options: tuple[str, ...],
    parts: tuple[str, ...],
) -> None:
    line = refused(capsys, written(tmp_path, text), *options)
    for part in parts:
        assert part in line, line


def test_what_is_passed_over_or_rounded_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    body = "".join(f"{row},{2**53 + row},,7,{row % 2 + 1}\n" for row in range(20))
    text = f",big,empty,same,class\n{body}"
    assert imported(written(tmp_path, text)) == 0
    said = capsys.readouterr().out
    for part in ("without a name", "'empty' is left out", "float32 is exact", "same value 7",
                 "1 (8), 2 (8)"):  # fmt: skip
        assert part in said, said
    with open_dataset(tmp_path / "t.h5") as data:
        # Labels that count from 1 keep their values as names.
        assert data.class_names == ("1", "2")
        assert len(data.split("test")) == 4


def test_labels_that_are_one_float_stay_two_classes(tmp_path: Path) -> None:
    large = 2**53
    body = "".join(f"{row},{large + row % 2}\n" for row in range(20))
    assert imported(written(tmp_path, f"a,class\n{body}")) == 0
    with open_dataset(tmp_path / "t.h5") as data:
        assert data.class_names == (str(large), str(large + 1))
        assert set(data.split("train").labels().tolist()) == {0, 1}


def test_decimals_that_are_one_float_stay_apart(tmp_path: Path) -> None:
    digits = pyarrow.decimal256(60, 0)
    whole = pyarrow.array([Decimal(10**50 + row % 2) for row in range(40)], digits)
    table = pyarrow.table({"a": whole, "class": whole})
    options = TableOptions("class", categorical={"a": "one-hot"})
    import_table(table, tmp_path / "t.h5", options)
    with open_dataset(tmp_path / "t.h5") as data:
        names = (str(10**50), str(10**50 + 1))
        assert data.class_names == names
        assert data.table is not None
        assert data.table.columns[0].categories == names


def test_a_table_is_not_its_own_test_split(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, "a,class\n1,x\n2,y\n")
    assert "is the table itself" in refused(capsys, path, "--test", str(path))


def test_remarks_on_numbers_are_of_columns_of_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    body = "".join(f"{(7, 'x')[row % 2]},{2**53 + row % 2},{row % 2}\n" for row in range(20))
    path = written(tmp_path, f"a,big,class\n{body}")
    options = ["--categorical", "big=integer", "--categorical", "a=one-hot"]
    assert imported(path, *options) == 0
    said = capsys.readouterr().out
    assert "same value" not in said
    assert "float32 is exact" not in said


def test_a_blank_line_is_an_empty_cell_of_a_table_of_one_column(tmp_path: Path) -> None:
    body = "".join(f"{row},{row % 2}\n" for row in range(20))
    assert imported(written(tmp_path, f"a,class\n{body}"), "--missing", "a=0") == 0
    with open_dataset(tmp_path / "t.h5") as data:
        mapping = data.table
    assert mapping is not None
    new = written(tmp_path, "a\n1\n\n3\n", "new.csv")
    table, _ = open_mapped_table("csv", new, mapping)
    assert sum(count for _, count, _ in table.iterate_batches(["a"])) == 3
    two = written(tmp_path, "a,b\n1,2\n\n3,4\n", "two.csv")
    table, unused = open_mapped_table("csv", two, mapping)
    assert unused == ("b",)
    assert sum(count for _, count, _ in table.iterate_batches(["a"])) == 2


def test_frames_and_typed_files_are_taken_as_they_are(tmp_path: Path) -> None:
    pandas: Any = importlib.import_module("pandas")
    count = 40
    frame = pandas.DataFrame(
        {
            "whole": pandas.array([None, *range(1, count)], dtype="Int64"),
            "kind": pandas.Categorical(["a", "b"] * (count // 2), categories=["b", "a", "unused"]),
            "yes": [True, False] * (count // 2),
            "class": ["x", "y"] * (count // 2),
        },
        index=range(100, 100 + count),
    )
    options = TableOptions("class", missing={"whole": "-1"}, categorical={"": "integer"})
    import_table(frame, tmp_path / "f.h5", options)
    with open_dataset(tmp_path / "f.h5") as data:
        assert data.table is not None
        # No index, no category that no row has.
        assert data.table.feature_names == ("whole", "kind", "yes")
        assert data.table.columns[1].categories == ("a", "b")
        rows = data.split("train").read(np.arange(3)), data.split("train").labels()
    frame.to_parquet(tmp_path / "t.parquet")
    said = ["--missing", "whole=-1", "--categorical", "integer"]
    assert imported(tmp_path / "t.parquet", *said, kind="parquet") == 0
    with open_dataset(tmp_path / "t.h5") as data:
        assert (data.split("train").read(np.arange(3)) == rows[0]).all()
        assert (data.split("train").labels() == rows[1]).all()
    dated = frame.assign(day=pandas.Timestamp("2020-01-01"), nested=[[1]] * count)
    for name in ("day", "nested"):
        rest = [one for one in ("day", "nested") if one != name]
        others = TableOptions("class", missing={"whole": "-1"}, leave_out=rest)
        with pytest.raises(DataError, match=rf"{name}.*is no feature"):
            import_table(dated, tmp_path / "g.h5", others)
    assert not (tmp_path / "g.h5").exists()


def test_files_of_other_splits_go_the_same_way(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, "a,b,class\n1,u,x\n2,v,y\n3,u,x\n")
    other = written(tmp_path, "b,class,a\nv,y,5\nu,x,4\n", "other.csv")
    assert imported(path, "--test", str(other)) == 0
    with open_dataset(tmp_path / "t.h5") as data:
        assert len(data.split("train")) == 3
        assert data.split("test").read(np.arange(2)).tolist() == [[5, 0, 1], [4, 1, 0]]
    (tmp_path / "t.h5").unlink()
    line = refused(capsys, path, "--test", str(written(tmp_path, "b,class,a\nw,x,1\n", "w.csv")))
    assert "row 0: 'w' is none of the categories 'u', 'v'" in line
    line = refused(capsys, path, "--test", str(written(tmp_path, "b,class,a\nu,z,1\n", "z.csv")))
    assert "the class 'z' has no training row" in line
