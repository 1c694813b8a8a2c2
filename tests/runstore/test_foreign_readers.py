"""Other programs open the files of a complete run as they are, and read the same numbers.

Readers that are not installed are skipped. ``CLICOOPER_READERS_PYTHON`` names an interpreter that
has netCDF4, h5netcdf, xarray and silx, ``CLICOOPER_NODE_MODULES`` a folder with h5wasm in it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import foreign_readers
import h5py
import numpy as np
import pytest
import runstore_example as example

from clicooper_hpc.errors import RunFolderError
from clicooper_hpc.runstore.hdf5.files import add_hdf5_dataset, create_hdf5_file
from clicooper_hpc.runstore.index_end import complete_index, finish_index, write_one_file
from clicooper_hpc.runstore.reader import open_run
from clicooper_hpc.runstore.run_folder import RunFolder

HERE = Path(__file__).parent
PYTHON = os.environ.get("CLICOOPER_READERS_PYTHON", sys.executable)
NODE_MODULES = os.environ.get("CLICOOPER_NODE_MODULES", "")
FILES = ("run.h5", "rank-000.h5", "rank-001.h5")
#: A reader, what it needs, and how many datasets and attributes of `run.h5` it shows at least.
READERS = {
    "netcdf4": (("netCDF4",), 450),
    "xarray_netcdf4": (("netCDF4", "xarray"), 450),
    "xarray_h5netcdf": (("h5netcdf", "xarray"), 450),
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A complete run with rows in tables of every kind: numbers, texts, longest texts."""
    folder, writers = example.start_run(tmp_path_factory.mktemp("readers") / "run", ranks=2)
    for rank, writer in enumerate(writers):
        with writer:
            example.write_steps(writer, rank, range(8))
            if rank == 0:
                example.write_owner_events(writer)
                for entry, text in enumerate(("{}", "x" * 32768, "é")):
                    row = {"entry": entry, "kind": "proof", "segment": -1, "stage": entry}
                    writer.append("ledger", {**row, "envelope": text})
            else:
                for size in (3, 5):
                    head = {"size": size, "root": "ab" * 32, "note": f"note {size}\n"}
                    writer.append("heads", head)
    finish_index(folder.index, results=example.RESULTS, privacy=example.PRIVACY)
    complete_index(folder.index)
    return folder


def output_of(command: Sequence[str]) -> str:
    # Of letters beyond ASCII h5dump prints the bytes one by one.
    done = subprocess.run(
        command, capture_output=True, text=True, errors="replace", timeout=240, check=False
    )
    assert done.returncode == 0, (done.returncode, done.stderr[-2000:])
    return done.stdout


def need_modules(*names: str) -> None:
    code = "".join(f"import {name}\n" for name in names)
    done = subprocess.run([PYTHON, "-c", code], capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"{PYTHON} has not {' and '.join(names)}")


