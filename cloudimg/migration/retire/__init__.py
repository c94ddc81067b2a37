"""Retire the originals of a copy: tag or move the files that were copied, with a way back."""
