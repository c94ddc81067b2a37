"""TIFF archives in object storage as one lazy Dask array.

>>> import cloudimg
>>> a = cloudimg.imread("s3://lab/exp/mydata_ch{c}_{t}t_{x}x_{y}y_{z}z.tif")  # doctest: +SKIP
"""

from cloudimg.api import File, Image, LevelInfo, imread, open
from cloudimg.errors import CloudimgError
from cloudimg.formats import register_format

__all__ = ["CloudimgError", "File", "Image", "LevelInfo", "imread", "open", "register_format"]
__version__ = "0.1.0"
