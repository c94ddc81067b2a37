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
    crs: str
    """Name of the reference system, by which systems can be compared: ``"EPSG:32633"``, or
    ``"user-defined"`` with a digest of the parameters that define it."""
    keys: dict[str, int | str | list[float]]
    """GeoKeys of a system that one code does not name ("OGC GeoTIFF Standard" 1.1, section 7), and
    as 0 the minor revision of the standard."""


class ImageAttributes(TypedDict, total=False):
    """Metadata of an image from the headers of its files; each key only if the files give it.

    An image of several files has the attributes of the first one, compared with the headers that
    were read: those at the edges of a mosaic, all headers with ``validate="all"``, and all headers
    while files are migrated. A header that was not read may have other values.

    - It has no attributes that describe one file by their nature: ``name``, ``description``,
      ``info``, ``acquired``, ``elapsed_s``, ``stage_position``, ``plane_labels``,
      ``display_ranges`` and ``metadata_problem``; no names, colours and exposures of channels if
      each channel has its own files.
      Times, positions, exposures and names of channels of all files are in `Image.coords`, if all
      headers were read.
    - ``pixel_size``, ``photometric``, ``color_space`` (with ``samples``, ``ycbcr_coefficients``
      and ``reference_black_white``), ``colormap``, ``nodata``, and in ``geo`` the reference system
      and the place of each file must be the same in all headers that were read:
      `cloudimg.MismatchError` unless ``allow_differences=`` names them. Sizes may differ by one in
      10,000, places by less than half a pixel. Tiles of a mosaic lie where their transforms say.
      What ``allow_differences=`` names is left out unless all headers were read and agree.
    - Any other attribute, such as ``channel_names`` or ``time_step_s``, is left out if a header
      that was read differs, with a note. ``n_series`` is that of the first file.

    What no header says is filled in from the index files of instruments, see `cloudimg.open`: names
    and colours of channels in files of their own, sizes, the step of time and the objective.

    ``pixel_size``, ``pixel_size_unit``, ``stage_position`` and ``stage_position_unit`` are mappings
    by axis of the file (``"x"``, ``"y"``, ``"z"``), before any renaming by ``axes=``. Lists
    ``channel_*`` and ``display_ranges`` have one item per channel.
    """

    kind: str
    """Flavour of TIFF, such as ``"ome"`` or ``"imagej"``, or the name of another format, such as
    ``"zarr"``."""
    compression: str
    """Compression in tifffile's spelling, such as ``"ADOBE_DEFLATE"``, or the codec of a Zarr;
    ``"NONE"`` without."""
    photometric: str
    """Photometric interpretation that the file states, in tifffile's spelling, such as
    ``"MINISBLACK"`` or ``"YCBCR"``. It describes the stored pixels; `color_space` those that are
    read."""
    color_space: str
    """Colours of the pixels as they are read.

    - ``"gray"``; ``"gray-inverted"`` if 0 is white; ``"mask"``: a mask of 1 bit.
    - ``"rgb"``: red, green and blue; also YCbCr in JPEG, which the decoder converts, and colours
      that were looked up in a palette.
    - ``"palette"``: indices into `colormap`.
    - ``"ycbcr"``: Y, Cb and Cr; see `ycbcr_coefficients` and `reference_black_white`.
    - ``"cmyk"``: amounts of ink, from 0 (white) to full ink; ``"cmyk-inverted"``: 0 is full ink,
      as in JPEG files by Adobe; ``"inks"``: amounts of other inks.
    - ``"cielab"``: L* from 0 to 100 as an unsigned integer, a* and b* in two's complement, also if
      the dtype is unsigned; ``"icclab"``: a* and b* have an offset of half the range;
      ``"itulab"``: a* and b* have the ranges of ITU-T T.42.
    - ``"logl"``, ``"logluv"``: SGI's logarithmic luminance; ``"cfa"``, ``"linear-raw"``: raw
      data of cameras.
    - ``"unknown"``: the file does not state one of these.
    """
    bits_per_sample: int
    """Significant bits of an integer sample, if the dtype has more."""
    ycbcr_coefficients: list[float]
    """Luma coefficients of red, green and blue of ``"ycbcr"``; 0.299, 0.587 and 0.114 if absent."""
    reference_black_white: list[float]
    """Codes for black and white of each sample of ``"ycbcr"``; the full range if absent."""
    orientation: int
    """TIFF tag 274, 2 to 8, if the pixels are not stored upright."""
    samples: list[str]
    """Meaning of each sample of a pixel, if they are not just red, green and blue; opacity is
    ``"alpha: associated"`` (colours are multiplied by it) or ``"alpha: unassociated"``."""
    colormap: npt.NDArray[np.uint16]
    """Palette of shape (3, 2**bits): red, green and blue by index."""
    nodata: int | float
    """Value of pixels without data."""
    has_categories: bool
    """True if GDAL's metadata say that values are categories, or the image is labels in a Zarr."""
    downsampling: str
    """How the levels of a Zarr are made, as its metadata name the method."""
    fill_value: int | float | complex | bool
    """Value of pixels that a Zarr does not store."""
    scale: list[float]
    """Factor of each sample: the value is ``pixel * scale + offset``. Pixels are as they are
    stored; ``to_xarray(mask=True)`` applies scale and offset. Left out if files differ."""
    offset: list[float]
    """What is added to each sample, see `scale`."""
    units: list[str]
    """Unit of the values of each sample."""
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
    objective: str
    """Name of the objective."""
    exposure_s: float
    """Exposure of each plane in seconds, if it is the same for all."""
    elapsed_s: float
    """Seconds from the start of the acquisition to the first plane."""
    channel_names: list[str]
    """Names of the channels."""
    channel_colors: list[int]
    """Colours of the channels, RGBA in a signed 32-bit integer as in OME-XML."""
    display_ranges: list[list[float]]
    """Lowest and highest pixel value to display, by channel."""
    plane_labels: list[str]
    """ImageJ's labels of the planes, in their order in the file."""
    stage_position: dict[str, float]
    """Position of the stage along x and y, and along z if it is known, at the first plane."""
    stage_position_unit: dict[str, str]
    """Unit of each stage position."""
    geo: GeoAttributes
    """Georeference."""
    metadata_problem: str
    """Which metadata was damaged or missing, and how."""
