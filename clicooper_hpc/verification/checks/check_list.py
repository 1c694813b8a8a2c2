"""The numbered checks of a verification: their words, what each builds on, what runs it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from clicooper_hpc.verification.checks.files import (
    check_checkpoint_files,
    check_delivered_files,
    check_hdf5_files,
    check_message_tables,
    check_table_files,
)
from clicooper_hpc.verification.checks.ledger import (
    check_ledger_checkpoints,
    check_ledger_completeness,
    check_ledger_enrolments,
    check_ledger_entries,
    check_ledger_keys,
    check_ledger_order,
    check_ledger_replicas,
    check_ledger_run,
)
from clicooper_hpc.verification.checks.stages import (
    check_stage_continuity,
    check_stage_handoffs,
    check_stage_links,
    check_stage_marks,
    check_stage_proofs,
    check_stage_tickets,
)
from clicooper_hpc.verification.ledger_view import Findings, LedgerView

__all__ = ["CHECKS", "Check"]

_Run = Callable[[LedgerView, Findings], str]


@dataclass(frozen=True, slots=True)
class Check:
    """One check.

    Parameters
    ----------
    title, sentence
        What it is called and what holds when it passes; the same words in output and docs.
    run
        Returns what was looked at, or notes problems.
    needs
        Numbers of checks without which it cannot run.
    """

    title: str
    sentence: str
    run: _Run
    needs: tuple[int, ...]


#: Check n is ``CHECKS[n - 1]``.
CHECKS: Final[tuple[Check, ...]] = (
    Check(
        "Entries",
        "the ledger is there, whatever the job says, and every entry is a signed envelope around "
        "a statement of a known kind, both in canonical form.",
        check_ledger_entries,
        (),
    ),
    Check(
        "Run statement",
        "the owner alone signed it, and it names this run, this job and this privacy card.",
        check_ledger_run,
        (1,),
    ),
    Check(
        "Order",
        "every entry belongs to this run and stands where the fixed order puts it.",
        check_ledger_order,
        (2,),
    ),
    Check(
        "Checkpoints",
        "after the enrolments, every stage and the delivery the owner signed the size and "
        "the root of the Merkle tree over the entries.",
        check_ledger_checkpoints,
        (2,),
    ),
    Check(
        "Completeness",
        "the ledger ends with the delivery, every trainer cosigned the checkpoint behind it, "
        "and the run says that it is complete.",
        check_ledger_completeness,
        (3,),
    ),
    Check(
        "Enrolments",
        "every trainer signed up for this run statement with a key the job allows, and "
        "the marks are planned strong enough.",
        check_ledger_enrolments,
        (3,),
    ),
    Check(
        "Tickets",
        "the owner signed every order to train; it names its range of steps, the job, the "
        "order of the data and the number of samples, the ledger before it, and a nonce used once.",
        check_stage_tickets,
        (3,),
    ),
    Check(
        "Hand-offs",
        "both ends of every boundary signed the same record of messages; between trainers "
        "activations went forward and, unless the run is one-way, gradients back; nothing "
        "went back to the owner.",
        check_stage_handoffs,
        (3,),
    ),
    Check(
        "Proofs",
        "the trainer of its segment signed every proof; it answers its ticket and counts "
        "the ordered steps and samples.",
        check_stage_proofs,
        (3,),
    ),
    Check(
        "Chain in time",
        "every proof names the one before it and starts from the weights and the "
        "optimizer state that one ended with, the first from the initial weights.",
        check_stage_continuity,
        (3,),
    ),
    Check(
        "Chain across trainers",
        "every proof names the proof of the segment before it and the hand-offs on both its sides.",
        check_stage_links,
        (3,),
    ),
    Check(
        "Marks",
        "every mark is keyed with the chain value of all that came before it and its "
        "enrolled key, and its trainer read it back beyond chance.",
        check_stage_marks,
        (3,),
    ),
    Check(
        "Delivery",
        "the owner signed what it received: the weights of the last proofs, which the "
        "delivered files hold, and nothing else.",
        check_delivered_files,
        (3, 5),
    ),
    Check(
        "Checkpoint files",
        "every state that was kept is the one its proof names, and nothing else is in its file.",
        check_checkpoint_files,
        (3,),
    ),
    Check(
        "Metric tables",
        "the rows every rank wrote are the ones it signed.",
        check_table_files,
        (3,),
    ),
    Check(
        "Trainers' view",
        "every ledger head a trainer stored on its own is a beginning of this ledger, signed by "
        "the owner; nobody kept the owner's signature under another, or two proofs of one stage "
        "and start.",
        check_ledger_replicas,
        (2,),
    ),
    Check(
        "Pinned keys",
        "owner and trainers hold the keys you gave.",
        check_ledger_keys,
        (2,),
    ),
    Check(
        "Messages",
        "the message digests every trainer stored are, in number and root, those of the signed "
        "hand-offs.",
        check_message_tables,
        (3,),
    ),
    Check(
        "HDF5 files",
        "run.h5 and the files of the ranks hold the tables, views, links and attributes of a run "
        "and nothing else, all under their names, units and scales.",
        check_hdf5_files,
        (),
    ),
)
