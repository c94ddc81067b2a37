"""Pairs of files that differ in one thing that is said of the whole image, or say the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import tifffile
from rasterio.crs import CRS
from rasterio.transform import Affine

NORTH_UP = Affine(10, 0, 500000, 0, -10, 4600000)
HEIGHT, WIDTH = 12, 20
PLANE = np.arange(HEIGHT * WIDTH, dtype=np.uint8).reshape(HEIGHT, WIDTH)
UTM = "EPSG:32633"


def geotiff(
    path: Path,
    transform: Affine | None = NORTH_UP,
    *,
    crs: str | None = UTM,
    nodata: float | None = None,
    pixels: np.ndarray[Any, Any] = PLANE,
    **options: Any,
) -> None:
    """A GeoTIFF that GDAL writes."""
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=pixels.shape[0],
        width=pixels.shape[1],
        count=1,
        dtype=pixels.dtype,
        crs=None if crs is None else CRS.from_user_input(crs),
        transform=transform,
        nodata=nodata,
        **options,
    ) as file:
        file.write(pixels, 1)


def moved(columns: float, rows: float) -> Affine:
    """The frame of a raster that begins some pixels to the right and further down."""
    return NORTH_UP @ Affine.translation(columns, rows)


RGBA = np.zeros((HEIGHT, WIDTH, 4), np.uint8)


def ome_size(unit: str) -> dict[str, Any]:
    sizes: dict[str, Any] = {"axes": "YX"}
    for axis in "XY":
        sizes |= {f"PhysicalSize{axis}": 0.5, f"PhysicalSize{axis}Unit": unit}
    return sizes


def palette(seed: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(0, 2**16, (3, 256), np.uint16)


Change = Callable[[Path], None]
SHARED: dict[str, tuple[Change, Change, str, str, str]] = {
    "another zone of UTM": (
        lambda p: geotiff(p),
        lambda p: geotiff(p, crs="EPSG:32634"),
        "crs",
        "EPSG:32633",
        "EPSG:32634",
    ),
    "no reference system": (
        lambda p: geotiff(p),
        lambda p: geotiff(p, crs=None),
        "crs",
        "EPSG:32633",
        "none",
    ),
    "other parameters of a system without a code": (
        lambda p: geotiff(p, crs="+proj=laea +lat_0=50 +lon_0=10 +datum=WGS84"),
        lambda p: geotiff(p, crs="+proj=laea +lat_0=52 +lon_0=10 +datum=WGS84"),
        "crs",
        "its coordinate reference system is",
        "but",
    ),
    "other pixels on Earth": (
        lambda p: geotiff(p),
        lambda p: geotiff(p, Affine(20, 0, 500000, 0, -20, 4600000)),
        "pixel_size",
        "x 10 m, y 10 m",
        "x 20 m, y 20 m",
    ),
    "nodata": (
        lambda p: geotiff(p, nodata=0),
        lambda p: geotiff(p, nodata=255),
        "nodata",
        "0",
        "255",
    ),
    "nodata in one only": (
        lambda p: geotiff(p),
        lambda p: geotiff(p, nodata=7),
        "nodata",
        "none",
        "7",
    ),
    "a frame in one only": (
        lambda p: geotiff(p, transform=Affine(1, 0, 5, 0, -1, 6), crs=UTM),
        lambda p: geotiff(p, transform=None, crs=UTM),
        "origin",
        "(5, 6)",
        "none",
    ),
    "pixel size": (
        lambda p: tifffile.imwrite(p, PLANE, resolution=(1e4, 1e4), resolutionunit=3),
        lambda p: tifffile.imwrite(p, PLANE, resolution=(2e4, 1e4), resolutionunit=3),
        "pixel_size",
        "x 1 µm, y 1 µm",
        "x 0.5 µm, y 1 µm",
    ),
    "unit of the pixel size": (
        lambda p: tifffile.imwrite(p, PLANE, ome=True, metadata=ome_size("µm")),
        lambda p: tifffile.imwrite(p, PLANE, ome=True, metadata=ome_size("nm")),
        "pixel_size",
        "x 0.5 µm",
        "x 0.5 nm",
    ),
    "white is zero": (
        lambda p: tifffile.imwrite(p, PLANE, photometric="minisblack"),
        lambda p: tifffile.imwrite(p, PLANE, photometric="miniswhite"),
        "photometric",
        "MINISBLACK",
        "MINISWHITE",
    ),
    "palette": (
        lambda p: tifffile.imwrite(p, PLANE, photometric="palette", colormap=palette(1)),
        lambda p: tifffile.imwrite(p, PLANE, photometric="palette", colormap=palette(2)),
        "colormap",
        "palette ",
        "but palette ",
    ),
    "opacity": (
        lambda p: tifffile.imwrite(p, RGBA, photometric="rgb", extrasamples=["unassalpha"]),
        lambda p: tifffile.imwrite(p, RGBA, photometric="rgb", extrasamples=["assocalpha"]),
        "color_space",
        "alpha: unassociated",
        "alpha: associated",
    ),
}
"""Writers of a file and of another one that may not be put together with it; the fact that differs,
and what a message says of each of the two."""


def resolution(unit: int, value: float = 1e4, **options: Any) -> Change:
    """Write a file with a number of pixels by inch (2) or centimetre (3)."""
    return lambda path: tifffile.imwrite(
        path, PLANE, resolution=(value, value), resolutionunit=unit, **options
    )


def imagej(unit: str, size: float = 0.5) -> Change:
    """Write a file of ImageJ's, whose resolution is in its own unit."""
    return lambda path: tifffile.imwrite(
        path, PLANE, imagej=True, resolution=(1 / size, 1 / size), metadata={"unit": unit}
    )


