#!/usr/bin/env bash
# safetensors writes the same tensors and metadata as other bytes every time.
#
# Expected: a format made for distributing weights gives one content one file; tensors are sorted by the writer.
# Seen, 2026-11-29, safetensors 0.8.0: the metadata comes out of a hash map in random order, so that with five keys
# ten processes write files with several SHA-256 digests. Digests and signatures of files cannot be compared
# with those of a file written again; digests of the tensors can.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install --quiet --disable-pip-version-check safetensors==0.8.0 numpy==2.4.6
cat > write.py <<'PY'
import hashlib

import numpy as np
from safetensors.numpy import save

metadata = {name: "value" for name in ("run", "segment", "stage", "step", "writer")}
print(hashlib.sha256(save({"a": np.zeros(2, np.float32)}, metadata)).hexdigest()[:16])
PY
for attempt in 1 2 3 4 5 6 7 8 9 10; do
    env/bin/python write.py
done | sort | uniq -c | tee digests
test "$(wc -l < digests)" -gt 1
