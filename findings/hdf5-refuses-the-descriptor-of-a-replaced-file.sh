#!/usr/bin/env bash
# HDF5 cannot open /dev/fd/N (or /proc/self/fd/N) once the file behind the descriptor was replaced.
#
# Expected: as with open(), which gives the old content: a reader that has checked a descriptor can hand that
# very file to HDF5, although the writer replaces the path by rename meanwhile.
# Seen, 2026-11-30, h5py 3.16.0 with HDF5 2.0.0 on Linux: OSError "can't retrieve real path for file". HDF5 resolves a
# symbolic link with realpath() to name the file, and the link's target then reads "... (deleted)". A reader of
# files that are replaced atomically takes it for damage, rarely. Opening the path again, or a Python file object, works.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install --quiet --disable-pip-version-check h5py==3.16.0 numpy==2.4.6
cat > look.py <<'PY'
import os

import h5py

print("h5py", h5py.__version__, "HDF5", h5py.version.hdf5_version)
for name, turn in (("run.h5", 0), ("next.h5", 1)):
    with h5py.File(name, "w") as file:
        file.attrs["turn"] = turn
held = os.open("run.h5", os.O_RDONLY)
with h5py.File(f"/dev/fd/{held}", "r") as file:
    assert file.attrs["turn"] == 0
os.replace("next.h5", "run.h5")
with open(f"/dev/fd/{held}", "rb") as plain:
    assert plain.read(8) == b"\x89HDF\r\n\x1a\n"
try:
    h5py.File(f"/dev/fd/{held}", "r")
except OSError as error:
    print(error)
    assert "real path" in str(error)
else:
    raise SystemExit("it was opened")
with os.fdopen(held, "rb") as plain, h5py.File(plain, "r") as file:
    assert file.attrs["turn"] == 0
PY
env/bin/python look.py
