"""What a file of a run folder must not be or hold: refused before it is read, by one line."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import runstore_example as example

from clicooper_hpc.cli import main
from clicooper_hpc.errors import RunFolderError, UsageError
from clicooper_hpc.runstore import limits, regular_files
from clicooper_hpc.runstore.attack_record import (
    AttackRecord,
    read_attack_record,
    unpack_attack_record,
    write_attack_record,
)
from clicooper_hpc.runstore.hdf5 import vetting
from clicooper_hpc.runstore.index import create_index
from clicooper_hpc.runstore.private_folder import PrivateFolder
from clicooper_hpc.runstore.reader import open_run
from clicooper_hpc.runstore.regular_files import (
    open_regular_file,
    read_regular_file,
    refuse_irregular_entries,
    stored_file_bytes,
)
from clicooper_hpc.runstore.run_folder import RunFolder
from clicooper_hpc.verification.uncovered import _uncovered_names

SECRET = b"a line of another file of the reader\n" * 100


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return example.finished_run(tmp_path_factory.mktemp("hostile") / "run", ranks=2).path


@pytest.fixture
def copy(original: Path, tmp_path: Path) -> RunFolder:
    shutil.copytree(original, tmp_path / "run")
    (tmp_path / "secret").write_bytes(SECRET)
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["text"] = np.bytes_(SECRET)
        file.create_group("steps")
    return RunFolder(tmp_path / "run")


Change = Callable[[Any, Path], None]


def replaced(name: str, make: Callable[[Any, str, Path], object]) -> Change:
    """Return a change that puts what ``make`` makes in the place of ``name``."""

    def change(file: Any, beside: Path) -> None:
        del file[name]
        make(file, name, beside)

    return change


def external_link(file: Any, name: str, beside: Path) -> None:
    file[name] = h5py.ExternalLink(str(beside / "secret.h5"), "/text")


def soft_link(file: Any, name: str, _: Path) -> None:
    file[name] = h5py.SoftLink("/hosts")


def external_storage(file: Any, name: str, beside: Path) -> None:
    file.create_dataset(name, (len(SECRET),), "u1", external=[(str(beside / "secret"), 0, 3700)])


def virtual(file: Any, name: str, beside: Path) -> None:
    view = h5py.VirtualLayout((1,), "S3700")
    view[:] = h5py.VirtualSource(str(beside / "secret.h5"), "text", (1,))
    file.create_virtual_dataset(name, view)


def variable_text(file: Any, name: str, _: Path) -> None:
    file.create_dataset(name, data=["a", "b"], dtype=h5py.string_dtype())


def reference(file: Any, name: str, _: Path) -> None:
    file.create_dataset(name, data=file.ref, dtype=h5py.ref_dtype)


def compound(file: Any, name: str, _: Path) -> None:
    file[name] = np.zeros(2, [("a", "i4"), ("b", "f8")])


def opaque(file: Any, name: str, _: Path) -> None:
    file[name] = np.zeros(2, "V16")


def unwritten(file: Any, name: str, _: Path) -> None:
    file.create_dataset(name, (1 << 40,), "f8", chunks=(1 << 16,))


def unwritten_within_limit(file: Any, name: str, _: Path) -> None:
    file.create_dataset(name, (1 << 28,), "f8", chunks=(1 << 16,))


def bomb(file: Any, name: str, _: Path) -> None:
    file.create_dataset(
        name, data=np.zeros(1 << 25), chunks=(1 << 17,), compression=1, shuffle=True
    )


def large_chunk(file: Any, name: str, _: Path) -> None:
    file.create_dataset(name, (1,), "f8", maxshape=(None,), chunks=(1 << 22,), compression=1)


def foreign_filter(file: Any, name: str, _: Path) -> None:
    file.create_dataset(name, data=np.arange(99), chunks=(99,), compression="lzf")


def many_dimensions(file: Any, name: str, _: Path) -> None:
    file[name] = np.zeros((1,) * 9)


def deep(file: Any, name: str, _: Path) -> None:
    file.create_group("/".join([name, *"abcdefgh"]))


def circle(file: Any, name: str, _: Path) -> None:
    file.create_group(name)["again"] = file["/"]


def second_name(file: Any, name: str, _: Path) -> None:
    file[name] = file["rank" if "rank" in file else "steps/step"]


def named_type(file: Any, name: str, _: Path) -> None:
    file[name] = np.dtype("f8")


#: What is put into a file, and words of the line that refuses it.
THINGS: dict[str, tuple[Callable[[Any, str, Path], object], str]] = {
    "external link": (external_link, "is a link to '/text' in the file"),
    "soft link": (soft_link, "is a link to '/hosts'"),
    "external storage": (external_storage, "its data lies in another file"),
    "virtual dataset": (virtual, "takes its data from 'text' in the file"),
    "variable text": (variable_text, "text of variable length"),
    "object reference": (reference, "references"),
    "compound": (compound, "a compound"),
    "opaque": (opaque, "opaque bytes"),
    "huge, never written": (unwritten, "at most 4294967296 are read"),
    "large, never written": (unwritten_within_limit, "the file unfolds to more than"),
    "bomb": (bomb, "the file unfolds to more than"),
    "large chunk": (large_chunk, "chunks of more than"),
    "foreign filter": (foreign_filter, r"HDF5 filters \[32000\]"),
    "many dimensions": (many_dimensions, "more than 8 dimensions"),
    "deep groups": (deep, "more than 8 deep"),
    "circle": (circle, "second name"),
    "second name": (second_name, "second name"),
    "named type": (named_type, "neither a group nor a dataset"),
}
#: Where: a dataset that is read, a new name in the root, the place of an allowed link.
PLACES = {
    "index": ("run.h5", "hosts"),
    "index, extra": ("run.h5", "extra"),
    "index, rank": ("run.h5", "ranks/001"),
    "index, metric": ("run.h5", "metrics/loss"),
    "shard": ("rank-001.h5", "training/loss"),
    "shard, extra": ("rank-001.h5", "extra"),
}


#: By default every thing once, and links at every place.
CELLS = [
    pytest.param(
        thing,
        place,
        marks=() if place == "index" or thing == "external link" else pytest.mark.matrix,
        id=f"{thing}, {place}",
    )
    for thing in THINGS
    for place in PLACES
]


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("thing", "place"), CELLS)
def test_what_no_run_holds_is_refused_before_it_is_read(
    thing: str, place: str, copy: RunFolder, capfd: pytest.CaptureFixture[str]
) -> None:
    make, words = THINGS[thing]
    name, at = PLACES[place]
    with h5py.File(copy.path / name, "r+") as file:
        if at in file:
            del file[at]
        make(file, at, copy.path.parent)
    with pytest.raises(RunFolderError, match=words) as caught:
        open_run(copy.path).table("training", rank=1)
    assert str(copy.path / name) in str(caught.value)
    # Of two names of one thing the later is named.
    assert at.split("/")[0] in str(caught.value) or thing == "second name"
    code = main(["inspect", str(copy.path)])
    out, err = capfd.readouterr()
    if name == "run.h5":
        assert (code, out, len(err.splitlines())) == (2, "", 1)
    else:
        assert "rank 1: UNREADABLE" in out
    assert "another file of the reader" not in out + err


def link_elsewhere(path: Path, other: Path) -> None:
    path.symlink_to(other)


def link_inside(path: Path, _: Path) -> None:
    path.with_suffix(".moved").write_bytes(b"")
    path.symlink_to(path.with_suffix(".moved").name)


def pipe(path: Path, _: Path) -> None:
    os.mkfifo(path)


def unix_socket(path: Path, _: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        at = Path.cwd()
        os.chdir(path.parent)
        one.bind(path.name)
        os.chdir(at)


def folder(path: Path, _: Path) -> None:
    path.mkdir()


def sparse(path: Path, _: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 33)


IRREGULAR = [link_elsewhere, link_inside, pipe, unix_socket, folder]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("make", IRREGULAR)
@pytest.mark.parametrize("name", ["run.h5", "rank-001.h5"])
def test_hdf5_files_of_a_run_are_regular_files_in_it(
    name: str, make: Callable[[Path, Path], None], copy: RunFolder
) -> None:
    path = copy.path / name
    path.rename(copy.path.parent / name)
    make(path, copy.path.parent / name)
    with pytest.raises(RunFolderError, match=rf"{name}: this is no regular file"):
        open_run(copy.path).table("training", rank=1)
    if name != "run.h5":
        assert open_run(copy.path).missing_ranks == ()
        assert open_run(copy.path).changed_ranks == (1,)
        assert "rank 1: UNREADABLE (this is no regular file" in open_run(copy.path).summary()


@pytest.mark.timeout(60)
@pytest.mark.parametrize("make", IRREGULAR)
def test_files_read_as_a_whole_are_regular_files_too(
    make: Callable[[Path, Path], None], tmp_path: Path
) -> None:
    (tmp_path / "other").write_bytes(SECRET)
    inside = tmp_path / "run" / "delivery"
    inside.mkdir(parents=True)
    make(inside / "file", tmp_path / "other")
    with pytest.raises(RunFolderError, match="no regular file"):
        read_regular_file(inside / "file", within=tmp_path / "run")
    if make is not folder:
        with pytest.raises(RunFolderError, match="no regular file"):
            refuse_irregular_entries(tmp_path / "run")


@pytest.mark.parametrize(("depth", "name"), [(1500, "a"), (30, "n" * 200), (9, "a")])
def test_a_restart_refuses_folders_that_no_path_reaches(
    depth: int, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They once ended in a traceback: neither recursion nor a path goes so deep."""
    nest(tmp_path, depth, name)
    with pytest.raises(RunFolderError, match=r"nested too deeply .* Take out what"):
        refuse_irregular_entries(tmp_path)
    covered = tmp_path / "a" / "file"
    covered.parent.mkdir(exist_ok=True)
    covered.touch()
    found = list(_uncovered_names(tmp_path, {covered}))
    assert found == ["/".join([name] * 8) + "/"]
    clear(tmp_path, name)


