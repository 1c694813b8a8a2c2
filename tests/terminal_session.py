"""Programs started in a terminal of their own (a pseudo-terminal), and what they write there."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

__all__ = ["TerminalSession"]


class TerminalSession:
    """``command`` in a terminal of 80 columns and 24 lines; killed at the end of the block."""

    def __init__(
        self, command: Sequence[str], *, env: Mapping[str, str], cwd: Path | None = None
    ) -> None:
        self.text = ""
        self._pid, self._terminal = pty.fork()
        if self._pid == 0:
            # Whatever fails here must not come back into the tests.
            with contextlib.suppress(OSError):
                # Before the program can ask for it.
                fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
                os.chdir(cwd or Path.cwd())
                os.execvpe(command[0], list(command), {**os.environ, **env})  # noqa: S606
            os._exit(127)

    def __enter__(self) -> TerminalSession:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._pid, signal.SIGKILL)
        os.close(self._terminal)

    def read_until(self, wanted: str, *, timeout_s: float = 60.0) -> None:
        """Read until ``wanted`` has been written."""
        end = time.monotonic() + timeout_s
        while wanted not in self.text:
            assert time.monotonic() < end, f"{wanted!r} not in {self.text[-4000:]!r}"
            if not self._read():
                pytest.fail(f"ended without {wanted!r}: {self.text[-4000:]!r}")

    def type(self, keys: str) -> None:
        """Type ``keys``; ``"\\x03"`` is Ctrl-C."""
        os.write(self._terminal, keys.encode())

    def wait(self) -> int:
        """Read to the end and return the exit code."""
        while self._read():
            pass
        _, status = os.waitpid(self._pid, 0)
        return os.waitstatus_to_exitcode(status)

    def _read(self) -> bool:
        ready, _, _ = select.select([self._terminal], [], [], 60.0)
        if not ready:
            pytest.fail(f"nothing for a minute: {self.text[-4000:]!r}")
        try:
            part = os.read(self._terminal, 65536)
        except OSError:  # Linux says so when the last process has let go of the terminal
            return False
        self.text += part.decode("utf-8", "replace")
        return bool(part)
