"""README of a pack: for people, what is in it, what is not, and how to check it."""

from __future__ import annotations

from typing import Final

from clicooper_hpc.packing.ledger_claims import ledger_claims
from clicooper_hpc.packing.pack_content import PackContent

__all__ = ["LEFT_OUT", "pack_readme"]

#: What of a run no pack holds, and why.
LEFT_OUT: Final = {
    "the job": "it names paths of its owner; the ledger has its digest",
    "tables of metrics, messages and what trainers saw (run.h5, rank-*.h5)": "they name the job, "
    "and are not needed to use the model",
    "states of the training (checkpoints/)": "for an audit, which needs the owner's data as well",
    "delivered segments as files (delivery/)": "the model holds their tensors",
    "private/": "secrets: noise key, label map, front, signing keys",
}

#: What a pack holds.
_HELD: Final = {
    "`model/`": "the model: `README.md` is its card, `model.pt2` runs in plain torch, "
    "`model.safetensors` has its weights, `config.json` says what is computed",
    "`model.sig`, `model-signing.pub.pem`": "OpenSSF model signature over `model/`, and the key "
    "(P-256) it was made with",
    "`proofs/`": "the ledger: every statement that owner and trainers signed, its checkpoints, and "
    "their public keys (Ed25519)",
    "`privacy-card.txt`": "what was promised about the samples before the first one was released",
    "`bom.cdx.json`": "CycloneDX bill of materials; its claims of the training cite entries of the "
    "ledger",
    "`provenance.slsa.dsse.json`": "SLSA provenance v1, signed by the owner",
    "`ro-crate-metadata.json`": "RO-Crate (Process Run Crate): every file, with its SHA-256",
    "`pack.dsse.json`": "the owner's signature over the crate metadata, the model and its signing "
    "key",
}

_TEXT: Final = """\
# Model of run {run_id}

A trained classifier and the proofs of its training, packed by clicooper-hpc {version} at {created}.
{licence}

| file | what it is |
|---|---|
{files}

## What the ledger says

| | | entries |
|---|---|---|
{claims}

## Check it

```
clicooper verify . --owner-key {owner}
model_signing verify key model --signature model.sig --public_key model-signing.pub.pem
rocrate-validator validate --profile-identifier process-run-crate .
```

The first needs clicooper-hpc and checks all of it. Get the owner's key from the owner, not from
this folder: whoever wrote the folder may have made all its keys. The others are tools of the
standards (`pip install model-signing pyOpenSSL roc-validator`); they know nothing of the ledger.

## What is left out

{left_out}

Host names of the ranks stand in the ledger, as their trainers signed them. A trainer of the run who
holds the model can find out which of the secret class names belong to which class.
"""


def pack_readme(content: PackContent) -> str:
    """Return the text; the same for the same content."""
    claims = [
        f"| {claim.name} | {_cell(claim.value)} | {_entries(claim.entries)} |"
        for claim in ledger_claims(content.view, content.card)
    ]
    licence = (
        "Its owner grants no licence here: ask before you use it."
        if content.licence is None
        else f"Licence: {content.licence}"
    )
    return _TEXT.format(
        run_id=content.run_id,
        version=content.creator_version,
        created=content.created,
        licence=licence,
        files="\n".join(f"| {name} | {what} |" for name, what in _HELD.items()),
        claims="\n".join(claims),
        owner=content.view.owner.raw.hex(),
        left_out="\n".join(f"* {what}: {why}" for what, why in LEFT_OUT.items()),
    )


def _entries(indices: tuple[int, ...]) -> str:
    shown = ", ".join(map(str, indices[:6]))
    return shown if len(indices) <= 6 else f"{shown}, ... ({len(indices)} in all)"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
