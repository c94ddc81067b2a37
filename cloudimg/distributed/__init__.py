"""Numbered pieces of work on the workers of a Dask cluster, whatever files or stores they read."""
