"""A real run with each thing in its files deleted, retyped or full of escape sequences, in turn.

Whatever it is: every command ends with its result or one line, and nothing drives the terminal.
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from start import SMALL, train

from clicooper_hpc.cli import main
from clicooper_hpc.errors import RunFolderError
from clicooper_hpc.runstore.reader import Run, open_run

pytestmark = [pytest.mark.mpi]

JOB = SMALL.replace("widths = [16, 16]", "widths = [32]").replace("record_wire = true", "")
ESCAPES = "\x1b[31m\x1b]0;title\x07\x9b2J\u202e\u2066\x7f\b\r\n\u2028clicooper: forged"
#: Of so many items one is tried by default, all of them in `make test-all`.
STRIDE = 89


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run without its private folder, as a stranger gets it."""
    run = train(tmp_path_factory.mktemp("foreign"), 2, text=JOB)
    shutil.rmtree(run.folder.private)
    return run.folder.path


Item = tuple[str, str | None]


def items(file: Any) -> Iterator[Item]:
    """Yield every group, dataset and link by path, and every attribute with its object's path."""

    def walk(group: Any, at: str) -> Iterator[Item]:
        for attribute in group.attrs:
            yield at or "/", attribute
        for name in group:
            place = f"{at}/{name}"
            yield place, None
            if isinstance(group.get(name, getlink=True), h5py.HardLink):
                if isinstance(group[name], h5py.Group):
                    yield from walk(group[name], place)
                else:
                    yield from ((place, attribute) for attribute in group[name].attrs)

    yield from walk(file, "")


def delete(file: Any, at: str, attribute: str | None) -> bool:
    if attribute is None:
        del file[at]
    else:
        del file[at].attrs[attribute]
    return True


def retype(file: Any, at: str, attribute: str | None) -> bool:
    """Text becomes a number, all else text; a group a dataset, an array one of other dimensions."""
    if attribute is not None:
        attributes = file[at].attrs
        text = attributes.get_id(attribute).dtype.kind == "S"
        del attributes[attribute]
        attributes[attribute] = 7 if text else np.bytes_(b"seven")
        return True
    link = file.get(at, getlink=True)
    was = file[at] if isinstance(link, h5py.HardLink) else None
    text = isinstance(was, h5py.Dataset) and was.dtype.kind == "S"
    del file[at]
    file[at] = np.full((2, 2), 7) if text else np.array([b"seven", b"eight"])
    return True


