"""Values of keys as the command line gives them, and all their combinations with names.

``section.key=VALUE,VALUE`` is read as TOML values between commas. A comma within brackets, braces
or quotes belongs to the value, so ``front.read_outs=["51:mean","51:max"]`` is one list and
``front.read_outs=["51:mean"],["51:max"]`` is two.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from clicooper_hpc.config.toml_text import format_toml_value, parse_toml_value
from clicooper_hpc.errors import UsageError

__all__ = ["SEED", "Combination", "combine_settings", "split_values"]

SEED: Final = "training.seed"
#: Most runs of a sweep: one more digit is a slip of the finger.
MOST_RUNS: Final = 1000
_CLOSING: Final = {"[": "]", "{": "}"}
_MOST_SHOWN: Final = 24
_LONGEST_NAME: Final = 120


@dataclass(frozen=True, slots=True)
class Combination:
    """One value of each key.

    Attributes
    ----------
    name
        Follows from keys and values alone, so a longer list leaves the names of the others alone.
    settings
        Key and value as TOML text, in the order given; `SEED` last if it is swept.
    """

    name: str
    settings: tuple[tuple[str, str], ...]

    @property
    def overrides(self) -> tuple[str, ...]:
        """``section.key=value`` each."""
        return tuple(f"{key}={value}" for key, value in self.settings)

    @property
    def group(self) -> tuple[tuple[str, str], ...]:
        """All settings but the seed: runs that repeat each other have the same."""
        return tuple(one for one in self.settings if one[0] != SEED)


def combine_settings(texts: Sequence[str], seeds: int | None) -> list[Combination]:
    """Return every combination, seeds next to each other.

    Parameters
    ----------
    texts
        ``section.key=VALUE,VALUE`` each.
    seeds
        Number of seeds, from 0; None: that of the job.

    Raises
    ------
    UsageError
        A text is no such setting, a key or value is given twice, or there is nothing to combine.
    """
    lists = [_read_setting(text) for text in texts]
    keys = [key for key, _ in lists]
    for key, count in Counter(keys).items():
        if count > 1:
            raise UsageError(
                f"{key} is given {count} times",
                where="--set",
                remedy=f"Give all its values at once: --set {key}=VALUE,VALUE",
            )
    if seeds is not None:
        if SEED in keys:
            raise UsageError(
                f"{SEED} is given by both",
                where="--seeds, --set",
                remedy=f"Leave out --seeds, or --set {SEED}.",
            )
        if seeds < 1:
            raise UsageError(f"{seeds} is no number of seeds", where="--seeds")
        lists.append((SEED, [str(seed) for seed in range(min(seeds, MOST_RUNS + 1))]))
    # Repetitions of one setting follow each other.
    lists.sort(key=lambda one: one[0] == SEED)
    if not lists:
        raise UsageError(
            "there is nothing to vary",
            where="sweep",
            remedy="Give --set section.key=VALUE,VALUE or --seeds N.",
        )
    count = 1
    for _, values in lists:
        count *= len(values)
    if count > MOST_RUNS:
        raise UsageError(f"these are {count} runs; at most {MOST_RUNS} are made", where="sweep")
    short = _short_keys([key for key, _ in lists])
    made = []
    for chosen in itertools.product(*(values for _, values in lists)):
        settings = tuple((key, value) for (key, _), value in zip(lists, chosen, strict=True))
        name = "_".join(f"{short[key]}-{_value_name(value)}" for key, value in settings)
        made.append(Combination(_bounded(name), settings))
    return made


def _read_setting(text: str) -> tuple[str, list[str]]:
    key, sign, rest = text.partition("=")
    key = ".".join(part.strip() for part in key.split("."))
    where = f"--set {text[:100]}"
    if not sign or not re.fullmatch(r"[\w-]+(\.[\w-]+)+", key, re.ASCII):
        raise UsageError(
            "is not of the form section.key=VALUE,VALUE",
            where=where,
            remedy="For example: --set training.learning_rate=0.1,0.05",
        )
    values = [
        # As TOML writes it: 0.10 and 0.1 are one value, and a bare word is a text.
        format_toml_value(parse_toml_value(value, where=where), where=where)
        for value in split_values(rest, where=where)
    ]
    twice = [value for value, count in Counter(values).items() if count > 1]
    if twice:
        raise UsageError(f"{twice[0]} is given twice", where=where)
    return key, values


def split_values(text: str, *, where: str) -> list[str]:
    """Return the values of ``text``, split at commas outside of brackets, braces and quotes.

    Raises
    ------
    UsageError
        At ``where``: a value is empty, or a bracket or quote is not closed.
    """
    values, begin, open_ones, quote = [], 0, "", ""
    characters = iter(enumerate(text))
    for place, one in characters:
        if quote:
            if one == "\\" and quote == '"':
                next(characters, None)
            elif one == quote:
                quote = ""
        elif one in "\"'":
            quote = one
        elif one in _CLOSING:
            open_ones += _CLOSING[one]
        elif open_ones and one == open_ones[-1]:
            open_ones = open_ones[:-1]
        elif one == "," and not open_ones:
            values.append(text[begin:place].strip())
            begin = place + 1
    values.append(text[begin:].strip())
    if quote or open_ones:
        raise UsageError(
            f"{quote or open_ones[-1]} is missing at the end",
            where=where,
            remedy='Put the whole setting into quotes of the shell: --set \'a.b=["x"],["y"]\'',
        )
    if not all(values):
        raise UsageError(
            "a value is empty",
            where=where,
            remedy='Values stand between commas; the empty text is "".',
        )
    return values


def _short_keys(keys: Sequence[str]) -> dict[str, str]:
    """Return the last part of each key, or the whole one where that is another's too."""
    last = {key: key.rpartition(".")[2] for key in keys}
    counts = Counter(last.values())
    return {key: name if counts[name] == 1 else key for key, name in last.items()}


def _value_name(text: str) -> str:
    """Return a value as a part of a file name; a digest tells apart what that does not."""
    plain = text[1:-1] if text[:1] == '"' else text
    shown = re.sub(r"[^A-Za-z0-9.+-]+", "-", plain).strip("-.")
    if shown == plain and len(shown) <= 2 * _MOST_SHOWN:
        return shown
    return f"{shown[:_MOST_SHOWN].rstrip('-.')}-{_digest(text, 6)}".lstrip("-")


def _bounded(name: str) -> str:
    if len(name) <= _LONGEST_NAME:
        return name
    return f"{name[: _LONGEST_NAME - 11]}-{_digest(name, 10)}"


def _digest(text: str, length: int) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:length]
