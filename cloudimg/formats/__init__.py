"""Files that are not TIFFs: finding their format, and decoding their bytes to an array.

Pure: the whole file is passed in, nothing here fetches. Decoders come from imagecodecs, numpy and,
for the formats that those lack, imageio; all are imported when a file first needs them. Users add
formats with `register_format`.
"""

from cloudimg.formats.colour import colours_of
from cloudimg.formats.decode import decode, dims_of
from cloudimg.formats.registry import HEAD_BYTES, Format, ReadFunction, find_format, register_format

__all__ = [
    "HEAD_BYTES",
    "Format",
    "ReadFunction",
    "colours_of",
    "decode",
    "dims_of",
    "find_format",
    "register_format",
]
