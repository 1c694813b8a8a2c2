"""There is one way out: nothing but the release gate computes, charges or sends released rows."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import clicooper_hpc
from clicooper_hpc.owner.release_gate import ReleaseGate
from clicooper_hpc.privacy.noise import NoiseStream
from clicooper_hpc.privacy.privacy_ledger import PrivacyLedger
from clicooper_hpc.privacy.receipts import ReleaseReceipts
from clicooper_hpc.privacy.row_releaser import GaussianReleaser, PlainReleaser

PACKAGE = Path(clicooper_hpc.__file__).parent
GATE = "owner/release_gate.py"
#: The audit of the mechanism itself releases rows of its own making, under keys of its own.
AUDIT = "attacks/"


@cache
def texts() -> dict[str, str]:
    """Return the text of every file of the package."""
    return {
        path.relative_to(PACKAGE).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted(PACKAGE.rglob("*.py"))
    }


def trees(name: str) -> Iterator[tuple[str, ast.Module]]:
    """Yield the files that hold the word ``name``, parsed."""
    for file, text in texts().items():
        if name in text:
            yield file, ast.parse(text)


def calls(tree: ast.AST, name: str) -> list[ast.Call]:
    """Return the calls of a function or method called ``name``."""
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and name in (getattr(node.func, "attr", None), getattr(node.func, "id", None))
    ]


def places(name: str) -> dict[str, int]:
    """Return how often each file of the package calls ``name``, where it does."""
    return {file: len(found) for file, tree in trees(name) if (found := calls(tree, name))}


def mentions(tree: ast.AST, name: str) -> bool:
    """Whether an attribute or variable ``name`` is read, called or not."""
    return any(
        name in (getattr(node, "attr", None), getattr(node, "id", None)) for node in ast.walk(tree)
    )


def test_one_line_of_the_package_turns_rows_into_released_ones() -> None:
    (name,) = {one.release_rows.__name__ for one in (GaussianReleaser, PlainReleaser)}
    found = places(name)
    assert {file: count for file, count in found.items() if not file.startswith(AUDIT)} == {GATE: 1}
    # Nor is the method passed on to be called elsewhere.
    passed = [file for file, tree in trees(name) if mentions(tree, name)]
    assert {file for file in passed if not file.startswith(AUDIT)} == {GATE}


def test_noise_is_drawn_for_released_rows_and_sums_alone() -> None:
    assert places(NoiseStream.draw_noise.__name__) == {
        "privacy/class_sums.py": 1,
        "privacy/gradient_sums.py": 1,
        "privacy/moments.py": 1,
        "privacy/row_releaser.py": 1,
    }


def test_only_the_gate_charges_what_leaves() -> None:
    """The budget asks beforehand, and enters what the front cost; both on no wire.

    Sums that rows are made of later are charged when they are made.
    """
    charging = {GATE, "owner/budget.py", "owner/sum_charges.py"}
    assert set(places(PrivacyLedger.authorise_event.__name__)) == charging
    assert places(ReleaseReceipts.add_receipts.__name__) == {GATE: 1}


def test_what_is_sent_as_a_release_comes_from_the_gate() -> None:
    """Whoever sends a RELEASE message sends parts of rows that `ReleaseGate.release` handed out."""
    senders = []
    for file, tree in trees("Kind.RELEASE"):
        for call in calls(tree, "send"):
            if not any("Kind.RELEASE" in ast.unparse(part) for part in call.args):
                continue
            senders.append(file)
            sender = enclosing(tree, call)
            (sent,) = assigned(sender, ast.unparse(call.args[0]))
            rows = ast.unparse(sent).partition("[")[0]
            assert all("gate.release(" in ast.unparse(one) for one in assigned(sender, rows)), file
    assert senders
    assert all(file.startswith("owner/") for file in senders)


def enclosing(tree: ast.Module, call: ast.Call) -> ast.FunctionDef:
    """Return the innermost function around ``call``."""
    around = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and any(part is call for part in ast.walk(node))
    ]
    return min(around, key=lambda node: len(ast.unparse(node)))


def assigned(function: ast.FunctionDef, name: str) -> list[ast.expr]:
    """Return all values that are assigned to ``name``, alone or first of a tuple; never none."""
    found = []
    for node in ast.walk(function):
        if isinstance(node, ast.Assign):
            target = node.targets[0]
            first = target.elts[0] if isinstance(target, ast.Tuple) else target
            if ast.unparse(first) == name:
                found.append(node.value)
    assert found, f"{function.name}: where does {name} come from?"
    return found


def test_sub_labels_leave_through_the_gate() -> None:
    (place,) = places(ReleaseGate.release_sub_labels.__name__)
    assert place.startswith("run/")
    # Nobody else makes bytes of them; but trainers compare a digest of what each was sent.
    compared = [
        node
        for call in calls(ast.parse(texts()["run/start.py"]), "check_told_alike")
        for node in ast.walk(call)
    ]
    compared_texts = {ast.unparse(node) for node in compared if isinstance(node, ast.Call)}
    for file, tree in trees("tobytes"):
        for call in calls(tree, "tobytes"):
            text = ast.unparse(call)
            if "sub_labels" not in text or not file.startswith(("owner/", "run/")):
                continue
            if file == "run/start.py" and text in compared_texts:
                continue
            assert "gate.release_sub_labels()" in text, f"{file}: {text}"
