"""Receipts are there before the first row leaves, and without them nothing leaves again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from start import SMALL

from clicooper_hpc.config.load_job import load_job
from clicooper_hpc.errors import RunFolderError
from clicooper_hpc.owner.release_setup import ReleaseSetup, set_up_release
from clicooper_hpc.privacy.master_key import MasterKey
from clicooper_hpc.runstore.private_folder import PrivateFolder

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
