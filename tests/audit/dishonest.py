"""The rows of docs/dishonest-trainers.md: what a trainer does that holds its key and lies.

The liar is trainer 2 of 3. ``refused`` rows end the run; of the others ``verify`` and ``audit`` say
what the row says, and name nobody but the liar.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["ACCEPTED", "REFUSED", "Accepted", "Refused", "table"]

#: Of an audit: what it says of the stage, and whether its exit code is 4.
FAIL, OPEN, FALSE, PASS = "FAIL", "OPEN", "passes, false statement shown", "passes"


@dataclass(frozen=True)
class Accepted:
    """A lie with which the run comes to its end.

    ``verify`` are the checks that fail then: the owner makes them too, before it marks the run
    complete, so that it ends with code 4. ``exact`` and ``tol`` are what `audit` says of stage 1;
    ``why`` stands where nothing catches it. ``default``: tested in every run of the tests.
    """

    lie: str
    does: str
    verify: tuple[int, ...] = ()
    exact: str = FAIL
    tol: str = FAIL
    why: str = ""
    default: bool = False


@dataclass(frozen=True)
class Refused:
    """A lie that ends the run: who refuses it, and words of its line.

    ``evidence``: the run leaves a file that shows the lie to anybody.
    """

    lie: str
    does: str
    by: str
    says: str
    default: bool = False
    evidence: bool = False


_BITS = "equal bits are the work, wherever they were computed; what was stated is shown as stated"

ACCEPTED = (
    Accepted("do nothing", "no update, mark put in", default=True),
    Accepted("half the steps", "every second update left out"),
    Accepted("smaller batch", "a quarter of every batch"),
    Accepted("stale data", "the first rows again and again"),
    Accepted("frozen layer", "one layer not trained"),
    Accepted("noise", "old weights, noise, and a good mark"),
    Accepted("smaller rate", "half the learning rate"),
    Accepted("fresh optimizer", "momentum thrown away before every step"),
    Accepted("coarse numbers", "weights kept as bfloat16"),
    Accepted("noise for activations", "sends noise on"),
    Accepted("one wrong bit", "one activation wrong by its last bit", tol=PASS),
    Accepted("no gradients", "sends zeros back"),
    Accepted("no dropout", "leaves dropout out"),
    Accepted("mark elsewhere", "mark keyed with another chain value"),
    Accepted("no mark and a false reading", "puts no mark in, claims a good one"),
    Accepted("weak mark", "mark with half the margin"),
    Accepted("false reading", "claims a stronger mark than there is", exact=FALSE, tol=FALSE),
    Accepted("false mark root", "enrols a root of no keys", exact=FALSE, tol=FALSE),
    Accepted("plan of its own", "enrols another mark than the job's", exact=FALSE, tol=FALSE),
    Accepted("false processor", "states another processor", (), PASS, PASS, _BITS),
    Accepted(
        "false processor and half the steps",
        "states another processor, leaves updates out",
        exact=OPEN,
    ),
    Accepted("false threads", "states another number of threads", (), PASS, PASS, _BITS),
    Accepted("false torch", "states another version of torch", (), PASS, PASS, _BITS),
    Accepted(
        "false host", "states another host", (), PASS, PASS, "a name is its word, and nothing more"
    ),
    Accepted(
        "false environment of a stage", "states to have moved elsewhere", (), PASS, PASS, _BITS
    ),
    Accepted(
        "false times",
        "states other times",
        (),
        PASS,
        PASS,
        "the ledger orders; it does not date",
    ),
    Accepted(
        "false losses",
        "writes better losses into its tables",
        (),
        PASS,
        PASS,
        "tables are what the rank wrote; the owner's own scores count",
    ),
    Accepted(
        "false message rows",
        "lists other messages than it signed",
        (18,),
        FALSE,
        FALSE,
    ),
    Accepted("message rows left out", "lists no messages", (18,), FALSE, FALSE),
    Accepted(
        "false message rows and half the steps",
        "lists other messages, leaves updates out",
        (18,),
    ),
    Accepted("false table digest", "signs a digest of other rows", (15,), PASS, PASS),
    Accepted(
        "no checkpoint files",
        "keeps no state for audits",
        (),
        PASS,
        PASS,
        "none is needed: the stage before is trained again",
    ),
    Accepted("false checkpoint file", "keeps another state than it signed", (14,), PASS, PASS),
    Accepted(
        "false first optimizer",
        "states to have begun with another state (audit of stage 0)",
        exact=FALSE,
        tol=FALSE,
    ),
)

REFUSED = (
    Refused("false number of steps", "proof counts fewer steps", "rank 3", "its steps is not"),
    Refused("false number of samples", "proof counts fewer samples", "rank 3", "its samples"),
    Refused("another's segment", "proof of segment 1", "rank 3", "a proof of something else"),
    Refused("old proof", "proof of stage 0 again", "rank 3", "a proof of something else", True),
    Refused("false start", "proof begins with other weights", "rank 3", "its weights_in"),
    Refused("false ticket", "proof answers another ticket", "rank 3", "its ticket"),
    Refused("false chain", "proof follows another proof", "rank 3", "its previous"),
    Refused("other messages sent", "proof names another hand-off", "rank 3", "its handoff_out"),
    Refused("other messages received", "proof names another hand-off", "owner", "its handoff_in"),
    Refused("no mark", "puts no mark in", "owner", "its mark reads"),
    Refused("no mark and says so", "puts no mark in, claims none", "owner", "it has no mark"),
    Refused("false mark index", "claims another key's index", "owner", "the index of the mark key"),
    Refused(
        "two proofs",
        "signs one proof for rank 3, one for the owner",
        "owner",
        "rank 2 signed two",
        evidence=True,
    ),
    Refused("false neighbour", "proof names another neighbour's", "owner", "its upstream"),
    Refused(
        "forged neighbour",
        "presents a proof of rank 1 that it signed itself",
        "owner",
        "no proof of rank 1 of this stage and start",
    ),
    Refused("neighbour left out", "presents no proof of rank 1", "owner", "without the proof"),
)


def table(rows: Iterable[Accepted | Refused]) -> str:
    """Return the rows as the page shows them."""
    lines = [
        "| what trainer 2 does | run | `verify` | `audit`, to the bit | `audit --tolerance 0.02` | "
        "caught |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        if isinstance(row, Refused):
            cells = [f"{row.does}", f"4, {row.by} refuses it", "", "", "", "yes"]
        else:
            caught = f"**not caught**: {row.why}" if _passes(row) else "yes"
            checks = ", ".join(str(one) for one in row.verify)
            cells = [
                row.does,
                "4, when it has ended" if row.verify else "0",
                f"4, check {checks}" if row.verify else "0",
                _words(row.exact),
                _words(row.tol),
                caught,
            ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _passes(row: Accepted) -> bool:
    return not row.verify and row.exact == PASS


def _words(outcome: str) -> str:
    return {
        FAIL: "4, segment 2",
        OPEN: "4, segment 2 not audited",
        FALSE: "4, segment 2's word",
    }.get(outcome, "0")
