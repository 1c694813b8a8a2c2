"""Receipts are there before the first row leaves, and without them nothing leaves again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from start import SMALL

from clicooper_hpc.config.load import load_job
from clicooper_hpc.errors import RunFolderError
from clicooper_hpc.owner.setup import Preparation, prepare
from clicooper_hpc.privacy.keys import MasterKey
from clicooper_hpc.runstore.private import PrivateFolder

KEY, RECEIPTS = "master.key", "receipts-train.bin"


@pytest.fixture
def private(tmp_path: Path) -> PrivateFolder:
    (tmp_path / "job.toml").write_text(SMALL)
    return PrivateFolder(tmp_path / "private")


def prepared(private: PrivateFolder) -> Preparation:
    """Prepare the owner of the run that keeps its secrets in ``private``."""
    return prepare(load_job(private.path.parent / "job.toml"), private)


def test_empty_receipts_are_stored_before_sub_labels_leave(private: PrivateFolder) -> None:
    owner = prepared(private)
    assert RECEIPTS not in private
    owner.desk.authorise_labels()
    assert RECEIPTS in private


def test_a_run_killed_before_it_saved_refuses_another_key(private: PrivateFolder) -> None:
    prepared(private).desk.rows("train", np.arange(4))
    private.write(KEY, MasterKey.generate().to_private_bytes())
    with pytest.raises(RunFolderError, match=r"receipts-train\.bin.*not the release receipts"):
        prepared(private)


def test_a_released_split_without_its_receipts_is_refused(private: PrivateFolder) -> None:
    owner = prepared(private)
    owner.desk.rows("train", np.arange(4))
    owner.desk.keep_receipts()
    (private.path / RECEIPTS).unlink()
    with pytest.raises(RunFolderError, match="receipts of split 'train' are missing"):
        prepared(private)
