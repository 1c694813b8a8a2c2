#!/usr/bin/env bash
# pyfive, the pure-Python reader of HDF5, gives None for the values of a virtual dataset.
#
# Expected: the values, or an error that says that virtual datasets are not read.
# Seen, 2026-11-29, pyfive 1.3.0: shape and dtype are right, dataset[:] is None. One external link in a group
# stored with link messages (any file written with libver="v110") is an AssertionError without text when the
# file is opened, so nothing else in it can be read either.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install --quiet --disable-pip-version-check pyfive==1.3.0 h5py==3.16.0 numpy==2.4.6
cat > read.py <<'PY'
import h5py
import numpy as np
import pyfive

with h5py.File("rank.h5", "w") as file:
    file["loss"] = np.arange(4.0)
with h5py.File("view.h5", "w") as file:
    layout = h5py.VirtualLayout((4,), "f8")
    layout[:] = h5py.VirtualSource("rank.h5", "loss", (4,))
    file.create_virtual_dataset("loss", layout)
with h5py.File("view.h5") as file:
    assert file["loss"][:].tolist() == [0.0, 1.0, 2.0, 3.0]
dataset = pyfive.File("view.h5")["loss"]
print("virtual dataset:", dataset.shape, dataset.dtype, dataset[:])
assert dataset.shape == (4,) and dataset[:] is None

with h5py.File("link.h5", "w", libver="v110") as file:
    file["plain"] = np.arange(4.0)
    file["linked"] = h5py.ExternalLink("rank.h5", "/loss")
try:
    pyfive.File("link.h5")
except AssertionError as error:
    print(f"file with one external link: AssertionError({error})")
    assert str(error) == ""
else:
    raise SystemExit("the file was opened")
PY
env/bin/python read.py
