"""Metadata of a multi-file dataset: of the image, and of each of its planes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from cloudimg.tiff.flavours import ome
from cloudimg.tiff.flavours.facts import HeaderFacts, MetadataSource
from cloudimg.tiff.flavours.planes import PlaneColumns
from cloudimg.tiff.metadata import BROKEN, attributes_of, coordinates_of

_PIXELS = re.compile(r"<(?:\w+:)?Pixels[\s>]")


def describe_ome(
    ome_xml: str, name: str, dims: Sequence[str], shape: Sequence[int], index: int
) -> tuple[dict[str, Any], dict[str, Sequence[Any]], PlaneColumns | None]:
    """Read the attributes and coordinates of an image of a multi-file dataset.

    Parameters
    ----------
    ome_xml : str
    name : str
        Name of the image.
    dims : sequence of str
        Names of the axes of the image.
    shape : sequence of int
        Lengths of these axes.
    index : int
        Number of the image in the OME-XML.

    Returns
    -------
    attrs, coords : dict
        See `cloudimg.tiff.metadata.describe`.
    planes : PlaneColumns or None
        What is said of each plane; None if nothing is.
    """
    source = _source_of_ome(ome_xml, name, dims, shape, index)
    facts = HeaderFacts()
    facts.put("kind", "ome")
    facts.put("name", name)
    try:
        found = ome.read_ome(source)
    except BROKEN as exc:
        facts.put("metadata_problem", f"ome: {type(exc).__name__}: {exc}"[:200])
    else:
        # Those of the first plane are not those of the image.
        found.attrs.pop("elapsed_s", None)
        found.stage = {dim: at for dim, at in found.stage.items() if dim not in found.moving}
        facts.add(found)
    return attributes_of(facts), coordinates_of(facts, source), facts.planes


def _source_of_ome(
    ome_xml: str, name: str, dims: Sequence[str], shape: Sequence[int], index: int
) -> MetadataSource:
    letters = {"page": "I"} | {dim: dim.upper() for dim in "xyzcts"}
    axes = "".join(letters.get(dim, "Q") for dim in dims)
    tiff = SimpleNamespace(ome_metadata=ome_xml, series=range(len(_PIXELS.findall(ome_xml))))
    image = SimpleNamespace(kind="ome", name=name, axes=axes, shape=tuple(shape))
    return MetadataSource(tiff, image, tuple(dims), index)
