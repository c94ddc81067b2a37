"""Metadata of a multi-file dataset: of the image, and of each of its planes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

from cloudimg.tiff.flavours import ome
from cloudimg.tiff.flavours.facts import HeaderFacts, MetadataSource
from cloudimg.tiff.metadata import BROKEN, attributes_of, coordinates_of

_PIXELS = re.compile(r"<(?:\w+:)?Pixels[\s>]")


def describe_ome(
    ome_xml: str, name: str, dims: Sequence[str], shape: Sequence[int], index: int
) -> tuple[dict[str, Any], dict[str, Sequence[Any]]]:
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
    return attributes_of(facts), coordinates_of(facts, source)


def describe_planes(
    ome_xml: str, name: str, index: int
) -> Iterator[tuple[dict[str, int], dict[str, Any]]]:
    """Yield the attributes of each plane of an image of a multi-file dataset.

    Broken metadata gives fewer planes, which `describe_ome` remarks on.

    Parameters
    ----------
    ome_xml, name, index
        See `describe_ome`.

    Yields
    ------
    at : dict
        Number of the plane along ``Z``, ``C`` and ``T``; -1 if it is not given.
    attrs : dict
        See `cloudimg.tiff.metadata.describe`.
    """
    planes = ome.read_planes(_source_of_ome(ome_xml, name, (), (), index))
    while True:
        try:
            at, facts = next(planes)
        except (StopIteration, *BROKEN):
            return
        yield at, attributes_of(facts)


def _source_of_ome(
    ome_xml: str, name: str, dims: Sequence[str], shape: Sequence[int], index: int
) -> MetadataSource:
    letters = {"page": "I"} | {dim: dim.upper() for dim in "xyzcts"}
    axes = "".join(letters.get(dim, "Q") for dim in dims)
    tiff = SimpleNamespace(ome_metadata=ome_xml, series=range(len(_PIXELS.findall(ome_xml))))
    image = SimpleNamespace(kind="ome", name=name, axes=axes, shape=tuple(shape))
    return MetadataSource(tiff, image, tuple(dims), index)
