"""Collect what is known about an image, and make its OME-Zarr metadata and table of originals."""
