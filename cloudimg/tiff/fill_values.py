"""The value of pixels that a file does not store: its nodata value, as GDAL reads them.

tifffile takes 0 for nodata values that it does not find in the type of the pixels: the greatest one
of signed integers, and the lowest one of 32-bit floats, which maps of elevations often have.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

_NODATA = 42113
"""Tag GDAL_NODATA."""


def nodata_number(text: str) -> int | float:
    """The number that the tag GDAL_NODATA states as text.

    Raises
    ------
    ValueError
        If it is not a number.
    """
    # Microsoft's C library printed infinity and "not a number" like this until 2015.
    text = text.replace("1.#INF", "inf").replace("1.#QNAN", "nan").replace("1.#IND", "nan")
    return int(text) if text.lstrip("+-").isdigit() else float(text)


def declared_nodata(page: Any) -> Any:
    """The nodata value of a page as a scalar of its type; None if no pixel can have it."""
    dtype = np.dtype(page.dtype)
    try:
        value = nodata_number(str(page.tags.valueof(_NODATA)).strip(" \0"))
        if dtype.kind == "f":
            with np.errstate(all="ignore"):
                scalar = np.float64(value).astype(dtype)
            return scalar if np.isfinite(scalar) == math.isfinite(value) else None
        is_whole = dtype.kind in "iu" and math.isfinite(value) and int(value) == value
        return dtype.type(int(value)) if is_whole else None
    except (ValueError, OverflowError):
        return None


def fill_value(page: Any) -> Any:
    """The value of pixels that a page does not store."""
    declared = declared_nodata(page)
    return page.nodata if declared is None else declared
