"""Values of the tag Compression, by codec; several writers have numbers of their own for one."""

from __future__ import annotations

NONE = 1
CCITT = (2, 3, 4)
"""Modified Huffman codes, T.4 and T.6 (TIFF 6.0, sections 10 and 11)."""
LZW = 5
OLD_JPEG = 6
"""JPEG as TIFF 6.0, section 22, describes it."""
JPEG = (7, 34892, 33007)
"""JPEG as TIFF Technical Note 2 describes it, and its variants."""
ANY_JPEG = (OLD_JPEG, *JPEG)
DEFLATE = (8, 32946, 50013)
PACKBITS = 32773
JPEG_2000 = (33003, 33004, 33005, 34712)
JPEG_XR = (22610, 34934)
JPEG_XL = (50002, 52546)
PNG = 34933
WEBP = (50001, 34927)
LERC = 34887
LZMA = 34925
ZSTANDARD = (50000, 34926)
PREDICTABLE = (LZW, *DEFLATE, LZMA, *ZSTANDARD)
"""Those with which libtiff applies a predictor."""
OF_BYTES = (NONE, PACKBITS, *PREDICTABLE)
"""Those that compress bytes and know nothing of samples."""
