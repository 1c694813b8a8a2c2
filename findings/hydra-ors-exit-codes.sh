#!/usr/bin/env bash
# The launcher of MPICH ends with the bitwise OR of its ranks' exit codes: a code that no rank returned.
#
# Expected: the largest code, or that of the first rank that failed (Open MPI's launcher, srun).
# Seen, 2026-11-29, MPICH 5.0.2 (PyPI): ranks that end with 1 and 2 read 3; 75 ("temporary failure, try again"
# in sysexits.h, used for requeueing) beside 1, 2 or 3 reads 75, so a rank that failed cannot be seen.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install --quiet --disable-pip-version-check mpich==5.0.2 mpi4py==4.1.2
cat > ranks.py <<'PY'
import sys

from mpi4py import MPI

sys.exit(int(sys.argv[1 + MPI.COMM_WORLD.rank]))
PY
for codes in "1 2" "75 1" "3 75" "4 2"; do
    read -r first second <<< "$codes"
    status=0
    env/bin/mpiexec -n 2 env/bin/python ranks.py "$first" "$second" > /dev/null 2>&1 || status=$?
    echo "ranks end with $first and $second: launcher ends with $status"
    test "$status" = $((first | second))
done
