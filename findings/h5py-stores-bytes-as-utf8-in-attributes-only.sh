#!/usr/bin/env bash
# h5py stores a NumPy array of bytes under a UTF-8 type of fixed length as an attribute, and refuses it as a data set.
#
# Expected: the same array and type work in both places, or in neither.
# Seen, 2026-12-01, h5py 3.16.0 with HDF5 2.0.0: attrs.create(name, array, dtype=string_dtype("utf-8", n)) works;
# create_dataset(name, data=array, dtype=...) and assignment to such a data set end in OSError, "no appropriate
# function for conversion path". A list of str works in both, and so does the array cast to that type first.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install --quiet --disable-pip-version-check h5py==3.16.0 numpy==2.4.6
cat > store.py <<'PY'
import h5py
import numpy as np

names = np.array([b"cat", b"dog"])
utf8 = h5py.string_dtype("utf-8", 3)
with h5py.File("names.h5", "w") as file:
    file.attrs.create("names", names, dtype=utf8)
    print("attribute:", file.attrs["names"])
    file["made"] = names.astype(utf8)
    file.create_dataset("list", data=["cat", "dog"], dtype=utf8)
    made = file.create_dataset("empty", (2,), dtype=utf8)
    for name, store in {
        "create_dataset": lambda: file.create_dataset("given", data=names, dtype=utf8),
        "assignment": lambda: made.__setitem__(slice(None), names),
    }.items():
        try:
            store()
        except OSError as error:
            print(f"{name}: {error}")
            assert "conversion path" in str(error)
        else:
            raise SystemExit(f"{name} works now")
    assert (file["made"][:] == names).all() and (file["list"][:] == names).all()
PY
env/bin/python store.py
