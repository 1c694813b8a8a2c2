"""Arguments of `train`: refused by name if they are of another kind; errors in words of Python."""

from __future__ import annotations

import operator
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from clicooper_hpc.config.toml_text import format_toml_value
from clicooper_hpc.errors import ClicooperError, UsageError

__all__ = ["check_flag", "check_path", "check_ranks_argument", "in_python", "override_texts"]

#: Options of `clicooper run` and `sweep` as errors name them, and what stands for them in a call.
_WORDS: Final = (
    (re.compile(r"--set ('[^']*'|\"[^\"]*\")"), r"overrides=[\1]"),
    (re.compile(r"--set ([^\s=]+=[^\s;,]*[^\s;,.])"), r'overrides=["\1"]'),
    (re.compile(r"--set\b"), "overrides"),
    (re.compile(r"--ranks\b"), "ranks"),
    (re.compile(r"--resume\b"), "resume=True"),
    (re.compile(r"(?<![\w-])(?:-o|--output)\b"), "output"),
)


def in_python(error: ClicooperError) -> ClicooperError:
    """Return ``error`` with keyword arguments of `train` in place of options of the shell."""
    where = None if error.where is None else _in_python(error.where)
    if error.where is not None and error.where.startswith("-"):
        where = f"train, {where}"
    remedy = None if error.remedy is None else _in_python(error.remedy)
    return type(error)(_in_python(error.what), where=where, remedy=remedy)


def _in_python(text: str) -> str:
    # A whole command is one to be typed at a shell.
    if re.search(r"\b(clicooper|mpirun|mpiexec) ", text):
        return text
    for option, word in _WORDS:
        text = option.sub(word, text)
    return text


def check_path(name: str, value: object) -> str:
    """Return the argument ``name`` as the text of a path.

    Raises
    ------
    UsageError
        It is no text or path, empty, or one that no file system takes.
    """
    try:
        path = os.fspath(value) if isinstance(value, (str, os.PathLike)) else None
    except TypeError:
        path = None
    if not isinstance(path, str):
        raise _wrong(name, value, "no text or path", 'Give a text, such as "runs/first".')
    if not path:
        raise _wrong(name, value, "empty", "Give a name.")
    try:
        encoded = os.fsencode(path)
    except UnicodeEncodeError:
        raise _wrong(name, value, "no name of a file", "Give a text of Unicode.") from None
    if b"\0" in encoded:
        raise _wrong(name, value, "no name of a file", "Give one without a NUL character.")
    return path


def check_ranks_argument(value: object) -> int | None:
    """Return ``ranks``; `UsageError` if it is no whole number."""
    if value is None:
        return None
    try:
        # Numbers of NumPy are whole too; True would be a rank of its own.
        if not isinstance(value, bool):
            return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        pass
    raise _wrong(
        "ranks", value, "no whole number", "Give how many ranks: ranks=4, the owner among them."
    )


def check_flag(name: str, value: object) -> bool:
    """Return the argument ``name``; `UsageError` if it is neither True nor False."""
    if not isinstance(value, bool):
        raise _wrong(name, value, "neither True nor False", f"Give {name}=True or {name}=False.")
    return value


def override_texts(overrides: object) -> tuple[str, ...]:
    """Return ``overrides`` as ``section.key=value`` each.

    Raises
    ------
    UsageError
        It is neither a mapping of keys nor a list of texts, or a value is none of a job.
    """
    remedy = 'Give {"training.epochs": 3} or ["training.epochs=3"].'
    if isinstance(overrides, str):
        raise UsageError(
            "is one text, not a list of them", where="train, overrides", remedy="Put it in [ ]."
        )
    if isinstance(overrides, Mapping):
        for key in overrides:
            if not isinstance(key, str):
                raise _wrong("overrides", key, "no key of a job", remedy)
        return tuple(
            f"{key}={format_toml_value(value, where=f'train, overrides, {key}')}"
            for key, value in overrides.items()
        )
    if not isinstance(overrides, Sequence) or isinstance(overrides, (bytes, bytearray)):
        raise _wrong("overrides", overrides, "neither a mapping nor a list", remedy)
    for one in overrides:
        if not isinstance(one, str):
            raise _wrong("overrides", one, "no text", remedy)
    return tuple(overrides)


def _wrong(name: str, value: object, what: str, remedy: str) -> UsageError:
    shown: Any = repr(value)[:80]
    kind = type(value).__name__
    return UsageError(f"{shown} ({kind}) is {what}", where=f"train, {name}", remedy=remedy)
