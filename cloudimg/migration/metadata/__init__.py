"""What is known of an image, and the OME-Zarr documents made from it."""
