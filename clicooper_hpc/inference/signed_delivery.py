"""What the owner signed at the end of a run: digests of the delivered segments, and results.

The part of `clicooper verify` that a user of the model needs, and that is done in milliseconds. It
does not look at how the segments were trained.
"""

from __future__ import annotations

from clicooper_hpc.errors import EvidenceError, RunFolderError
from clicooper_hpc.provenance.statements import DeliveryStatement, parse_signed_statement
from clicooper_hpc.run.vouching import noted_owner_key
from clicooper_hpc.runstore.reader import Run
from clicooper_hpc.runstore.tables.schema import LEDGER

__all__ = ["read_signed_delivery"]


def read_signed_delivery(run: Run) -> DeliveryStatement:
    """Return the delivery that the owner signed: the last entry of the ledger of ``run``.

    Its key is the one noted in the private folder.

    Raises
    ------
    RunFolderError
        The owner's file or key is missing.
    EvidenceError
        The last entry is no delivery, of another run, or signed by somebody else.
    """
    where = f"{run.folder.path}, end of the ledger"
    key = noted_owner_key(run)
    if key is None:
        raise RunFolderError(
            "the ledger is signed, but the owner's key is not noted here",
            where=str(run.folder.private / "rank-000"),
            remedy="Bring back the private folder of the run.",
        )
    tables = {table.name: rows for table, rows in run.stored_rows(0).items()}
    # As `verify` takes it: without the table there is no entry.
    entries = tables[LEDGER.name]["envelope"] if LEDGER.name in tables else None
    if entries is None or not len(entries):
        raise EvidenceError(
            "the ledger has no entries", where=where, remedy="See `clicooper verify`."
        )
    _, delivery = parse_signed_statement(bytes(entries[-1]), DeliveryStatement, key, where=where)
    if delivery.run_id != run.attrs["run_id"]:
        raise EvidenceError(
            "the delivery of another run was signed",
            where=where,
            remedy="Bring back the file the run wrote.",
        )
    return delivery
