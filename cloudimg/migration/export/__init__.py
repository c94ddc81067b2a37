"""TIFF files from a copy."""
