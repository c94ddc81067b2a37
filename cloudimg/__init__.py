"""TIFF archives in object storage as one lazy Dask array.

>>> import cloudimg
>>> a = cloudimg.imread("s3://lab/exp/mydata_ch{c}_{t}t_{x}x_{y}y_{z}z.tif")  # doctest: +SKIP
"""

from cloudimg.api import File, Image, LevelInfo, imread, open
from cloudimg.errors import CloudimgError
from cloudimg.formats import register_format
from cloudimg.migration import dry_run, export, migrate, to_zarr, verify
from cloudimg.version import __version__

__all__ = [
    "CloudimgError",
    "File",
    "Image",
    "LevelInfo",
    "__version__",
    "dry_run",
    "export",
    "imread",
    "migrate",
    "open",
    "register_format",
    "to_zarr",
    "verify",
]
