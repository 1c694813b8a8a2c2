#!/usr/bin/env bash
# h5netcdf follows an external link to a group, and then reads the group of that name in the file it came from.
#
# Expected: the linked file's values, as h5py and xarray's netcdf4 engine give, or an error.
# Seen, 2026-11-29, h5netcdf 1.8.2: it looks the variable up again by its path from the root of the first file.
# Where an index has a group of the same path, every link shows the index's own numbers, without a warning;
# where it has none, the file fails with a KeyError that does not name the link.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install --quiet --disable-pip-version-check h5netcdf==1.8.2 h5py==3.16.0 xarray==2026.9.0 netCDF4==1.7.5.1.post1 numpy==2.4.6
cat > read.py <<'PY'
import h5netcdf
import h5py
import numpy as np
import xarray as xr

for rank in (1, 2):
    with h5py.File(f"rank{rank}.h5", "w") as file:
        file["metrics/loss"] = np.arange(3.0) + 100 * rank
with h5py.File("index.h5", "w") as file:
    file["metrics/loss"] = np.full(3, -1.0)
    for rank in (1, 2):
        file[f"ranks/{rank}"] = h5py.ExternalLink(f"rank{rank}.h5", "/metrics")
for rank in (1, 2):
    true = [100.0 * rank, 100.0 * rank + 1, 100.0 * rank + 2]
    path = f"ranks/{rank}"
    with h5py.File("index.h5") as file:
        assert file[path]["loss"][:].tolist() == true
    other = xr.open_dataset("index.h5", engine="netcdf4", group=path)["loss"].values.tolist()
    with h5netcdf.File("index.h5", "r", phony_dims="sort") as file:
        seen = file[path]["loss"][:].tolist()
    through_xarray = xr.open_dataset("index.h5", engine="h5netcdf", phony_dims="sort", group=path)
    print(path, "h5py", true, "netcdf4", other, "h5netcdf", seen)
    assert other == true
    assert seen == through_xarray["loss"].values.tolist() == [-1.0, -1.0, -1.0]
PY
env/bin/python read.py
