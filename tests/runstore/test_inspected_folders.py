"""What `clicooper inspect` says of a folder: a command safe to paste, and no rank for another."""

from __future__ import annotations

import ast
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from runstore_example import finished_run

from clicooper_hpc.commands.inspect import inspect_text
from clicooper_hpc.errors import RunFolderError
from clicooper_hpc.printable import printable_lines
from clicooper_hpc.runstore.reader import open_run


@pytest.mark.parametrize(
    "name",
    ["demo", "x$(touch PWNED)'", "a b\"c'`touch PWNED`", "back\\slash", "new\nline", "\udcff"],
)
def test_the_command_to_open_a_run_can_be_pasted(name: str, tmp_path: Path) -> None:
    folder = finished_run(tmp_path / name)
    shown = printable_lines(inspect_text(folder.path)[0])
    command = shown.splitlines()[-1].removeprefix("open it: ")
    assert command.startswith("python -c ")
    done = subprocess.run(
        ["sh", "-c", f'python() {{ printf %s "$2"; }}\n{command}'],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    literal = re.search(r"open_run\((.*)\); print", done.stdout)
    assert literal is not None
    assert ast.literal_eval(literal[1]) == str(folder.path)
    ast.parse(done.stdout)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("place", "typed"),
    [
        ("run", "."),
        ("", "run"),
        ("run", "../renamed"),
        ("", "copy.h5"),
        ("run", "../copy.h5"),
        ("", "apart/rank-000.h5"),
        ("apart", "rank-001.h5"),
    ],
)
def test_the_command_to_open_a_run_works_where_the_user_stands(
    place: str,
    typed: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = finished_run(tmp_path / "run")
    (tmp_path / "renamed").symlink_to(folder.path)
    shutil.copy(folder.index, tmp_path / "copy.h5")
    (tmp_path / "apart").mkdir()
    for rank in (0, 1):
        shutil.copy(folder.shard(rank), tmp_path / "apart")
    monkeypatch.chdir(tmp_path / place)
    text = inspect_text(Path(typed))[0]
    *_, file, command = text.splitlines()
    assert Path(file.removeprefix("HDF5: ")).is_file()
    exec(shlex.split(command.removeprefix("open it: "))[-1], {})  # noqa: S102
    assert "step" in capsys.readouterr().out


def test_runs_have_names_however_they_are_reached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = finished_run(tmp_path / "mine")
    shutil.copy(folder.index, tmp_path / "copy.h5")
    monkeypatch.chdir(folder.path)
    text = inspect_text(Path(), beside=[Path("../copy.h5")])[0]
    assert any(line.split() == ["mine", "copy.h5"] for line in text.splitlines())


def test_shards_with_exchanged_names_are_not_shown_as_each_others(tmp_path: Path) -> None:
    folder = finished_run(tmp_path / "run")
    first, second = folder.shard(1), folder.shard(2)
    aside = first.rename(tmp_path / "aside")
    second.rename(first)
    aside.rename(second)
    run = open_run(folder.path)
    for rank in (1, 2):
        assert f"rank {rank}: UNREADABLE (the shard is that of another rank)" in run.summary()
        with pytest.raises(RunFolderError, match=f"rank-00{rank}.h5: the shard is that of another"):
            run.stored_rows(rank)
