"""Copies in OME-Zarr: planned, written, resumed, verified and exported."""
