"""What all statements have in common: an in-toto Statement v1 around a predicate."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Final, Literal

from clicooper_hpc.errors import UsageError
from clicooper_hpc.provenance import canonical
from clicooper_hpc.provenance.fields import Record, RunId

__all__ = ["STATEMENT_TYPE", "Kind", "Predicate"]

STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"

Kind = Literal["run", "enrolment", "ticket", "handoff", "stage", "delivery"]


class Predicate(Record, ABC):
    """One kind of statement."""

    kind: ClassVar[Kind]
    run_id: RunId

    @classmethod
    def predicate_type(cls) -> str:
        """URI that names the kind."""
        return f"urn:clicooper:{cls.kind}:v1"

    @abstractmethod
    def subject(self) -> dict[str, str]:
        """Return what the statement is about: name to 64 hex digits, at least one."""

    def value(self) -> canonical.Json:
        """Return the whole statement as a JSON value."""
        subject: list[canonical.Json] = [
            {"digest": {"sha256": digest}, "name": name} for name, digest in self.subject().items()
        ]
        return {
            "_type": STATEMENT_TYPE,
            "predicate": self.model_dump(mode="json", exclude_none=True),
            "predicateType": self.predicate_type(),
            "subject": subject,
        }

    def statement(self) -> bytes:
        """Return the payload to sign.

        Raises
        ------
        UsageError
            It is longer than a payload may be (too many stages, segments or tensor names).
        """
        payload = canonical.encode(self.value())
        if len(payload) > canonical.MAX_BYTES:
            raise UsageError(
                f"the {self.kind} statement has {len(payload)} bytes; "
                f"at most {canonical.MAX_BYTES} are allowed",
                remedy="Use fewer training stages (provenance) or fewer segments.",
            )
        return payload
