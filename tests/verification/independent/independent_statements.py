"""The six kinds of statement of docs/provenance.md: fields, their types, subjects."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from independent_formats import MismatchError, tree_root

Rule = Callable[[Any], bool]

NUMBER = r"-?(0|[1-9][0-9]{0,17})([.][0-9]{1,18})?"


def matches(pattern: str) -> Rule:
    """Text of this form."""
    return lambda value: isinstance(value, str) and re.fullmatch(pattern, value) is not None


def whole(least: int, most: int) -> Rule:
    """A whole number in a range."""
    return lambda value: (
        isinstance(value, int) and not isinstance(value, bool) and least <= value <= most
    )


def text(least: int, most: int) -> Rule:
    """One line of text: no control, format or unassigned characters."""
    return lambda value: (
        isinstance(value, str)
        and least <= len(value) <= most
        and not any(unicodedata.category(c).startswith("C") for c in value)
    )


HEX = matches("[0-9a-f]{64}")
RUN_ID = matches("[0-9a-f]{32}")
TEXT, NAME = text(0, 1024), text(1, 256)
INT, SEGMENT, STAGE = whole(0, 2**53 - 1), whole(1, 65535), whole(0, 65534)
DECIMAL, RESULT = matches(NUMBER), matches(f"{NUMBER}|nan|inf|-inf")
TAU = matches(r"(0|[1-9][0-9]{0,2})[.][0-9]{6}")
TIME = matches(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d([.]\d{1,6})?(Z|[+]00:00)")


def many(rule: Rule) -> Rule:
    """A list, every item of which keeps the rule."""
    return lambda value: isinstance(value, list) and all(rule(item) for item in value)


def texts_to(rule: Rule) -> Rule:
    """An object from text to what keeps the rule."""
    return lambda value: (
        isinstance(value, dict) and all(map(NAME, value)) and all(map(rule, value.values()))
    )


def fields(required: dict[str, Rule], optional: dict[str, Rule] | None = None) -> Rule:
    """An object with these fields and no other."""
    known = required | (optional or {})
    return lambda value: (
        isinstance(value, dict)
        and required.keys() <= value.keys() <= known.keys()
        and all(known[name](item) for name, item in value.items())
    )


HEAD = fields({"size": INT, "root": HEX})
EMPTY_ROOT = tree_root([]).hex()


def flow(value: Any) -> bool:
    """A record of messages that does not contradict itself."""
    whole_record = fields({"messages": INT, "bytes": INT, "root": HEX})(value)
    return whole_record and (
        (value["messages"] == 0) == (value["root"] == EMPTY_ROOT)
        and not (value["bytes"] and not value["messages"])
    )


def run_agrees(value: Any) -> bool:
    """A run statement whose lists fit each other, with a key of its own for everybody."""
    keys, bounds = [value["owner"], *value["trainers"]], value["stage_bounds"]
    return (
        len(set(keys)) == len(keys) >= 2
        and len(value["trainers"]) == len(value["initial_weights"])
        and len(bounds) >= 2
        and (bounds[0], bounds[-1]) == (0, value["total_steps"])
        and ascends(bounds)
        and ascends(value["cuts"])
    )


def ascends(values: list[int]) -> bool:
    """Whether every value is larger than the one before."""
    return all(a < b for a, b in pairwise(values))


def both(rule: Rule, other: Rule) -> Rule:
    """Both rules, the second only where the first holds."""
    return lambda value: rule(value) and other(value)


def different(value: Any) -> bool:
    """A list that is not empty and holds nothing twice."""
    return 0 < len(value) == len(set(value))


def in_order(value: Any) -> bool:
    """Delivered segments 1, 2, ..."""
    return [one["segment"] for one in value] == list(range(1, len(value) + 1))


PREDICATES: dict[str, tuple[int, Rule]] = {
    "run": (
        1,
        both(
            fields(
                {
                    "run_id": RUN_ID,
                    "created": TIME,
                    "creator_version": TEXT,
                    "job_digest": HEX,
                    "card_digest": HEX,
                    "owner": HEX,
                    "trainers": many(HEX),
                    "cuts": many(INT),
                    "total_steps": INT,
                    "stage_bounds": many(INT),
                    "coupling": lambda v: v in ("backprop", "one-way"),
                    "initial_weights": many(HEX),
                }
            ),
            run_agrees,
        ),
    ),
    "enrolment": (
        1,
        fields(
            {"run_id": RUN_ID, "run": HEX, "segment": SEGMENT, "environment": texts_to(TEXT)},
            {
                "mark": fields(
                    {
                        "bits": whole(1, 4096),
                        "weights_per_bit": whole(1, 65536),
                        "tau": TAU,
                        "eligible": both(many(NAME), different),
                        "root": HEX,
                    }
                )
            },
        ),
    ),
    "ticket": (
        2,
        fields(
            {
                "run_id": RUN_ID,
                "segment": SEGMENT,
                "stage": STAGE,
                "first_step": INT,
                "last_step": INT,
                "nonce": HEX,
                "data_order": HEX,
                "job_digest": HEX,
                "samples": INT,
                "ledger": HEAD,
            }
        ),
    ),
    "handoff": (
        1,
        fields(
            {"run_id": RUN_ID, "stage": STAGE, "boundary": STAGE, "forward": flow, "backward": flow}
        ),
    ),
    "stage": (
        2,
        fields(
            {
                "run_id": RUN_ID,
                "segment": SEGMENT,
                "stage": STAGE,
                "start": HEX,
                "ticket": HEX,
                "previous": HEX,
                "upstream": HEX,
                "handoff_in": HEX,
                "weights_in": HEX,
                "weights_out": HEX,
                "optimizer_in": HEX,
                "optimizer_out": HEX,
                "steps": INT,
                "samples": INT,
                "tables": HEX,
                "environment": HEX,
                "time": fields({"start": TIME, "end": TIME}),
            },
            {
                "handoff_out": HEX,
                "mark": fields(
                    {"chain": HEX, "leaf_index": INT, "errors": INT, "statistic": DECIMAL}
                ),
            },
        ),
    ),
    "delivery": (
        1,
        fields(
            {
                "run_id": RUN_ID,
                "segments": both(many(fields({"segment": SEGMENT, "weights": HEX})), in_order),
                "results": texts_to(RESULT),
                "tables": HEX,
                "ledger": HEAD,
            }
        ),
    ),
}


def subjects(kind: str, predicate: dict[str, Any]) -> list[tuple[str, str]]:
    """Name and digest of every subject that follows from a predicate."""
    match kind:
        case "run":
            return [("job", predicate["job_digest"]), ("privacy-card", predicate["card_digest"])]
        case "enrolment":
            return [("run", predicate["run"])]
        case "ticket":
            return [("data-order", predicate["data_order"])]
        case "handoff":
            return [(way, predicate[way]["root"]) for way in ("forward", "backward")]
        case "stage":
            return [(f"segment/{predicate['segment']}", predicate["weights_out"])]
    return [(f"segment/{s['segment']}", s["weights"]) for s in predicate["segments"]]


def statement_kind(statement: dict[str, Any]) -> str:
    """Kind of a statement that is in every field as the page says; else `MismatchError`."""
    if set(statement) != {"_type", "predicateType", "predicate", "subject"}:
        raise MismatchError("other fields than a statement's")
    match = re.fullmatch(r"urn:clicooper:([a-z]+):v([0-9]+)", str(statement["predicateType"]))
    if (
        statement["_type"] != "https://in-toto.io/Statement/v1"
        or not match
        or match[1] not in PREDICATES
    ):
        raise MismatchError("no statement of a known kind")
    version, rule = PREDICATES[match[1]]
    if match[2] != str(version):
        raise MismatchError(f"version {match[2]} of the {match[1]} statement")
    if not rule(statement["predicate"]):
        raise MismatchError(f"a {match[1]} statement with other fields or types")
    expected = [
        {"digest": {"sha256": d}, "name": n} for n, d in subjects(match[1], statement["predicate"])
    ]
    if statement["subject"] != expected:
        raise MismatchError("another subject than follows from the predicate")
    return match[1]
