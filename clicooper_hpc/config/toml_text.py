"""TOML text of a user as plain values and back, with bounds on its length and depth.

`tomllib` recurses as deep as the text is nested and reads integers of any length; what it returns
is merged, validated and printed by code that walks tables, so both are bounded here, once.
"""

from __future__ import annotations

import json
import math
import os
import stat
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from clicooper_hpc.errors import UsageError

__all__ = [
    "MAX_TOML_BYTES",
    "MAX_TOML_DEPTH",
    "check_toml_values",
    "format_toml_table",
    "format_toml_value",
    "parse_toml_text",
    "parse_toml_value",
    "read_toml_file",
]

MAX_TOML_BYTES: Final = 2**18
"""Longest text: a job has one or two kilobytes."""

MAX_TOML_DEPTH: Final = 16
"""Most tables and lists within each other: a job has four."""


def read_toml_file(path: Path) -> dict[str, Any]:
    """Read a TOML file of at most `MAX_TOML_BYTES`.

    Raises
    ------
    UsageError
        It is too long, no UTF-8, or as `parse_toml_text` says.
    OSError
        It cannot be read.
    """
    # A pipe without a writer, or a device, answers at once instead of waiting.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
            raise UsageError(
                "is a pipe, not a file", where=str(path), remedy="Write the job to a file."
            )
        # Never more than is allowed: a name may lead to a device that does not end.
        content = file.read(MAX_TOML_BYTES + 1)
    if len(content) > MAX_TOML_BYTES:
        raise UsageError(
            f"is longer than {MAX_TOML_BYTES} bytes",
            where=str(path),
            remedy="Give a job file; data and weights have files of their own.",
        )
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"cannot be read: it is no UTF-8 text (byte {error.start})", where=str(path)
        ) from None
    # TOML knows both ends of line, its reader in Python only this one.
    return parse_toml_text(text.replace("\r\n", "\n"), where=str(path))


def parse_toml_text(text: str, *, where: str) -> dict[str, Any]:
    """Return the table that ``text`` says.

    Raises
    ------
    UsageError
        At ``where``: it is no TOML, or holds what `check_toml_values` refuses.
    """
    try:
        table = _load_toml(text, where)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"not valid TOML: {error}", where=where) from None
    check_toml_values(table, where=where)
    return table


def parse_toml_value(text: str, *, where: str) -> Any:
    """Return the one value that ``text`` says; what is no TOML is taken as a string.

    Raises
    ------
    UsageError
        As `parse_toml_text`.
    """
    try:
        value = _load_toml(f"value = {text}", where)["value"]
    # A bare word is a string, as shells make quoting awkward.
    except tomllib.TOMLDecodeError:
        value = text
    check_toml_values({"value": value}, where=where)
    return value


def check_toml_values(table: dict[str, Any], *, where: str) -> None:
    """Check the depth of ``table`` and the characters of all texts in it.

    Raises
    ------
    UsageError
        It is nested deeper than `MAX_TOML_DEPTH`, or has an integer of more than 64 bits, or a
        text with a NUL character or half a UTF-16 pair.
    """
    for depth, key, value in _walk_values(table):
        if depth > MAX_TOML_DEPTH:
            raise _too_deep(where)
        # What TOML promises; longer ones Python cannot even print.
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise UsageError(f"{key[:80]}: the integer has more than 64 bits", where=where)
        for one in (key, value):
            # No file name, library or JSON takes these; here the key can still be named.
            if isinstance(one, str) and not _is_plain(one):
                raise UsageError(
                    f"{key[:80]}: the text {one[:40]!r} has a NUL character or is no Unicode",
                    where=where,
                    remedy="Write the text without it.",
                )


def format_toml_table(table: Mapping[str, Any], *, where: str) -> str:
    """Return TOML text that says ``table``: plain values, then each table as a section.

    Raises
    ------
    UsageError
        As `format_toml_value`.
    """
    sections = {key: value for key, value in table.items() if isinstance(value, Mapping)}
    plain = {key: value for key, value in table.items() if key not in sections}
    lines = _format_lines(plain, where)
    for name, values in sections.items():
        lines += ["", f"[{_format_text(str(name))}]"]
        lines += _format_lines(values, f"{where}, {name}")
    return "\n".join([*lines, ""])


def format_toml_value(value: Any, *, where: str) -> str:
    """Return TOML text, on one line, that says ``value``.

    Parameters
    ----------
    value
        Truth values, numbers (NumPy's too), texts, paths, and lists and tables of them.

    Raises
    ------
    UsageError
        At ``where``: TOML has no such value, `None` among them, or one within itself.
    """
    try:
        return _format(value, where)
    except RecursionError:
        raise _too_deep(where) from None


def _format_lines(table: Mapping[str, Any], where: str) -> list[str]:
    return [
        f"{_format_text(str(key))} = {format_toml_value(value, where=f'{where}, {key}')}"
        for key, value in table.items()
    ]


def _format(value: Any, where: str) -> str:
    # Numbers of NumPy and the like, and arrays, as what they hold; not their classes.
    if hasattr(value, "tolist") and not isinstance(value, type):
        value = value.tolist()
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        # What TOML promises; longer ones Python cannot even print.
        if not -(2**63) <= value < 2**63:
            raise UsageError("the integer has more than 64 bits", where=where)
        return int.__repr__(value)
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else str(value)
    if isinstance(value, (str, os.PathLike)) and isinstance(path := os.fspath(value), str):
        return _format_text(path)
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_format(one, where) for one in value)}]"
    if isinstance(value, Mapping):
        pairs = (f"{_format_text(str(key))} = {_format(one, where)}" for key, one in value.items())
        return f"{{{', '.join(pairs)}}}"
    remedy = "Leave the key out: then its default holds." if value is None else None
    raise UsageError(f"{value!r} is no value of a job", where=where, remedy=remedy)


def _format_text(text: str) -> str:
    # A text of JSON is one of TOML, but for this character.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007F")


def _load_toml(text: str, where: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise _too_deep(where) from None
    except tomllib.TOMLDecodeError:
        raise
    # Python refuses integers of more than 4,300 digits by a bare ValueError.
    except ValueError as error:
        raise UsageError(f"not valid TOML: {error}", where=where) from None


def _walk_values(table: dict[str, Any]) -> Iterator[tuple[int, str, Any]]:
    """Yield depth, nearest key and value of everything in ``table``, without recursion."""
    waiting: list[tuple[int, str, Any]] = [(1, key, value) for key, value in table.items()]
    while waiting:
        depth, key, value = waiting.pop()
        yield depth, key, value
        if isinstance(value, dict):
            waiting += [(depth + 1, name, item) for name, item in value.items()]
        elif isinstance(value, list):
            waiting += [(depth + 1, key, item) for item in value]


def _is_plain(text: str) -> bool:
    return "\0" not in text and not any("\ud800" <= one <= "\udfff" for one in text)


def _too_deep(where: str) -> UsageError:
    return UsageError(
        f"is nested deeper than {MAX_TOML_DEPTH} levels",
        where=where,
        remedy="No key of a job needs more than four.",
    )