def test_the_folders_of_a_run_are_not_nested_too_deeply(tmp_path: Path) -> None:
    nest(tmp_path, 8, "a")
    refuse_irregular_entries(tmp_path)


def test_a_folder_that_cannot_be_listed_is_named_whole(tmp_path: Path) -> None:
    root = tmp_path
    # A run that lies deep itself: what fits below it is less.
    while len(str(root)) < 3000:
        root = root / ("r" * 200)
    root.mkdir(parents=True)
    nest(root, 6, "n" * 200)
    assert [one[-2:] for one in _uncovered_names(root, set())] == ["n/"]
    with pytest.raises(RunFolderError, match="named too long"):
        refuse_irregular_entries(root)
    clear(root, "n" * 200)


def nest(folder: Path, depth: int, name: str) -> None:
    """Make ``depth`` folders within each other, by descriptor: a path could not name them."""
    at = os.open(folder, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir(name, dir_fd=at)
        below = os.open(name, os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    os.close(at)


def clear(folder: Path, name: str) -> None:
    """Remove what `nest` made: pytest itself cannot."""
    subprocess.run(["rm", "-rf", name], cwd=folder, check=True)


def test_folders_on_the_way_are_no_links(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "file").write_bytes(SECRET)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "delivery").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RunFolderError, match=r"run/delivery: this is no regular file"):
        read_regular_file(tmp_path / "run" / "delivery" / "file", within=tmp_path / "run")
    with pytest.raises(RunFolderError, match=r"run/delivery: this is no regular file"):
        refuse_irregular_entries(tmp_path / "run")
    # The reader's own way to the run may be a link.
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    assert read_regular_file(tmp_path / "link" / "file", within=tmp_path / "link") == SECRET
    with pytest.raises(FileNotFoundError, match="nothing"):
        open_regular_file(tmp_path / "run" / "nothing")


