"""Trying out folders and HDF5 leaves nothing behind, and finds what is not there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from clicooper_hpc.runstore.folder_probe import (
    nearest_probe_folder,
    probe_file_system,
    probe_folder,
)
from clicooper_hpc.runstore.hdf5.probe import probe_hdf5
from clicooper_hpc.transport.launcher import without_launcher

MOUNTS = """\
/dev/root / ext4 rw 0 0
srv:/home /home nfs4 rw 0 0
tmpfs /home/ada/my\\040runs tmpfs rw 0 0
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "ext4"),
        ("/homely", "ext4"),
        ("/home", "nfs4"),
        ("/home/ada/x", "nfs4"),
        ("/home/ada/my runs/a", "tmpfs"),
    ],
)
def test_the_file_system_of_a_path(path: str, kind: str) -> None:
    assert probe_file_system(path, MOUNTS) == kind


def test_a_good_folder_passes_and_is_left_as_it_was(tmp_path: Path) -> None:
    folder = probe_folder(tmp_path)
    assert (folder.writing, folder.renaming, folder.syncing) == ("", "", "")
    assert folder.keeps_rights
    assert folder.free_bytes > 0
    hdf5 = probe_hdf5(tmp_path)
    assert (hdf5.missing, hdf5.trial) == ((), "")
    assert list(tmp_path.iterdir()) == []


def test_rights_are_judged_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        assert probe_folder(tmp_path).keeps_rights
    finally:
        os.umask(before)


def test_a_run_folder_that_is_not_there_yet_is_tried_where_it_will_be_made(tmp_path: Path) -> None:
    assert nearest_probe_folder(tmp_path / "runs" / "new") == tmp_path
    (tmp_path / "file").write_text("x")
    assert nearest_probe_folder(tmp_path / "file") == tmp_path


def test_a_folder_nobody_may_write_to(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        assert probe_folder(Path("/proc")).writing != ""
    else:
        tmp_path.chmod(0o500)
        assert probe_folder(tmp_path).writing == "Permission denied"


def _tmpfs(where: Path, options: str) -> None:
    if shutil.which("mount") is None:
        pytest.skip("no mount")
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(where)],
        capture_output=True,
        timeout=20,
        check=False,
    )
    if done.returncode != 0:
        pytest.skip("only root mounts file systems")


def test_a_full_file_system(tmp_path: Path) -> None:
    _tmpfs(tmp_path, "size=64k")
    try:
        assert probe_folder(tmp_path).kind == "tmpfs"
        (tmp_path / "filler").write_bytes(bytes(32 * 1024))
        assert probe_folder(tmp_path).writing == "No space left on device"
        assert [path.name for path in tmp_path.iterdir()] == ["filler"]
    finally:
        subprocess.run(["umount", str(tmp_path)], timeout=20, check=True)


def test_children_are_no_ranks() -> None:
    env = {"PMI_RANK": "1", "OMPI_COMM_WORLD_SIZE": "4", "SLURM_STEP_ID": "0", "PATH": "/bin"}
    assert without_launcher({**env, "OMPI_ALLOW_RUN_AS_ROOT": "1"}) == {
        "PATH": "/bin",
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
    }


def test_finding_the_library_does_not_start_it() -> None:
    code = (
        "import sys; from clicooper_hpc.transport.mpi_library import find_mpi_library; "
        "print(find_mpi_library()); print(sys.modules['mpi4py.MPI'].Is_initialized())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    name, started = done.stdout.splitlines()
    assert name
    assert started == "False"
