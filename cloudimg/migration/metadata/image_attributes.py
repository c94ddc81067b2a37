"""Attributes of the group of an image: its axes, levels, colours and what cloudimg adds. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from cloudimg.errors.notes import notes_as_json
from cloudimg.migration.encode.histogram import Histogram
from cloudimg.migration.metadata.facts import ImageFacts
from cloudimg.migration.metadata.zarr_nodes import VERSIONS, ome_attributes
from cloudimg.migration.plan.plan import Plan
from cloudimg.tiff.colours.channels import DEFAULT_COLOURS, MOST_SHOWN, WHITE, PixelColours
from cloudimg.tiff.colours.window import Values

Histograms = Mapping[tuple[int, int], Histogram]
"""Histograms of pixel values by image and channel; of those that were not measured none."""

_KINDS = {"t": "time", "c": "channel", "z": "space", "y": "space", "x": "space"}
_METHODS = {
    "mean": "mean of each block, integers rounded half up",
    "nearest": "one pixel of each block",
    "mode": "most frequent value of each block",
}
_OTHER_KIND = "other"
"""Type of any other axis: some viewers fail if an axis has no type."""
_NO_VALUES = Values(np.zeros(0), np.zeros(0), np.zeros(0, np.int64))


def image_attributes(
    plan: Plan, facts: ImageFacts, image: int, histograms: Histograms
) -> dict[str, Any]:
    """Attributes of the group of an image."""
    multiscale = {
        "name": image_name(plan, facts, image),
        "axes": [_axis(facts, dim) for dim in plan.dims],
        "datasets": [
            {"path": str(n), "coordinateTransformations": _transforms(plan, facts, image, n)}
            for n in range(len(plan.levels))
        ],
        "type": plan.method,
        "metadata": {"description": _METHODS[plan.method], "method": f"cloudimg {plan.method}"},
    }
    if plan.zarr_format == 2:
        multiscale["version"] = VERSIONS[2]
    if facts.label_of is not None:  # viewers choose the colours of labels
        version, source = VERSIONS[plan.zarr_format], {"image": facts.label_of}
        ome = {"multiscales": [multiscale], "image-label": {"version": version, "source": source}}
    else:
        ome = {"multiscales": [multiscale], "omero": _omero(plan, facts, image, histograms)}
    return {**ome_attributes(plan, ome), "cloudimg": own_attributes(plan, facts, image)}


def image_name(plan: Plan, facts: ImageFacts, image: int) -> str:
    """Name of an image: that of the source, and where it lies along the lead dims."""
    labels = _lead_labels(plan, facts, image)
    position = ", ".join(f"{dim}={label}" for dim, label in labels.items())
    return " ".join(part for part in (facts.name or "image", position) if part)


def _lead_labels(plan: Plan, facts: ImageFacts, image: int) -> dict[str, Any]:
    """Coordinates of an image along the lead dims, or its index if they are unknown."""
    index = np.unravel_index(image, plan.lead_shape)
    labels: dict[str, Any] = {}
    for dim, i in zip(plan.lead_dims, index, strict=True):
        coordinates = facts.coordinates(dim)
        labels[dim] = coordinates[int(i)] if len(coordinates) > i else int(i)
    return labels


def _axis(facts: ImageFacts, dim: str) -> dict[str, Any]:
    axis = {"name": dim, "type": _KINDS.get(dim, _OTHER_KIND)}
    unit = facts.scales.get(dim, (1.0, facts.units.get(dim)))[1]
    return {**axis, "unit": unit} if unit is not None else axis


def _transforms(plan: Plan, facts: ImageFacts, image: int, level: int) -> list[dict[str, Any]]:
    """Scale and translation of a level.

    A pixel that is computed from a block lies in the middle of the block, (factor - 1) / 2 pixels
    from the block's first one. A pixel that is taken from a block keeps its position.
    """
    scale, offset = [], []
    for i, dim in enumerate(plan.dims):
        size = facts.scales.get(dim, (1.0, None))[0]
        cumulative, shift = 1, 0.0
        for number in range(1, level + 1):
            factor = plan.levels[number].factors[i]
            within_block = (factor - 1) // 2 if plan.method == "nearest" else (factor - 1) / 2
            shift += within_block * cumulative
            cumulative *= factor
        scale.append(size * cumulative)
        offset.append(facts.origin(dim, image) + shift * size)
    transforms: list[dict[str, Any]] = [{"type": "scale", "scale": scale}]
    if any(offset):
        transforms.append({"type": "translation", "translation": offset})
    return transforms


def _omero(plan: Plan, facts: ImageFacts, image: int, histograms: Histograms) -> dict[str, Any]:
    """Rendering settings of an image, as OMERO stores them."""
    n_channels = plan.levels[0].shape[plan.dims.index("c")] if "c" in plan.dims else 1
    labels = _channel_labels(facts, n_channels)
    measured = [histograms.get((image, i)) for i in range(n_channels)]
    if facts.colours is None:
        shown = _shown_by_older(np.dtype(plan.dtype), facts, measured)
    else:
        shown = _shown(np.dtype(plan.dtype), facts, facts.colours, measured)
    channels = [
        {"label": label, **settings, "coefficient": 1, "family": "linear"}
        for label, settings in zip(labels, shown, strict=True)
    ]
    middle = plan.levels[0].shape[plan.dims.index("z")] // 2 if "z" in plan.dims else 0
    is_grey = n_channels == 1 and (facts.colours is None or channels[0]["color"] == WHITE)
    name = {} if facts.is_of_older else {"name": image_name(plan, facts, image)}
    return {
        **name,
        "channels": channels,
        "rdefs": {"defaultT": 0, "defaultZ": middle, "model": "greyscale" if is_grey else "color"},
    }


def _shown(
    dtype: np.dtype[Any],
    facts: ImageFacts,
    colours: PixelColours,
    measured: Sequence[Histogram | None],
) -> Iterator[dict[str, Any]]:
    """Colour, window and visibility of each channel."""
    values = [_NO_VALUES if each is None else each.values() for each in measured]
    windows = colours.windows(values, dtype)
    channels = colours.channels(len(values), facts.channel_colors)
    number = int if dtype.kind in "biu" else float
    for channel, (start, end), each in zip(channels, windows, values, strict=True):
        least, greatest = each.range if len(each.counts) else (start, end)
        if number is int:
            start, end = math.floor(start), math.ceil(end)
        yield {
            "color": channel.colour,
            "active": channel.is_active,
            "inverted": channel.is_inverted,
            "window": {
                "start": number(start),
                "end": number(end),
                "min": number(min(least, start)),
                "max": number(max(greatest, end)),
            },
        }


def _shown_by_older(
    dtype: np.dtype[Any], facts: ImageFacts, measured: Sequence[Histogram | None]
) -> Iterator[dict[str, Any]]:
    """The same by the rules of older versions, with whose plans a copy was made."""
    default_limits = _range_of(dtype)
    for i, each in enumerate(measured):
        start, end, least, greatest = default_limits if each is None else each.limits()
        default = WHITE if len(measured) == 1 else DEFAULT_COLOURS[i % len(DEFAULT_COLOURS)]
        yield {
            "color": facts.channel_colors[i] if i < len(facts.channel_colors) else default,
            "active": i < MOST_SHOWN,
            "inverted": False,
            "window": {"start": start, "end": end, "min": least, "max": greatest},
        }


def _channel_labels(facts: ImageFacts, n_channels: int) -> list[str]:
    """Names of channels from headers, or else their coordinates, or else their numbers."""
    if len(facts.channel_names) == n_channels:
        return list(facts.channel_names)
    coordinates = facts.coordinates("c")
    labels = coordinates if len(coordinates) == n_channels else range(n_channels)
    return [each if isinstance(each, str) else f"channel {each}" for each in labels]


def _range_of(dtype: np.dtype[Any]) -> tuple[float, float, float, float]:
    """Contrast limits if none were measured: the range of an integer dtype, or else 0 to 1."""
    if dtype.kind not in "iu":
        return 0, 1, 0, 1
    info = np.iinfo(dtype)
    return int(info.min), int(info.max), int(info.min), int(info.max)


def own_attributes(plan: Plan, facts: ImageFacts, image: int | None) -> dict[str, Any]:
    """Attributes of cloudimg, for everything that OME-Zarr cannot represent."""
    if image is not None and plan.lead_dims:
        # Everything that all images share is in the root.
        return {"labels": _lead_labels(plan, facts, image)}
    optional = {
        "coordinates": facts.coords,
        "coordinate_attributes": facts.coord_attrs,
        "attributes": facts.attrs,
        "notes": list(facts.notes),
        **notes_as_json("source_notes", facts.source_notes),
    }
    return {"provenance": facts.provenance} | {key: each for key, each in optional.items() if each}
