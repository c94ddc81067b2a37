"""Images spread over several files: which plane lies in which page of which file.

What the metadata of one file says of its siblings, as tables; nothing here fetches, and no table
proves that a file is there.
"""

from cloudimg.tiff.sets.mmstack import mmstack_set
from cloudimg.tiff.sets.ndtiff import ndtiff_set
from cloudimg.tiff.sets.ome import binary_only, ome_set
from cloudimg.tiff.sets.planes import PlaneSet

__all__ = ["PlaneSet", "binary_only", "mmstack_set", "ndtiff_set", "ome_set"]
