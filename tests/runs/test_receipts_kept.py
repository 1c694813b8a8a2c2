"""Receipts are there before the first row leaves, and without them nothing leaves again."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from runstore_example import finished_run, start_run
from start import SMALL

from clicooper_hpc.config.load_job import load_job
from clicooper_hpc.errors import EnvironmentUnfitError, RunFolderError
from clicooper_hpc.owner.release_setup import ReleaseSetup, set_up_release
from clicooper_hpc.privacy.master_key import MasterKey
from clicooper_hpc.privacy.privacy_ledger import PrivacyLedger
from clicooper_hpc.runstore.private_folder import PrivateFolder
from clicooper_hpc.runstore.run_folder import LEDGER_FILE

KEY, RECEIPTS = "master.key", "receipts-train.bin"


@pytest.fixture
def private(tmp_path: Path) -> PrivateFolder:
    (tmp_path / "job.toml").write_text(SMALL)
    return PrivateFolder(tmp_path / "private")


def prepared(private: PrivateFolder) -> ReleaseSetup:
    """Prepare the owner of the run that keeps its secrets in ``private``."""
    return set_up_release(load_job(private.path.parent / "job.toml"), private)


def test_empty_receipts_are_stored_before_sub_labels_leave(private: PrivateFolder) -> None:
    owner = prepared(private)
    assert RECEIPTS not in private
    owner.gate.release_sub_labels()
    assert RECEIPTS in private


def test_a_run_killed_before_it_saved_refuses_another_key(private: PrivateFolder) -> None:
    prepared(private).gate.release("train", np.arange(4))
    private.write_secret(KEY, MasterKey.generate().to_private_bytes())
    with pytest.raises(RunFolderError, match=r"receipts-train\.bin.*not the release receipts"):
        prepared(private)


def test_a_released_split_without_its_receipts_is_refused(private: PrivateFolder) -> None:
    owner = prepared(private)
    owner.gate.release("train", np.arange(4))
    owner.gate.keep_receipts()
    (private.path / RECEIPTS).unlink()
    with pytest.raises(RunFolderError, match="receipts of split 'train' are missing"):
        prepared(private)


def test_receipts_of_samples_that_the_ledger_does_not_know_are_refused(
    private: PrivateFolder,
) -> None:
    owner = prepared(private)
    owner.gate.release("train", np.arange(4))
    owner.gate.keep_receipts()
    (private.path / LEDGER_FILE).unlink()
    with pytest.raises(
        RunFolderError, match=r"ledger\.json.*receipts-train\.bin has receipts of 4"
    ):
        prepared(private)
    private.write_secret(LEDGER_FILE, json.dumps(PrivacyLedger(None).to_dict()).encode())
    with pytest.raises(RunFolderError, match="missing or empty"):
        prepared(private)


def test_a_start_killed_between_receipts_and_ledger_begins_again(private: PrivateFolder) -> None:
    prepared(private).gate.release_sub_labels()
    (private.path / LEDGER_FILE).unlink()
    prepared(private).gate.release_sub_labels()
    assert LEDGER_FILE in private


@pytest.mark.parametrize("trace", ["checkpoints", "delivery", "run.h5"])
def test_without_ledger_and_receipts_the_run_folder_shows_a_release(
    private: PrivateFolder, trace: str
) -> None:
    if trace == "run.h5":
        finished_run(private.path.parent / "other")
        for path in (private.path.parent / "other").glob("*.h5"):
            path.rename(private.path.parent / path.name)
    else:
        (private.path.parent / trace / "step-00000004").mkdir(parents=True)
    before = sorted(private.path.iterdir())
    with pytest.raises(RunFolderError, match=rf"although samples have left \({trace}"):
        prepared(private)
    assert sorted(private.path.iterdir()) == before


def test_a_run_whose_files_have_no_rows_yet_begins_again(private: PrivateFolder) -> None:
    folder, writers = start_run(private.path.parent / "other")
    for writer in writers:
        writer.close()
    for path in folder.path.glob("*.h5"):
        path.rename(private.path.parent / path.name)
    prepared(private).gate.release_sub_labels()
    assert LEDGER_FILE in private


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir, lambda path: path.symlink_to("/nowhere")])
def test_a_ledger_that_is_no_file_is_not_made_anew(
    private: PrivateFolder, make: Callable[[Path], None]
) -> None:
    make(private.path / LEDGER_FILE)
    (private.path / LEDGER_FILE).lstat()
    with pytest.raises((RunFolderError, EnvironmentUnfitError), match=r"ledger\.json"):
        prepared(private)
    assert [path.name for path in private.path.iterdir()] == [LEDGER_FILE]
