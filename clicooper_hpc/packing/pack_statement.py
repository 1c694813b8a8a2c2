"""What the owner signs of a pack: which one it is, and which key signs the model in it.

One in-toto statement in a DSSE envelope, under the owner's identity of the run (Ed25519). Its
subjects are the crate metadata, which name the digest of every other file, and the model. So the
identity that signed the run's ledger vouches for all files, and binds the second key, which is of
the kind that the tools of OpenSSF Model Signing take.
"""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field, StringConstraints, ValidationError

from clicooper_hpc.errors import EvidenceError
from clicooper_hpc.packing.pack_files import CRATE, MODEL
from clicooper_hpc.provenance.canonical_json import (
    Json,
    encode_canonical_json,
    parse_canonical_json,
)
from clicooper_hpc.provenance.envelope import (
    parse_envelope,
    require_envelope_signatures,
    sign_envelope,
)
from clicooper_hpc.provenance.identity import Identity, PublicIdentity
from clicooper_hpc.provenance.statement_fields import (
    Hex32,
    RunId,
    StrictModel,
    Text,
    Timestamp,
    TreeHead,
)
from clicooper_hpc.provenance.statements import STATEMENT_TYPE

__all__ = ["PACK_PREDICATE", "PackStatement"]

PACK_PREDICATE: Final = "urn:clicooper:pack:v1"


class PackStatement(StrictModel):
    """Owner: this pack is of run ``run_id`` and was made at ``created``.

    Parameters
    ----------
    crate, model
        SHA-256 of the crate metadata; digest of the model as `model_root` gives it.
    ledger
        The whole ledger, delivery included.
    model_key
        DER SubjectPublicKeyInfo (hex) of the key that signs the model.
    licence
        Address of the licence under which the pack is handed on; None: none is granted.
    """

    created: Timestamp
    creator_version: Text
    run_id: RunId
    crate: Hex32
    model: Hex32
    ledger: TreeHead
    model_key: Annotated[
        str, StringConstraints(pattern=r"^([0-9a-f]{2})+$"), Field(max_length=1024)
    ]
    licence: Text | None = None

    def sign(self, identity: Identity) -> bytes:
        """Return the signed envelope."""
        return sign_envelope(encode_canonical_json(self._value()), identity).to_bytes()

    @classmethod
    def from_envelope(cls, content: bytes, owner: PublicIdentity, *, where: str) -> PackStatement:
        """Read an envelope that ``owner`` alone must have signed.

        Raises
        ------
        EvidenceError
            Another signer, or another statement.
        """
        envelope = parse_envelope(content, where=where)
        require_envelope_signatures(envelope, [owner], where=where)
        return cls._parse(envelope.payload, where)

    @classmethod
    def read_unchecked(cls, content: bytes, *, where: str) -> PackStatement:
        """Read an envelope whoever signed it: to learn which run it speaks of."""
        return cls._parse(parse_envelope(content, where=where).payload, where)

    @classmethod
    def _parse(cls, payload: bytes, where: str) -> PackStatement:
        value = parse_canonical_json(payload, where=where)
        fields = value.get("predicate") if isinstance(value, dict) else None
        try:
            statement = cls.model_validate(fields)
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
            place = ".".join(map(str, first["loc"]))
            raise EvidenceError(
                f"the pack statement, {place}: {first['msg']}", where=where
            ) from None
        # Subject and type follow from the predicate: nobody may state them otherwise.
        if statement._value() != value:
            raise EvidenceError("it is no statement of a pack", where=where)
        return statement

    def _value(self) -> Json:
        return {
            "_type": STATEMENT_TYPE,
            "predicate": self.model_dump(mode="json", exclude_none=True),
            "predicateType": PACK_PREDICATE,
            "subject": [
                {"digest": {"sha256": self.crate}, "name": CRATE},
                {"digest": {"sha256": self.model}, "name": MODEL},
            ],
        }
