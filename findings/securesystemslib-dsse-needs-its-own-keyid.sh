#!/usr/bin/env bash
# securesystemslib does not try a good DSSE signature whose keyid is not the one it would have chosen.
#
# Expected: DSSE calls keyid an optional, unauthenticated hint; a verifier that holds the one key that signed finds it.
# Seen, 2026-11-29, securesystemslib 1.6.0: the same signature bytes under another keyid (for instance SHA-256 of
# the public key as PEM) end in VerificationError "Found: 0, Expected 1", the same words as for a forged
# signature. Envelopes and exported keys need keyids of its form.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install --quiet --disable-pip-version-check securesystemslib==1.6.0 cryptography==50.0.2
cat > verify.py <<'PY'
import hashlib

from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import CryptoSigner

signer = CryptoSigner.generate_ed25519()
envelope = Envelope(b"{}", "application/vnd.in-toto+json", {})
envelope.sign(signer)
assert len(envelope.verify([signer.public_key], 1)) == 1
fields = envelope.to_dict()
fields["signatures"][0]["keyid"] = hashlib.sha256(signer.public_key.keyval["public"].encode()).hexdigest()
try:
    Envelope.from_dict(fields).verify([signer.public_key], 1)
except VerificationError as error:
    print("same signature, other keyid:", error)
    assert "Found: 0, Expected 1" in str(error)
else:
    raise SystemExit("it was verified")
PY
env/bin/python verify.py
