"""The tables of a run: their columns, how they lie in HDF5, who writes them, frames of them."""
