"""lying_owner.py LIE ARGUMENTS...: the command line, with an owner that signs something else.

LIE is ``bounds``: a run statement with as many stages, one of which begins a step later;
``samples``: the last trainer's tickets order one sample more than the plan has; or ``delivery``: a
delivery over another ledger.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from clicooper_hpc.cli import main

# Trainers reach none of what is replaced here: it stands in the owner's modules.
LIE = sys.argv.pop(1)
owner_role: Any = import_module("clicooper_hpc.run.owner_role")
ledger_writer: Any = import_module("clicooper_hpc.owner.ledger_writer")
log_operator: Any = import_module("clicooper_hpc.owner.log_operator")
true_statement, true_ticket = owner_role.RunStatement, ledger_writer.expected_ticket
true_delivery = log_operator.DeliveryStatement


def statement(**fields: Any) -> Any:
    first, second, *rest = fields["stage_bounds"]
    return true_statement(**{**fields, "stage_bounds": (first, second + 1, *rest)})


def ticket(run: Any, stage: int, segment: int, **options: Any) -> Mapping[str, object]:
    if segment == run.segments:
        options["samples"] += 1
    ordered: Mapping[str, object] = true_ticket(run, stage, segment, **options)
    return ordered


def delivery(**fields: Any) -> Any:
    head = fields["ledger"]
    return true_delivery(**{**fields, "ledger": head.model_copy(update={"root": "ab" * 32})})


if LIE == "bounds":
    owner_role.RunStatement = statement
elif LIE == "samples":
    ledger_writer.expected_ticket = ticket
else:
    log_operator.DeliveryStatement = delivery
sys.exit(main())
