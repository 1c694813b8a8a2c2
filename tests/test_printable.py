"""Texts of others: escaped by one function, wherever they are printed."""

from __future__ import annotations

import ast
import json
import logging
from pathlib import Path

import pytest
from structure import read_modules

from clicooper_hpc.cli import main
from clicooper_hpc.errors import ClicooperError
from clicooper_hpc.printable import (
    PrintableFormatter,
    printable_json,
    printable_lines,
    printable_text,
)
from clicooper_hpc.run.agreement import print_agreement_failure

ROOT = Path(__file__).resolve().parents[1]
CONTROLS = "".join(map(chr, [*range(32), *range(0x7F, 0xA0)]))
BIDI = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
OTHERS = "\u2028\u2029\u200b\ufeff\ud800\U000e0041"
#: Modules that may write to a standard stream, and what makes their text printable there.
WRITERS = {
    "standard_streams": "errors are lines of ClicooperError, reports go through printable_lines",
}


@pytest.mark.parametrize("text", [CONTROLS, BIDI, OTHERS])
def test_every_character_that_drives_a_terminal_is_escaped(text: str) -> None:
    for one in text:
        assert printable_text(f"a{one}b").isprintable(), hex(ord(one))
        shown = printable_lines(f"a{one}b\nc")
        assert all(line.isprintable() for line in shown.split("\n"))
        error = ClicooperError(f"a{one}b", where=one, remedy=one)
        assert error.line().isprintable()
        assert str(error).isprintable()
        assert json.loads(printable_json({one: one})) == {one: one}
        assert printable_json({one: one}).replace("\n", "").isprintable()


def test_ordinary_text_stays_as_it_is() -> None:
    for text in ("plain", "ä € 漢字 עברית 🙂", "two  blanks", ""):
        assert printable_text(text) == text
    assert printable_lines("one\n\ntwo\n") == "one\n\ntwo\n"
    assert printable_text("\x1b[2J\n") == r"\x1b[2J\n"


def test_a_record_of_the_log_is_one_line() -> None:
    form = PrintableFormatter("1/3 trainer 1: %(message)s")
    record = logging.LogRecord("x", logging.INFO, "", 0, "from %s", ("a\n\x1b[2J",), None)
    assert form.format(record) == r"1/3 trainer 1: from a\n\x1b[2J"
    try:
        raise ValueError("\x1b[2J")
    except ValueError as error:
        record.exc_info = (ValueError, error, error.__traceback__)
    assert "\n" in form.format(record)
    assert "\x1b" not in form.format(record)


def test_what_another_rank_says_is_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    print_agreement_failure(1, 3, "no\nclicooper: done\x1b[2J")
    assert capfd.readouterr().err == "clicooper: 1/3 trainer 1: no\\nclicooper: done\\x1b[2J\n"


def test_a_folder_with_a_strange_name_is_one_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", str(tmp_path / "a\n\x1b[2J\u202e")]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.endswith("\n")
    assert err[:-1].isprintable()


def writes(tree: ast.AST) -> bool:
    """Whether a module calls print, or write on a standard stream, or makes a plain formatter."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called in ("print", "logging.Formatter", "sys.stdout.write", "sys.stderr.write"):
                return True
    return False


def test_no_other_module_writes_to_a_standard_stream() -> None:
    found = {
        name.removeprefix("clicooper_hpc.")
        for name, module in read_modules(ROOT).items()
        if writes(module.tree)
    }
    assert found == set(WRITERS)