def test_a_file_of_holes_is_not_read(tmp_path: Path) -> None:
    sparse(tmp_path / "file", tmp_path)
    with pytest.raises(RunFolderError, match="nearly all of them never written"):
        read_regular_file(tmp_path / "file")
    with (tmp_path / "file").open("r+b") as file:
        file.seek(1 << 32)
        file.write(b"x" * 9000)
        assert 9000 <= stored_file_bytes(file.fileno()) < 1 << 20
    with pytest.raises(RunFolderError, match="nearly all of them never written"):
        read_regular_file(tmp_path / "file")


def test_a_file_above_its_limit_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"x" * 100)
    assert read_regular_file(tmp_path / "file", most=100) == b"x" * 100
    with pytest.raises(RunFolderError, match="the file has 100 bytes, at most 99 are read"):
        read_regular_file(tmp_path / "file", most=99)
    # All of it is stored: not taken for holes, however small what is free of charge.
    monkeypatch.setattr(regular_files, "FREE_BYTES", 10)
    assert read_regular_file(tmp_path / "file") == b"x" * 100


@pytest.mark.timeout(60)
def test_a_secret_that_is_a_pipe_does_not_hang(tmp_path: Path) -> None:
    private = PrivateFolder(tmp_path / "private")
    os.mkfifo(private.path / "master.key", 0o600)
    with pytest.raises(RunFolderError, match="no regular file"):
        private.read_secret("master.key")


