from __future__ import annotations

import json
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from clicooper_hpc.errors import EnvironmentUnfitError, RunFolderError
from clicooper_hpc.privacy.privacy_ledger import SUM_KINDS
from clicooper_hpc.runstore.atomic_files import replace_atomically
from clicooper_hpc.runstore.private_folder import PrivateFolder
from clicooper_hpc.runstore.reader import open_run
from clicooper_hpc.runstore.run_folder import (
    UNSEEN_KINDS,
    RunFolder,
    create_run_folder,
    remove_unstarted_folder,
)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(params=[0o000, 0o022, 0o777])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def test_a_fresh_or_empty_folder_becomes_a_run_folder(tmp_path: Path) -> None:
    folder = create_run_folder(tmp_path / "runs" / "first")
    assert folder.index == tmp_path / "runs" / "first" / "run.h5"
    assert folder.shard(12).name == "rank-012.h5"
    assert folder.delivery.is_dir()
    assert [item.name for item in folder.path.iterdir()] == ["delivery"]
    (tmp_path / "empty").mkdir()
    assert create_run_folder(str(tmp_path / "empty")).path == tmp_path / "empty"


def test_a_run_is_never_overwritten(tmp_path: Path) -> None:
    create_run_folder(tmp_path / "run")
    with pytest.raises(RunFolderError, match=r"holds files already.*-o"):
        create_run_folder(tmp_path / "run")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(RunFolderError, match="is a file"):
        create_run_folder(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_place_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(EnvironmentUnfitError, match="file/run: the run folder cannot be written"):
        create_run_folder(tmp_path / "file" / "run")


def test_of_many_jobs_one_gets_the_folder(tmp_path: Path) -> None:
    outcomes: list[object] = []
    gate = threading.Barrier(8)

    def try_it() -> None:
        gate.wait()
        try:
            outcomes.append(create_run_folder(tmp_path / "run"))
        except RunFolderError as error:
            outcomes.append(error)

    threads = [threading.Thread(target=try_it) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) == 8
    assert sum(isinstance(outcome, RunFolder) for outcome in outcomes) == 1


def test_secrets_are_the_owners_alone_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    folder = PrivateFolder(tmp_path / "private")
    place = folder.write_secret("noise.key", b"\x00secret")
    folder.write_secret("noise.key", b"\x01secret")
    assert mode(folder.path) == 0o700
    assert mode(place) == 0o600
    assert folder.read_secret("noise.key") == b"\x01secret"
    assert "noise.key" in folder
    assert "other" not in folder
    assert PrivateFolder(tmp_path / "private").read_secret("noise.key") == b"\x01secret"
    assert [item.name for item in folder.path.iterdir()] == ["noise.key"]


@pytest.mark.parametrize("bits", [0o040, 0o020, 0o010, 0o004, 0o002, 0o001])
def test_an_open_folder_or_file_is_refused_with_the_command_that_mends_it(
    tmp_path: Path, bits: int
) -> None:
    folder = PrivateFolder(tmp_path / "private")
    place = folder.write_secret("key", b"secret")
    place.chmod(0o600 | bits)
    with pytest.raises(EnvironmentUnfitError, match=f"chmod 600 {place}"):
        folder.read_secret("key")
    folder.path.chmod(0o700 | bits)
    with pytest.raises(EnvironmentUnfitError, match=f"chmod 700 {folder.path}"):
        PrivateFolder(folder.path)


def test_a_link_is_no_place_for_secrets(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "private").symlink_to(tmp_path / "real")
    with pytest.raises(EnvironmentUnfitError, match="not be a link"):
        PrivateFolder(tmp_path / "private")


def test_a_missing_secret_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match=r"private/key.*No such file"):
        PrivateFolder(tmp_path / "private").read_secret("key")
    for name in ("", "..", "a/b", "a\0b"):
        with pytest.raises(ValueError, match="plain file name"):
            PrivateFolder(tmp_path / "private").write_secret(name, b"")


def test_a_replaced_file_is_the_old_or_the_new_never_a_part(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail_half_way() -> None:
        with replace_atomically(path) as aside:
            aside.write_bytes(b"ne")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail_half_way()
    assert path.read_bytes() == b"old"
    # A part left by a killed process does not hinder the next one.
    (tmp_path / "file.part").write_bytes(b"left by a kill")
    with replace_atomically(path) as aside:
        aside.write_bytes(b"new")
    assert path.read_bytes() == b"new"
    assert [item.name for item in tmp_path.iterdir()] == ["file"]


def unbegun(path: Path, *names: str) -> Path:
    """Make what a start leaves that is killed before anything has left its owner."""
    for folder in ("delivery", "private"):
        (path / folder).mkdir(parents=True)
    for name in ("private/master.key", ".lock", *names):
        (path / name).touch()
    return path


@pytest.mark.parametrize("name", ["STOP", "run.h5.part"])
def test_a_start_killed_early_is_cleared_whatever_it_was_at(tmp_path: Path, name: str) -> None:
    path = unbegun(tmp_path / "run", name)
    remove_unstarted_folder(path)
    assert not path.exists()


@pytest.mark.parametrize("name", ["private/ledger.json", "delivery/segment-001.safetensors"])
def test_keys_of_rows_that_may_have_left_are_never_cleared(tmp_path: Path, name: str) -> None:
    """Without ``run.h5``, lost or moved away, the key was removed and rows left a second time."""
    path = unbegun(tmp_path / "run", name)
    remove_unstarted_folder(path)
    assert (path / "private" / "master.key").exists()


def test_sums_that_nobody_saw_are_cleared_and_nothing_else_that_was_paid_for(
    tmp_path: Path,
) -> None:
    assert frozenset(SUM_KINDS) == UNSEEN_KINDS
    for number, (kinds, cleared) in enumerate(
        [
            (["moments"], True),
            (["moments", "gradients", "gradients"], True),
            (["moments", "labels"], False),
            (["front-training"], False),
            ([], False),
        ]
    ):
        path = unbegun(tmp_path / f"run-{number}")
        stored = json.dumps({"entries": [{"kind": kind} for kind in kinds]})
        (path / "private" / "ledger.json").write_text(stored)
        remove_unstarted_folder(path)
        assert path.exists() != cleared, kinds


def test_a_folder_without_a_run_says_why(tmp_path: Path) -> None:
    path = unbegun(tmp_path / "run")
    with pytest.raises(RunFolderError, match="has not begun: it is starting, or was killed") as no:
        open_run(path)
    assert f"clicooper run JOB -o {path} --resume" in (no.value.remedy or "")
    (tmp_path / "file").touch()
    with pytest.raises(RunFolderError, match="the file is damaged or not HDF5"):
        open_run(tmp_path / "file")
    # Whatever else is there may have left: such a folder is not said to be unstarted.
    (path / "rank-001.h5").touch()
    (tmp_path / "empty").mkdir()
    for other in (path, tmp_path / "empty"):
        with pytest.raises(RunFolderError, match="the file is missing"):
            open_run(other)
    for other in (tmp_path / "none", tmp_path / "none" / "run.h5"):
        with pytest.raises(RunFolderError, match=r"none: there is no such folder"):
            open_run(other)


@pytest.mark.parametrize("stored", ["", "[]", "{}", '{"entries": [3]}', '{"entries": {"kind": 1}}'])
def test_a_ledger_that_cannot_be_read_is_never_cleared(tmp_path: Path, stored: str) -> None:
    path = unbegun(tmp_path / "run")
    (path / "private" / "ledger.json").write_text(stored)
    remove_unstarted_folder(path)
    assert path.exists()
