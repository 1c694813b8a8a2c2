"""SLSA provenance v1 of a packed model: what was built, of what, by whom, as in-toto tools read it.

Signed by the owner as a DSSE envelope. SLSA's build levels are about build platforms; none is
claimed. What happened in the training is said by the ledger, which stands among the by-products.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from clicooper_hpc.errors import EvidenceError
from clicooper_hpc.packing.ledger_claims import versions_used
from clicooper_hpc.packing.pack_content import PackContent
from clicooper_hpc.packing.pack_files import CARD, MODEL, PROOFS
from clicooper_hpc.provenance.canonical_json import Json, encode_canonical_json
from clicooper_hpc.provenance.envelope import (
    parse_envelope,
    require_envelope_signatures,
    sign_envelope,
)
from clicooper_hpc.provenance.identity import Identity, PublicIdentity
from clicooper_hpc.provenance.statements import STATEMENT_TYPE
from clicooper_hpc.verification.export import BUNDLE
from clicooper_hpc.verification.foreign_keyids import foreign_keyid, with_foreign_keyids

__all__ = ["check_slsa_provenance", "sign_slsa_provenance", "slsa_statement"]

_PREDICATE: Final = "https://slsa.dev/provenance/v1"
#: How the build ran: what its parameters mean stands in docs/pack.md.
_BUILD_TYPE: Final = "urn:clicooper:training:v1"


def slsa_statement(content: PackContent) -> bytes:
    """Return the statement as canonical JSON; the same for the same content."""
    run, owner = content.view.run, content.view.owner
    files: list[Json] = [
        {"digest": {"sha256": one.sha256}, "name": f"{MODEL}/{path}"}
        for path, one in sorted(content.model_files().items())
    ]
    parameters: Json = {
        "coupling": run.coupling,
        "job_digest": run.job_digest,
        "privacy_card_digest": run.card_digest,
        "segments": run.segments,
        "stages": run.stages,
        "total_steps": run.total_steps,
        "trainers": list(run.trainers),
    }
    packages: list[Json] = [
        {"uri": f"pkg:pypi/{name}@{version.replace('+', '%2B')}"}
        for name, version in versions_used(content.view)
    ]
    return encode_canonical_json(
        {
            "_type": STATEMENT_TYPE,
            "predicate": {
                "buildDefinition": {
                    "buildType": _BUILD_TYPE,
                    "externalParameters": parameters,
                    "internalParameters": {},
                    "resolvedDependencies": packages,
                },
                "runDetails": {
                    "builder": {
                        "id": f"urn:clicooper:owner:{owner.keyid}",
                        "version": {"clicooper-hpc": run.creator_version},
                    },
                    "byproducts": [
                        {"digest": {"sha256": content.files[name].sha256}, "name": name}
                        for name in (CARD, f"{PROOFS}/{BUNDLE}")
                    ],
                    "metadata": {
                        "finishedOn": content.ended(),
                        "invocationId": content.run_id,
                        "startedOn": run.created,
                    },
                },
            },
            "predicateType": _PREDICATE,
            "subject": files,
        }
    )


def sign_slsa_provenance(content: PackContent, identity: Identity) -> bytes:
    """Return the envelope, under the key id that in-toto tools look for."""
    signed = sign_envelope(slsa_statement(content), identity).to_bytes()
    return with_foreign_keyids(signed, [identity.public])


def check_slsa_provenance(content: PackContent, envelope: bytes, owner: PublicIdentity) -> None:
    """Check that the envelope is the owner's around the statement of this content.

    Raises
    ------
    EvidenceError
        It is not.
    """
    found = parse_envelope(envelope)
    # A key id is a hint outside what is signed.
    signatures = tuple(
        replace(one, keyid=owner.keyid) if one.keyid == foreign_keyid(owner) else one
        for one in found.signatures
    )
    require_envelope_signatures(replace(found, signatures=signatures), [owner])
    if found.payload != slsa_statement(content):
        raise EvidenceError("it says something else than ledger and files")