def test_hosts_are_counted_before_anything_is_asked_of_each(copy: RunFolder) -> None:
    ranks = limits.MOST_RANKS + 1
    with h5py.File(copy.index, "r+") as file:
        del file["hosts"]
        file["hosts"] = np.full((ranks, 1), b"n", dtype="S1")
        file.attrs["num_ranks"] = ranks
    with pytest.raises(RunFolderError, match=r"run\.h5, /hosts: names 4097 ranks.*1 to 4096"):
        open_run(copy.path)
    with h5py.File(copy.index, "r+") as file:
        file.attrs["num_ranks"] = 2
    with pytest.raises(RunFolderError, match="num_ranks says 2"):
        open_run(copy.path)


def test_no_run_is_made_that_no_reader_would_open(tmp_path: Path) -> None:
    header = example.header(limits.MOST_RANKS + 1)
    tables = example.tables_by_rank(limits.MOST_RANKS + 1)
    with pytest.raises(UsageError, match="at most 4096 ranks"):
        create_index(tmp_path / "run.h5", header, tables=tables)
    assert not list(tmp_path.iterdir())


def test_names_and_attributes_are_counted(copy: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    with h5py.File(copy.index, "r+") as file:
        for number in range(1001):
            file.attrs[f"a{number}"] = 1
    with pytest.raises(RunFolderError, match="attributes; at most 1000 are read"):
        open_run(copy.path)
    monkeypatch.setattr(vetting, "MOST_LINKS", 30)
    with pytest.raises(RunFolderError, match="more than 30 names"):
        open_run(copy.path)


def long_text(file: Any) -> None:
    file.attrs["created"] = np.bytes_(b"x" * (limits.MOST_TEXT_BYTES + 1))


ATTRIBUTES: dict[str, tuple[Callable[[Any], None], str]] = {
    "long": (long_text, "text of 1048577 bytes"),
    "variable": (lambda file: file.attrs.create("created", "x"), "text of variable length"),
    "array": (lambda file: file.attrs.create("created", np.zeros(3)), "is no single value"),
    "huge": (lambda file: file.attrs.create("created", np.zeros(8000)), "is no single value"),
    "compound": (lambda file: file.attrs.create("created", np.zeros((), "i4,f8")), "a compound"),
    "reference": (
        lambda file: file.attrs.create("created", file.ref, dtype=h5py.ref_dtype),
        "references",
    ),
    "empty": (lambda file: file.attrs.create("created", h5py.Empty("f8")), "is no single value"),
    "not UTF-8": (lambda file: file.attrs.create("created", np.bytes_(b"\xff")), "not UTF-8"),
    "number": (lambda file: file.attrs.create("created", 7), "is 7; expected is a text"),
    "true": (lambda file: file.attrs.create("restarts", True), "expected is a whole number"),
}


@pytest.mark.parametrize("kind", ATTRIBUTES)
def test_attributes_are_looked_at_before_they_are_read(kind: str, copy: RunFolder) -> None:
    change, words = ATTRIBUTES[kind]
    with h5py.File(copy.index, "r+", track_order=None) as file:
        for name in ("created", "restarts"):
            value = file.attrs[name]
            del file.attrs[name]
            file.attrs[name] = value
        change(file)
    with pytest.raises(RunFolderError, match=rf"run\.h5, / \(attribute .*\): .*{words}"):
        open_run(copy.path)


@pytest.mark.parametrize("text", ["7", "{", '{"a": ', "{" + '"a":{' * 9999, "= 3", "\x01"])
def test_a_job_text_that_is_none_is_one_line(copy: RunFolder, text: str) -> None:
    with h5py.File(copy.index, "r+") as file:
        file.attrs["resolved_job"] = np.bytes_(text.encode())
    run = open_run(copy.path)
    with pytest.raises(RunFolderError, match=r"resolved_job\): the resolved job is none"):
        assert run.job


def test_findings_of_attacks_go_the_same_way(tmp_path: Path) -> None:
    record = AttackRecord({"run_id": "x"}, [], {("a", "b", 1, "c"): np.zeros(3)})
    path = tmp_path / "attacks.h5"
    for name, words in (("arrays/a/b/1/c", "link"), ("arrays/a/b/one", "no number of a seed")):
        write_attack_record(path, record)
        with h5py.File(path, "r+") as file:
            if name in file:
                del file[name]
                file[name] = h5py.ExternalLink("other.h5", "/x")
            else:
                file.create_group(name)
        with pytest.raises(RunFolderError, match=words):
            read_attack_record(path)
        with pytest.raises(RunFolderError, match=words):
            unpack_attack_record(path.read_bytes(), where="findings of rank 1")
    with pytest.raises(RunFolderError, match="findings of rank 1"):
        unpack_attack_record(b"nothing", where="findings of rank 1")
