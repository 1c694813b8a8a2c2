"""`SuggestingParser`: a parser that answers a mistyped command or option with the nearest one."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

from clicooper_hpc.printable import printable_text

__all__ = ["SuggestingParser"]


class SuggestingParser(argparse.ArgumentParser):
    """As `argparse.ArgumentParser`, whose errors name what was probably meant."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._typed: Sequence[str] = ()

    # Typed as argparse's own are, which has overloads.
    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """See `argparse.ArgumentParser`; what a command does not know is an error of its own."""
        self._typed = sys.argv[1:] if args is None else args
        found, rest = super().parse_known_args(args, namespace)
        # Of the parser that knows the options beside it, not of the one above.
        if rest and not self._commands():
            self.error(f"unrecognized arguments: {' '.join(rest)}")
        return found, rest

    def error(self, message: str) -> NoReturn:
        """Print usage and ``message``, with what was probably meant, and exit with 2."""
        meant = "".join(f"; {one}" for one in self._suggestions())
        super().error(printable_text(message) + printable_text(meant))

    def _suggestions(self) -> Iterator[str]:
        commands = self._commands()
        words = [one for one in self._typed if not one.startswith("-")]
        if commands and words and words[0] not in commands:
            yield from _nearest(words[0], commands)
        # Not what stands in for an option, such as --out for --output, and not its value.
        options = [*self._option_string_actions]
        for word in (one.partition("=")[0] for one in self._typed if one.startswith("--")):
            if word != "--" and not any(option.startswith(word) for option in options):
                yield from _nearest(word, options)

    def _commands(self) -> list[str]:
        return [
            name
            for action in self._actions
            if isinstance(action, argparse._SubParsersAction)
            for name in action.choices
        ]


def _nearest(word: str, known: Sequence[str]) -> Iterator[str]:
    for one in difflib.get_close_matches(word[:80], known, n=1):
        yield f"{word}: did you mean {one}?"
