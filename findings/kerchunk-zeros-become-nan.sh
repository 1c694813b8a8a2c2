#!/usr/bin/env bash
# Through kerchunk, xarray reads every 0 of an ordinary HDF5 dataset as NaN, and integers as floats.
#
# Expected: the values h5py and xarray's own engines read from the file.
# Seen, 2026-11-29, kerchunk 0.2.10, zarr 3.1.6, xarray 2026.9.0: HDF5's default fill value 0 becomes zarr's
# fill_value, which xarray takes for "missing". A loss of 0 and step 0 are gone, columns of integers arrive as
# float64, and of a 64-bit id above 2**53 the last digits too. No warning.
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

stored = {
    "loss": np.array([0.0, 0.5, 1.0]),
    "step": np.array([0, 1, 2], np.int64),
    "sample": np.array([0, 1, 2**63 + 1], np.uint64),
}
with h5py.File("table.h5", "w") as file:
    for name, values in stored.items():
        file[name] = values
references = SingleHdf5ToZarr("table.h5", inline_threshold=0).translate()
options = {"fo": references, "remote_protocol": "file"}
seen = xr.open_dataset(
    "reference://", engine="zarr", backend_kwargs={"consolidated": False, "storage_options": options}
)
for name, values in stored.items():
    print(name, "stored", values.dtype, values.tolist(), "read", seen[name].dtype, seen[name].values.tolist())
    assert seen[name].dtype == np.float64
    assert np.isnan(seen[name].values[0])
assert int(seen["sample"].values[2]) != 2**63 + 1
PY
env/bin/python -W ignore read.py
