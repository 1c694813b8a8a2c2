"""The independent verifier, written from the docs alone, judges every lie of the matrix alike."""

from __future__ import annotations

import subprocess
import sys
from itertools import chain
from pathlib import Path

import lies_files
import lies_ledger
import lies_stages
import pytest
from lies import Row, honest

from clicooper_hpc.verification.evidence import Evidence, Unreadable
from clicooper_hpc.verification.run_checks import run_checks

INDEPENDENT = Path(__file__).parent / "independent"
sys.path.append(str(INDEPENDENT))

from independent_checks import Verifier  # noqa: E402
from independent_facts import Facts  # noqa: E402
from independent_formats import MismatchError  # noqa: E402

ROWS = [*lies_ledger.ROWS, *lies_stages.ROWS, *lies_files.ROWS]

Outcome = dict[int, bool | None]


def plain(value: object) -> object:
    return MismatchError(value.reason) if isinstance(value, Unreadable) else value


def facts_of_evidence(evidence: Evidence) -> Facts:
    """The same values in the other form; nothing is computed here."""
    allowed = evidence.allowed_keys
    owner, pinned = evidence.owner_key, evidence.trainer_keys
    segments = evidence.segments
    # Of a run there is always a job.
    assert evidence.job_text is not None
    assert evidence.job_digest is not None
    return Facts(
        envelopes=evidence.entries,
        notes=evidence.checkpoints,
        run_id=evidence.run_id,
        job_text=evidence.job_text,
        job_digest=evidence.job_digest,
        missing_ledger=evidence.missing_ledger,
        denied_proofs=evidence.denied_proofs,
        status=evidence.status,
        card_digest=evidence.card_digest,
        marks={True: "required", False: "off", None: "auto"}[evidence.marks],
        delivered=None if segments is None else [plain(one) for one in segments],  # type: ignore[misc]
        kept={at: plain(one) for at, one in evidence.checkpoint_roots.items()},  # type: ignore[misc]
        tables={at: plain(one) for at, one in evidence.tables.items()},  # type: ignore[misc]
        heads={segment: heads_of(evidence, segment) for segment in evidence.trainer_heads},
        evidence=evidence.equivocations,
        messages={rank: plain(one) for rank, one in evidence.messages.items()},  # type: ignore[misc]
        layout=[*chain(*evidence.outlines.values())] if evidence.outlines else None,
        job_trainers=None if allowed is None else {key.raw.hex() for key in allowed},
        owner_key=None if owner is None else owner.raw.hex(),
        trainer_keys=None if pinned is None else [key.raw.hex() for key in pinned],
    )


def heads_of(evidence: Evidence, segment: int) -> list[tuple[int, str, str]]:
    """Heads of a trainer with the notes beside them; no text where there is none."""
    notes = [*evidence.trainer_notes.get(segment, ())]
    heads = evidence.trainer_heads[segment]
    notes += [""] * (len(heads) - len(notes))
    return [(*head, note) for head, note in zip(heads, notes, strict=False)]


def both(evidence: Evidence) -> tuple[Outcome, Outcome, str]:
    """Outcomes of `verify` and of the independent verifier by number, and what the latter says."""
    words = {"ok": True, "FAILED": False, "-": None, "not run": None}
    report = Verifier(facts_of_evidence(evidence)).report()
    theirs = {one.number: one.passed for one in run_checks(evidence)}
    text = "; ".join(f"{number}: {what}" for number, verdict, what in report if verdict == "FAILED")
    return theirs, {number: words[verdict] for number, verdict, _ in report}, text


def test_an_honest_run_passes_both() -> None:
    theirs, mine, text = both(honest())
    assert theirs == mine, text
    assert all(theirs[number] for number in range(1, 18))


@pytest.mark.parametrize("one", ROWS, ids=[one.name for one in ROWS])
def test_every_lie_fails_the_same_checks(one: Row) -> None:
    theirs, mine, text = both(one.lie())
    assert mine == theirs, text


def test_it_imports_nothing_of_the_package() -> None:
    """In a process of its own, from the outside: the package cannot even be found."""
    code = (
        f"import sys; sys.path.append({str(INDEPENDENT)!r}); sys.modules['clicooper_hpc'] = None\n"
        "import independent_marks, independent_verifier\n"
        "print([name for name in sys.modules if name.startswith('clicooper_hpc.')])"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")
