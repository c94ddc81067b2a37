"""An image as xarray has it: coordinates in physical units, attributes that can be stored.

The centre of pixel i lies at i times the size of a pixel, as in OME-Zarr, whose levels are moved by
half the difference between their pixels and those of level 0. Pixels of georeferenced images lie
where the transform says, see `geo_array`.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cloudimg.errors import ArgumentError, CloudimgWarning
from cloudimg.image.geo_array import APPLIED, Masking, geo_array
from cloudimg.migration.plain_json import to_plain
from cloudimg.opening.coordinates import label_name
from cloudimg.opening.fact_coordinates import unit_of
from cloudimg.opening.image_coordinates import image_coordinates
from cloudimg.opening.opened import Opened
from cloudimg.reading.agreement import ONE_SCALE, differing_facts
from cloudimg.reading.source import Source
from cloudimg.reading.window import as_array, pixels_of_base
from cloudimg.storage import step_of

if TYPE_CHECKING:
    import xarray

Array = npt.NDArray[Any]
Coordinates = dict[str, tuple[tuple[str, ...], Array, dict[str, Any]]]
"""Dims, values and attributes by name."""

_MOST_BYTES = 60_000
"""Largest attribute that is kept: HDF5 takes 64 KiB in all."""
_IN_SPACE = ("z", "y", "x")
_VARIABLE = "image"


def data_array(
    opened: Opened, source: Source, pixels: Any, *, mask: bool = False
) -> xarray.DataArray:
    """Return a level as an `xarray.DataArray`; see `cloudimg.Image.to_xarray`.

    Parameters
    ----------
    opened : Opened
    source : Source
        The level.
    pixels : array
        The pixels of the level, lazy or not.
    mask : bool
        Whether they are values, see `masked_source`.
    """
    xr = require_xarray("to_xarray()")
    attrs = opened.inspection.attrs
    whole = opened.whole_attrs or attrs
    places: dict[str, Array] = {
        dim: _places(opened, source, dim, fills=True)
        for dim in ("x", "y")
        if dim in source.layout.dims
    }
    geo = geo_array(attrs, whole, source.dims, places, source.dtype, mask=mask)
    coords = {**_coordinates(opened, source), **geo.coords}
    if geo.coords:  # rioxarray cannot reproject others that lie along x or y, such as x_label
        coords = {
            key: content
            for key, content in coords.items()
            if key in ("x", "y") or not {"x", "y"} & set(content[0])
        }
    name = _name(opened.url)
    array: xarray.DataArray = xr.DataArray(
        pixels,
        {key: xr.Variable(*content) for key, content in coords.items()},
        source.dims,
        name=f"{name}_{_VARIABLE}" if name in (*coords, *source.dims) else name,
        attrs={
            **storable_attributes({k: v for k, v in attrs.items() if k not in APPLIED}),
            **geo.attrs,
        },
    )
    array.encoding.update(geo.encoding)
    return array


def masked_source(opened: Opened, source: Source) -> tuple[Source, Masking]:
    """Return what makes values of pixels, and a source that refuses files of another scale.

    Raises
    ------
    ArgumentError
        Files that were read differ, or may differ in their nodata value. Pixels have no values.
    """
    inspection = opened.inspection
    differing = differing_facts(inspection.notes)
    if inspection.expected is not None and not inspection.expected.all_compared:
        differing |= set(inspection.expected.allowed)
    for name, title in (("scale", "scale and offset"), ("nodata", "nodata value")):
        if name in differing:
            raise ArgumentError(
                f"mask=True needs one {title} for all files, and they may differ: {ONE_SCALE}"
            )
    if any(each.role == "mask" for each in inspection.headers[0].images):
        warnings.warn(
            "the files have masks of their own, as further images (Image.images), which mask=True"
            " does not apply: open them with series=",
            CloudimgWarning,
            stacklevel=3,
        )
    masking = Masking.of(inspection.attrs, source.dims, source.dtype)
    return replace(source, must_agree=("scale",)), masking


def data_tree(opened: Opened, pixels: Sequence[Any]) -> xarray.DataTree:
    """Return all levels as an `xarray.DataTree`; see `cloudimg.Image.to_datatree`."""
    xr = require_xarray("to_datatree()")
    levels = zip(opened.sources, pixels, strict=True)
    arrays = [data_array(opened, source, array) for source, array in levels]
    nodes = {
        f"level{number}": array.rename(_VARIABLE).to_dataset()
        for number, array in enumerate(arrays)
    }
    tree: xarray.DataTree = xr.DataTree.from_dict(nodes, name=arrays[0].name)
    return tree


def require_xarray(what: str) -> Any:
    """Import xarray.

    Raises
    ------
    ArgumentError
        If it is not installed.
    """
    try:
        import xarray
    except ImportError as exc:
        raise ArgumentError(
            f'{what} requires the package xarray: pip install "cloudimg-dask[xarray]"'
        ) from exc
    return xarray


def _name(url: str) -> str:
    """A name from the words of the name of the files: no other part of a URL is free of secrets."""
    words = step_of(_VARIABLE, url).split("-")[1:]
    return "_".join(words) or _VARIABLE


def _coordinates(opened: Opened, source: Source) -> Coordinates:
    """Coordinates of a level: as `Image.coords`, and places of pixels where sizes are known."""
    whole: Mapping[str, Any] = opened.whole_attrs or opened.inspection.attrs
    coords: Coordinates = {}
    found = image_coordinates(opened, source)
    arrays = {name: values for name, (_, values) in found.items()}
    for name, (dims, values) in found.items():
        unit = unit_of(name, arrays) if name not in source.layout.dims else ""
        coords[name] = (dims, _storable(values), {"units": unit} if unit else {})
    for dim in ("t", *_IN_SPACE):
        if dim in source.layout.dims:
            _place(coords, opened, source, dim, *_size_along(opened, source, dim, whole))
    return coords


def _place(
    coords: Coordinates,
    opened: Opened,
    source: Source,
    dim: str,
    size: float | None,
    unit: str | None,
) -> None:
    """Give a dim the places of its pixels, and its labels another name."""
    dims = (dim,) if dim in source.dims else ()
    known = coords.get(dim)
    units = {} if unit is None else {"units": unit}
    if known is not None and known[1].dtype.kind in "mM":
        return
    if known is not None and known[1].dtype.kind == "f":
        coords[dim] = (*known[:2], units)  # positions or times that the files give themselves
        return
    if size is None:
        return
    if known is not None and label_name(dim) not in coords:
        coords[label_name(dim)] = known
    places = _places(opened, source, dim) * size
    coords[dim] = (dims, places if dims else places[0], units)


def _places(
    opened: Opened, source: Source, dim: str, *, fills: bool = False
) -> npt.NDArray[np.float64]:
    """Places of the pixels of a level along a dim, in pixels of level 0 of the whole image.

    With `fills`, the pixels of each level together are as long as those of level 0, as GDAL's are.
    """
    base = opened.sources[0]
    number = source.layout.dims.index(dim)
    parts = {} if opened.selection is None else opened.selection.by_axis
    at = parts[dim].at if dim in parts else ()
    if at and source.layout.axes[number].length == base.layout.axes[number].length:
        return as_array(at).astype(np.float64)
    length = source.layout.axes[number].length
    numbers = np.arange(length)
    if source.window is not None:
        numbers = as_array(source.window.positions[number])
    base_length = base.layout.axes[number].length
    factor = base_length / length if fills else pixels_of_base(length, base_length)
    offset = 0
    if at and base.window is not None:  # files before the part were left out
        offset = at[0].start - base.window.positions[number][0].start
    return np.asarray(offset + (numbers + 0.5) * factor - 0.5, np.float64)


def _size_along(
    opened: Opened, source: Source, dim: str, whole: Mapping[str, Any]
) -> tuple[float | None, str | None]:
    """Distance of the pixels of the whole image along a dim, and its unit; None if unknown."""
    if dim == "t":
        return whole.get("time_step_s"), "s"
    axis = next(axis for axis in source.layout.axes if axis.name == dim)
    own = dim if axis.file_axis is None else source.file_dims[axis.file_axis]
    size = whole.get("pixel_size", {}).get(own)
    # Without a size, a position along z is that of the stage, in micrometres.
    unit = whole.get("pixel_size_unit", {}).get(own, "µm" if dim == "z" else None)
    return (size if size and np.isfinite(size) else None), unit


def _storable(values: Array) -> Array:
    """Coordinates of texts as objects: the fixed width of NumPy's has no specification in Zarr."""
    return values.astype(object) if values.dtype.kind == "U" else values


def storable_attributes(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """Return attributes as netCDF and Zarr take them: texts, numbers, lists of numbers, JSON.

    Those that are larger than HDF5 allows are left out.
    """
    plain = {name: _as_attribute(value) for name, value in attrs.items() if value is not None}
    return {name: value for name, value in plain.items() if len(str(value)) <= _MOST_BYTES}


def _as_attribute(value: Any) -> Any:
    value = to_plain(value)
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, int | float):
        return value
    is_plain = isinstance(value, list) and value
    if is_plain and all(isinstance(each, int | float) for each in value):
        return [float(each) if any(isinstance(e, float) for e in value) else each for each in value]
    return json.dumps(value, ensure_ascii=False)
