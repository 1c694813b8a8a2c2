"""Messages between ranks over MPI, point to point; the only package that imports mpi4py."""
