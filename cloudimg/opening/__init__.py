"""Open an image: from the arguments of `cloudimg.open` to its grid, headers and sources."""
