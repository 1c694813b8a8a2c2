"""Job files and --set texts beyond all bounds: one line that names the place, and exit code 2."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from clicooper_hpc.config.load_job import load_job, reload_job
from clicooper_hpc.config.toml_text import (
    MAX_TOML_BYTES,
    MAX_TOML_DEPTH,
    parse_toml_text,
    parse_toml_value,
)
from clicooper_hpc.data.dataset import open_dataset
from clicooper_hpc.errors import DataError, ExitCode, UsageError

DATA = '[data]\npath = "digits"\n'
DEEP = "[" * 5000
HUGE = "9" * 5000

#: What follows the data section, and words the line must have.
FILES: dict[str, tuple[bytes, tuple[str, ...]]] = {
    "lists nested deeply": (f"[model]\noptions = {{ a = {DEEP} }}".encode(), ("nested deeper",)),
    "tables nested deeply": (b"[model]\noptions = " + b"{a=" * 5000, ("nested deeper",)),
    "a deep dotted key": (b"[" + b"a." * 5000 + b"a]\nb = 1", ("nested deeper",)),
    "an integer of thousands of digits": (f"[training]\nepochs = {HUGE}".encode(), ("TOML",)),
    "an integer of thousands of hex digits": (
        b"[training]\nepochs = 0x" + b"f" * 5000,
        ("epochs", "64 bits"),
    ),
    "an integer of 65 bits": (b"[training]\nseed = 18446744073709551616", ("seed", "64 bits")),
    "a NUL in a path": (b'[front]\npublic_data = "a\\u0000b"', ("public_data", "NUL")),
    "a NUL in a key": (b'[model.options]\n"a\\u0000b" = 1', ("NUL",)),
    "half a surrogate pair": (b'[model]\nname = "\\ud800"', ("not valid TOML",)),
    "bytes that are no UTF-8": (b"# \xff", ("UTF-8", "byte")),
    "a value of a megabyte": (b'[model]\nname = ["' + b"x" * 200_000 + b'"]', ("model.name",)),
    "a key of a megabyte": (b"[training]\n" + b"x" * 200_000 + b" = 1", ("unknown key training.",)),
    "more than is read": (b"#" * (MAX_TOML_BYTES + 1), ("longer than",)),
    "a date out of range": (b"[training]\nepochs = 2026-13-45", ("TOML",)),
    "a wrong seed": (b"[training]\nseed = -1", ("training.seed", "-1")),
    "a seed that is no integer": (b"[training]\nseed = 1.5", ("training.seed", "1.5")),
    "a seed that is a word": (b'[training]\nseed = "one"', ("training.seed", "one")),
    "a seed that is a truth value": (b"[training]\nseed = true", ("training.seed", "true")),
    "a seed that is infinite": (b"[training]\nseed = inf", ("training.seed", "inf")),
}


def check_line(error: UsageError, *words: str) -> None:
    line = error.line()
    assert error.exit_code == ExitCode.USAGE
    assert line.isprintable()
    assert len(line) < 3100
    for word in words:
        assert word in line


@pytest.mark.parametrize("name", FILES)
def test_a_job_file_out_of_bounds_is_one_line(name: str, tmp_path: Path) -> None:
    text, words = FILES[name]
    path = tmp_path / "job.toml"
    path.write_bytes(DATA.encode() + text)
    with pytest.raises(UsageError) as caught:
        load_job(path)
    check_line(caught.value, "job.toml", *words)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (f"model.options={DEEP}", "nested deeper"),
        (f"{'a.' * 5000}b=1", "nested deeper"),
        (f"training.epochs={HUGE}", "TOML"),
        (f"training.epochs=0x{'f' * 5000}", "64 bits"),
        ("model.name='\udcff'", "no Unicode"),
        ("data.path=a\0b", "NUL"),
        ("\udcff.\udcff=1", "no Unicode"),
        ("x" * 100_000, "section.key=value"),
        (f"model.name={[*range(50_000)]}", "model.name"),
        ("training.seed=true", "training.seed"),
        ("training.learning_rate=true", "training.learning_rate"),
        ("pipeline.partition=[true]", "pipeline.partition"),
        ("training.seed=-5", "training.seed"),
        ("training.seed=1979-05-27T07:32:00Z", "training.seed"),
    ],
)
def test_a_set_text_out_of_bounds_is_one_line(text: str, word: str, tmp_path: Path) -> None:
    path = tmp_path / "job.toml"
    path.write_text(DATA)
    job = load_job(path)
    with pytest.raises(UsageError) as caught:
        reload_job(job, [text])
    check_line(caught.value, word)


def test_what_is_just_within_the_bounds_is_read() -> None:
    depth = MAX_TOML_DEPTH - 2
    value = parse_toml_value("[" * depth + "9223372036854775807" + "]" * depth, where="here")
    for _ in range(depth):
        (value,) = value
    assert value == 2**63 - 1
    assert parse_toml_text("a = 'b'\n", where="here") == {"a": "b"}
    assert parse_toml_value("a b", where="here") == "a b"


def test_links_in_a_circle_are_one_line(tmp_path: Path) -> None:
    os.symlink("loop", tmp_path / "loop")
    path = tmp_path / "job.toml"
    path.write_text('[data]\npath = "loop/x"\n')
    with pytest.raises(UsageError) as caught:
        load_job(path)
    check_line(caught.value, "data.path")


def test_no_more_of_a_base_is_read_than_is_allowed(tmp_path: Path) -> None:
    """A name may lead to a device without an end."""
    path = tmp_path / "job.toml"
    path.write_text('extends = "/dev/zero"\n')
    with pytest.raises(UsageError) as caught:
        load_job(path)
    check_line(caught.value, "/dev/zero", "longer than")


def test_a_path_that_no_file_system_takes_is_one_line(tmp_path: Path) -> None:
    """Found when it is opened: the job itself is taken."""
    path = tmp_path / "job.toml"
    path.write_text(f'[data]\npath = "{"x" * 5000}.h5"\n')
    job = load_job(path)
    with pytest.raises(DataError) as caught:
        open_dataset(job.data.path)
    assert "no such file" in caught.value.line()
