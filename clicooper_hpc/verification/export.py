"""Export of proofs as plain files, for tools that know in-toto and nothing of HDF5."""

from __future__ import annotations

from pathlib import Path

from clicooper_hpc.errors import EnvironmentUnfitError, UsageError
from clicooper_hpc.provenance.identity import PublicIdentity
from clicooper_hpc.provenance.tree_checkpoint import OWNER_NAME, checkpoint_signer
from clicooper_hpc.runstore.atomic_files import replace_atomically
from clicooper_hpc.verification.evidence import Evidence
from clicooper_hpc.verification.foreign_keyids import encode_foreign_keys, with_foreign_keyids
from clicooper_hpc.verification.run_evidence import evidence_run_statement

__all__ = ["BUNDLE", "CHECKPOINT", "FOREIGN_BUNDLE", "FOREIGN_KEYS", "export_proofs"]

BUNDLE = "proofs.intoto.jsonl"
CHECKPOINT = "ledger-checkpoint.txt"
FOREIGN_BUNDLE = "proofs.securesystemslib.jsonl"
FOREIGN_KEYS = "keys.securesystemslib.json"


def export_proofs(evidence: Evidence, folder: Path) -> list[Path]:
    """Write the ledger of a run to the new ``folder`` and return the files.

    ``proofs.intoto.jsonl`` is an in-toto bundle: one DSSE envelope a line, in the order of the
    ledger, byte for byte as signed. ``ledger-checkpoint.txt`` is the last signed note, and
    ``NAME.pub.pem`` are the public keys of owner and trainers. ``proofs.securesystemslib.jsonl``
    and ``keys.securesystemslib.json`` are the same envelopes and keys under the key ids of that
    library.

    Raises
    ------
    UsageError
        The folder holds files already, or the ledger does not begin with a run statement.
    EnvironmentUnfitError
        The files cannot be written.
    """
    statement = evidence_run_statement(evidence.entries)
    if statement is None:
        raise UsageError("the run's ledger does not begin with a run statement")
    names = [OWNER_NAME, *map(checkpoint_signer, range(1, statement.segments + 1))]
    keys = [
        PublicIdentity.from_raw(bytes.fromhex(k)) for k in (statement.owner, *statement.trainers)
    ]
    files = {
        BUNDLE: b"".join(entry + b"\n" for entry in evidence.entries),
        CHECKPOINT: evidence.checkpoints[-1].encode() if evidence.checkpoints else b"",
        FOREIGN_BUNDLE: b"".join(
            with_foreign_keyids(entry, keys) + b"\n" for entry in evidence.entries
        ),
        FOREIGN_KEYS: encode_foreign_keys(dict(zip(names, keys, strict=True))),
        **{f"{name}.pub.pem": key.to_pem() for name, key in zip(names, keys, strict=True)},
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Files of another run among these would be taken for a part of the bundle.
        if any(folder.iterdir()):
            raise UsageError("the folder holds files already", where=str(folder))
        for name, content in files.items():
            # A tool that watches the folder never sees half a file.
            with replace_atomically(folder / name) as aside:
                aside.write_bytes(content)
    except OSError as error:
        raise EnvironmentUnfitError(
            f"the proofs cannot be written ({error.strerror})",
            where=str(folder),
            remedy="Choose a folder you may write to.",
        ) from error
    return [folder / name for name in files]
