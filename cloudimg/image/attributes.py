"""Types of the attributes of an image."""

from __future__ import annotations

from typing import TypedDict

import numpy as np
import numpy.typing as npt


class GeoAttributes(TypedDict, total=False):
    """Georeference of a GeoTIFF; each key only if the file gives it."""

    pixel_scale: list[float]
    """Size of a pixel along x, y and z in units of the reference system."""
    tiepoints: list[list[float]]
    """Tie points, each I, J, K of the pixels and X, Y, Z of the reference system."""
    transform: list[float]
    """a to f of x = a column + b row + c and y = d column + e row + f, for the corner of a pixel.
    """
    epsg: int
    """EPSG code of the reference system."""


class ImageAttributes(TypedDict, total=False):
    """Metadata of an image from the header of its first file; each key only if the file gives it.

    ``pixel_size``, ``pixel_size_unit``, ``stage_position`` and ``stage_position_unit`` are mappings
    by axis of the file (``"x"``, ``"y"``, ``"z"``), before any renaming by ``axes=``. Lists
    ``channel_*`` and ``display_ranges`` have one item per channel.
    """

    kind: str
    """Flavour of TIFF, such as ``"ome"`` or ``"imagej"``, or the name of another format."""
    compression: str
    """Compression in tifffile's spelling, such as ``"ADOBE_DEFLATE"``; ``"NONE"`` without."""
    photometric: str
    """Photometric interpretation in tifffile's spelling, such as ``"MINISBLACK"`` or ``"RGB"``."""
    orientation: int
    """TIFF tag 274, 2 to 8, if the pixels are not stored upright."""
    samples: list[str]
    """Meaning of each sample of a pixel, if some are not colours."""
    colormap: npt.NDArray[np.uint16]
    """Palette of shape (3, 2**bits): red, green and blue by index."""
    nodata: int | float
    """Value of pixels without data."""
    n_series: int
    """Number of images in the file, if there are several; ``series=`` selects one of them."""
    name: str
    """Name of the image."""
    description: str
    """Description for people."""
    info: str
    """ImageJ's text of the image."""
    acquired: str
    """Time of acquisition in ISO 8601, with a time zone only if the file gives one."""
    pixel_size: dict[str, float]
    """Size of a pixel by axis of the file."""
    pixel_size_unit: dict[str, str]
    """Unit of each pixel size, in the spelling of OME-XML where known, such as ``"µm"``."""
    time_step_s: float
    """Time between frames in seconds."""
    magnification: float
    """Nominal magnification of the objective."""
    channel_names: list[str]
    """Names of the channels."""
    channel_colors: list[int]
    """Colours of the channels, RGBA in a signed 32-bit integer as in OME-XML."""
    display_ranges: list[list[float]]
    """Lowest and highest pixel value to display, by channel."""
    plane_labels: list[str]
    """ImageJ's labels of the planes, in their order in the file."""
    stage_position: dict[str, float]
    """Position of the stage along x and y."""
    stage_position_unit: dict[str, str]
    """Unit of each stage position."""
    geo: GeoAttributes
    """Georeference."""
    metadata_problem: str
    """Which metadata was damaged or missing, and how."""
