"""Find the files of an image: listings, the grid of files by axis, and their names."""
