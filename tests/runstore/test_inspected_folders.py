"""What `clicooper inspect` says of a folder: a command safe to paste, and no rank for another."""

from __future__ import annotations

import ast
import re
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
