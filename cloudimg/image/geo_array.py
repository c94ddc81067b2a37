"""What a georeferenced image has as an xarray: places on Earth, nodata, scale and offset.

Written as rioxarray writes them ("CF Metadata Conventions" 1.11, sections 2.5.1, 5.6 and 8.1, and
GDAL's ``spatial_ref`` and ``GeoTransform``), so that its accessor ``rio`` works.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from cloudimg.errors import ArgumentError, CloudimgWarning

if TYPE_CHECKING:
    import dask.array as da

Array = npt.NDArray[Any]
GRID_MAPPING = "spatial_ref"
"""Name of the coordinate with the reference system, by which rioxarray finds it."""
APPLIED = ("nodata", "scale", "offset", "units")
"""Attributes of an image that its array has under the names of the conventions."""
_DIRECTORY, _DOUBLES, _TEXTS = 34735, 34736, 34737
_SHORT, _DOUBLE, _ASCII = 3, 12, 2
_GEOGRAPHIC = "degree"
_AXES = {
    "x": ("X", "projection_x_coordinate", "longitude", "degrees_east"),
    "y": ("Y", "projection_y_coordinate", "latitude", "degrees_north"),
}
"""Axis and standard names of projected and geographic coordinates, and the unit of the latter."""


Coordinate = tuple[tuple[str, ...], Any, dict[str, Any]]
"""Dims, values and attributes."""


@dataclass(frozen=True, slots=True)
class GeoArray:
    """What an array of a georeferenced image has beside its pixels."""

    coords: Mapping[str, Coordinate]
    attrs: Mapping[str, Any]
    encoding: Mapping[str, Any]


def geo_array(
    attrs: Mapping[str, Any],
    whole: Mapping[str, Any],
    dims: Sequence[str],
    places: Mapping[str, Array],
    dtype: np.dtype[Any],
    *,
    mask: bool,
) -> GeoArray:
    """Return coordinates, attributes and encoding of an image.

    Parameters
    ----------
    attrs : mapping
        Attributes of the image.
    whole : mapping
        Attributes of the image of which it is a part.
    dims : sequence of str
    places : mapping
        Places of the pixels along x and y, in pixels of level 0 of the whole image.
    dtype : dtype
        Of the pixels in the files.
    mask : bool
        Whether nodata, scale and offset are applied. They are then in the encoding, as
        `rioxarray.open_rasterio` does it with ``mask_and_scale=True``.
    """
    packing: dict[str, Any] = {}
    fill = nodata_of(attrs.get("nodata"), dtype)
    if fill is not None:
        packing["_FillValue"] = fill
    for name, plural, key in (
        ("scale_factor", "scales", "scale"),
        ("add_offset", "offsets", "offset"),
    ):
        if key in attrs:
            values = [float(value) for value in attrs[key]]
            packing |= {name: values[0]} if len(set(values)) == 1 else {plural: values}
    names, units = attrs.get("channel_names", ()), attrs.get("units", ())
    labels = {"long_name": names[0]} if len(names) == 1 else {}
    if len(set(units)) == 1:
        labels["units"] = units[0]
    unit = whole.get("pixel_size_unit", {}).get("x")
    coords = (
        {}
        if not {"x", "y"} <= places.keys()
        else _coordinates(whole.get("geo", {}), unit, dims, places)
    )
    encoding: dict[str, Any] = {"grid_mapping": GRID_MAPPING} if GRID_MAPPING in coords else {}
    if mask:
        return GeoArray(coords, labels, encoding | packing | {"dtype": str(dtype)})
    return GeoArray(coords, packing | labels, encoding)


def nodata_of(nodata: Any, dtype: np.dtype[Any]) -> Any:
    """Return the nodata value in the type of the pixels; None if no pixel can have it."""
    if nodata is None or dtype.kind not in "iufb":
        return None
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fill = np.asarray(nodata).astype(dtype)[()]
    if dtype.kind == "f":
        # Writers give the decimal form of a double, of a nodata value in single precision.
        is_same = math.isnan(nodata) or math.isinf(nodata) or bool(np.isfinite(fill))
    else:
        is_same = math.isfinite(nodata) and int(fill) == nodata
    return fill if is_same else None


@dataclass(frozen=True, slots=True, eq=False)
class Masking:
    """Makes values of pixels: NaN for nodata, multiplied by the scale, with the offset added."""

    nodata: Any
    dtype: np.dtype[Any]
    """Type of the values: float32 of integers of up to 16 bits, float64 of larger ones, and else
    that of the pixels, as in xarray."""
    scale: Any
    offset: Any
    """One number, or one for each sample of a pixel, with the dims of the image."""
    alpha: tuple[int, int] | None = None
    """Axis of the samples, and which of them is the opacity. The other samples are NaN where the
    opacity is 0, as in GDAL, if the file has no nodata value and 8 or 16 bits per sample."""

    @classmethod
    def of(cls, attrs: Mapping[str, Any], dims: Sequence[str], dtype: np.dtype[Any]) -> Self:
        """Take it from the attributes of an image.

        Raises
        ------
        ArgumentError
            Pixels are complex, or scales differ along samples that the image lacks.
        """
        if dtype.kind not in "iufb":
            raise ArgumentError(f"mask=True needs integers or floats, not {dtype}")
        promoted = dtype
        if dtype.kind != "f":
            promoted = np.dtype(np.float32 if dtype.itemsize <= 2 else np.float64)
        samples = [str(name).startswith("alpha") for name in attrs.get("samples", ())]
        has_alpha = "s" in dims and any(samples) and attrs.get("nodata") is None
        has_alpha = has_alpha and dtype in (np.uint8, np.uint16)
        return cls(
            nodata_of(attrs.get("nodata"), dtype),
            promoted,
            _by_sample(attrs.get("scale", [1.0]), dims, promoted),
            _by_sample(attrs.get("offset", [0.0]), dims, promoted),
            (list(dims).index("s"), samples.index(True)) if has_alpha else None,
        )

    @property
    def needs_all_samples(self) -> bool:
        """Whether it is only of whole pixels."""
        return bool(np.ndim(self.scale) or np.ndim(self.offset)) or self.alpha is not None

    def __call__(self, pixels: Array) -> Array:
        """Return the values of pixels."""
        values = pixels.astype(self.dtype)
        if self.nodata is not None and self.nodata == self.nodata:
            values[pixels == self.nodata] = np.nan
        if self.alpha is not None:
            axis, opacity = self.alpha
            by_sample = np.moveaxis(values, axis, 0)
            is_gap = np.moveaxis(pixels, axis, 0)[opacity] == 0
            for sample in range(len(by_sample)):
                by_sample[sample][is_gap & (sample != opacity)] = np.nan
        values *= self.scale
        values += self.offset
        return values

    def lazily(self, pixels: da.Array, dims: Sequence[str]) -> da.Array:
        """Return the values of a Dask array of pixels."""
        lazy: Any = pixels
        if self.needs_all_samples:
            lazy = lazy.rechunk({dims.index("s"): -1})
        empty = np.empty((0,) * lazy.ndim, self.dtype)
        values: da.Array = lazy.map_blocks(self, dtype=self.dtype, meta=empty)
        return values


def _by_sample(values: Sequence[float], dims: Sequence[str], dtype: np.dtype[Any]) -> Any:
    """One number, or one for each sample of a pixel, which are last."""
    if len(set(values)) == 1:
        return dtype.type(values[0])
    if "s" not in dims:
        raise ArgumentError(
            f"the samples have several scales ({values}) and the image has no axis s of samples:"
            " select one sample, or leave out mask=True"
        )
    shape = [1] * len(dims)
    shape[dims.index("s")] = len(values)
    return np.asarray(values, dtype).reshape(shape)


def _coordinates(
    geo: Mapping[str, Any], unit: str | None, dims: Sequence[str], places: Mapping[str, Array]
) -> dict[str, Coordinate]:
    """The reference system, and the centres of pixels where axes are those of the map."""
    transform = geo.get("transform")
    system = _system(geo)
    if transform is None and not system:
        return {}
    coords: dict[str, Coordinate] = {GRID_MAPPING: ((), np.int64(0), system)}
    if transform is None:
        _warn(
            f"the image has the reference system {geo['crs']} and no affine transform: its pixels"
            " have no x and y on Earth. Add the transform with rio.write_transform, or reproject by"
            " control points with gdalwarp"
        )
        return coords
    a, b, c, d, e, f = transform
    steps = {dim: _step(places[dim]) for dim in ("x", "y") if dim in dims}
    if len(steps) == 2 and None not in steps.values():
        system["GeoTransform"] = _geo_transform(transform, steps, places)
    if b or d:
        _warn(
            f"the transform {tuple(transform)} rotates the image, so that columns and rows have no"
            " x and y of their own: GeoTransform of spatial_ref says where pixels lie, and"
            " rio.reproject brings them to the axes of the map"
        )
        return coords
    for dim, step, corner in (("x", a, c), ("y", e, f)):
        centres = places[dim] * step + (step * 0.5 + corner)
        axis, projected, geographic, degrees = _AXES[dim]
        is_projected = unit != _GEOGRAPHIC
        about = {"axis": axis, "standard_name": projected if is_projected else geographic}
        if unit is not None:
            about["units"] = unit if is_projected else degrees
        coords[dim] = ((dim,), centres, about) if dim in dims else ((), centres[0], about)
    return coords


def _step(places: Array) -> float | None:
    """Distance of pixels, in pixels of level 0; None if they are at several distances."""
    distances = np.diff(places)
    if len(distances) == 0:
        return 1.0
    is_even = np.allclose(distances, distances[0], rtol=1e-9, atol=0)
    return float(distances[0]) if is_even else None


def _geo_transform(
    transform: Sequence[float], steps: Mapping[str, float | None], places: Mapping[str, Array]
) -> str:
    """The transform of the corner of the first pixel, in the order of GDAL."""
    a, b, c, d, e, f = transform
    x, y = (steps[dim] or 1.0 for dim in ("x", "y"))
    column, row = (float(places[dim][0]) + 0.5 - step / 2 for dim, step in (("x", x), ("y", y)))
    moved = (
        c + a * column + b * row, a * x, b * y, f + d * column + e * row, d * x, e * y
    )  # fmt: skip
    return " ".join(str(float(value)) for value in moved)


def _system(geo: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes with the reference system: its WKT where rasterio is installed, or its code."""
    name = geo.get("crs")
    if name is None:
        return {}
    has_code = "epsg" in geo
    try:
        import rasterio
    except ImportError:
        if not has_code:
            _warn(
                f"the reference system {name} has no EPSG code, and only rasterio, which is not"
                " installed, can say it: pip install rasterio, or add it with rio.write_crs"
            )
            return {}
        return {GRID_MAPPING: name}
    if "keys" not in geo:
        try:
            text = rasterio.crs.CRS.from_user_input(name).to_wkt()
        except rasterio.errors.CRSError:  # a code that its database lacks
            return {GRID_MAPPING: name}
    else:
        with warnings.catch_warnings(action="ignore"):  # it has no place
            keys = {int(key): value for key, value in geo["keys"].items()}
            text = _wkt(rasterio.MemoryFile(_without_pixels(keys)))
    return {GRID_MAPPING: text, "crs_wkt": text} if text else {}


