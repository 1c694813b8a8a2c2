"""What a job text names is read or imported only once the owner's key and notes vouch for it."""

from __future__ import annotations

import json
import logging
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from restarts import resume
from start import SMALL, train

from clicooper_hpc.cli import main
from clicooper_hpc.digests import digest_bytes
from clicooper_hpc.errors import ClicooperError, EvidenceError, ExitCode, RunFolderError
from clicooper_hpc.provenance.identity import Identity
from clicooper_hpc.run.restart_check import job_to_restart
from clicooper_hpc.run.vouching import JOB_DIGEST, PUBLIC_KEY, vouched_job
from clicooper_hpc.runstore.reader import Run, open_run

pytestmark = [pytest.mark.mpi, pytest.mark.usefixtures("one_thread")]

JOB = SMALL.replace("widths = [16, 16]", "widths = [32]").replace("record_wire = true", "")
#: Imported, it leaves a file behind.
PLANTED = """
from pathlib import Path
from torch import nn
Path("imported").touch()
def make(*_, **__):
    return nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 20))
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(tmp_path_factory.mktemp("whole"), 2, text=JOB)


@pytest.fixture
def copy(whole: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that says it did not reach its end, in a folder with a module that tells its import."""
    place = tmp_path / "run"
    shutil.copytree(whole.folder.path, place)
    with h5py.File(place / "run.h5", "r+") as file:
        file.attrs["status"] = np.bytes_(b"incomplete")
    (tmp_path / "planted.py").write_text(PLANTED)
    (place / "private" / "job-folder").write_text(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    return place


def plant(run: Path) -> str:
    """Have the job text name the module; return the digest of the new text."""
    with h5py.File(run / "run.h5", "r+") as file:
        job = json.loads(file.attrs["resolved_job"].decode())
        job["model"] = {"name": "planted:make", "options": {}}
        text = json.dumps(job, sort_keys=True, separators=(",", ":"))
        file.attrs["resolved_job"] = np.bytes_(text.encode())
    return digest_bytes("clicooper/v1/job", text.encode()).hex


def text_alone(run: Path) -> None:
    plant(run)


def text_and_digest(run: Path) -> None:
    digest = plant(run)
    with h5py.File(run / "run.h5", "r+") as file:
        file.attrs["job_digest"] = np.bytes_(digest.encode())


def text_digest_and_note(run: Path) -> None:
    digest = plant(run)
    with h5py.File(run / "run.h5", "r+") as file:
        file.attrs["job_digest"] = np.bytes_(digest.encode())
    (run / "private" / JOB_DIGEST).write_text(digest)


def key_of_somebody_else(run: Path) -> None:
    other = Identity.generate().public.raw.hex()
    (run / "private" / "rank-000" / PUBLIC_KEY).write_text(other)


FORGERIES = [text_alone, text_and_digest, text_digest_and_note]


@pytest.mark.parametrize("forge", [*FORGERIES, key_of_somebody_else])
def test_a_restart_takes_no_job_that_nobody_vouches_for(
    forge: Callable[[Path], None], copy: Path
) -> None:
    assert job_to_restart(copy, 2) is not None
    forge(copy)
    with pytest.raises(EvidenceError) as caught:
        job_to_restart(copy, 2)
    assert str(copy) in str(caught.value)
    assert "planted" not in sys.modules


def test_all_ranks_of_a_restart_end_with_exit_code_4_and_import_nothing(copy: Path) -> None:
    text_digest_and_note(copy)
    done = resume(copy.parent, 2)
    assert done.returncode == ExitCode.VERIFICATION, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("clicooper:")]
    assert len(lines) == 1, done.stderr
    assert "the owner signed another job" in lines[0]
    assert not (copy.parent / "imported").exists()


def test_a_trainer_compares_the_job_with_its_own_note(copy: Path) -> None:
    (copy / "private" / "rank-001" / JOB_DIGEST).write_text("0" * 64)
    done = resume(copy.parent, 2)
    assert done.returncode == ExitCode.VERIFICATION, done.stderr
    assert "1/2 trainer 1: job of rank 0: the job text has the digest" in done.stderr


@pytest.mark.parametrize("forge", FORGERIES)
@pytest.mark.parametrize("verb", ["audit", "attack"])
def test_the_owners_other_verbs_take_no_such_job_either(
    verb: str, forge: Callable[[Path], None], copy: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with h5py.File(copy / "run.h5", "r+") as file:
        file.attrs["status"] = np.bytes_(b"complete")
    forge(copy)
    command = [
        verb,
        str(copy),
        "--quiet",
        *(["--stage", "0"] if verb == "audit" else ["--seeds", "1"]),
    ]
    assert main(command) == ExitCode.VERIFICATION
    out, err = capfd.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert not (copy.parent / "imported").exists()
    assert "planted" not in sys.modules


def test_an_audit_insists_on_the_key_given_or_noted(
    whole: Run, copy: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    key = (whole.folder.private / "rank-000" / PUBLIC_KEY).read_text()
    other = Identity.generate().public.raw.hex()
    assert main(["audit", str(copy), "--stage", "0", "--owner-key", other]) == 4
    assert "check 17 (Pinned keys) failed" in capfd.readouterr().err
    key_of_somebody_else(copy)
    assert main(["audit", str(copy), "--stage", "0"]) == 4
    assert "check 17 (Pinned keys) failed" in capfd.readouterr().err
    assert main(["audit", str(copy), "--stage", "0", "--owner-key", key]) == 0


def test_what_is_not_noted_is_named(copy: Path) -> None:
    for name in (f"rank-000/{PUBLIC_KEY}", JOB_DIGEST):
        (copy / "private" / name).unlink()
        with pytest.raises(RunFolderError, match=Path(name).name):
            job_to_restart(copy, 2)


def test_a_restart_writes_into_no_other_folder(copy: Path) -> None:
    (copy / "checkpoints").rename(copy.parent / "elsewhere")
    (copy / "checkpoints").symlink_to(copy.parent / "elsewhere")
    with pytest.raises(RunFolderError, match=r"run/checkpoints: this is no regular file"):
        job_to_restart(copy, 2)


def test_without_proofs_the_private_note_alone_vouches(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = train(tmp_path, 2, "provenance.enabled=false", text=JOB)
    with caplog.at_level(logging.INFO, logger="clicooper_hpc"):
        assert not vouched_job(run).provenance.enabled
    assert "no signed statement vouches for the job of this run; trusted is" in caplog.text
    text_and_digest(run.folder.path)
    with pytest.raises(ClicooperError, match="the job text has the digest") as caught:
        vouched_job(open_run(run.folder.path))
    assert caught.value.exit_code == ExitCode.VERIFICATION
