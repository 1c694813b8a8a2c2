"""`RunFolder`: where each part of a run lies; a new folder is made, locked, removed here."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import itertools
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from clicooper_hpc.errors import EnvironmentUnfitError, RunFolderError
from clicooper_hpc.runstore.atomic_files import replace_atomically
from clicooper_hpc.runstore.regular_files import read_regular_file

__all__ = [
    "IDENTITY_FILE",
    "JOB_FOLDER",
    "LEDGER_FILE",
    "MARK_KEY_FILE",
    "STOP_FILE",
    "UNSEEN_KINDS",
    "RunFolder",
    "check_run_begun",
    "create_run_folder",
    "lock_run_folder",
    "remove_unstarted_folder",
    "shard_file_name",
]

#: File in the private folder with the folder of the job file, which relative paths refer to.
JOB_FOLDER = "job-folder"
#: File in the private folder with what the run has paid; stored before anything leaves.
LEDGER_FILE = "ledger.json"
#: Files in the private folder of one rank: the key it signs with, and the secret of its marks.
IDENTITY_FILE = "identity.pem"
MARK_KEY_FILE = "mark.key"
#: File that asks a run to stop.
STOP_FILE = "STOP"
#: Kinds of ledger entries that nothing has left for (`clicooper_hpc.privacy.privacy_ledger`).
UNSEEN_KINDS = frozenset({"moments", "gradients"})
#: What a run folder holds before anything has left the owner.
_UNBEGUN = {"delivery", "private", "wire", ".lock", ".probe", STOP_FILE, "run.h5.part"}
#: Runs that an error names; entries of a folder that are looked at for it.
_MOST_NAMED, _MOST_ENTRIES = 4, 4096


def shard_file_name(rank: int) -> str:
    """File name of the shard that ``rank`` writes."""
    return f"rank-{rank:03d}.h5"


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Names inside a run folder; makes nothing."""

    path: Path
    #: Another name only where a file is read by itself, out of its folder.
    index_name: str = "run.h5"

    @property
    def index(self) -> Path:
        """``run.h5``, the file users open."""
        return self.path / self.index_name

    @property
    def title(self) -> str:
        """What to call the run: its folder's name, however it is reached, or that of its file."""
        if self.index_name != "run.h5":
            return self.index_name
        return os.path.basename(os.path.realpath(self.path)) or str(self.path)

    def shard(self, rank: int) -> Path:
        """HDF5 file with one writer, ``rank``."""
        return self.path / shard_file_name(rank)

    @property
    def delivery(self) -> Path:
        """Folder of the delivered segments, as safetensors."""
        return self.path / "delivery"

    @property
    def equivocation(self) -> Path:
        """Folder of evidence, found by ranks, that a key signed two things of one place."""
        return self.path / "equivocation"

    def keep_equivocation(self, rank: int, content: bytes) -> Path:
        """Keep evidence that ``rank`` has found; return its file, named by finder and content.

        Raises
        ------
        EnvironmentUnfitError
            It cannot be written.
        """
        digest = hashlib.sha256(content).hexdigest()[:16]
        path = self.equivocation / f"rank-{rank:03d}-{digest}.json"
        try:
            path.parent.mkdir(exist_ok=True)
            with replace_atomically(path) as aside:
                aside.write_bytes(content)
        except OSError as error:
            raise EnvironmentUnfitError(
                f"evidence cannot be written ({error.strerror})", where=str(path)
            ) from error
        return path

    @property
    def private(self) -> Path:
        """Folder of the owner's secrets; made by `PrivateFolder`."""
        return self.path / "private"


def create_run_folder(path: str | Path) -> RunFolder:
    """Make the folder of a new run and prove that it can be written.

    An existing folder is taken only if it is empty, but for a request to stop. Of two jobs that
    ask for the same folder at the same moment, one gets it.

    Raises
    ------
    RunFolderError
        The path holds something already.
    EnvironmentUnfitError
        The folder cannot be made or written.
    """
    folder = RunFolder(Path(path))
    try:
        if folder.path.exists() and not folder.path.is_dir():
            raise _folder_taken(folder.path, "is a file")
        folder.path.mkdir(parents=True, exist_ok=True)
        # A request to stop may come first: what asks for it sees the folder as soon as it is there.
        if any(one.name != STOP_FILE for one in folder.path.iterdir()):
            raise _folder_taken(folder.path, "holds files already")
        # mkdir is atomic everywhere, so this line is what decides between two jobs.
        folder.delivery.mkdir()
        # Tried now, not by the first file after all the preparation that follows.
        probe = folder.path / ".probe"
        with probe.open("wb") as file:
            file.write(b"clicooper")
            file.flush()
            os.fsync(file.fileno())
        probe.unlink()
    except FileExistsError:
        raise _folder_taken(folder.path, "was taken by another run just now") from None
    except OSError as error:
        raise EnvironmentUnfitError(
            f"the run folder cannot be written ({error.strerror})",
            where=str(folder.path),
            remedy="Give -o a folder on a file system you may write to and that has space.",
        ) from error
    return folder


