"""The file SAVED: believed only of its own run, with a checkpoint, and as a plain file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from clicooper_hpc.errors import EnvironmentUnfitError
from clicooper_hpc.runstore.checkpoints import commit_checkpoint
from clicooper_hpc.runstore.run_folder import RunFolder
from clicooper_hpc.runstore.saved_marker import mark_saved, read_saved_step, unmark_saved

RUN_ID = "a" * 32


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """A run whose ranks have all saved after 12 steps."""
    commit_checkpoint(tmp_path, run_id=RUN_ID, step=12, files={}, keep=1)
    mark_saved(RunFolder(tmp_path), RUN_ID, 12)
    return RunFolder(tmp_path)


def test_it_is_there_until_it_is_taken_back(folder: RunFolder) -> None:
    assert read_saved_step(folder, RUN_ID) == 12
    unmark_saved(folder)
    assert read_saved_step(folder, RUN_ID) is None
    unmark_saved(folder)


def test_it_speaks_of_one_run(folder: RunFolder) -> None:
    assert read_saved_step(folder, "b" * 32) is None


def test_it_is_not_believed_without_the_checkpoint(folder: RunFolder) -> None:
    mark_saved(folder, RUN_ID, 13)
    assert read_saved_step(folder, RUN_ID) is None


@pytest.mark.parametrize(
    "content",
    ["", RUN_ID, f"{RUN_ID} -12", f"{RUN_ID} 12 12", f"{RUN_ID} \u0661\u0662", "\0" * 999],
)
def test_other_content_says_nothing(folder: RunFolder, content: str) -> None:
    (folder.path / "SAVED").write_text(content, encoding="utf-8")
    assert read_saved_step(folder, RUN_ID) is None


def test_what_is_no_plain_file_is_not_opened(folder: RunFolder) -> None:
    marker = folder.path / "SAVED"
    marker.rename(folder.path / "elsewhere")
    marker.symlink_to(folder.path / "elsewhere")
    assert read_saved_step(folder, RUN_ID) is None
    marker.unlink()
    os.mkfifo(marker)
    assert read_saved_step(folder, RUN_ID) is None


def test_a_folder_in_its_place_is_named(folder: RunFolder) -> None:
    marker = folder.path / "SAVED"
    marker.unlink()
    marker.mkdir()
    with pytest.raises(EnvironmentUnfitError, match="SAVED: cannot be removed"):
        unmark_saved(folder)
    with pytest.raises(EnvironmentUnfitError, match="SAVED: cannot be written"):
        mark_saved(folder, RUN_ID, 12)
