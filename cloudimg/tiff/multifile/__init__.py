"""Multi-file datasets: which plane of an image is in which page of which file.

The tables are built from metadata alone. Nothing here reads files, so a table may list files that
do not exist.
"""

from cloudimg.tiff.multifile.mmstack import mmstack_planes
from cloudimg.tiff.multifile.ndtiff import ndtiff_planes
from cloudimg.tiff.multifile.ome import binary_only, ome_planes
from cloudimg.tiff.multifile.planes import PlaneTable

__all__ = ["PlaneTable", "binary_only", "mmstack_planes", "ndtiff_planes", "ome_planes"]
