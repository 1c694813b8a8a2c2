"""HDF5 files: made whole in memory, written in SWMR mode, read in any state, tried out."""
