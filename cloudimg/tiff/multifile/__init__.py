"""Images spread over several files: which plane lies in which page of which file.

What the metadata of one file says of its siblings, as tables; nothing here fetches, and no table
proves that a file is there.
"""

from cloudimg.tiff.multifile.mmstack import mmstack_planes
from cloudimg.tiff.multifile.ndtiff import ndtiff_planes
from cloudimg.tiff.multifile.ome import binary_only, ome_planes
from cloudimg.tiff.multifile.planes import PlaneTable

__all__ = ["PlaneTable", "binary_only", "mmstack_planes", "ndtiff_planes", "ome_planes"]
