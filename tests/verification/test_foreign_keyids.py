"""Key ids that securesystemslib derives, against the library itself."""

from __future__ import annotations

import json

from securesystemslib.dsse import Envelope as OtherEnvelope
from securesystemslib.signer import Key, SSlibKey  # type: ignore[attr-defined]  # no __all__

from clicooper_hpc.provenance.envelope import countersign_envelope, sign_envelope
from clicooper_hpc.provenance.identity import Identity
from clicooper_hpc.verification.foreign_keyids import (
    encode_foreign_keys,
    foreign_keyid,
    with_foreign_keyids,
)

ONE, TWO = Identity.generate(), Identity.generate()


def test_a_key_and_its_id_are_those_the_library_derives() -> None:
    theirs = SSlibKey.from_crypto(ONE.public._key)
    assert foreign_keyid(ONE.public) == theirs.keyid
    (item,) = json.loads(encode_foreign_keys({"owner": ONE.public})).items()
    key = Key.from_dict(*item)
    assert (key.keyid, key.keyval) == (theirs.keyid, theirs.keyval)
    assert key.unrecognized_fields == {"name": "owner"}


def test_every_known_signer_of_an_envelope_is_found_under_it() -> None:
    entry = countersign_envelope(sign_envelope(b"{}", ONE), TWO)
    both: list[Key] = [SSlibKey.from_crypto(who.public._key) for who in (ONE, TWO)]
    line = with_foreign_keyids(entry.to_bytes(), [ONE.public, TWO.public])
    envelope = OtherEnvelope.from_dict(json.loads(line))
    assert list(envelope.verify(both, threshold=2)) == [key.keyid for key in both]
    assert envelope.payload == b"{}"
    # A stranger's signature keeps the id it came with.
    line = with_foreign_keyids(entry.to_bytes(), [ONE.public])
    assert [one["keyid"] for one in json.loads(line)["signatures"]] == [both[0].keyid, TWO.keyid]


def test_what_is_no_envelope_is_exported_as_it_is() -> None:
    for entry in (b"", b"{}", b"\xff", b'{"payload":1}'):
        assert with_foreign_keyids(entry, [ONE.public]) == entry
