#!/usr/bin/env bash
# in-toto's own Python library turns the integers of a statement's predicate into floating point.
#
# Expected: a statement read and written again says what it said; predicates of the specification hold counts.
# Seen, 2026-11-29: the predicate is a protobuf Struct, whose only number is a double. 7 comes
# back as 7.0, 2**60 + 1 as 1.152921504606847e+18 (another number), validate() is content. Whoever signs what the
# library writes signs other bytes than the program meant; ids and sample counts belong into strings.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install --quiet --disable-pip-version-check in-toto-attestation==0.9.3
cat > statement.py <<'PY'
from google.protobuf.json_format import MessageToDict
from in_toto_attestation.v1.resource_descriptor import ResourceDescriptor
from in_toto_attestation.v1.statement import Statement

subject = ResourceDescriptor(name="weights", digest={"sha256": "ab" * 32})
predicate = {"steps": 7, "sample": 2**60 + 1}
statement = Statement([subject.pb], "https://example.org/stage/v1", predicate)
statement.validate()
read = MessageToDict(statement.pb)["predicate"]
print("given:", predicate, "read back:", read)
assert isinstance(read["steps"], float) and isinstance(read["sample"], float)
assert int(read["sample"]) != 2**60 + 1
PY
env/bin/python statement.py
