"""CycloneDX 1.6 bill of materials of a packed model: every claim cites the entries behind it.

The claims stand under ``declarations``, each with its evidence: index and digest of ledger entries.
A reader with the pack's ledger computes them again (`ledger_claims`) and compares.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import Any, Final

from clicooper_hpc.packing.ledger_claims import (
    LedgerClaim,
    delivered_results,
    ledger_claims,
    versions_used,
)
from clicooper_hpc.packing.pack_content import PackContent
from clicooper_hpc.packing.pack_files import MODEL, MODEL_SIGNATURE, PROOFS
from clicooper_hpc.verification.export import BUNDLE

__all__ = ["bill_of_materials"]

_MODEL_REF: Final = "model"
_OWNER_REF: Final = "owner"
_LEDGER: Final = f"{PROOFS}/{BUNDLE}"
#: Of the bills of packs; a number of the run makes one bill's name of it.
_NAMESPACE: Final = uuid.uuid5(uuid.NAMESPACE_URL, "urn:clicooper:pack:v1")


def bill_of_materials(content: PackContent) -> dict[str, Any]:
    """Return the bill as JSON values; the same for the same content."""
    claims = ledger_claims(content.view, content.card)
    cited = sorted({index for claim in claims for index in claim.entries})
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(_NAMESPACE, content.run_id + content.created)}",
        "version": 1,
        "metadata": {
            "timestamp": content.created,
            "tools": {
                "components": [
                    {
                        "type": "application",
                        "name": "clicooper-hpc",
                        "version": content.creator_version,
                    }
                ]
            },
            "component": _model(content),
        },
        "components": [
            *_packages(content),
            *(_file(path, content) for path in sorted(content.model_files())),
        ],
        "dependencies": [
            {
                "ref": _MODEL_REF,
                "dependsOn": [
                    *(f"{name}@{version}" for name, version in versions_used(content.view)),
                    *(f"{MODEL}/{path}" for path in sorted(content.model_files())),
                ],
            }
        ],
        "declarations": {
            "assessors": [{"bom-ref": _OWNER_REF, "thirdParty": False, "organization": _owner()}],
            "attestations": [
                {
                    "summary": "What the ledger of the run says of the training; "
                    "`clicooper verify` computes every claim again from the entries it cites.",
                    "assessor": _OWNER_REF,
                    "map": [{"claims": [_claim_ref(claim) for claim in claims]}],
                }
            ],
            "claims": [_claim(claim) for claim in claims],
            "evidence": [_evidence(content, index) for index in cited],
        },
    }


def _model(content: PackContent) -> dict[str, Any]:
    model = content.model
    found: dict[str, Any] = {
        "type": "machine-learning-model",
        "bom-ref": _MODEL_REF,
        "name": f"model of run {content.run_id}",
        "version": content.run_id,
        "description": "A classifier whose owner kept the samples and whose segments were trained "
        "by others on what was released of them.",
    }
    if content.licence is not None:
        found["licenses"] = [{"license": {"name": content.licence, "url": content.licence}}]
    found["externalReferences"] = [
        {"type": "model-card", "url": f"{MODEL}/README.md"},
        {"type": "digital-signature", "url": MODEL_SIGNATURE},
        {"type": "attestation", "url": _LEDGER},
    ]
    found["modelCard"] = {
        "modelParameters": {
            "approach": {"type": "supervised"},
            "task": "classification",
            "modelArchitecture": model.network,
            "inputs": [{"format": f"float32 [rows, {', '.join(map(str, model.input_shape))}]"}],
            "outputs": [{"format": f"probabilities of {model.classes} classes"}],
        },
        "quantitativeAnalysis": {
            "performanceMetrics": [
                {"type": "accuracy", "slice": words, "value": value}
                for words, value in delivered_results(content.view).items()
            ]
        },
    }
    return found


def _packages(content: PackContent) -> Iterable[dict[str, Any]]:
    for (name, version), entries in versions_used(content.view).items():
        yield {
            "type": "library",
            "bom-ref": f"{name}@{version}",
            "name": name,
            "version": version,
            "purl": f"pkg:pypi/{name}@{version.replace('+', '%2B')}",
            "properties": [
                {"name": "clicooper:ledger-entries", "value": " ".join(map(str, entries))}
            ],
        }


def _file(path: str, content: PackContent) -> dict[str, Any]:
    name = f"{MODEL}/{path}"
    return {
        "type": "file",
        "bom-ref": name,
        "name": name,
        "hashes": [{"alg": "SHA-256", "content": content.files[name].sha256}],
    }


def _owner() -> dict[str, Any]:
    return {"name": "data owner"}


def _claim(claim: LedgerClaim) -> dict[str, Any]:
    return {
        "bom-ref": _claim_ref(claim),
        "target": _MODEL_REF,
        "predicate": f"{claim.name}: {claim.value}",
        "reasoning": "It follows from the signed entries of the ledger that are cited.",
        "evidence": [_entry_ref(index) for index in claim.entries],
    }


def _evidence(content: PackContent, index: int) -> dict[str, Any]:
    entry = content.view.entries[index]
    return {
        "bom-ref": _entry_ref(index),
        "propertyName": "clicooper:ledger-entry",
        "description": f"{content.view.order.entry_at(index)}, signed; digest {entry.digest}",
        "data": [{"name": f"entry {index}", "contents": {"url": f"{_LEDGER}#entry={index}"}}],
    }


def _claim_ref(claim: LedgerClaim) -> str:
    return f"claim/{claim.name.replace(' ', '-')}"


def _entry_ref(index: int) -> str:
    return f"ledger/{index}"
