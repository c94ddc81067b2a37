"""Every metadata object of a copy, as bytes. Pure; the same bytes for the same plan and facts.

OME-Zarr 0.5 on Zarr 3 (https://ngff.openmicroscopy.org/0.5/), 0.4 on Zarr 2
(https://ngff.openmicroscopy.org/0.4/). Several images form a collection as bioformats2raw.layout 3
has it: groups "0", "1", ... and "OME", which tells their order.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from cloudimg.migration.encode.codecs import codec_from_spec
from cloudimg.migration.metadata.facts import ImageFacts, coordinates_of
from cloudimg.migration.plan.plan import Plan

Contrast = Mapping[tuple[int, int], tuple[float, float, float, float]]
"""Start, end, least and greatest value by image and channel."""

_VERSIONS = {3: "0.5", 2: "0.4"}
_KINDS = {"t": "time", "c": "channel", "z": "space", "y": "space", "x": "space"}
_COLORS = ("00FF00", "FF00FF", "00FFFF", "FFFF00", "FF0000", "0000FF")
_MOST_ACTIVE = 6
_METHODS = {
    "mean": "mean of each block, integers rounded half up",
    "nearest": "one pixel of each block",
    "mode": "most frequent value of each block",
}
_OTHER_KIND = "other"
"""Type of an axis that is none of these: some viewers fail where an axis has no type."""
_IMAGE_ELEMENT = re.compile(r"<(?:\w+:)?Image[\s>]")


def documents(plan: Plan, facts: ImageFacts, contrast: Contrast) -> list[tuple[str, bytes]]:
    """Keys below the destination and bytes, in the order in which they are to be written.

    The root's own comes last, so that half a copy is not mistaken for a whole one.
    """
    found = _documents(plan, facts, contrast)
    return [(key, data if isinstance(data, bytes) else _json(data)) for key, data in found]


def _documents(plan: Plan, facts: ImageFacts, contrast: Contrast) -> Iterator[tuple[str, Any]]:
    # The arrays of a level are alike in all images.
    array, key = (_array_3, "zarr.json") if plan.zarr_format == 3 else (_array_2, ".zarray")
    arrays = [_json(array(plan, level)) for level in range(len(plan.levels))]
    for image in range(plan.n_images):
        for level, data in enumerate(arrays):
            yield f"{plan.array_path(image, level)}/{key}", data
    if plan.lead_dims:
        for image in range(plan.n_images):
            yield from _group(plan, plan.image_path(image), _image(plan, facts, image, contrast))
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
    yield from _group(plan, "", _image(plan, facts, 0, contrast))


def _ome_xml_key(plan: Plan, ome_xml: str) -> str:
    """Where OME-XML is kept.

    The images of ``METADATA.ome.xml`` are those of the collection, one by one
    (https://ngff.openmicroscopy.org/0.5/#bf2raw). That of one file among many tells of others.
    """
    is_of_all = not plan.lead_dims or len(_IMAGE_ELEMENT.findall(ome_xml)) == plan.n_images
    return f"OME/{'METADATA' if is_of_all else 'source'}.ome.xml"


def _json(value: Any) -> bytes:
    # Halves of surrogate pairs, which headers may hold, are no JSON for strict readers.
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
    """Attributes of OME-Zarr: in 0.5 under a key of their own, with the version beside them."""
    if plan.zarr_format == 3:
        return {"ome": {"version": _VERSIONS[3], **attributes}}
    return dict(attributes)


# ------------------------------------------------------------------------------------------ arrays


def _array_3(plan: Plan, level: int) -> dict[str, Any]:
    """https://zarr-specs.readthedocs.io/en/latest/v3/core/index.html#array-metadata"""
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
    """Fill values that JSON has no number for, by their names in Zarr."""
    names = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
    if isinstance(value, list | tuple):
        return [_fill(part) for part in value]
    return names.get(value, value) if isinstance(value, str) else value


def _array_2(plan: Plan, level: int) -> dict[str, Any]:
    """https://zarr-specs.readthedocs.io/en/latest/v2/v2.0.html#metadata"""
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


def _image(plan: Plan, facts: ImageFacts, image: int, contrast: Contrast) -> dict[str, Any]:
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
    ome = {"multiscales": [multiscale], "omero": _omero(plan, facts, image, contrast)}
    return {**_ome(plan, ome), "cloudimg": _own(plan, facts, image)}


def _name(plan: Plan, facts: ImageFacts, image: int) -> str:
    labels = _lead_labels(plan, facts, image)
    told = ", ".join(f"{dim}={label}" for dim, label in labels.items())
    return " ".join(part for part in (facts.name or "image", told) if part)


def _lead_labels(plan: Plan, facts: ImageFacts, image: int) -> dict[str, Any]:
    """What tells an image from the others: its labels along the lead dims."""
    at = np.unravel_index(image, plan.lead_shape)
    found: dict[str, Any] = {}
    for dim, i in zip(plan.lead_dims, at, strict=True):
        labels = coordinates_of(facts, dim)
        found[dim] = labels[int(i)] if len(labels) > i else int(i)
    return found


def _axis(facts: ImageFacts, dim: str) -> dict[str, Any]:
    axis = {"name": dim, "type": _KINDS.get(dim, _OTHER_KIND)}
    unit = facts.scales.get(dim, (1.0, facts.units.get(dim)))[1]
    return {**axis, "unit": unit} if unit is not None else axis


def _transforms(plan: Plan, facts: ImageFacts, level: int) -> list[dict[str, Any]]:
    """Scale and translation of a level.

    A pixel that stands for a block has its place in the block's middle, which is (factor - 1) / 2
    from the block's first pixel; one that was taken from a block has its own.
    """
    scale, offset = [], []
    for i, dim in enumerate(plan.dims):
        size = facts.scales.get(dim, (1.0, None))[0]
        total, at = 1, 0.0
        for number in range(1, level + 1):
            factor = plan.levels[number].factors[i]
            inside = (factor - 1) // 2 if plan.method == "nearest" else (factor - 1) / 2
            at += inside * total
            total *= factor
        scale.append(size * total)
        offset.append(facts.origins.get(dim, 0.0) + at * size)
    found: list[dict[str, Any]] = [{"type": "scale", "scale": scale}]
    if any(offset):
        found.append({"type": "translation", "translation": offset})
    return found


def _omero(plan: Plan, facts: ImageFacts, image: int, contrast: Contrast) -> dict[str, Any]:
    has_channels = "c" in plan.dims
    n_channels = plan.levels[0].shape[plan.dims.index("c")] if has_channels else 1
    labels = _channel_labels(facts, n_channels)
    whole = _range_of(np.dtype(plan.dtype))
    channels = []
    for i in range(n_channels):
        start, end, least, greatest = contrast.get((image, i), whole)
        default = "FFFFFF" if n_channels == 1 else _COLORS[i % len(_COLORS)]
        channels.append(
            {
                "label": labels[i],
                "color": facts.channel_colors[i] if i < len(facts.channel_colors) else default,
                "active": i < _MOST_ACTIVE,
                "coefficient": 1,
                "family": "linear",
                "inverted": False,
                "window": {"start": start, "end": end, "min": least, "max": greatest},
            }
        )
    middle = plan.levels[0].shape[plan.dims.index("z")] // 2 if "z" in plan.dims else 0
    model = "greyscale" if n_channels == 1 else "color"
    return {
        "channels": channels,
        "rdefs": {"defaultT": 0, "defaultZ": middle, "model": model},
    }


def _channel_labels(facts: ImageFacts, n_channels: int) -> list[str]:
    """Names of channels: those of the headers, else what the names of the files say."""
    if len(facts.channel_names) == n_channels:
        return list(facts.channel_names)
    found = coordinates_of(facts, "c")
    known = found if len(found) == n_channels else range(n_channels)
    return [each if isinstance(each, str) else f"channel {each}" for each in known]


def _range_of(dtype: np.dtype[Any]) -> tuple[float, float, float, float]:
    """Contrast limits where none were measured: all values of a dtype, if it has bounds."""
    if dtype.kind not in "iu":
        return 0, 1, 0, 1
    info = np.iinfo(dtype)
    return int(info.min), int(info.max), int(info.min), int(info.max)


def _own(plan: Plan, facts: ImageFacts, image: int | None) -> dict[str, Any]:
    """What OME-Zarr has no place for."""
    own: dict[str, Any] = {"provenance": facts.provenance}
    kept = {
        name: each
        for name, each in facts.coords.items()
        if image is None or name not in plan.lead_dims
    }
    if kept:
        own["coordinates"] = kept
    if facts.coord_attrs:
        own["coordinate_attributes"] = facts.coord_attrs
    if facts.attrs:
        own["attributes"] = facts.attrs
    if facts.notes:
        own["notes"] = list(facts.notes)
    if image is not None and plan.lead_dims:
        # The root has what is the same for all images.
        own = {"labels": _lead_labels(plan, facts, image)}
    return own
