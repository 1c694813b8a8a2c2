"""Every parser answers changed inputs with its own error: a short replay of `make fuzz`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from fuzz_replay import replay_target
from fuzz_target import Fault, FuzzTarget, judge_input
from fuzz_targets import FAMILY_OF, TARGETS

from clicooper_hpc.errors import UsageError


@pytest.mark.parametrize("name", [name for name, one in TARGETS.items() if not one.foreign])
def test_changed_inputs_are_answered_by_our_own_error(name: str) -> None:
    taken, faults = replay_target(TARGETS[name])
    assert taken, "no seed is taken: the parser is not reached"
    assert faults == []


@pytest.mark.parametrize("name", [name for name, one in TARGETS.items() if one.foreign])
def test_changed_files_of_c_libraries_are_answered_by_our_own_error(name: str) -> None:
    script = Path(__file__).with_name("fuzz_replay.py")
    command = [sys.executable, str(script), FAMILY_OF[name], name]
    done = subprocess.run(command, capture_output=True, timeout=120, check=True)
    taken, faults = json.loads(done.stdout)
    assert taken
    assert faults == []


def answer(content: bytes) -> None:
    match content:
        case b"good":
            return
        case b"key":
            dict[str, str]()["name"]
        case b"long":
            raise UsageError("x" * 10**6, where="y" * 10**6, remedy="z" * 10**6)
        case b"done":
            error = UsageError("refused")
            error.exit_code = type(error.exit_code)(0)
            raise error
        case b"two":
            raise UsageError("one\nline \x1b[2J")
        case _:
            raise UsageError("refused")


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"good", None),
        (b"bad", None),
        (b"long", None),
        (b"two", None),
        (b"key", "KeyError"),
        (b"done", "exit code"),
    ],
)
def test_what_counts_as_a_fault(content: bytes, fault: str | None) -> None:
    found = judge_input(FuzzTarget("made up", list, answer), content)
    if fault is None:
        assert found is None
    else:
        assert isinstance(found, Fault)
        assert found.key.startswith(fault)
