"""Images that are stored as Zarr: OME-Zarr 0.4 and 0.5, and plain arrays of Zarr 2 and 3."""
