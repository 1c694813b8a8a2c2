#!/usr/bin/env bash
# safetensors' numpy writer stores wrong values for arrays that are not in C order, without a word.
#
# Expected: the values of the array, or the refusal that its torch writer gives ("non contiguous tensor").
# Seen, 2026-11-29, safetensors 0.8.0: np.asfortranarray(a), a.T and a[:, ::2] are stored as the first bytes of
# their memory under the right shape. Big-endian arrays are swapped correctly, so it is not that nobody looked.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install --quiet --disable-pip-version-check safetensors==0.8.0 numpy==2.4.6
cat > write.py <<'PY'
import numpy as np
from safetensors.numpy import load, save

table = np.arange(6, dtype=np.float32).reshape(2, 3)
cases = {
    "Fortran order": np.asfortranarray(table),
    "transposed": table.T,
    "every second column": table[:, ::2],
}
for name, array in cases.items():
    stored = load(save({"a": array}))["a"]
    print(name, array.tolist(), "stored as", stored.tolist())
    assert stored.shape == array.shape and not np.array_equal(stored, array)
for name, array in {"C order": table, "big endian": table.astype(">f4")}.items():
    assert np.array_equal(load(save({"a": array}))["a"], table), name
PY
env/bin/python write.py
