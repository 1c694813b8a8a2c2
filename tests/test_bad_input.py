"""Every kind of bad input: one clear line that names thing, place and remedy, and exit code 2 or 5.

Kinds met by `run` on all ranks are in tests/runs; this table needs no MPI.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import runstore_example as example

from clicooper_hpc.cli import main
from clicooper_hpc.errors import DataError, UsageError
from clicooper_hpc.verification.marks.opening import read_mark_opening
from clicooper_hpc.verification.marks.search import load_search_tensors
from clicooper_hpc.verification.report_forms import read_public_key

DATA = '[data]\npath = "{path}"\n'


@dataclass(frozen=True)
class Case:
    """What is made in an empty folder, the arguments given, and words the one line must have."""

    make: Callable[[Path], None]
    arguments: tuple[str, ...]
    words: tuple[str, ...]
    code: int = 2


def job(text: str, *, path: str = "digits") -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        (folder / "job.toml").write_text(DATA.format(path=path) + text)

    return make


def with_data(text: str, write: Callable[[h5py.File], None]) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        with h5py.File(folder / "set.h5", "w") as file:
            write(file)
        job(text, path="set.h5")(folder)

    return make


def good_set(file: h5py.File, *, labels: int = 3, rows: int = 30) -> None:
    file.attrs["class_names"] = np.array([f"c{i}" for i in range(labels)], dtype="S8")
    for split in ("train", "test"):
        file[f"{split}/x"] = np.zeros((rows, 6), dtype=np.float32)
        file[f"{split}/y"] = np.arange(rows, dtype=np.int64) % labels


def short_labels(file: h5py.File) -> None:
    good_set(file)
    del file["train/y"]
    file["train/y"] = np.zeros(29, dtype=np.int64)


def label_out_of_range(file: h5py.File) -> None:
    good_set(file)
    file["train/y"][7] = 3


def no_test(file: h5py.File) -> None:
    good_set(file)
    del file["test"]


def text_file(name: str, content: bytes) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        (folder / name).write_bytes(content)

    return make


def loop(folder: Path) -> None:
    (folder / "loop").symlink_to("loop")


def looped_data(folder: Path) -> None:
    loop(folder)
    job("", path="loop")(folder)


def runs_of_a_sweep(folder: Path) -> None:
    for seed in range(5):
        (folder / "all" / f"seed-{seed}").mkdir(parents=True)
        (folder / "all" / f"seed-{seed}" / "run.h5").touch()


def key_files(folder: Path) -> None:
    example.finished_run(folder / "run")
    (folder / "job.pem").write_text("[data]\n")


PLAN = ("plan", "job.toml", "--ranks", "3")
CASES: dict[str, Case] = {
    "no job file": Case(lambda f: None, PLAN, ("job.toml", "no such job file", "clicooper init")),
    "job is not TOML": Case(text_file("job.toml", b"[data\n"), PLAN, ("not valid TOML",)),
    "job is not text": Case(text_file("job.toml", b"\xff\xfe\x00"), PLAN, ("cannot be read",)),
    "unknown key": Case(job("[training]\nepoch = 1\n"), PLAN, (":4", "training.epoch", "epochs")),
    "value out of range": Case(job("[privacy]\nepsilon = -1\n"), PLAN, ("privacy.epsilon", "-1")),
    "bad --set": Case(job(""), (*PLAN, "--set", "epochs=3"), ("--set", "section.key=value")),
    "wrong rank count": Case(
        job("[pipeline]\nsegments = 3\n"), PLAN, ("--ranks", "needs 4 ranks", "Give 4")
    ),
    "fewer micro-batches than segments": Case(
        job("[pipeline]\nmicro_batches = 1\n"), PLAN, ("1 micro-batches", "2 segments")
    ),
    "more segments than layers": Case(
        job("[model]\noptions = { widths = [8] }\n"),
        ("plan", "job.toml", "--ranks", "9"),
        ("5 layers", "8 trainers"),
    ),
    "cut outside the network": Case(job("[pipeline]\npartition = [99]\n"), PLAN, ("99",)),
    "unknown network": Case(job('[model]\nname = "mpl"\n'), PLAN, ("'mpl'", "'mlp'")),
    "unknown network option": Case(
        job("[model]\noptions = { width = [8] }\n"), PLAN, ("width", "widths")
    ),
    "own network cannot be imported": Case(
        job('[model]\nname = "nowhere:net"\n'), PLAN, ("nowhere",)
    ),
    "convnet on vectors": Case(
        job('[front]\nkind = "dct"\ndim = 8\n[model]\nname = "vgg"\n'), PLAN, ("vgg",)
    ),
    "no data file": Case(job("", path="no.h5"), PLAN, ("no.h5", "no such file")),
    "data is not HDF5": Case(
        lambda f: (text_file("set.h5", b"x" * 99)(f), job("", path="set.h5")(f))[0],
        PLAN,
        ("set.h5",),
    ),
    "rows and labels differ in number": Case(
        with_data("", short_labels), PLAN, ("set.h5", "train", "29")
    ),
    "label out of range": Case(with_data("", label_out_of_range), PLAN, ("set.h5", "train/y", "7")),
    "no test split": Case(with_data("", no_test), PLAN, ("set.h5", "'test'")),
    "validation eats the training set": Case(
        with_data("", good_set),
        (*PLAN, "--set", "data.validation_rows=30"),
        ("validation_rows = 30",),
    ),
    "front weights missing": Case(
        job('[front]\nkind = "weights"\nweights = "w.safetensors"\n'), PLAN, ("w.safetensors",)
    ),
    "front weights damaged": Case(
        lambda f: (
            text_file("w.safetensors", b"\x08\x00\x00\x00\x00\x00\x00\x00{}")(f),
            job('[front]\nkind = "weights"\nweights = "w.safetensors"\n')(f),
        )[0],
        PLAN,
        ("w.safetensors",),
    ),
    "import of an unknown kind": Case(
        lambda f: None, ("data", "import", "cifar11", "a", "b.h5"), ("cifar11", "cifar10")
    ),
    "import from nowhere": Case(
        lambda f: None, ("data", "import", "npz", "a.npz", "b.h5"), ("a.npz",)
    ),
    "inspect of nothing": Case(lambda f: None, ("inspect", "runs/none"), ("runs/none",)),
    "inspect of a damaged run": Case(
        text_file("run.h5", b"\x89HDF but no more"), ("inspect", "."), ("run.h5",)
    ),
    "plan of a pipe": Case(lambda f: os.mkfifo(f / "job.toml"), PLAN, ("job.toml", "is a pipe")),
    "plan of a circle of links": Case(loop, ("plan", "loop", "--ranks", "3"), ("loop", "links")),
    "data behind a circle of links": Case(looped_data, PLAN, ("loop", "leads nowhere")),
    **{
        f"{name} of {what}": Case(make, (*words, place), (place, said))
        for what, make, place, said in (
            ("a circle of links", loop, "loop", "symbolic links"),
            ("a name that is too long", lambda f: None, "n" * 300, "name too long"),
        )
        for name, words in {
            "inspect": ("inspect",),
            "verify": ("verify",),
            "audit": ("audit", "--sample", "1"),
            "attacks": ("attack", "--list"),
            "open-mark": ("keys", "open-mark", "--segment", "1", "--stage", "0", "-o", "key"),
        }.items()
    },
    "plan of a folder": Case(
        lambda f: None, ("plan", "."), (".", "is a folder, not a job file", "clicooper init")
    ),
    "init where nothing can be made": Case(
        lambda f: None, ("init", "/proc"), ("/proc", "cannot be written", "Name a folder"), 5
    ),
    "sweep where nothing can be made": Case(
        job("[pipeline]\nsegments = 1\n"),
        ("sweep", "job.toml", "-o", "/proc/all", "--seeds", "2"),
        ("/proc/all", "cannot be written", "Give -o a folder"),
        5,
    ),
    "sweep with a wrong number of ranks": Case(
        job("[pipeline]\nsegments = 3\n"),
        ("sweep", "job.toml", "-o", "all", "--seeds", "2", "--ranks", "7"),
        ("--ranks", "needs 4 ranks", "not 7. Give 4"),
    ),
    **{
        f"folder of runs for {words[0]}": Case(
            runs_of_a_sweep,
            (*words, "all"),
            ("all: is no run but a folder of 5 runs", "all/seed-0, all/seed-1", "all/seed-3, ..."),
        )
        for words in (
            ("inspect",),
            ("watch", "--once"),
            ("report",),
            ("verify",),
            ("export", "--to", "csv", "-o", "out"),
            ("audit", "--sample", "1"),
            ("attack", "--list"),
        )
    },
    **{
        f"{name} as owner's key": Case(
            key_files, ("verify", "run", "--owner-key", name), (f"--owner-key {name}: ", said)
        )
        for name, said in (
            ("none.pem", "there is no such file"),
            ("job.pem", "is no public key"),
            ("run", "is a folder"),
            ("abcd", "4 hexadecimal digits, not 64"),
        )
    },
    "init over a job": Case(job(""), ("init", "."), ("job.toml", "already exists")),
}


@pytest.mark.parametrize("name", CASES)
def test_bad_input_gives_one_line_and_its_exit_code(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    case = CASES[name]
    monkeypatch.chdir(tmp_path)
    case.make(tmp_path)
    before = sorted(path.name for path in tmp_path.iterdir())
    assert main(case.arguments) == case.code
    out, err = capfd.readouterr()
    assert out == ""
    # What is being loaded is said before anything is looked at.
    lines = [line for line in err.splitlines() if line and not line.endswith(": loading libraries")]
    assert len(lines) == 1
    assert lines[0].startswith("clicooper: ")
    for word in case.words:
        assert word in lines[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == before, "left something behind"


def test_a_run_of_another_user_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "runs" / "theirs").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    opened = os.open

    def refused(path: Any, *arguments: Any, **options: Any) -> int:
        # Only there: pytest opens files of its own meanwhile.
        if "theirs" not in str(path):
            return opened(path, *arguments, **options)
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(os, "open", refused)
    assert main(["inspect", "runs/theirs"]) == 5
    assert "runs/theirs: permission denied. Run as" in capfd.readouterr().err


def test_a_key_that_is_a_circle_of_links_is_one_line(tmp_path: Path) -> None:
    loop(tmp_path)
    with pytest.raises(UsageError, match="the mark key cannot be read"):
        read_mark_opening(tmp_path / "loop")
    with pytest.raises(UsageError, match="no public key"):
        read_public_key(str(tmp_path / "loop"))
    with pytest.raises(DataError, match="no regular file"):
        load_search_tensors(tmp_path / "loop")


def test_what_any_file_operation_says_of_a_path_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def list_files(path: Path, *, as_json: bool) -> str:
        return str(list((path.parent / ("n" * 300)).iterdir()))

    monkeypatch.setattr("clicooper_hpc.attacks.harness.run.list_attacks", list_files)
    assert main(["attack", "runs", "--list"]) == 2
    assert "no file can be there (File name too long)" in capfd.readouterr().err
