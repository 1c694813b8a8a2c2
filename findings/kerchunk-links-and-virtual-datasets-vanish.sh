#!/usr/bin/env bash
# kerchunk leaves out what stands behind HDF5's external links, and makes NaN of virtual datasets.
#
# Expected: references into the files linked to (the format can hold them), or an error that names the dataset.
# Seen, 2026-11-29, kerchunk 0.2.10 (error="raise"): an index file whose groups are external links translates
# without a word and holds none of them; a virtual dataset keeps name and shape and has no chunks, so xarray
# reads NaN for every value. One file an MPI rank behind one index is thus read as an empty run.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install --quiet --disable-pip-version-check kerchunk==0.2.10 h5py==3.16.0 xarray==2026.9.0 zarr==3.1.6 numpy==2.4.6
cat > read.py <<'PY'
import h5py
import numpy as np
import xarray as xr
from kerchunk.hdf import SingleHdf5ToZarr

with h5py.File("rank.h5", "w") as file:
    file["metrics/loss"] = np.arange(4.0) + 100
with h5py.File("index.h5", "w") as file:
    file["ranks/1"] = h5py.ExternalLink("rank.h5", "/metrics")
    layout = h5py.VirtualLayout((4,), "f8")
    layout[:] = h5py.VirtualSource("rank.h5", "metrics/loss", (4,))
    file.create_virtual_dataset("loss", layout)
with h5py.File("index.h5") as file:
    assert file["ranks/1/loss"][0] == file["loss"][0] == 100
references = SingleHdf5ToZarr("index.h5", inline_threshold=0, error="raise").translate()
print("references:", sorted(references["refs"]))
assert not any(name.startswith("ranks/1") for name in references["refs"])
options = {"fo": references, "remote_protocol": "file"}
seen = xr.open_dataset(
    "reference://", engine="zarr", backend_kwargs={"consolidated": False, "storage_options": options}
)
print("loss through h5py: 100..103; through kerchunk:", seen["loss"].values)
assert np.isnan(seen["loss"].values).all()
PY
env/bin/python -W ignore read.py
