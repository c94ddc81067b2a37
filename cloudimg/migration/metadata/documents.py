"""Make every metadata object of a copy, as bytes. Pure; depends only on the plan and the facts.

Copies follow OME-Zarr 0.5 on Zarr 3 (https://ngff.openmicroscopy.org/0.5/) or 0.4 on Zarr 2
(https://ngff.openmicroscopy.org/0.4/). Several images form a collection with the layout
bioformats2raw.layout 3: groups "0", "1", ... and "OME", which lists them in order.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from cloudimg.colours.channels import DEFAULT_COLOURS, MOST_SHOWN, WHITE, PixelColours
from cloudimg.colours.window import Values
from cloudimg.errors.notes import notes_as_json
from cloudimg.migration.encode.codecs import codec_from_spec
from cloudimg.migration.encode.histogram import Histogram
from cloudimg.migration.metadata.facts import ImageFacts
from cloudimg.migration.plan.plan import Plan

Histograms = Mapping[tuple[int, int], Histogram]
"""Histograms of pixel values by image and channel; of those that were not measured none."""

_VERSIONS = {3: "0.5", 2: "0.4"}
_KINDS = {"t": "time", "c": "channel", "z": "space", "y": "space", "x": "space"}
_METHODS = {
    "mean": "mean of each block, integers rounded half up",
    "nearest": "one pixel of each block",
    "mode": "most frequent value of each block",
}
_OTHER_KIND = "other"
"""Type of any other axis: some viewers fail if an axis has no type."""
_NO_VALUES = Values(np.zeros(0), np.zeros(0), np.zeros(0, np.int64))
_IMAGE_ELEMENT = re.compile(r"<(?:\w+:)?Image[\s>]")


def documents(plan: Plan, facts: ImageFacts, histograms: Histograms) -> list[tuple[str, bytes]]:
    """Keys below the destination and their bytes, in the order in which they must be written.

    The document of the root is last, so that an unfinished copy does not look like a finished one.
    """
    return [
        (key, content if isinstance(content, bytes) else _json(content))
        for key, content in _documents(plan, facts, histograms)
    ]


def _documents(plan: Plan, facts: ImageFacts, histograms: Histograms) -> Iterator[tuple[str, Any]]:
    # All images have the same array metadata.
    array, key = (_array_3, "zarr.json") if plan.zarr_format == 3 else (_array_2, ".zarray")
    arrays = [_json(array(plan, level)) for level in range(len(plan.levels))]
    for image in range(plan.n_images):
        for level, data in enumerate(arrays):
            yield f"{plan.array_path(image, level)}/{key}", data
    if plan.lead_dims:
        for image in range(plan.n_images):
            yield from _group(plan, plan.image_path(image), _image(plan, facts, image, histograms))
    if facts.ome_xml is not None:
        yield _ome_xml_key(plan, facts.ome_xml), facts.ome_xml.encode("utf-8", "backslashreplace")
    if plan.lead_dims:
        yield from _group(
            plan, "OME", _ome(plan, {"series": [str(i) for i in range(plan.n_images)]})
        )
        layout = _ome(plan, {"bioformats2raw.layout": 3})
        yield from _group(plan, "", {**layout, "cloudimg": _own(plan, facts, None)})
        return
    if facts.ome_xml is not None:
        yield from _group(plan, "OME", {})
    yield from _group(plan, "", _image(plan, facts, 0, histograms))


def _ome_xml_key(plan: Plan, ome_xml: str) -> str:
    """Key of the OME-XML.

    ``METADATA.ome.xml`` must describe exactly the images of the collection
    (https://ngff.openmicroscopy.org/0.5/#bf2raw). OME-XML that describes others, as that of one
    file among many, gets another name.
    """
    is_of_all = not plan.lead_dims or len(_IMAGE_ELEMENT.findall(ome_xml)) == plan.n_images
    return f"OME/{'METADATA' if is_of_all else 'source'}.ome.xml"


def _json(value: Any) -> bytes:
    # Headers may contain unpaired surrogates, which strict JSON readers reject.
    text = json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)
    return (text + "\n").encode("utf-8", "replace")


def _group(plan: Plan, path: str, attributes: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    prefix = f"{path}/" if path else ""
    if plan.zarr_format == 3:
        yield (
            f"{prefix}zarr.json",
            {"zarr_format": 3, "node_type": "group", "attributes": attributes},
        )
        return
    if attributes:
        yield f"{prefix}.zattrs", attributes
    yield f"{prefix}.zgroup", {"zarr_format": 2}


def _ome(plan: Plan, attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes of OME-Zarr: in 0.5 under the key "ome", together with the version."""
    if plan.zarr_format == 3:
        return {"ome": {"version": _VERSIONS[3], **attributes}}
    return dict(attributes)


# ------------------------------------------------------------------------------------------ arrays


def _array_3(plan: Plan, level: int) -> dict[str, Any]:
    """Metadata of an array in Zarr 3.

    See https://zarr-specs.readthedocs.io/en/latest/v3/core/index.html#array-metadata.
    """
    planned, dtype = plan.levels[level], np.dtype(plan.dtype)
    sharding = {
        "chunk_shape": list(plan.chunk),
        "codecs": codec_from_spec(plan.codec, dtype).v3_codecs(),
        "index_codecs": [
            {"name": "bytes", "configuration": {"endian": "little"}},
            {"name": "crc32c"},
        ],
        "index_location": "end",
    }
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(planned.shape),
        "data_type": "bool" if dtype.kind == "b" else dtype.name,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(planned.shard)}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": _fill(plan.fill_value),
        "codecs": [{"name": "sharding_indexed", "configuration": sharding}],
        "dimension_names": list(plan.dims),
        "attributes": {},
    }


