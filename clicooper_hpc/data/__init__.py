"""Data sets: the native HDF5 format, the embedded digits, and importers."""
