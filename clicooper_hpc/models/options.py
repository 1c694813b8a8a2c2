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
    "check_count",
    "check_flag",
    "check_fraction",
    "check_positive",
    "nearest",
    "parse_options",
    "require_map",
]

Options = TypeVar("Options", bound="DataclassInstance")


def nearest(word: str, known: list[str]) -> str:
    """Return the entry of ``known`` (not empty) that looks most like ``word``."""
    return difflib.get_close_matches(word, known, n=1, cutoff=0.0)[0]


def parse_options(kind: type[Options], options: Mapping[str, object], *, model: str) -> Options:
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
                remedy=f"Nearest: {nearest(name, known)!r}. It has: {', '.join(known)}.",
            )
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in options.items()
    }
    return kind(**values)


def check_count(name: str, value: object, *, least: int = 1) -> None:
    """Refuse ``value`` of option ``name`` unless it is an integer of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UsageError(
            f"must be a whole number of at least {least}, not {value!r}",
            where=f"model.options.{name}",
        )


def check_positive(name: str, value: object) -> None:
    """Refuse ``value`` of option ``name`` unless it is a finite number above 0."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise UsageError(f"must be a number above 0, not {value!r}", where=f"model.options.{name}")


def check_fraction(name: str, value: object) -> None:
    """Refuse ``value`` of option ``name`` unless it is a number with 0 <= value < 1."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
        raise UsageError(
            f"must be a number from 0 up to but not including 1, not {value!r}",
            where=f"model.options.{name}",
        )


def check_flag(name: str, value: object) -> None:
    """Refuse ``value`` of option ``name`` unless it is a truth value."""
    if not isinstance(value, bool):
        raise UsageError(f"must be true or false, not {value!r}", where=f"model.options.{name}")


def require_map(input_shape: tuple[int, ...], *, model: str) -> tuple[int, int, int]:
    """Return ``input_shape`` as (channels, height, width), or refuse it for network ``model``."""
    if len(input_shape) != 3:
        raise UsageError(
            f"network {model!r} needs maps [channels, height, width], "
            f"but the release has the shape {list(input_shape)}",
            where=f'model.name = "{model}"',
            remedy="Use 'mlp', or cut the front where it still gives maps.",
        )
    channels, height, width = input_shape
    return channels, height, width
