"""What attributes of an image say of a part of it that was selected. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cloudimg.opening.selection import AxisPart, Selection
from cloudimg.reading.layout import Layout
from cloudimg.reading.window import Positions, as_array

_BY_POSITION = {
    "c": ("channel_names", "channel_colors", "display_ranges"),
    "s": ("channel_names", "samples", "scale", "offset", "units"),
}
"""Attributes with one item for each channel, or sample of a pixel, by axis."""
_OF_PLACE = ("tiepoints", "transform", "pixel_scale")
"""Parts of the georeference that say where pixels lie."""
_OF_PLANES = ("plane_labels", "stage_position", "stage_position_unit", "elapsed_s")
"""Attributes of the planes of a file, or of its first one."""


def attributes_of_part(
    attrs: Mapping[str, Any], layout: Layout, file_dims: tuple[str, ...], selection: Selection
) -> dict[str, Any]:
    """Return the attributes of a part of an image.

    Distances between pixels follow the step of the selection, and are left out where it is uneven.

    Parameters
    ----------
    attrs : mapping
        See `cloudimg.ImageAttributes`.
    layout : Layout
    file_dims : tuple of str
        Axes of the files before the user's renaming, as sizes of pixels name them.
    selection : Selection
    """
    part: dict[str, Any] = dict(attrs)
    axes = {axis.name: axis for axis in layout.axes}
    for each in selection.parts:
        step = step_of(each.at)
        axis = axes.get(each.axis)
        own = each.axis if axis is None or axis.file_axis is None else file_dims[axis.file_axis]
        if own in part.get("pixel_size", {}):
            part["pixel_size"] = _stepped(part["pixel_size"], own, step)
            units = part.get("pixel_size_unit", {})
            part["pixel_size_unit"] = {k: units[k] for k in units if k in part["pixel_size"]}
        if each.axis == "t" and "time_step_s" in part:
            part |= _stepped({"time_step_s": part.pop("time_step_s")}, "time_step_s", step)
        part |= _of_positions(part, each)
        if each.positions is not None and each.axis not in ("x", "y"):
            for name in _OF_PLANES:
                part.pop(name, None)
    if "geo" in part:
        part["geo"] = _geo_of_part(part["geo"], selection.by_axis)
    return part


def attributes_of_whole(attrs: Mapping[str, Any], selection: Selection) -> dict[str, Any]:
    """Return the attributes of the image from those of files of a part, with its corner on Earth.

    Parameters
    ----------
    attrs : mapping
        Attributes of the mosaic of the files that were kept.
    selection : Selection
    """
    geo, parts = attrs.get("geo", {}), selection.by_axis
    if "transform" not in geo:
        return dict(attrs)
    columns, rows = (_n_before(parts[dim]) if dim in parts else 0 for dim in ("x", "y"))
    return {
        **attrs,
        "geo": {**geo, "transform": list(moved(geo["transform"], (-columns, -rows), (1, 1)))},
    }


def _n_before(part: AxisPart) -> int:
    """Number of pixels before the files that were kept."""
    if not part.at or part.positions is None:
        return 0
    return part.at[0].start - part.positions[0].start


def step_of(at: Positions) -> int | None:
    """Distance of positions; None if they are at several distances, 1 of a single one."""
    if len(at) > 1:
        return None
    return at[0].step if at and len(at[0]) > 1 else 1


def _stepped(sizes: Mapping[str, float], name: str, step: int | None) -> dict[str, float]:
    if step is None:
        return {other: size for other, size in sizes.items() if other != name}
    return {**sizes, name: sizes[name] * step}


def _of_positions(attrs: Mapping[str, Any], part: AxisPart) -> dict[str, Any]:
    at = part.at or part.positions
    chosen = [] if at is None else as_array(at).tolist()
    return {
        name: [attrs[name][i] for i in chosen]
        for name in _BY_POSITION.get(part.axis, ())
        if name in attrs and chosen and len(attrs[name]) > chosen[-1]
    }


def _geo_of_part(geo: Mapping[str, Any], parts: Mapping[str, AxisPart]) -> dict[str, Any]:
    """The georeference of a part, whose pixels have their centres where they had them."""
    x, y = (parts[dim].at if dim in parts else () for dim in ("x", "y"))
    if not x and not y:
        return dict(geo)
    step_x, step_y = step_of(x), step_of(y)
    if step_x is None or step_y is None:
        return {name: value for name, value in geo.items() if name not in _OF_PLACE}
    part = {name: value for name, value in geo.items() if name != "tiepoints"}
    if "pixel_scale" in part:
        scale_x, scale_y, *others = part["pixel_scale"]
        part["pixel_scale"] = [scale_x * step_x, scale_y * step_y, *others]
    if "transform" in part:
        column, row = (at[0].start if at else 0 for at in (x, y))
        # From the corner of the first pixel kept to its centre, and back by half a larger pixel.
        corner = column + 0.5 - step_x / 2, row + 0.5 - step_y / 2
        part["transform"] = list(moved(part["transform"], corner, (step_x, step_y)))
    return part


def moved(
    transform: Sequence[float], corner: tuple[float, float], step: tuple[int, int]
) -> tuple[float, ...]:
    """A transform that begins at another column and row, of larger pixels."""
    a, b, c, d, e, f = transform
    column, row = corner
    return (
        a * step[0], b * step[1], c + a * column + b * row,
        d * step[0], e * step[1], f + d * column + e * row,
    )  # fmt: skip


def origins_of_part(attrs: Mapping[str, Any], part: Selection) -> dict[str, float]:
    """Return where a part begins along axes with a known size of pixels, in their units.

    Parameters
    ----------
    attrs : mapping
        Attributes of the part.
    part : Selection
    """
    sizes = dict(attrs.get("pixel_size", {}))
    if "time_step_s" in attrs:
        sizes["t"] = attrs["time_step_s"]
    origins = {}
    for each in part.parts:
        step = step_of(each.at)
        if each.axis in sizes and step and each.at and each.at[0].start:
            origins[each.axis] = each.at[0].start * sizes[each.axis] / step
    return origins


def pixels_before(part: Selection) -> dict[str, float]:
    """Return how many pixels of a part would fit before the files of which pixels were kept.

    Parameters
    ----------
    part : Selection
    """
    counts = {}
    for each in part.parts:
        step = step_of(each.at)
        if step and each.at:
            within = each.positions[0].start if each.positions else 0
            counts[each.axis] = (each.at[0].start - within) / step
    return counts
