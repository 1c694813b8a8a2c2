"""RO-Crate 1.1 metadata of a pack, in the Process Run Crate profile 0.5.

The training is the `CreateAction`, clicooper its instrument, the files of the model its result.
Every file of the pack is named with its SHA-256, but for this one and the pack statement: that one
names the digest of this one, so the owner's signature covers them all.
"""

from __future__ import annotations

from typing import Any, Final

from clicooper_hpc.packing.ledger_claims import ledger_claims
from clicooper_hpc.packing.pack_content import PackContent
from clicooper_hpc.packing.pack_files import (
    BILL,
    CARD,
    CRATE,
    MODEL,
    MODEL_KEY,
    MODEL_SIGNATURE,
    PROOFS,
    README,
    SLSA,
    STATEMENT,
)

__all__ = ["run_crate"]

_CONTEXT: Final = (
    "https://w3id.org/ro/crate/1.1/context",
    # Of the Workflow Run RO-Crate terms; the first context knows no digest of a file.
    {"sha256": "https://w3id.org/ro/terms/workflow-run#sha256"},
)
_PROFILE: Final = "https://w3id.org/ro/wfrun/process/0.5"
# The profile wants an absolute http address. The project claims none, so this is one of a domain
# that never leads anywhere (RFC 2606).
_SOFTWARE: Final = "https://clicooper-hpc.invalid/"
_WORDS: Final = {
    BILL: "CycloneDX bill of materials: claims of the training, each with its ledger entries",
    CARD: "What was promised about the samples, before the first release",
    MODEL_KEY: "Public key (P-256) of the model signature",
    MODEL_SIGNATURE: "OpenSSF model signature over the folder model/",
    README: "What this folder holds, what it leaves out, how to check it",
    SLSA: "SLSA provenance v1, signed by the owner",
    STATEMENT: "The owner's signature over this file's digest, the model and its signing key",
}

#: By ending; systems know different ones.
_FORMS: Final = {
    "json": "application/json",
    "jsonl": "application/jsonl",
    "md": "text/markdown",
    "pem": "application/x-pem-file",
    "sig": "application/vnd.dev.sigstore.bundle.v0.3+json",
    "txt": "text/plain",
}


def run_crate(content: PackContent) -> dict[str, Any]:
    """Return the metadata as JSON values; ``content.files`` are those to name with a digest."""
    parts = sorted([*content.files, STATEMENT])
    claims = ledger_claims(content.view, content.card)
    return {
        "@context": list(_CONTEXT),
        "@graph": [
            {
                "@id": CRATE,
                "@type": "CreativeWork",
                "about": {"@id": "./"},
                "conformsTo": {"@id": "https://w3id.org/ro/crate/1.1"},
            },
            {
                "@id": "./",
                "@type": "Dataset",
                "name": f"Model of run {content.run_id}",
                "description": "A trained classifier with its proofs: the owner kept the samples, "
                "trainers trained segments of the network on what was released of them.",
                "datePublished": content.created,
                "license": {"@id": content.licence or "#no-licence"},
                "conformsTo": {"@id": _PROFILE},
                "author": {"@id": "#owner"},
                "publisher": {"@id": "#owner"},
                "hasPart": [{"@id": part} for part in parts],
                "mentions": {"@id": "#training"},
            },
            {
                "@id": _PROFILE,
                "@type": "CreativeWork",
                "name": "Process Run Crate",
                "version": "0.5",
            },
            _licence(content.licence),
            {
                "@id": "#owner",
                "@type": "Organization",
                "name": "Data owner",
                "description": f"Holder of the Ed25519 key {content.view.owner.raw.hex()}",
                "url": f"urn:clicooper:owner:{content.view.owner.keyid}",
            },
            {
                "@id": _SOFTWARE,
                "@type": "SoftwareApplication",
                "name": "clicooper-hpc",
                "url": _SOFTWARE,
                "softwareVersion": content.view.run.creator_version,
            },
            {
                "@id": "#training",
                "@type": "CreateAction",
                "name": f"Training of run {content.run_id}",
                "description": "; ".join(
                    f"{claim.name}: {claim.value}"
                    for claim in claims
                    if "segment" not in claim.name
                ),
                "instrument": {"@id": _SOFTWARE},
                "agent": {"@id": "#owner"},
                "startTime": content.view.run.created,
                "endTime": content.ended(),
                # As a text: so the profile's shapes want it.
                "actionStatus": "http://schema.org/CompletedActionStatus",
                "object": {"@id": CARD},
                "result": [{"@id": part} for part in parts if _is_result(part)],
            },
            *(_file(content, part) for part in parts),
        ],
    }


def _is_result(part: str) -> bool:
    return part.startswith((f"{MODEL}/", f"{PROOFS}/"))


def _licence(licence: str | None) -> dict[str, Any]:
    if licence is not None:
        return {
            "@id": licence,
            "@type": "CreativeWork",
            "name": licence.rstrip("/").rpartition("/")[2] or licence,
            "description": "The licence under which this folder is handed on.",
        }
    return {
        "@id": "#no-licence",
        "@type": "CreativeWork",
        "name": "No licence",
        "description": "Its owner grants no licence here: ask before you use it.",
    }


def _file(content: PackContent, part: str) -> dict[str, Any]:
    known = content.files.get(part)
    found = {
        "@id": part,
        "@type": "File",
        "name": part,
        "description": _WORDS.get(part, "Part of the model" if part.startswith(MODEL) else "Proof"),
        "encodingFormat": _FORMS.get(part.rpartition(".")[2], "application/octet-stream"),
    }
    if known is not None:
        found |= {"contentSize": str(known.size), "sha256": known.sha256}
    return found
