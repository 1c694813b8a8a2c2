"""Messages between ranks: the only code that imports mpi4py."""
