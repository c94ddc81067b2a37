"""Pixels of files by byte ranges: headers, layout, planned ranges, chunks, a Dask array."""
