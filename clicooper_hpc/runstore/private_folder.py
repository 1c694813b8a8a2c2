"""`PrivateFolder`: secrets on disk, in a folder and in files that only their owner can open."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from clicooper_hpc.errors import EnvironmentUnfitError, RunFolderError
from clicooper_hpc.runstore.atomic_files import write_private_atomically
from clicooper_hpc.runstore.regular_files import read_regular_file

__all__ = ["PrivateFolder"]

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class PrivateFolder:
    """Folder of mode 0700 with files of mode 0600, whatever the umask.

    The folder is made if it is missing. Nothing in it is named, linked or copied by ``run.h5``.

    Raises
    ------
    EnvironmentUnfitError
        Group or others may enter the folder, somebody else owns it, or the file system keeps no
        access rights.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            try:
                path.mkdir(mode=0o700)
                # The umask may have taken the owner's own rights away.
                path.chmod(0o700)
            except FileExistsError:
                # Rights of a folder found here are not mended: opened ones are refused below.
                pass
            _require_closed(path, "700")
        except OSError as error:
            raise EnvironmentUnfitError(
                f"the folder for secrets cannot be used ({error.strerror})",
                where=str(path),
                remedy="Put the run on a file system where you may make folders.",
            ) from error

    def write_secret(self, name: str, content: bytes) -> Path:
        """Write ``content`` to the file ``name`` atomically; return its path."""
        place = self._place(name)
        try:
            write_private_atomically(place, content)
        except OSError as error:
            raise EnvironmentUnfitError(
                f"a secret cannot be written ({error.strerror})",
                where=str(place),
                remedy="Free space on the file system of the run, then start again.",
            ) from error
        # Looked at again: some file systems accept a mode and keep none.
        _require_closed(place, "600")
        return place

    def read_secret(self, name: str) -> bytes:
        """Return the content of the file ``name``.

        Raises
        ------
        RunFolderError
            The file is missing or cannot be read.
        EnvironmentUnfitError
            Group or others could read it.
        """
        place = self._place(name)
        try:
            # Before it is read: a secret others could read is no secret to build on.
            _require_closed(place, "600")
            return read_regular_file(place)
        except OSError as error:
            raise _unreadable(place, error) from error

    def __contains__(self, name: str) -> bool:
        # What is there but no file must not be taken for something never made: it is refused, with
        # its reason, when it is read.
        place = self._place(name)
        try:
            place.lstat()
        except FileNotFoundError:
            return False
        except OSError as error:
            raise _unreadable(place, error) from error
        return True

    def _place(self, name: str) -> Path:
        # Names come from code, but one with a slash would leave the folder.
        if not name or name in {".", ".."} or os.sep in name or "\0" in name:
            raise ValueError(f"{name!r} is not a plain file name")
        return self.path / name


def _unreadable(place: Path, error: OSError) -> RunFolderError:
    return RunFolderError(
        f"the owner's private file cannot be read ({error.strerror})",
        where=str(place),
        remedy="Use the run folder as its owner left it; secrets cannot be made again.",
    )


def _require_closed(path: Path, mode: str) -> None:
    # Of the link itself: one that points elsewhere could be turned later.
    state = path.stat(follow_symlinks=False)
    if stat.S_ISLNK(state.st_mode) or state.st_uid != os.geteuid():
        raise EnvironmentUnfitError(
            "the owner's secrets must belong to the user of this job and not be a link",
            where=str(path),
            remedy="Run as the user who owns the run folder.",
        )
    if state.st_mode & _OTHERS:
        raise EnvironmentUnfitError(
            f"other users may reach the owner's secrets (mode {stat.S_IMODE(state.st_mode):o})",
            where=str(path),
            remedy=f"Run `chmod {mode} {path}`; if that does not hold, use another file system.",
        )
