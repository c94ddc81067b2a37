"""Multi-file datasets: which plane of an image is in which page of which file.

The tables are built from metadata alone. Nothing here reads files, so a table may list files that
do not exist.
"""

from cloudimg.tiff.multifile.mmstack import has_gaps, mmstack_planes
from cloudimg.tiff.multifile.ndtiff import ndtiff_planes
from cloudimg.tiff.multifile.ome import binary_only, ome_planes, ome_planes_of_one_file
from cloudimg.tiff.multifile.ome_files import root_uuid, without_own_name
from cloudimg.tiff.multifile.planes import PlaneTable

__all__ = [
    "PlaneTable",
    "binary_only",
    "has_gaps",
    "mmstack_planes",
    "ndtiff_planes",
    "ome_planes",
    "ome_planes_of_one_file",
    "root_uuid",
    "without_own_name",
]
