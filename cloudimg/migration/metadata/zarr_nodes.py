"""Metadata of groups and arrays in Zarr 3 and Zarr 2, and its bytes. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from cloudimg.migration.encode.codecs import codec_from_spec
from cloudimg.migration.metadata.facts import ImageFacts
from cloudimg.migration.plan.plan import Plan

VERSIONS = {3: "0.5", 2: "0.4"}
"""Versions of OME-Zarr by format of Zarr."""


def as_document(value: Any) -> bytes:
    """A value as JSON that is the same in each run."""
    # Headers may contain unpaired surrogates, which strict JSON readers reject.
    text = json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)
    return (text + "\n").encode("utf-8", "replace")


def group_nodes(plan: Plan, path: str, attributes: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Keys and content of the metadata of a group."""
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


def ome_attributes(plan: Plan, attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes of OME-Zarr: in 0.5 under the key "ome", together with the version."""
    if plan.zarr_format == 3:
        return {"ome": {"version": VERSIONS[3], **attributes}}
    return dict(attributes)


def array_nodes(plan: Plan, facts: ImageFacts, level: int) -> Iterator[tuple[str, Any]]:
    """Names and content of the metadata of the array of a level."""
    if plan.zarr_format == 3:
        yield "zarr.json", array_3(plan, level)
        return
    if not facts.is_of_older:
        # Zarr 2 has no names of dimensions. xarray, GDAL and others read these:
        # https://docs.xarray.dev/en/stable/internals/zarr-encoding-spec.html
        yield ".zattrs", {"_ARRAY_DIMENSIONS": list(plan.dims)}
    yield ".zarray", array_2(plan, level)


def array_3(plan: Plan, level: int) -> dict[str, Any]:
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


def array_2(plan: Plan, level: int) -> dict[str, Any]:
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