def need_program(name: str, package: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed (Debian: {package})")
    return found


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("reader", READERS)
def test_readers_of_netcdf_show_every_value_and_attribute(
    run: RunFolder, reader: str, name: str
) -> None:
    modules, least = READERS[reader]
    need_modules(*modules)
    path = str(run.path / name)
    shown = json.loads(output_of([PYTHON, str(HERE / "foreign_readers.py"), reader, path]))
    expected = foreign_readers.read_h5py(path)
    assert {place: shown.get(place) for place in expected} == expected
    assert set(shown) == set(expected)
    assert len(shown) >= (least if name == "run.h5" else 150)


@pytest.mark.parametrize("engine", ["netcdf4", "h5netcdf"])
def test_xarray_labels_every_axis_of_a_group_that_is_opened_alone(
    run: RunFolder, engine: str
) -> None:
    need_modules("xarray", {"netcdf4": "netCDF4"}.get(engine, engine))
    program = (
        "import json, sys, xarray\n"
        "path, engine = sys.argv[1:]\n"
        "bare = {}\n"
        "for group in ('metrics', 'pipeline', 'evaluation', 'ranks/001/steps', '/'):\n"
        "    with xarray.open_dataset(path, engine=engine, group=group) as data:\n"
        "        bare[group] = [d for d in data.dims if d not in data.coords]\n"
        "        if group == 'metrics':\n"
        "            one = data['step_s'].sel(rank=1)\n"
        "            bare['sel'] = [int(one['rank']), one.sizes['step'], len(data['rank'])]\n"
        "print(json.dumps(bare))\n"
    )
    bare = json.loads(output_of([PYTHON, "-c", program, str(run.path / "run.h5"), engine]))
    number, steps, ranks = bare.pop("sel")
    with h5py.File(run.path / "run.h5") as file:
        assert (number, steps, ranks) == (1, len(file["metrics/step"]), len(file["rank"]))
    # Axes of characters alone have no labels.
    assert {name for names in bare.values() for name in names if "string" not in name} == set()


@pytest.mark.parametrize("name", FILES)
def test_ncdump_prints_every_number(run: RunFolder, name: str) -> None:
    ncdump = need_program("ncdump", "netcdf-bin")
    text = output_of([ncdump, "-p", "9,17", str(run.path / name)])
    shown = numbers_of_cdl(text)
    with h5py.File(run.path / name, "r") as file:
        expected = {
            place: dataset[()].astype(float).ravel()
            for place, dataset in datasets(file)
            # Of columns without rows nothing is printed.
            if dataset.dtype.kind in "iuf" and "string" not in place and dataset.size
        }
    assert set(shown) == set(expected)
    for place, values in expected.items():
        # A place that equals the fill value of its column, -1 or NaN, is printed as "_".
        assert np.array_equal(np.nan_to_num(values, nan=-1), shown[place]), place
    # Texts, the longest of them whole.
    if name != "rank-001.h5":
        assert '"' + "x" * 32768 + '"' in text.replace('",\n    "', "")


def datasets(group: Any, at: str = "") -> list[tuple[str, Any]]:
    found = []
    for name in group:
        item = group[name]
        if isinstance(item, h5py.Dataset):
            found.append((f"{at}/{name}", item))
        else:
            found += datasets(item, f"{at}/{name}")
    return found


def numbers_of_cdl(text: str) -> dict[str, Any]:
    """Numbers of all variables in the output of ncdump; "_" and NaN as -1."""
    found: dict[str, Any] = {}
    groups: list[str] = []
    data = False
    lines = iter(text.splitlines())
    for line in lines:
        stripped = line.strip()
        if match := re.fullmatch(r"group: \\?(\w+) \{", stripped):
            groups.append(match[1])
            data = False
        elif re.fullmatch(r"\} // group \\?\w+", stripped):
            groups.pop()
        elif stripped == "data:":
            data = True
        elif data and (match := re.match(r"(\w+) =(.*)", stripped)):
            values = match[2]
            while not values.rstrip().endswith(";"):
                values += " " + next(lines).strip()
            words = values.rstrip().rstrip(";").replace(",", " ").split()
            if '"' not in values:
                place = "/" + "/".join([*groups, match[1]])
                found[place] = np.array(
                    [-1.0 if word in ("_", "NaN") else float(word) for word in words]
                )
    return found


@pytest.mark.parametrize("name", FILES)
def test_h5dump_prints_all_and_the_same_bytes(run: RunFolder, name: str, tmp_path: Path) -> None:
    h5dump = need_program("h5dump", "hdf5-tools")
    path = run.path / name
    text = output_of([h5dump, str(path)])
    assert "EXTERNAL_LINK" not in text
    assert "VIRTUAL" not in output_of([h5dump, "-p", "-H", str(path)])
    places = (
        ("metrics/step_s", "ranks/001/training/loss") if name == "run.h5" else ("steps/step_s",)
    )
    with h5py.File(path, "r") as file:
        for place in places:
            out = tmp_path / "out.bin"
            output_of([h5dump, "-d", f"/{place}", "-b", "LE", "-o", str(out), str(path)])
            assert out.read_bytes() == file[place][()].tobytes(), place


@pytest.mark.parametrize("name", FILES)
def test_h5wasm_reads_the_bytes_of_the_file_alone(
    run: RunFolder, name: str, tmp_path: Path
) -> None:
    node = need_program("node", "nodejs")
    if not (Path(NODE_MODULES) / "h5wasm").is_dir():
        pytest.skip("CLICOOPER_NODE_MODULES names no folder with h5wasm (npm install h5wasm)")
    # As in a browser: no other file is there.
    path = shutil.copy(run.path / name, tmp_path)
    program = str(HERE / "read_h5wasm.mjs")
    shown = json.loads(output_of([node, program, NODE_MODULES, str(path)]))
    every = foreign_readers.read_h5py(str(path))
    # A text with other letters than those of ASCII is shown byte by byte.
    expected = {
        place: value
        for place, value in every.items()
        if "@" not in place and not place.endswith("ledger/envelope")
    }
    assert {place: shown[place] for place in expected} == expected


def test_silx_plots_loss_and_accuracy_at_once(run: RunFolder) -> None:
    need_modules("silx", "h5py")
    path = str(run.index)
    shown = json.loads(output_of([PYTHON, str(HERE / "foreign_readers.py"), "silx", path]))
    every = foreign_readers.read_h5py(path)
    names = ("loss", "sub_label_accuracy", "step")
    assert shown == {f"/metrics/{name}": every[f"/metrics/{name}"] for name in names}


def test_what_is_plotted_is_there(run: RunFolder) -> None:
    # The rules of NXdata, whatever viewer follows them.
    plotted = 0
    with h5py.File(run.index, "r") as file:
        assert file.attrs["NX_class"] == b"NXroot"
        assert file[file.attrs["default"]].attrs["NX_class"] == b"NXdata"
        for place in ["/metrics", *(f"/ranks/{rank:03d}" for rank in range(2))]:
            for group in (file[place], *file[place].values()):
                if group.attrs.get("NX_class") != b"NXdata":
                    continue
                axis = group[group.attrs["axes"]]
                for key in {"signal", "auxiliary_signals"} & set(group.attrs):
                    assert group[group.attrs[key]].shape == axis.shape
                    plotted += 1
    assert plotted >= 10


def test_a_complete_index_is_read_without_any_other_file(run: RunFolder, tmp_path: Path) -> None:
    alone = Path(shutil.copy(run.index, tmp_path / "handed-on.h5"))
    one, whole = open_run(alone), open_run(run.path)
    assert one.missing_ranks == one.changed_ranks == ()
    assert one.results == whole.results
    for name in ("steps", "training", "ledger", "heads"):
        assert one.table(name).equals(whole.table(name))
    assert one.to_xarray().equals(whole.to_xarray())
    with h5py.File(alone, "r") as file:
        file.visititems_links(lambda _, link: check_link(link))
        assert not any(item.is_virtual for _, item in datasets(file))
        losses = [example.step_row(1, i, "training")["loss"] for i in range(8)]
        assert file["metrics/loss"][:].tolist() == losses
        assert np.isnan(file["metrics/loss_by_rank"][:, 0]).all()


def check_link(link: Any) -> None:
    assert not isinstance(link, h5py.ExternalLink)


def test_a_run_is_opened_by_its_folder_its_index_or_a_file_of_a_rank(
    run: RunFolder, tmp_path: Path
) -> None:
    for path in (run.path, run.index, run.shard(1)):
        assert open_run(path).ranks == (0, 1)
    lone = open_run(shutil.copy(run.shard(1), tmp_path))
    assert lone.ranks == (1,)
    assert (
        lone.table("training").drop(columns="rank").equals(open_run(run.path).table("training", 1))
    )
    assert "rank 1 alone" in lone.summary()
    with pytest.raises(RunFolderError, match="file of a rank alone"):
        lone.job  # noqa: B018


def test_what_a_kill_left_becomes_one_file_as_well(tmp_path: Path) -> None:
    folder, writers = example.start_run(tmp_path / "run")
    for rank, writer in enumerate(writers):
        # Ranks stop at different steps.
        example.write_steps(writer, rank, range(4 + rank))
        writer.flush()
    write_one_file(open_run(folder.path), tmp_path / "one.h5")
    for writer in writers:
        writer.close()
    one = open_run(tmp_path / "one.h5")
    assert one.status == "incomplete"
    assert one.table("steps").equals(open_run(folder.path).table("steps"))
    with h5py.File(tmp_path / "one.h5", "r") as file:
        assert file["metrics/step"][:].tolist() == list(range(6))
        assert file["metrics/complete"][:, 0].tolist() == [1, 1, 1, 1, 0, 0]
        assert np.isnan(file["metrics/step_s"][4:, 0]).all()


def test_texts_are_kept_whole_in_any_number(tmp_path: Path) -> None:
    texts = ["", "é", "a" * 99]
    with create_hdf5_file(tmp_path / "texts.h5") as file:
        add_hdf5_dataset(file, "texts", texts, units="text", long_name="Texts")
        add_hdf5_dataset(file, "none", [], units="text", long_name="No texts")
    with h5py.File(tmp_path / "texts.h5", "r") as file:
        assert [one.tobytes().rstrip(b"\0").decode() for one in file["texts"]] == texts
        assert file["none"].shape == (0, 1)
