"""Outcome that another rank reports, off the wire: a code of a closed set and a harmless text."""

from __future__ import annotations

from clicooper_hpc.errors import FAILURE_CODES, ExitCode
from clicooper_hpc.printable import printable_text

__all__ = ["REPORT_BYTES", "encode_failure_text", "read_failure_report"]

#: Longest text of a report, in bytes on the wire and in characters once it is read.
REPORT_BYTES = 4096


def encode_failure_text(message: str) -> bytes:
    """Return ``message`` as it travels, cut at `REPORT_BYTES`."""
    # May cut a character in two, which is why it is decoded with errors="replace".
    return message.encode("utf-8", errors="replace")[:REPORT_BYTES]


def read_failure_report(code: int, text: bytes, rank: int) -> tuple[ExitCode, str]:
    """Return the outcome that ``rank`` reports: `ExitCode.DONE` and "", or one of `FAILURE_CODES`.

    Whatever else it says becomes `ExitCode.INTERNAL` with a message that tells so. Every process
    ends with this code, so a rank that could choose it freely would have a failed job end as done
    (0, or 256 cut to a byte) or started again (75).

    Parameters
    ----------
    code
        Any whole number.
    text
        Its message, any bytes; control characters come back escaped, the rest at most
        `REPORT_BYTES` characters long.
    rank
        Who reports it.
    """
    if code == ExitCode.DONE and not text:
        return ExitCode.DONE, ""
    # A line feed would forge a line of another rank, an escape sequence drive the terminal.
    said = printable_text(text[:REPORT_BYTES].decode("utf-8", errors="replace"))
    # Code 0 with a reason is a failure, too: a rank without one has nothing to say.
    if code not in FAILURE_CODES:
        reason = f": {said}" if said else ""
        said = f"rank {rank} reported a failure with the impossible exit code {code}{reason}"
        code = ExitCode.INTERNAL
    return ExitCode(code), said[:REPORT_BYTES]