def reshape(file: Any, at: str, attribute: str | None) -> bool:
    """An attribute becomes an array of its kind, a dataset has half its rows."""
    if attribute is not None:
        value = file[at].attrs.get_id(attribute).dtype
        if value.kind not in "Sif":
            return False
        del file[at].attrs[attribute]
        file[at].attrs[attribute] = np.zeros(2, value)
        return True
    if not isinstance(file.get(at, getlink=True), h5py.HardLink):
        return False
    was = file[at]
    if not isinstance(was, h5py.Dataset) or was.is_virtual or not was.ndim:
        return False
    content, attributes = was[: len(was) // 2], {key: was.attrs[key] for key in ("units",)}
    del file[at]
    file[at] = content
    for key, value in attributes.items():
        file[at].attrs[key] = value
    return True


def escape(file: Any, at: str, attribute: str | None) -> bool:
    """Escape sequences behind a text; into a name."""
    raw = ESCAPES.encode()
    if attribute is not None:
        if file[at].attrs.get_id(attribute).dtype.kind != "S":
            return False
        value = file[at].attrs[attribute]
        if isinstance(value, np.ndarray):
            return False
        text = value if isinstance(value, bytes) else value.encode()
        file[at].attrs[attribute] = np.bytes_(text + raw)
        return True
    hard = isinstance(file.get(at, getlink=True), h5py.HardLink)
    was = file[at] if hard else None
    if isinstance(was, h5py.Dataset) and was.dtype == "S1" and was.ndim and was.size:
        # Texts as characters, along the last axis.
        texts = [row.tobytes().rstrip(b"\0") for row in was[()].reshape(-1, was.shape[-1])]
        texts[0] += raw
        shape, kept = (
            was.shape[:-1],
            {key: was.attrs[key] for key in ("units",) if key in was.attrs},
        )
        del file[at]
        file[at] = np.array(texts).view("S1").reshape(*shape, -1)
        file[at].attrs.update(kept)
        return True
    if isinstance(was, h5py.Dataset) and was.dtype.kind == "S":
        value = np.array(was[()])
        more = value.astype(f"S{value.dtype.itemsize + len(raw)}").reshape(-1)
        more[:1] = more[0] + raw if more.size else raw
        units = was.attrs["units"]
        del file[at]
        file[at] = more.reshape(value.shape)
        file[at].attrs["units"] = units
        return True
    if not hard:
        return False
    file.move(at, at + ESCAPES.replace("/", ""))
    return True


CHANGES: dict[str, Callable[[Any, str, str | None], bool]] = {
    one.__name__: one for one in (delete, retype, reshape, escape)
}


def check_lines(text: str, what: str) -> None:
    assert "Traceback" not in text, what
    for line in text.split("\n"):
        assert line.isprintable(), f"{what}: {line!r}"


def check_command(command: list[str], capfd: pytest.CaptureFixture[str], what: str) -> int:
    code = main(command)
    out, err = capfd.readouterr()
    check_lines(out + err, what)
    assert code in (0, 2, 4), what
    if err:
        assert len(err.splitlines()) == 1, what
        assert err.startswith("clicooper: "), what
    # Without an error there is a result, whatever the exit code.
    assert bool(out) != bool(err), what
    return code


def use(run: Run) -> None:
    """Read all that a user of the package would."""
    for name in run.table_names(1):
        run.table(name, rank=1)
    run.table("ledger", rank=0)
    run.to_xarray()
    assert run.job


def check_folder(folder: Path, capfd: pytest.CaptureFixture[str], what: str) -> bool:
    """Try every way to read the run; return whether one said that something is wrong."""
    codes = {check_command([verb, str(folder)], capfd, what) for verb in ("inspect", "verify")}
    refusal = ""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            use(open_run(folder))
    except RunFolderError as error:
        refusal = str(error)
    check_lines(refusal, what)
    assert str(folder) in refusal or not refusal, what
    return bool(refusal) or codes != {0}


@pytest.mark.timeout(1500)
@pytest.mark.parametrize(
    "stride", [pytest.param(STRIDE, id="some"), pytest.param(1, id="all", marks=pytest.mark.matrix)]
)
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", ["run.h5", "rank-000.h5", "rank-001.h5"])
def test_every_item_of_every_file_may_be_anything(
    name: str, change: str, stride: int, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = folder / name
    content = path.read_bytes()
    with h5py.File(path, "r") as file:
        every = list(items(file))
    assert len(every) > 150
    noticed = tried = 0
    try:
        for number, (at, attribute) in enumerate(every):
            # The root's own attributes always: everything is decided by them.
            always = at == "/" and name == "run.h5" and change != "escape"
            if number % stride and not always:
                continue
            with h5py.File(path, "r+") as file:
                if not CHANGES[change](file, at, attribute):
                    continue
            what = f"{change} {name}: {at} {attribute or ''}"
            noticed += check_folder(folder, capfd, what)
            tried += 1
            path.write_bytes(content)
    finally:
        path.write_bytes(content)
    assert tried > 1
    assert noticed
    assert not check_folder(folder, capfd, "as it was")


def test_no_text_of_a_run_drives_the_terminal(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """All that decide nothing, at once."""
    place = tmp_path / "run"
    shutil.copytree(folder, place)
    spared = ("run_id", "layout", "status", "format", "resolved_job")
    with h5py.File(place / "run.h5", "r+") as file:
        for at, attribute in list(items(file)):
            if attribute and attribute.isidentifier() and attribute not in (*spared, "units"):
                escape(file, at, attribute)
        for at in ("/hosts", "/privacy/card", "/privacy/promised", "/pipeline/layer_names"):
            escape(file, at, None)
        for name in list(file["results"]):
            file["results"][name].attrs["units"] = np.bytes_(ESCAPES.encode())
            escape(file, f"/results/{name}", None)
    assert check_command(["inspect", str(place)], capfd, "inspect") == 0
    main(["inspect", str(place)])
    out, _ = capfd.readouterr()
    assert out.count("\\x1b[31m") > 3
    # What follows a line feed of a text is no line of ours.
    assert not any(line.startswith("clicooper: forged") for line in out.splitlines())
    assert check_command(["verify", str(place)], capfd, "verify") == 4
    check_lines(open_run(place).summary(), "summary")


def test_texts_of_two_jobs_side_by_side_are_printable(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / f"other{ESCAPES.replace('/', '')}"
    shutil.copytree(folder, other)
    with h5py.File(other / "run.h5", "r+") as file:
        text = file.attrs["resolved_job"].decode()
        shown = ESCAPES.encode("unicode_escape").decode().replace("\\x", "\\u00")
        file.attrs["resolved_job"] = np.bytes_(text.replace("digits", f"digits{shown}").encode())
    assert main(["inspect", str(folder), "--beside", str(other)]) == 0
    out, err = capfd.readouterr()
    check_lines(out + err, "beside")
    assert "data.path = 'digits\\x1b[31m" in out


@pytest.mark.parametrize("verb", ["attack", "audit"])
def test_verbs_of_the_owner_refuse_a_folder_without_its_notes(
    verb: str, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    command = [verb, str(folder), "--quiet", *(["--stage", "0"] if verb == "audit" else [])]
    assert main(command) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert "the owner's secrets are not there" in err
    assert len(err.splitlines()) == 1
