"""`RankProcesses`: a launcher and its ranks as children of this process, line by line."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from clicooper_hpc.closing import Closing
from clicooper_hpc.errors import EnvironmentUnfitError
from clicooper_hpc.launch import rank_keeper

__all__ = ["RankProcesses"]


class RankProcesses(Closing):
    """Ranks that were started; at the end of the ``with`` block none of them is left.

    Parameters
    ----------
    command
        Launcher, its options and what it starts.
    env
        Environment of the launcher.
    remove
        File to remove at the end, also if this process is killed.

    Raises
    ------
    EnvironmentUnfitError
        No process can be started.
    """

    def __init__(
        self, command: Sequence[str], env: Mapping[str, str], *, remove: Path | None = None
    ) -> None:
        keeper = [sys.executable, "-I", str(Path(rank_keeper.__file__)), str(remove or "")]
        try:
            self._keeper = subprocess.Popen(
                [*keeper, *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=dict(env),
                # Ctrl-C at a terminal reaches its whole process group: ranks would end unsaved.
                start_new_session=True,
            )
        except OSError as error:
            raise EnvironmentUnfitError(
                f"no process can be started ({error.strerror})", where=command[0]
            ) from error

    def lines(self) -> Iterator[str]:
        """Yield what the ranks print, line by line, until the last of them has ended."""
        assert self._keeper.stdout is not None  # noqa: S101 - made with a pipe
        while line := self._keeper.stdout.readline():
            yield line.decode("utf-8", errors="replace").rstrip("\r\n")

    def exit_code(self) -> int:
        """Wait for the end of all; return the launcher's exit code."""
        return self._keeper.wait()

    def close_on_exit(self, error: BaseException | None) -> None:
        """Kill what still runs, and wait until nothing does."""
        for stream in (self._keeper.stdin, self._keeper.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        interrupted = False
        # The keeper kills whatever was started, so this takes a moment however often one insists.
        while self._keeper.returncode is None:
            try:
                self._keeper.wait()
            except KeyboardInterrupt:
                interrupted = True
        if interrupted:
            raise KeyboardInterrupt
