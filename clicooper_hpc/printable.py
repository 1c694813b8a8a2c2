"""Text of others on its way to a terminal: control characters escaped, so that they do nothing.

A run folder and a message of another rank are written by somebody else. Printed as they are, their
texts could move the cursor, rename the window, hide or forge lines, or turn the reading direction.
"""

from __future__ import annotations

import json
import logging

__all__ = ["PrintableFormatter", "printable_json", "printable_lines", "printable_text"]


def printable_text(text: str) -> str:
    """Return ``text`` as one line that drives no terminal.

    Everything `str.isprintable` refuses is written as Python writes it in a literal: C0 and C1
    controls, DEL, line and paragraph separators, bidirectional and other format characters, lone
    surrogates. The result is printable and has no line break.
    """
    if text.isprintable():
        return text
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in text
    )


def printable_lines(text: str) -> str:
    """Return ``text`` with every line of it made printable; only line feeds stay."""
    return "\n".join(map(printable_text, text.split("\n")))


def printable_json(value: object) -> str:
    """Return ``value`` as indented JSON of printable ASCII."""
    text = json.dumps(value, indent=2)
    # json escapes every control character but this one.
    return text.replace("\x7f", "\\u007f")


class PrintableFormatter(logging.Formatter):
    """Formatter of log lines: one record, one line, whatever texts of others stand in it."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as `logging.Formatter` does, made printable."""
        text = super().format(record)
        return printable_lines(text) if record.exc_info else printable_text(text)
