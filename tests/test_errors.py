"""The line of an error is one, short and printable, whatever it quotes."""

from __future__ import annotations

from clicooper_hpc.errors import MOST_CHARACTERS, UsageError


def test_a_short_error_is_shown_whole() -> None:
    error = UsageError("no such key.", where="job.toml:3", remedy="Did you mean it?")
    assert error.line() == "job.toml:3: no such key. Did you mean it?"
    assert UsageError("alone").line() == "alone"


def test_long_parts_are_cut_and_the_remedy_still_shows() -> None:
    line = UsageError("x" * 10**7, where="y" * 10**7, remedy="Do this.").line()
    assert line.endswith("xxx. Do this.")
    assert len(line) < 2 * MOST_CHARACTERS + 50


def test_escaped_characters_count_as_they_are_shown() -> None:
    line = UsageError("\x1b\U000e0001\n" * 10**5, where="\u202e" * 10**5).line()
    assert line.isprintable()
    assert len(line) < 2 * MOST_CHARACTERS + 50
