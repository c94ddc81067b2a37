"""The Zarr writer: a plan of cells, each read once and stored as whole shards, with a journal."""
