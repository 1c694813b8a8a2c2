"""The page ``docs/hdf5.md`` against real files; CLICOOPER_UPDATE_DOCS=1 rewrites its lists."""

from __future__ import annotations

import os
import re
import runpy
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import runstore_example as example

from clicooper_hpc.runstore.confusion import ConfusionMatrix
from clicooper_hpc.runstore.confusion_file import CONFUSION_FILE, write_class_figures
from clicooper_hpc.runstore.result_figures import RESULT_FIGURES
from clicooper_hpc.runstore.tables.schema import OWNER_TABLES, TRAINER_TABLES, Table

PAGE = Path(__file__).resolve().parents[2] / "docs" / "hdf5.md"
LIST = re.compile(r"(?<=<!-- datasets -->\n).*?(?=<!-- end -->)", re.DOTALL)
ATTRIBUTES = re.compile(r"(?<=<!-- attributes -->\n).*?(?=<!-- end -->)", re.DOTALL)
TABLES = re.compile(r"(?<=<!-- tables -->\n).*?(?=<!-- end -->)", re.DOTALL)
RESULTS = re.compile(r"(?<=<!-- results -->\n).*?(?=<!-- end -->)", re.DOTALL)
SNIPPETS = re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("docs")
    (folder / "runs").mkdir()
    example.finished_run(folder / "runs" / "digits", ranks=4)
    private = folder / "runs" / "digits" / "private"
    private.mkdir(exist_ok=True)
    counts = ConfusionMatrix(np.array([[3, 1], [0, 2]]))
    write_class_figures(private / CONFUSION_FILE, ["a", "bb"], counts, run_id="0" * 32)
    return folder


def rows_of(group: Any, at: str = "") -> dict[str, str]:
    """One Markdown row for each dataset and link, ranks and results written as a pattern."""
    rows: dict[str, str] = {}
    for key in group:
        place = f"{at}{key}"
        place = re.sub(r"^ranks/\d{3}", "ranks/NNN", place)
        place = re.sub(r"^results/.*", "results/NAME", place)
        # Axes of characters: the page says of all at once what they are.
        if re.fullmatch(r"string\d+", key):
            continue
        link, item = group.get(key, getlink=True), group[key]
        if isinstance(link, h5py.SoftLink):
            rows[place] = f"| `{place}` | | | | the same as `{link.path[1:]}` |"
        elif isinstance(item, h5py.Group):
            rows.update(rows_of(item, f"{place}/"))
        elif place == "results/NAME":
            rows[place] = (
                f"| `{place}` | any | scalar | of the figure | A figure the run ends with |"
            )
        else:
            string = h5py.check_string_dtype(item.dtype)
            kind = str(item.dtype)
            dims = list(item.dims)
            if string:
                # Of the other texts the length follows from the longest.
                long = item.shape[-1] if item.ndim else string.length
                kind = f"text of {long}" if place.startswith("ranks/") else "text"
                dims = dims[:-1]
            name = item.name.rsplit("/", 1)[-1]
            axes = ", ".join(dim.label or name for dim in dims)
            about = (item.attrs[key].decode() for key in ("units", "long_name"))
            rows[place] = (
                " | ".join([f"| `{place}`", kind, f"[{axes}]" if axes else "scalar", *about]) + " |"
            )
    return rows


def check(pattern: re.Pattern[str], expected: str) -> None:
    page = PAGE.read_text("utf-8")
    if os.environ.get("CLICOOPER_UPDATE_DOCS"):
        PAGE.write_text(pattern.sub(lambda _: expected, page, count=1), "utf-8")
        return
    found = pattern.search(page)
    assert found
    assert found.group() == expected, "run this test with CLICOOPER_UPDATE_DOCS=1"


def test_the_page_lists_every_dataset(runs: Path) -> None:
    with h5py.File(runs / "runs" / "digits" / "run.h5", "r") as file:
        rows = rows_of(file)
    head = "| dataset | type | shape | units | what |\n|---|---|---|---|---|\n"
    check(LIST, head + "".join(f"{row}\n" for _, row in sorted(rows.items())))


def test_the_page_lists_every_root_attribute(runs: Path) -> None:
    with h5py.File(runs / "runs" / "digits" / "run.h5", "r") as file:
        names = sorted(re.sub(r"^(torch|h5py)_version", "LIBRARY_version", n) for n in file.attrs)
    check(ATTRIBUTES, ",\n".join(f"`{name}`" for name in dict.fromkeys(names)) + ".\n")


def row_of(table: Table) -> str:
    """One Markdown row: who writes the table, and its columns in the order of their digests."""
    writers = [
        name
        for name, tables in (("owner", OWNER_TABLES), ("trainers", TRAINER_TABLES))
        if table in tables
    ]
    columns = ", ".join(f"`{column.name}` {numpy_type(column.dtype)}" for column in table.columns)
    plotted = ", ".join(f"`{name}`" for name in table.signals)
    cells = [f"`{table.name}`", " and ".join(writers), f"`{table.axis}`", table.long_name, columns]
    cells.append(plotted)
    return f"| {' | '.join(cells)} |\n"


def numpy_type(dtype: str) -> str:
    return np.dtype(dtype).str.lstrip("<|=")


def test_the_page_lists_every_table_with_its_columns_in_order() -> None:
    tables = sorted({*OWNER_TABLES, *TRAINER_TABLES}, key=lambda table: table.name)
    head = (
        "| table | written by | axis | long name | columns | plotted |\n|---|---|---|---|---|---|\n"
    )
    check(TABLES, head + "".join(map(row_of, tables)))


def test_the_page_lists_every_result() -> None:
    rows = [f"| `{name}` | {unit} | {about} |\n" for name, (unit, about) in RESULT_FIGURES.items()]
    check(RESULTS, "| figure | units | long name |\n|---|---|---|\n" + "".join(rows))


@pytest.mark.parametrize("number", range(len(SNIPPETS)))
def test_the_snippets_run(runs: Path, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(runs)
    (runs / "snippet.py").write_text(SNIPPETS[number], "utf-8")
    runpy.run_path("snippet.py")


def test_there_are_snippets() -> None:
    assert len(SNIPPETS) >= 5
