#!/usr/bin/env bash
# What securesystemslib's canonical JSON writes for a text with a line break is not JSON.
#
# Expected: a canonical form is one of the JSON texts of a value (as RFC 8785), so that any parser reads it.
# Seen, 2026-11-29, securesystemslib 1.6.0: encode_canonical escapes the quote and the backslash alone; line breaks and tabs
# stand raw inside strings, which Python's json refuses (RFC 8259 forbids them). So its output can be hashed,
# but not be stored as the signed payload and parsed by the reader.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install --quiet --disable-pip-version-check securesystemslib==1.6.0
cat > canonical.py <<'PY'
import json

from securesystemslib.formats import encode_canonical

text = encode_canonical({"note": "first\nsecond"})
print(repr(text))
assert text == '{"note":"first\nsecond"}'
try:
    json.loads(text)
except json.JSONDecodeError as error:
    print("json.loads:", error)
else:
    raise SystemExit("json reads it")
PY
env/bin/python canonical.py
