"""Metadata of TIFFs by flavour: what vendors and programs write besides pixels.

Each flavour has one reader, which takes a `MetadataSource` and returns `HeaderFacts`. A reader may
raise any error that broken metadata causes in Python; `cloudimg.tiff.metadata` calls the readers,
catches these errors and merges the results.
"""
