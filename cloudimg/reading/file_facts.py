"""What a file says of the whole image that it is a part of, small enough to be compared. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

SHARED_FACTS = (
    "pixel_size",
    "photometric",
    "color_space",
    "colormap",
    "nodata",
    "crs",
    "origin",
)
"""Facts that must be the same in all files, as `allow_differences` names them."""
OF_ONE_FILE = {
    "acquired",
    "description",
    "display_ranges",
    "elapsed_s",
    "info",
    "metadata_problem",
    "name",
    "plane_labels",
    "stage_position",
    "stage_position_unit",
}
"""Attributes that describe one file; an image of several files does not have them."""
_COLOURS = ("color_space", "samples", "ycbcr_coefficients", "reference_black_white")
_PLAIN_KINDS = {"generic", "shaped", "uniform"}
"""What tifffile calls files without a flavour, by how it found the pages of the image."""
_COMPARED_OTHERWISE = {"pixel_size", "pixel_size_unit", "photometric", "colormap", "nodata", "geo"}
_COMPARED_OTHERWISE |= {*_COLOURS, "n_series", "scale", "offset", "unread"}
"""Attributes among the shared facts, and the number of images, which is a note about each file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFacts:
    """What the header of one file says of the whole image. Hashable; equal if nothing differs."""

    pixel_size: tuple[tuple[str, float, str], ...] = ()
    """Axis of the file, size and unit."""
    photometric: str = ""
    color_space: str = ""
    """Colour space with all that converting it takes; empty if unknown."""
    colormap: str = ""
    """Name of the palette by its content; empty if the pixels are not indices."""
    nodata: int | float | str | None = None
    scaling: str | None = ""
    """Scale and offset of each sample; empty if pixels are the values, None if unknown."""
    crs: str = ""
    transform: tuple[float, ...] = ()
    """a to f of x = a column + b row + c and y = d column + e row + f; empty if unknown."""
    control_points: str = ""
    """Name of the control points by their content, if there is no transform."""
    others: tuple[tuple[str, str], ...] = ()
    """Digests of further attributes and of coordinates, by name."""

    @classmethod
    def of(cls, attrs: Mapping[str, Any], coords: Mapping[str, Sequence[Any]]) -> Self | None:
        """Return what attributes and coordinates say; None if they were not read."""
        if "kind" not in attrs:
            return None
        geo = attrs.get("geo", {})
        transform = tuple(map(float, geo.get("transform", ())))
        is_indexed = attrs.get("color_space") == "palette"
        return cls(
            pixel_size=_pixel_size(attrs),
            photometric=attrs.get("photometric", ""),
            color_space=", ".join(_text(attrs[name]) for name in _COLOURS if name in attrs),
            colormap=_named("palette", attrs.get("colormap")) if is_indexed else "",
            nodata=_nodata(attrs.get("nodata")),
            scaling=_scaling(attrs),
            crs=geo.get("crs", ""),
            transform=transform,
            control_points="" if transform else _named("control points", geo.get("tiepoints")),
            others=tuple(_others(attrs, coords)),
        )


_last: tuple[Any, Any, FileFacts | None] = (None, None, None)
"""The attributes and coordinates seen last: equal headers share theirs."""


def facts_of(attrs: Mapping[str, Any], coords: Mapping[str, Sequence[Any]]) -> FileFacts | None:
    """Return what `FileFacts.of` does, which costs nothing for headers that are parsed once."""
    global _last
    last_attrs, last_coords, facts = _last
    if attrs is not last_attrs or coords is not last_coords:
        facts = FileFacts.of(attrs, coords)
        _last = (attrs, coords, facts)
    return facts


def _pixel_size(attrs: Mapping[str, Any]) -> tuple[tuple[str, float, str], ...]:
    units = attrs.get("pixel_size_unit", {})
    sizes = attrs.get("pixel_size", {})
    return tuple((dim, float(size), units.get(dim, "")) for dim, size in sorted(sizes.items()))


def _nodata(value: Any) -> int | float | str | None:
    # NaN does not equal itself.
    return "nan" if isinstance(value, float) and value != value else value


def _scaling(attrs: Mapping[str, Any]) -> str | None:
    if "unread" in attrs:
        return None
    pairs = zip(attrs.get("scale", ()), attrs.get("offset", ()), strict=True)
    return ", ".join(f"{scale!r} and {offset!r}" for scale, offset in pairs)


def _others(
    attrs: Mapping[str, Any], coords: Mapping[str, Sequence[Any]]
) -> Iterator[tuple[str, str]]:
    for name, value in sorted(attrs.items()):
        # Where a palette is expanded, each file has its pixels by its own.
        is_expanded = name == "colormap" and attrs.get("color_space") != "palette"
        if is_expanded or (name not in OF_ONE_FILE and name not in _COMPARED_OTHERWISE):
            is_plain = name == "kind" and value in _PLAIN_KINDS
            yield name, "" if is_plain else _digest(value)
    for dim, values in sorted(coords.items()):
        yield f"{COORDINATES}{dim}", _digest(tuple(values))


COORDINATES = "coordinates_"
"""What the names of coordinates begin with among the facts."""


def _text(value: Any) -> str:
    return value if isinstance(value, str) else f"({', '.join(map(str, value))})"


def _named(what: str, content: Any) -> str:
    """Name of something that is too large for a message, by its content."""
    if content is None or not len(content):
        return ""
    return f"{what} {_digest(content)}"


def _digest(value: Any) -> str:
    content = value.tobytes() if hasattr(value, "tobytes") else repr(value).encode()
    return hashlib.sha256(content).hexdigest()[:12]