def lock_run_folder(folder: RunFolder) -> None:
    """Lock the run against every other process until this one ends.

    A lock the system takes back by itself when the process ends, however it ends. Where the file
    system has no locks, nothing is held.

    Raises
    ------
    RunFolderError
        Another process holds the run.
    EnvironmentUnfitError
        The lock's file cannot be made.
    """
    path = folder.path / ".lock"
    try:
        # Never closed: the lock is the open file's.
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise EnvironmentUnfitError(
            f"the run folder cannot be written ({error.strerror})",
            where=str(path),
            remedy="Make the file system writable, and free space on it.",
        ) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise RunFolderError(
            "another process is writing this run",
            where=str(folder.path),
            remedy="Wait until it has ended, or end it.",
        ) from None
    except OSError:  # ENOLCK and the like: `clicooper doctor` says so
        os.close(handle)


def remove_unstarted_folder(path: Path) -> None:
    """Remove a run folder whose run was killed before anything left its owner.

    Nothing is lost with it: whatever was made before ``run.h5`` was shown to nobody, noised sums
    that stay in ``private/`` among it. A folder that holds anything else, or the ledger of
    something else paid for, is left as it is.

    Raises
    ------
    RunFolderError
        Another process holds the run.
    EnvironmentUnfitError
        It cannot be removed.
    """
    if not _is_unstarted(path):
        return
    # A starting run may be at work here: its lock makes this fail.
    lock_run_folder(RunFolder(path))
    try:
        shutil.rmtree(path)
    except OSError as error:
        raise EnvironmentUnfitError(
            f"what a start left that was killed early cannot be removed ({error.strerror})",
            where=str(path),
            remedy="Remove the folder yourself: nothing has left the owner yet.",
        ) from error


def check_run_begun(folder: RunFolder) -> None:
    """Say why there is no run in ``folder`` to read or to go on with, where that can be told.

    Raises
    ------
    RunFolderError
        There is no such folder, it is a file, it holds runs and is none, or nothing has left the
        owner yet.
    """
    # Not Path.is_file, which fails for names that no file system takes.
    if os.path.isfile(folder.path):
        raise RunFolderError(
            "is a file, not the folder of a run",
            where=str(folder.path),
            remedy="Name the folder that `clicooper run` was given with -o.",
        )
    if _is_absent(folder.path):
        raise RunFolderError(
            "there is no such folder",
            where=str(folder.path),
            remedy="Name the folder of a run, or bring it back from where it was moved.",
        )
    if os.path.lexists(folder.index):
        return
    if runs := _runs_below(folder.path):
        names = ", ".join(str(folder.path / name) for name in runs[:_MOST_NAMED])
        rest = ", ..." if len(runs) > _MOST_NAMED else ""
        raise RunFolderError(
            f"is no run but a folder of {len(runs)} run{'s' * (len(runs) != 1)}, as of a sweep",
            where=str(folder.path),
            remedy=f"Name one of them: {names}{rest}",
        )
    if _is_unstarted(folder.path):
        raise RunFolderError(
            "the run has not begun: it is starting, or was killed before anything left its owner",
            where=str(folder.path),
            remedy=f"Begin it anew: clicooper run JOB -o {folder.path} --resume",
        )


def _runs_below(path: Path) -> list[str]:
    """Return the names of the runs in the folder ``path``, of the first thousands of entries."""
    # What is no folder, or may not be read, is told by whoever opens it.
    with contextlib.suppress(OSError), os.scandir(path) as entries:
        return sorted(
            one.name
            for one in itertools.islice(entries, _MOST_ENTRIES)
            if os.path.lexists(RunFolder(path / one.name).index)
        )
    return []


def _is_absent(path: Path) -> bool:
    """Tell whether nothing lies at ``path``, or a link to nothing; not names the system refuses."""
    try:
        os.stat(path)
    except FileNotFoundError:
        return True
    except (OSError, ValueError):
        return False
    return False


def _is_unstarted(path: Path) -> bool:
    """Tell whether the folder holds what a start makes before anything leaves, and nothing else."""
    names = {one.name for one in path.iterdir()} if os.path.isdir(path) else set()
    if not names or not names <= _UNBEGUN:
        return False
    if (path / "delivery").is_dir() and any((path / "delivery").iterdir()):
        return False
    ledger = path / "private" / LEDGER_FILE
    return not ledger.exists() or _charges_sums_alone(ledger)


def _charges_sums_alone(ledger: Path) -> bool:
    """Tell whether nothing is charged but sums, which are noised in ``private/`` and stay there.

    What is made of them leaves later, and is charged then under another kind.
    """
    try:
        entries = json.loads(read_regular_file(ledger))["entries"]
        kinds = {entry["kind"] for entry in entries}
    except (RunFolderError, OSError, ValueError, LookupError, TypeError, RecursionError):
        # Whatever it holds, it is not for a start to remove.
        return False
    return bool(kinds) and kinds <= UNSEEN_KINDS


def _folder_taken(path: Path, how: str) -> RunFolderError:
    return RunFolderError(
        f"the run folder {how}, and a run is never overwritten",
        where=str(path),
        remedy="Choose another folder with -o.",
    )
