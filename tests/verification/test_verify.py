"""Verification as a whole: what passes, what does not apply, and that nothing slips through."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from forge import Forge, changed, h
from hypothesis import given, settings
from hypothesis import strategies as st
from lies import ENROLMENT, IDENTITIES, PROOF, forge, honest

from clicooper_hpc.errors import EvidenceError
from clicooper_hpc.provenance.ledger_order import EntryId
from clicooper_hpc.provenance.marks.carriers import draw_carriers
from clicooper_hpc.provenance.marks.mark_keys import mark_key_seed, open_mark_key
from clicooper_hpc.provenance.marks.mark_plan import MarkPlan
from clicooper_hpc.provenance.statements import StageProof, parse_statement
from clicooper_hpc.verification import run_checks as verify_module
from clicooper_hpc.verification.evidence import Evidence
from clicooper_hpc.verification.marks.claim import read_mark_claim
from clicooper_hpc.verification.run_checks import CHECKS, has_failed_checks, run_checks

HONEST = honest()
DOCS = Path(__file__).parents[2] / "docs" / "provenance.md"


def outcome(evidence: Evidence) -> dict[int, bool | None]:
    return {result.number: result.passed for result in run_checks(evidence)}


def numbered(text: str) -> list[str]:
    """Return the numbered items of a text, each in one line."""
    items = re.findall(r"^ ?(\d+)\. (.+?)(?=\n ?\d+\. |\n\n|\Z)", text, re.MULTILINE | re.DOTALL)
    return [" ".join(f"{number}. {item}".replace("**", "").split()) for number, item in items]


def words() -> list[str]:
    return [f"{n}. {check.title}: {check.sentence}" for n, check in enumerate(CHECKS, 1)]


def test_docstring_and_output_use_the_same_words() -> None:
    assert numbered(verify_module.__doc__ or "") == words()
    assert [(r.number, r.title) for r in run_checks(HONEST)] == [
        (number, check.title) for number, check in enumerate(CHECKS, 1)
    ]


@pytest.mark.skipif(not DOCS.is_file(), reason="the page is not written yet")
def test_the_docs_page_uses_the_same_words() -> None:
    found = numbered(DOCS.read_text(encoding="utf-8"))
    assert [item for item in found if item in words()] == words()


@pytest.mark.parametrize(
    ("segments", "stages", "coupling", "marks"),
    [(1, 1, "backprop", True), (2, 3, "one-way", False), (5, 2, "one-way", True)],
)
def test_honest_runs_of_other_shapes_pass(
    segments: int, stages: int, coupling: str, marks: bool
) -> None:
    settings = {"segments": segments, "stages": stages, "coupling": coupling, "marks": marks}
    found = outcome(Forge(**settings).build())  # type: ignore[arg-type]
    assert found == dict.fromkeys(range(1, 20), True) | ({} if marks else {12: None})


@pytest.mark.parametrize("size", range(1, 23))
def test_an_unfinished_run_is_sound_but_not_complete(size: int) -> None:
    """A ledger that just stops lacks its end, and nothing else is held against it."""
    notes = [note for note in HONEST.checkpoints if int(note.split("\n")[1]) <= size]
    evidence = replace(
        HONEST,
        entries=HONEST.entries[:size],
        checkpoints=notes,
        trainer_heads={
            trainer: [head for head in heads if head[0] <= size]
            for trainer, heads in HONEST.trainer_heads.items()
        },
    )
    results = {result.number: result for result in run_checks(evidence)}
    assert {number for number, one in results.items() if one.passed is False} == {5}
    assert f"{size} of 23 entries" in results[5].detail
    assert results[13].detail == "not run: check 5 failed"


def test_marks_of_some_segments_only_are_no_fault_unless_the_job_asks() -> None:
    bare = {place: changed(mark=None) for place in (ENROLMENT, EntryId("stage", 0, 2), PROOF)}
    evidence = honest(alter=bare)
    results = run_checks(replace(evidence, marks=None))
    assert not has_failed_checks(results)
    assert results[11].detail.startswith("marks: 4, segments without: 1, weakest")
    assert has_failed_checks(run_checks(replace(evidence, marks=True)))


def test_what_does_not_apply_says_why() -> None:
    bare = replace(
        honest(marks=False),
        segments=None,
        checkpoint_roots={},
        tables={},
        trainer_heads={},
        messages={},
        outlines={},
        owner_key=None,
        trainer_keys=None,
        allowed_keys=None,
        marks=None,
    )
    results = {result.number: result for result in run_checks(bare)}
    assert {n for n, one in results.items() if one.passed is None} == {12, 14, 15, 16, 17, 18, 19}
    for number in (12, 14, 15, 16, 17, 18, 19):
        assert results[number].detail.startswith("not applicable: ")
    assert "no delivered files" in results[13].detail
    assert "may have made all its keys" in results[17].detail
    assert not has_failed_checks(list(results.values()))


def test_what_was_not_run_names_the_check_that_failed_first() -> None:
    results = run_checks(replace(HONEST, run_id="f" * 32))
    assert [one.passed for one in results[:3]] == [True, False, None]
    # All but the last, which looks at files alone.
    assert {one.detail for one in results[2:-1]} == {"not run: check 2 failed"}
    assert results[-1].passed


def test_many_problems_are_counted_not_listed() -> None:
    result = run_checks(replace(HONEST, tables={at: h("x") for at in HONEST.tables}))[14]
    assert result.detail.count(";") == 3
    assert result.detail.endswith("; and 4 more")


def test_evidence_cannot_write_to_the_terminal() -> None:
    results = run_checks(replace(HONEST, card_digest="\x1b[2J\n" + "x" * 10_000))
    assert "\\x1b[2J\\n" in results[1].detail
    assert results[1].detail.isprintable()
    assert len(results[1].detail) < 500


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_no_byte_of_the_ledger_can_change_unnoticed(data: st.DataObject) -> None:
    entries, notes = list(HONEST.entries), [one.encode() for one in HONEST.checkpoints]
    part = data.draw(st.sampled_from([entries, notes]))
    number = data.draw(st.integers(0, len(part) - 1))
    at = data.draw(st.integers(0, len(part[number]) - 1))
    flipped = part[number][at] ^ data.draw(st.integers(1, 255))
    part[number] = part[number][:at] + bytes([flipped]) + part[number][at + 1 :]
    texts = [note.decode("utf-8", "replace") for note in notes]
    assert has_failed_checks(run_checks(replace(HONEST, entries=entries, checkpoints=texts)))


@settings(max_examples=60, deadline=None)
@given(
    entries=st.lists(st.binary(max_size=80) | st.sampled_from(HONEST.entries), max_size=25),
    notes=st.lists(st.text(max_size=80) | st.sampled_from(HONEST.checkpoints), max_size=5),
    strings=st.tuples(*[st.text(max_size=70)] * 4),
    heads=st.dictionaries(
        st.integers(-1, 5), st.lists(st.tuples(st.integers(), st.text(max_size=9)), max_size=3)
    ),
)
def test_whatever_the_evidence_is_nothing_is_raised(
    entries: list[bytes],
    notes: list[str],
    strings: tuple[str, str, str, str],
    heads: dict[int, list[tuple[int, str]]],
) -> None:
    run_id, job_text, job_digest, card_digest = strings
    for prefix in ([], list(HONEST.entries[:7])):
        evidence = Evidence(
            entries=prefix + entries,
            checkpoints=notes,
            status="complete",
            run_id=run_id,
            job_text=job_text,
            job_digest=job_digest,
            card_digest=card_digest,
            segments=[],
            trainer_heads=heads,
        )
        assert has_failed_checks(run_checks(evidence))
        # The same behind a run statement that holds.
        good = replace(HONEST, entries=prefix + entries, checkpoints=notes, trainer_heads=heads)
        assert len(run_checks(good)) == len(CHECKS)


# --- Marks read with their keys -------------------------------------------------------------------

PLAN = MarkPlan(32, 64, 3.0, ("0.weight", "2.weight"))
SHAPES = {"0.weight": (64, 80), "0.bias": (64,), "2.weight": (64, 64)}


def marked_run() -> tuple[Forge, Evidence, dict[str, np.ndarray]]:
    """Return a run, and weights that carry the mark of segment 2, stage 1."""
    one = forge(plans={2: PLAN})
    evidence = one.build()
    generator = np.random.default_rng(5)
    weights = {name: generator.standard_normal(shape) for name, shape in SHAPES.items()}
    statement = parse_statement(one.envelopes[PROOF].payload)
    assert isinstance(statement, StageProof)
    assert statement.mark is not None
    key = open_mark_key(one.run_id, 2, one.masters[1], 2, 1).key
    carriers = draw_carriers(PLAN, SHAPES, mark_key_seed(key, bytes.fromhex(statement.mark.chain)))
    columns = [weights[name][:, ::2].copy() for name in PLAN.eligible]
    flat = np.concatenate([one.reshape(-1) for one in columns])
    flat[carriers.index.reshape(-1)] += 0.6 * carriers.sign.reshape(-1)
    cut = columns[0].size
    for name, part in zip(PLAN.eligible, (flat[:cut], flat[cut:]), strict=True):
        weights[name][:, ::2] = part.reshape(weights[name][:, ::2].shape)
    return one, evidence, weights


def test_a_mark_is_read_with_its_key() -> None:
    one, evidence, weights = marked_run()
    opening = open_mark_key(one.run_id, 2, one.masters[1], 2, 1)
    found = read_mark_claim(evidence, 2, opening, weights)
    assert (found.segment, found.stage) == (2, 1)
    assert found.keyid == IDENTITIES[1][1].keyid
    assert found.reading.errors == 0
    assert found.reading.log2_p < -128


def test_the_key_of_another_stage_reads_nothing() -> None:
    one, evidence, weights = marked_run()
    opening = open_mark_key(one.run_id, 2, one.masters[1], 2, 0)
    assert read_mark_claim(evidence, 2, opening, weights).reading.log2_p > -20


@pytest.mark.parametrize(
    ("segment", "master", "stage", "message"),
    [
        (2, 2, 1, "not the one enrolled"),
        (3, 1, 1, "not the one enrolled"),
        (4, 1, 1, "no mark of segment 4"),
        (0, 1, 1, "no mark of segment 0"),
    ],
)
def test_a_key_that_was_not_enrolled_reads_nothing(
    segment: int, master: int, stage: int, message: str
) -> None:
    one, evidence, weights = marked_run()
    opening = open_mark_key(one.run_id, 2, one.masters[master], 2, stage)
    with pytest.raises(EvidenceError, match=message):
        read_mark_claim(evidence, segment, opening, weights)


def test_a_claim_needs_a_ledger_that_holds() -> None:
    one, evidence, weights = marked_run()
    opening = open_mark_key(one.run_id, 2, one.masters[1], 2, 1)
    with pytest.raises(EvidenceError, match=r"check 4 \(Checkpoints\) failed"):
        read_mark_claim(replace(evidence, checkpoints=()), 2, opening, weights)
    with pytest.raises(EvidenceError, match="no mark"):
        read_mark_claim(honest(marks=False), 2, opening, weights)