def _fill(value: Any) -> Any:
    """A fill value, with numbers that JSON lacks replaced by their names in Zarr."""
    names = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
    if isinstance(value, list | tuple):
        return [_fill(part) for part in value]
    return names.get(value, value) if isinstance(value, str) else value


def _array_2(plan: Plan, level: int) -> dict[str, Any]:
    """Metadata of an array in Zarr 2.

    See https://zarr-specs.readthedocs.io/en/latest/v2/v2.0.html#metadata.
    """
    dtype = np.dtype(plan.dtype)
    compressor, filters = codec_from_spec(plan.codec, dtype).v2_compressor()
    return {
        "zarr_format": 2,
        "shape": list(plan.levels[level].shape),
        "chunks": list(plan.chunk),
        "dtype": plan.dtype,
        "compressor": compressor,
        "filters": filters,
        "fill_value": _fill(plan.fill_value),
        "order": "C",
        "dimension_separator": "/",
    }


# ------------------------------------------------------------------------------------------ images


def _image(plan: Plan, facts: ImageFacts, image: int, histograms: Histograms) -> dict[str, Any]:
    """Attributes of the group of an image."""
    multiscale = {
        "name": _name(plan, facts, image),
        "axes": [_axis(facts, dim) for dim in plan.dims],
        "datasets": [
            {"path": str(level), "coordinateTransformations": _transforms(plan, facts, level)}
            for level in range(len(plan.levels))
        ],
        "type": plan.method,
        "metadata": {"description": _METHODS[plan.method], "method": f"cloudimg {plan.method}"},
    }
    if plan.zarr_format == 2:
        multiscale["version"] = _VERSIONS[2]
    ome = {"multiscales": [multiscale], "omero": _omero(plan, facts, image, histograms)}
    return {**_ome(plan, ome), "cloudimg": _own(plan, facts, image)}


def _name(plan: Plan, facts: ImageFacts, image: int) -> str:
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


def _transforms(plan: Plan, facts: ImageFacts, level: int) -> list[dict[str, Any]]:
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
        offset.append(facts.origins.get(dim, 0.0) + shift * size)
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
    return {
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


def _own(plan: Plan, facts: ImageFacts, image: int | None) -> dict[str, Any]:
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