def ome(**metadata: Any) -> Change:
    """Write an OME-TIFF."""
    return lambda path: tifffile.imwrite(
        path, PLANE, ome=True, metadata={"axes": "YX", "PhysicalSizeX": 0.5, **metadata}
    )


def colours(**options: Any) -> Change:
    """Write a file of three samples a pixel, the same in all."""
    pixels = np.full((32, 32, 3), 128, np.uint8)
    return lambda path: tifffile.imwrite(path, pixels, **options)


def with_palette(*, reverse: bool = False, **options: Any) -> Change:
    """Write indices, with the same colours in one order or another."""
    table = palette(1)[:, ::-1] if reverse else palette(1)
    return lambda path: tifffile.imwrite(
        path, PLANE, photometric="palette", colormap=table, **options
    )


def map_of(*args: Any, **options: Any) -> Change:
    """Write a GeoTIFF."""
    return lambda path: geotiff(path, *args, **options)


def gray_floats(**options: Any) -> Change:
    """Write floating-point pixels."""
    pixels = PLANE.astype(np.float32)
    return lambda path: tifffile.imwrite(path, pixels, photometric="minisblack", **options)


def plain(**options: Any) -> Change:
    """Write gray pixels."""
    return lambda path: tifffile.imwrite(path, PLANE, **{"photometric": "minisblack", **options})


SHARED |= {
    "inch and centimetre": (
        resolution(2), resolution(3), "pixel_size", "x 2.54 µm", "x 1 µm"
    ),
    "units of ImageJ": (
        imagej("um"), imagej("nm"), "pixel_size", "x 0.5 µm", "x 0.5 nm"
    ),
    "sizes of ImageJ": (
        imagej("um"), imagej("um", 0.25), "pixel_size", "x 0.5 µm", "x 0.25 µm"
    ),
    "size of OME": (
        ome(), ome(PhysicalSizeX=0.65), "pixel_size", "x 0.5 µm", "x 0.65 µm"
    ),
    "the order of a palette": (
        with_palette(), with_palette(reverse=True), "colormap", "palette ", "but palette "
    ),
    "scenes 300 metres apart": (
        map_of(), map_of(moved(30, 0)), "origin", "(500000, 4600000)", "(500300, 4600000)"
    ),
    "scenes 300 metres apart northwards": (
        map_of(), map_of(moved(0, 30)), "origin", "(500000, 4600000)", "(500000, 4599700)"
    ),
    "rotated maps": (
        map_of(), map_of(NORTH_UP @ Affine.rotation(1)), "pixel_size", "x 10 m", "(9.998"
    ),
    "nodata that is not a number": (
        map_of(nodata=0, pixels=PLANE.astype(np.float32)),
        map_of(nodata=float("nan"), pixels=PLANE.astype(np.float32)),
        "nodata", "is nan", "but 0",
    ),
    "red, green and blue or their differences": (
        colours(photometric="rgb"), colours(photometric="ycbcr", subsampling=(1, 1)),
        "color_space", "rgb", "ycbcr",
    ),
    "red, green and blue or lightness": (
        colours(photometric="rgb"), colours(photometric="cielab"), "photometric", "RGB", "CIELAB"
    ),
}  # fmt: skip

EQUAL: dict[str, tuple[Change, Change]] = {
    "classic and BigTIFF": (plain(), plain(bigtiff=True)),
    "maps in classic and BigTIFF": (map_of(nodata=0), map_of(nodata=0, BIGTIFF="YES")),
    "byte orders": (plain(byteorder="<"), plain(byteorder=">")),
    "strips and tiles": (plain(rowsperstrip=3), plain(tile=(16, 16))),
    "inch and centimetre of the same size": (resolution(2, 25400.0), resolution(3, 1e4)),
    "micrometres and nanometres": (
        ome(PhysicalSizeXUnit="µm"), ome(PhysicalSizeX=500, PhysicalSizeXUnit="nm")
    ),
    "spellings of a unit": (imagej("um"), imagej("micron")),
    "a size in one only": (resolution(3), plain()),
    "no unit of resolution": (resolution(3), resolution(1)),
    "palettes in other byte orders": (with_palette(byteorder="<"), with_palette(byteorder=">")),
    "spellings of nodata": (
        gray_floats(extratags=[(42113, "s", None, "0", True)]),
        gray_floats(extratags=[(42113, "s", None, "0.0", True)]),
    ),
    "subsampled colours": (
        colours(photometric="ycbcr", subsampling=(1, 1), compression="jpeg"),
        colours(photometric="ycbcr", subsampling=(2, 2), compression="jpeg"),
    ),
}  # fmt: skip
"""Writers of two files that are put together without a word, but for their compression."""
