#!/usr/bin/env bash
# The Process Run Crate shapes of roc-validator take the status of an action as text only, not as the reference that
# RO-Crate shows.
#
# Expected: "actionStatus": {"@id": "http://schema.org/CompletedActionStatus"}, as the pages of RO-Crate 1.1 write it
# (schema.org: the range is an enumeration, whose members are things with an address), conforms.
# Seen, 2026-11-30, roc-validator 0.13.0, profile process-run-crate-0.5: the reference violates check 8.7 (RECOMMENDED), whose
# list holds two texts; the text "http://schema.org/CompletedActionStatus" conforms.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install --quiet --disable-pip-version-check roc-validator==0.13.0
cat > status.py <<'PY'
from pathlib import Path

import rocrate_validator
from rdflib import RDF, Graph, Literal, Namespace, URIRef

SCHEMA, SH = Namespace("http://schema.org/"), Namespace("http://www.w3.org/ns/shacl#")
profile = Path(rocrate_validator.__file__).parent / "profiles" / "process-run-crate" / "should"
shapes = Graph().parse(profile / "1_create_action.ttl", publicID="https://example.org/")
(shape,) = [one for one in shapes.subjects(SH.path, SCHEMA.actionStatus) if (one, SH["in"], None) in shapes]
allowed = list(shapes.items(shapes.value(shape, SH["in"])))
as_text = Literal("http://schema.org/CompletedActionStatus")
as_reference = URIRef("http://schema.org/CompletedActionStatus")
print("allowed:", [one.n3() for one in allowed])
assert as_text in allowed
assert as_reference not in allowed
PY
env/bin/python status.py
