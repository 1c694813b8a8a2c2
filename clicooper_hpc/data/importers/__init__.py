"""Importers: published archives and folders of images to the native HDF5 format."""
