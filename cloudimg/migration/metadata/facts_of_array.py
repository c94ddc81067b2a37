"""What is known of an array besides its pixels: its coordinates and attributes, if any. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cloudimg.migration.metadata.attributes import decoded_attributes, small_attributes
from cloudimg.migration.metadata.calibration import Calibration
from cloudimg.migration.metadata.channels import attributes_of_chosen, channels_of
from cloudimg.migration.metadata.coordinates import (
    compact_coordinates,
    without_long,
    xarray_coordinates,
)
from cloudimg.migration.metadata.facts import ImageFacts
from cloudimg.migration.metadata.positions import (
    PixelPositions,
    in_one_unit,
    positions_of_coordinates,
)
from cloudimg.migration.plain_json import to_plain
from cloudimg.migration.plan.axes_mapping import AxesMapping
from cloudimg.tiff.colours.channels import PixelColours

_OF_CHANNELS = {"channel_names": str, "channel_colors": int, "samples": str}
"""Types of the items of attributes that are lists."""


def facts_of_array(
    axes_mapping: AxesMapping,
    *,
    dtype: np.dtype[Any],
    name: str | None,
    provenance: Mapping[str, Any],
    xarray: Any = None,
    dims: Sequence[str] | None = None,
    calibration: Calibration | None = None,
) -> ImageFacts:
    """Collect the facts of an array.

    Where its pixels lie, and which channels it has, is taken from coordinates, which follow every
    selection. Attributes are those of the image from which it was made, and count only as far as
    coordinates do not contradict them.

    Parameters
    ----------
    axes_mapping : AxesMapping
    dtype : numpy.dtype
    name : str, optional
    provenance : mapping
    xarray : xarray.DataArray, optional
        The array, if it is one.
    dims : sequence of str, optional
        Names of its axes that replace its own.
    calibration : Calibration, optional
        What the user states, which counts before what coordinates say.

    Raises
    ------
    ArgumentError
        If the calibration does not fit the array.
    """
    calibration = calibration or Calibration()
    calibration.check(axes_mapping)
    coords: dict[str, Any] = {}
    coord_attrs: dict[str, dict[str, Any]] = {}
    attrs: dict[str, Any] = {}
    notes: list[str] = []
    positions = PixelPositions({})
    if xarray is not None:
        coords, coord_attrs, notes = xarray_coordinates(xarray, dims or axes_mapping.source_dims)
        attrs = decoded_attributes(xarray.attrs)
        positions = positions_of_coordinates(axes_mapping, coords, coord_attrs)
        positions.fill(attrs)
        attrs = positions.true_of(attrs)
    calibration.applied(positions)
    source = dict(zip(axes_mapping.source_dims, axes_mapping.source_shape, strict=True))
    axis = "c" if "c" in source or "s" not in source else "s"
    labels = _names_of_channels(coords, coord_attrs, axis, source.get(axis, 1))
    attrs = attributes_of_chosen(calibration.without_stated(attrs), labels, source.get(axis, 1))
    named = {**attrs, "channel_names": labels} if labels else attrs
    names, colors = channels_of(
        axes_mapping, _of_channels(named), coords.get("c") if "c" in source else None
    )
    scales, origins, units = in_one_unit(positions.scales, positions.origins, positions.units)
    small_attrs, left_out = small_attributes(attrs)
    return ImageFacts(
        name=name or (None if xarray is None or xarray.name is None else str(xarray.name)),
        scales=scales,
        origins=origins,
        stated=calibration.stated,
        channel_names=calibration.channel_names or names,
        channel_colors=colors,
        colours=PixelColours.of(attrs, dtype, axes_mapping.n_samples),
        coords=compact_coordinates(without_long(coords, positions.even)),
        coord_attrs=coord_attrs,
        units=units,
        attrs=small_attrs,
        provenance=to_plain(provenance),
        notes=(*notes, *positions.notes, *left_out),
    )


def _of_channels(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes of channels; an array may have anything under their names."""
    return {
        name: attrs[name]
        for name, kind in _OF_CHANNELS.items()
        if isinstance(attrs.get(name), list) and all(isinstance(v, kind) for v in attrs[name])
    } | {"color_space": str(attrs.get("color_space", "rgb"))}


def _names_of_channels(
    coords: Mapping[str, Any],
    coord_attrs: Mapping[str, Mapping[str, Any]],
    axis: str,
    n_channels: int,
) -> list[str]:
    """Names along an axis, which are its coordinates or beside them; empty if there are none."""
    for name in (axis, "channel"):
        dims = coord_attrs.get(name, {}).get("dims", [axis])
        names = np.ravel(coords[name]).tolist() if name in coords and dims == [axis] else []
        if len(names) == n_channels and all(isinstance(each, str) for each in names):
            return names
    return []
