"""What each vendor's TIFFs say besides pixels: one reader a flavour, all of one signature.

A reader takes a `Source` and gives `Facts`. It may raise whatever broken metadata makes Python
raise: `cloudimg.tiff.metadata` calls the readers, guards each and joins what they found.
"""
