"""The run folder: HDF5 files, safetensors and the owner's private state."""
