"""The privacy promise of a run, in sentences; the privacy card, as rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from clicooper_hpc.report.numbers import finite_number, number_text
from clicooper_hpc.report.run_reading import RunReading

__all__ = ["PrivacyPromise", "read_promise"]

#: Of a printed card: name and text stand side by side, the text from here on.
_NAME_WIDTH = 17
_INSECURE = "INSECURE"
_NEIGHBOURS = {
    "replace-one": "had ONE been any other",
    "zero-out": "had the row of ONE been all zeros",
    "add-remove": "had ONE not been there, or one more been",
}
_ONES = {"sample": "any one sample", "element": "any one number of a sample's row"}
_UNITS = {"metric": "had any one sample been another one within the distance that the job names"}
#: Epsilon up to which a single sample is hidden nearly, or well.
_STRONG, _WEAK = 1.0, 5.0


@dataclass(frozen=True, slots=True)
class PrivacyPromise:
    """What a run promises, as it says itself.

    Attributes
    ----------
    epsilon
        Of a whole sample in the relation of the run; infinite without privacy, None if the folder
        does not say.
    sentences
        The promise in words.
    warnings
        What makes it worth less or nothing; to be shown loudly.
    card
        Name and text of each line of the privacy card.
    """

    epsilon: float | None
    sentences: Sequence[str]
    warnings: Sequence[str]
    card: Sequence[tuple[str, str]]


def read_promise(reading: RunReading) -> PrivacyPromise:
    """Return the promise of ``reading``'s run."""
    stored, line = reading.run.privacy, reading.public.line
    text = str(stored.get("text", stored.get("promised", "")))
    card = [
        (line(row[:_NAME_WIDTH].strip()), line(row[_NAME_WIDTH:].strip()))
        for row in text.splitlines()
        if row.strip()
    ]
    if not card:
        reading.add_gap("the privacy card: the folder holds none")
    warnings = []
    if stored.get("front.kind") == "conditional":
        warnings.append(
            "CONDITIONAL: the owner's front was made from private samples without the protection "
            "promised here. Every figure below holds only for somebody who learns nothing from the "
            "front itself."
        )
    if _INSECURE in str(stored.get("rng_mode", "")):
        warnings.append(
            "INSECURE: all secrets of this run follow from a seed in its job. Nothing is "
            "protected; such runs are for tests alone."
        )
    if stored.get("private") is False:
        warnings.append(
            "NO PRIVACY: what left the owner carried no noise. The trainers could see the rows "
            "as the front made them."
        )
        return PrivacyPromise(math.inf, ("No guarantee: epsilon is infinite.",), warnings, card)
    epsilon = finite_number(stored.get("spec.sample_epsilon"))
    return PrivacyPromise(epsilon, _in_words(reading), warnings, card)


def _in_words(reading: RunReading) -> list[str]:
    stored, line = reading.run.privacy, reading.public.line
    epsilon = finite_number(stored.get("spec.guarantee.epsilon"))
    delta = finite_number(stored.get("spec.guarantee.delta"))
    if epsilon is None or delta is None:
        return ["The folder does not say which guarantee this run gives."]
    unit, relation = (line(stored.get(f"spec.guarantee.{key}")) for key in ("unit", "relation"))
    change = _UNITS.get(unit, f"had any one {unit}: {relation}")
    if unit in _ONES:
        # No str.format: a relation may be any text of a stranger.
        change = _NEIGHBOURS.get(relation, "had ONE: " + relation).replace("ONE", _ONES[unit])
    sentences = [
        f"Unit {unit}, relation {relation}, epsilon {number_text(epsilon)}, "
        f"delta {number_text(delta)}.",
        f"That means: {change}, whatever the trainers and everybody else see would have been "
        f"nearly as likely: the probability of anything changes at most by the factor "
        f"e^epsilon = {_factor(epsilon)}, but for a probability of delta = {number_text(delta)}.",
        _strength(epsilon),
    ]
    whole = finite_number(stored.get("spec.sample_epsilon"))
    if unit != "sample" and whole is not None:
        sentences.append(f"For a whole sample epsilon is {number_text(whole)}.")
    return sentences


def _factor(epsilon: float) -> str:
    return number_text(math.exp(epsilon)) if epsilon < 20 else f"10^{epsilon / math.log(10):.0f}"


def _strength(epsilon: float) -> str:
    if epsilon <= _STRONG:
        return "By itself that hides nearly all of a single sample from anybody."
    if epsilon <= _WEAK:
        return "That blurs a single sample well; what is left is bounded by the card's ceilings."
    return (
        "An epsilon this large bounds the worst case only loosely; how much an attacker can gain "
        "at most is said by the card's ceilings."
    )
