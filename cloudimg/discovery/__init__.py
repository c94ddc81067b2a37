"""Which files exist: listings, the grid of files by axis, and their names."""