def _wkt(memory: Any) -> str:
    """The reference system of a GeoTIFF in memory; empty if rasterio does not know it."""
    with memory, memory.open() as file:
        return "" if file.crs is None else str(file.crs.to_wkt())


def _without_pixels(keys: Mapping[int, Any]) -> bytes:
    """A GeoTIFF of one pixel with some GeoKeys ("OGC GeoTIFF Standard" 1.1, section 7.1)."""
    import tifffile

    doubles: list[float] = []
    texts = ""
    entries: list[int] = []
    for key, value in sorted((key, value) for key, value in keys.items() if key):
        if isinstance(value, str):
            entries += [key, _TEXTS, len(value) + 1, len(texts)]
            texts += f"{value}|"
        elif isinstance(value, tuple | list):
            entries += [key, _DOUBLES, len(value), len(doubles)]
            doubles += map(float, value)
        else:
            entries += [key, 0, 1, value]
    tags: list[tuple[Any, ...]] = [
        (
            _DIRECTORY,
            _SHORT,
            len(entries) + 4,
            (1, 1, keys.get(0, 0), len(entries) // 4, *entries),
            True,
        )
    ]
    if doubles:
        tags.append((_DOUBLES, _DOUBLE, len(doubles), doubles, True))
    if texts:
        tags.append((_TEXTS, _ASCII, len(texts) + 1, texts, True))
    file = io.BytesIO()
    tifffile.imwrite(file, np.zeros((1, 1), np.uint8), extratags=tags, metadata=None)
    return file.getvalue()


def _warn(text: str) -> None:
    warnings.warn(text, CloudimgWarning, stacklevel=2)
