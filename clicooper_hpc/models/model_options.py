"""Reading the options of a network from a job file into a frozen dataclass."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeVar

from clicooper_hpc.errors import UsageError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = [
    "check_count_option",
    "check_flag_option",
    "check_fraction_option",
    "check_positive_option",
    "nearest_option",
    "parse_model_options",
]

Options = TypeVar("Options", bound="DataclassInstance")


def nearest_option(word: str, known: list[str]) -> str:
    """Return the entry of ``known`` (not empty) that looks most like ``word``."""
    return difflib.get_close_matches(word, known, n=1, cutoff=0.0)[0]


def parse_model_options(
    kind: type[Options], options: Mapping[str, object], *, model: str
) -> Options:
    """Turn the job's ``options`` into ``kind``, a dataclass that checks its values itself.

    Lists (TOML has no tuples) become tuples.

    Raises
    ------
    UsageError
        An option ``kind`` does not have, or a value it refuses.
    """
    known = [field.name for field in fields(kind)]
    for name in options:
        if name not in known:
            raise UsageError(
                f"network {model!r} has no option {name!r}",
                where=f"model.options.{name}",
                remedy=f"Nearest: {nearest_option(name, known)!r}. It has: {', '.join(known)}.",
            )
    values: dict[str, Any] = {
        # Frozen options must hold nothing that can change.
        name: tuple(value) if isinstance(value, list) else value
        for name, value in options.items()
    }
    return kind(**values)


def check_count_option(name: str, value: object, *, least: int = 1) -> None:
    """Refuse ``value`` of option ``name`` unless it is an integer of at least ``least``."""
    # Python counts true and false as integers; in a job file they are a mistake.
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UsageError(
            f"must be a whole number of at least {least}, not {value!r}",
            where=f"model.options.{name}",
        )


def check_positive_option(name: str, value: object) -> None:
    """Refuse ``value`` of option ``name`` unless it is a finite number above 0."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise UsageError(f"must be a number above 0, not {value!r}", where=f"model.options.{name}")


def check_fraction_option(name: str, value: object) -> None:
    """Refuse ``value`` of option ``name`` unless it is a number with 0 <= value < 1."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
        raise UsageError(
            f"must be a number from 0 up to but not including 1, not {value!r}",
            where=f"model.options.{name}",
        )


def check_flag_option(name: str, value: object) -> None:
    """Refuse ``value`` of option ``name`` unless it is a truth value."""
    if not isinstance(value, bool):
        raise UsageError(f"must be true or false, not {value!r}", where=f"model.options.{name}")
