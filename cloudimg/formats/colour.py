"""Colours of decoded pixels, for the formats that define them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_OPACITY = "alpha: unassociated"
_FOURTH: Mapping[str, str | None] = {
    "PNG": _OPACITY,
    "JPEG": None,
    "JPEG 2000": "unspecified",
    "JPEG XL": _OPACITY,
    "WebP": _OPACITY,
    "AVIF": _OPACITY,
    "HEIF": _OPACITY,
    "BMP": _OPACITY,
    "GIF": _OPACITY,
    "QOI": _OPACITY,
    "Radiance HDR": None,
    "PNM": _OPACITY,
}
"""Meaning of the sample after grey or RGB, by format; None for formats that never have one."""
_ADOBE = b"Adobe"
_APP14 = b"\xff\xee"


def colours_of(name: str, n_samples: int, data: bytes | memoryview) -> dict[str, Any]:
    """Return ``color_space`` and ``samples`` as in `cloudimg.ImageAttributes`.

    Parameters
    ----------
    name : str
        Name of the format.
    n_samples : int
        Number of samples of a pixel.
    data : bytes
        The file.

    Returns
    -------
    dict
        Empty for a format that does not define the colours.
    """
    if name not in _FOURTH or not 1 <= n_samples <= 4:
        return {}
    space, samples = ("gray", ["gray"]) if n_samples < 3 else ("rgb", ["red", "green", "blue"])
    if n_samples in (1, 3):
        return {"color_space": space}
    if name == "JPEG" and n_samples == 4:
        space = "cmyk-inverted" if _is_by_adobe(bytes(data[: 2**16])) else "cmyk"
        return {"color_space": space, "samples": ["cyan", "magenta", "yellow", "black"]}
    extra = _FOURTH[name]
    return {"color_space": space, "samples": [*samples, extra]} if extra else {}


def _is_by_adobe(head: bytes) -> bool:
    """Whether a JPEG has Adobe's marker, whose writers store CMYK inverted; decoders leave it so.

    See Adobe's Technical Note 5116, "Supporting the DCT Filters in PostScript Level 2".
    """
    at = head.find(_APP14)
    return at >= 0 and head[at + 4 : at + 9] == _ADOBE
