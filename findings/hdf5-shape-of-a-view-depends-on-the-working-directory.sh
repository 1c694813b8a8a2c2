#!/usr/bin/env bash
# The shape of a virtual dataset depends on the working directory of whoever asks for it.
#
# Expected: sources are looked for beside the file that names them, so that the same file has the same shape from everywhere.
# Seen, 2026-11-30, h5py 3.16.0 with HDF5 2.0.0: a view that grows with its source ("rows.h5", which is missing beside the
# view) has no rows from one directory and five from another, where some other rows.h5 lies. Asking for the shape is enough,
# and so are `dims[0].label = ...` and `attach_scale`: HDF5 opens the source each time. What was stored is in the mapping
# (`get_virtual_vspace`), which opens nothing.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install --quiet --disable-pip-version-check h5py==3.16.0 numpy==2.4.6
mkdir run elsewhere
cat > make.py <<'PY'
import h5py

layout = h5py.VirtualLayout((1,), "i8", maxshape=(None,))
source = h5py.VirtualSource("rows.h5", "rows", (1,), "i8", maxshape=(None,))
layout[: h5py.h5s.UNLIMITED] = source[: h5py.h5s.UNLIMITED]
with h5py.File("run/view.h5", "w", libver="v110") as file:
    file.create_virtual_dataset("rows", layout, fillvalue=0)
with h5py.File("elsewhere/rows.h5", "w", libver="v110") as file:
    file.create_dataset("rows", data=range(5), maxshape=(None,), chunks=(5,))
PY
cat > ask.py <<'PY'
import sys

import h5py

with h5py.File(sys.argv[1]) as file:
    print(len(file["rows"]))
PY
env/bin/python make.py
here=$(env/bin/python ask.py "$work/run/view.h5")
there=$(cd elsewhere && ../env/bin/python ../ask.py "$work/run/view.h5")
echo "rows of one and the same view: $here from one directory, $there from another"
test "$here" = 0
test "$there" = 5
