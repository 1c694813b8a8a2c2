#!/usr/bin/env bash
# The libmpi.so of MPICH's wheel is text for a linker: no program that loads a library by name can load it.
#
# Expected: lib/libmpi.so, the name without a version, is the library or a link to it, as in every distribution, so
# that ctypes, dlopen and mpi4py's MPI4PY_LIBMPI take it.
# Seen, 2026-11-30, mpich 5.0.2 and mpi4py 4.1.2 from PyPI on Linux x86-64: it is a file of 20 bytes,
# "INPUT(libmpi.so.12)", since wheels hold no links. ld reads that, the loader says "file too short";
# MPI4PY_LIBMPI=.../libmpi.so ends the import of mpi4py.MPI with RuntimeError, .../libmpi.so.12 works.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install --quiet --disable-pip-version-check mpich==5.0.2 mpi4py==4.1.2
cat > load.py <<'PY'
import ctypes
import os
import subprocess
import sys
from pathlib import Path

lib = Path(sys.prefix) / "lib"
plain, versioned = lib / "libmpi.so", lib / "libmpi.so.12"
print("libmpi.so is a link:", plain.is_symlink(), "- content:", plain.read_bytes())
assert not plain.is_symlink()
assert plain.read_bytes() == b"INPUT(libmpi.so.12)\n"
ctypes.CDLL(str(versioned))
try:
    ctypes.CDLL(str(plain))
except OSError as error:
    print("ctypes:", str(error).replace(str(lib), "lib"))
    assert "file too short" in str(error)
else:
    raise AssertionError("libmpi.so can be loaded now")


def imported(library: Path) -> subprocess.CompletedProcess[str]:
    command = "from mpi4py import MPI; print(' '.join(MPI.Get_library_version().split()[:3]))"
    environment = {**os.environ, "MPI4PY_LIBMPI": str(library)}
    return subprocess.run(
        [sys.executable, "-c", command], env=environment, capture_output=True, text=True, timeout=60
    )


for library, works in ((versioned, True), (plain, False)):
    done = imported(library)
    last = (done.stdout + done.stderr).strip().splitlines()[-1]
    print(f"MPI4PY_LIBMPI={library.name}:", last.replace(str(lib), "lib"))
    assert (done.returncode == 0) == works
    assert works or "RuntimeError" in done.stderr
PY
env/bin/python load.py
echo "as described"
