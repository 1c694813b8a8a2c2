"""A rank that lies about its failure cannot choose how the processes of others end."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from mpirun import mpirun

from clicooper_hpc.errors import FAILURE_CODES, ExitCode
from clicooper_hpc.transport.failure_report import (
    REPORT_BYTES,
    encode_failure_text,
    read_failure_report,
)

PROGRAM = Path(__file__).with_name("programs") / "lying_codes.py"
RANKS = 3
POWERS = [sign * 2**bits for bits in (7, 8, 15, 16, 31, 32, 63) for sign in (-1, 1)]
EDGES = [power + by for power in POWERS for by in (-1, 0, 1)]


def test_the_failure_codes_are_those_of_errors() -> None:
    assert {int(code) for code in FAILURE_CODES} == {1, 2, 3, 4, 5}


@pytest.mark.parametrize("code", FAILURE_CODES)
def test_a_failure_code_and_its_message_pass_as_they_are(code: ExitCode) -> None:
    assert read_failure_report(code, b"no such file: \xc3\xa9", 2) == (code, "no such file: é")
    assert read_failure_report(code, b"", 2) == (code, "")


def test_success_is_code_0_without_a_reason() -> None:
    assert read_failure_report(0, b"", 1) == (ExitCode.DONE, "")
    code, message = read_failure_report(0, b"why", 1)
    assert code == ExitCode.INTERNAL
    assert message == "rank 1 reported a failure with the impossible exit code 0: why"


def test_every_other_code_is_an_internal_failure_that_says_so() -> None:
    draw = random.Random(5)
    drawn = [draw.randint(-(2**31), 2**31 - 1) for _ in range(20_000)]
    for code in [*range(-70_000, 70_000), *EDGES, *drawn]:
        if code in FAILURE_CODES or code == 0:
            continue
        found, message = read_failure_report(code, b"", 1)
        assert found is ExitCode.INTERNAL
        assert message == f"rank 1 reported a failure with the impossible exit code {code}"


def test_a_message_is_one_printable_line_of_bounded_length() -> None:
    controls = bytes(range(32)) + b"\x7f\x1b[2J\r\n"
    separators = "\u2028\u2029\u0085\u202e\u200b".encode()
    for text in (controls, separators, b"\xff\xfe\x80", b"\x1b" * 9000, b"a" * 9000, b"\xc3" * 99):
        for code in (1, 256):
            _, message = read_failure_report(code, text, 1)
            assert message.isprintable()
            assert len(message) <= REPORT_BYTES
    _, message = read_failure_report(2, b"a\nclicooper: done\x1b[0m", 1)
    assert message == r"a\nclicooper: done\x1b[0m"


def test_a_message_that_was_read_is_read_the_same_again() -> None:
    once = read_failure_report(256, b"a\nb\x00", 1)
    assert read_failure_report(once[0], encode_failure_text(once[1]), 0) == once


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, list[object]]]:
    folder = tmp_path_factory.mktemp("codes")
    done = mpirun(RANKS, [str(PROGRAM), str(folder)])
    assert (done.returncode, done.stderr) == (0, ""), done.stderr[-4000:]
    return [json.loads((folder / f"{rank}.json").read_text("utf-8")) for rank in range(RANKS)]


@pytest.mark.mpi
@pytest.mark.parametrize("code", [0, 75, 256, -1, 2**31, 6, 130])
def test_all_ranks_learn_an_impossible_code_of_a_trainer_as_1(
    told: list[dict[str, list[object]]], code: int
) -> None:
    seen = code - 2**32 if code >= 2**31 else code
    said = rf"rank 1 reported a failure with the impossible exit code {seen}: no\n\x1b[2Jreason"
    assert [answers[f"up {code}"] for answers in told] == [[1, said, 1]] * RANKS


@pytest.mark.mpi
@pytest.mark.parametrize("code", [75, 256, -1, 2**31])
def test_trainers_refuse_an_impossible_code_of_the_owner(
    told: list[dict[str, list[object]]], code: int
) -> None:
    seen = code - 2**32 if code >= 2**31 else code
    said = f"rank 0 reported a failure with the impossible exit code {seen}: all is well"
    assert [answers[f"down {code}"] for answers in told[1:]] == [[1, said, 0]] * (RANKS - 1)


@pytest.mark.mpi
def test_a_failed_trainer_keeps_its_failure_when_the_owner_says_all_is_well(
    told: list[dict[str, list[object]]],
) -> None:
    assert [answers["down well"] for answers in told[1:]] == [[4, "mine", 1], [0, "", -1]]
