"""Where the images of a copy lie: positions of the stage as positions of their first pixels. Pure.

Of several planes or files of one image, the first one's position is that of the image, as when
files are placed by the stage. The stage says nothing of an axis whose pixels have no known size.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from cloudimg.migration.metadata.facts import ImageFacts
from cloudimg.migration.metadata.image_place import ImagePlace
from cloudimg.migration.metadata.units import converted, is_length, unit_name
from cloudimg.migration.plan.axes_mapping import AxesMapping
from cloudimg.migration.plan.plan import Plan

Array = npt.NDArray[Any]
Located = Mapping[str, tuple[tuple[str, ...], Array]]
"""Dims and values of coordinates by name."""


def with_stage_origins(
    facts: ImageFacts,
    axes_mapping: AxesMapping,
    coords: Located,
    *,
    before: Mapping[str, float],
    flip: str | None,
) -> ImageFacts:
    """Return the facts with the position of each image along x, y and z, where it is known.

    Parameters
    ----------
    facts : ImageFacts
        With the distance of the first pixel from that of the whole image as its origin.
    axes_mapping : AxesMapping
    coords : mapping
        Coordinates of the source, of which ``stage_x`` and its like are read; see
        `cloudimg.Image.coords`.
    before : mapping
        By dim, the number of pixels of the whole image before the first one of the files that were
        kept, whose position the stage states.
    flip : str, optional
        Axes along which positions of the stage fall while pixels are counted up; None: those that
        the coordinate ``stage_flip`` names.
    """
    unit = _unit_of_stage(coords)
    if unit is None:
        return facts
    # Each index along any other axis may be an image, whether the copy is a plate or not.
    images = AxesMapping(axes_mapping.source_dims, axes_mapping.source_shape, is_plate=True)
    flips = [flip or ""] * images.n_images
    if flip is None and "stage_flip" in coords:
        flips = _by_image(images, *coords["stage_flip"])
    image_origins = {}
    for dim in filter(lambda dim: f"stage_{dim}" in coords, _axes_of_stage(facts, coords)):
        size, own_unit = facts.scales[dim]
        dims, values = coords[f"stage_{dim}"]
        # A position of each plane is that of the first plane of a part, too.
        start = 0.0 if dim in dims else facts.origins.get(dim, 0.0) - before.get(dim, 0.0) * size
        signs = (-1 if dim in flipped else 1 for flipped in flips)
        at = [
            converted(sign * value, unit, own_unit) + start
            for sign, value in zip(signs, _by_image(images, dims, values), strict=True)
        ]
        if any(map(math.isfinite, at)):
            image_origins[dim] = tuple(each if math.isfinite(each) else None for each in at)
    return replace(facts, image_origins=image_origins)


def awaiting_stage(facts: ImageFacts, coords: Located, before: Mapping[str, float]) -> ImageFacts:
    """Return the facts of a collection of which cells report where the stage was.

    Parameters
    ----------
    facts, coords, before
        See `with_stage_origins`.
    """
    starts = {
        dim: facts.origins.get(dim, 0.0) - before.get(dim, 0.0) * facts.scales[dim][0]
        for dim in _axes_of_stage(facts, coords)
    }
    return replace(facts, stage_starts=starts)


def placed(facts: ImageFacts, plan: Plan, places: Iterable[ImagePlace]) -> ImageFacts:
    """Return the facts with the places of images that cells have reported."""
    at: dict[str, list[float | None]] = {
        dim: [None] * plan.n_images for dim in facts.stage_starts if dim in facts.scales
    }
    for place in places:
        unit = unit_name("x", place.unit)
        for dim, origins in at.items():
            value = getattr(place, dim)
            if value is not None and is_length(unit) and place.image < plan.n_images:
                start = facts.stage_starts[dim]
                origins[place.image] = converted(value, unit, facts.scales[dim][1]) + start
    found = {dim: tuple(each) for dim, each in at.items() if each != [None] * plan.n_images}
    return replace(facts, image_origins={**facts.image_origins, **found})


def _axes_of_stage(facts: ImageFacts, coords: Located) -> Iterator[str]:
    """Axes along which only the stage says where images lie, if the size of a pixel is known."""
    for dim in ("x", "y", "z"):
        is_known = f"origin {dim}" in facts.stated or _has_positions(coords.get(dim))
        unit = facts.scales.get(dim, (0.0, None))[1]
        if is_length(unit) and not is_known:
            yield dim


def _has_positions(coordinate: tuple[tuple[str, ...], Array] | None) -> bool:
    """Whether a coordinate is of positions that headers state, and not of labels."""
    return coordinate is not None and coordinate[1].dtype.kind == "f"


def _unit_of_stage(coords: Located) -> str | None:
    """The unit of all positions; None if it is not known to be one of length."""
    units = set(np.unique(coords["stage_unit"][1])) - {""} if "stage_unit" in coords else set()
    unit = unit_name("x", str(units.pop())) if len(units) == 1 else None
    return unit if is_length(unit) else None


def _by_image(images: AxesMapping, dims: Sequence[str], values: Array) -> list[Any]:
    """Values of the first plane of each image."""
    first = values[tuple(slice(None) if dim in images.lead_dims else 0 for dim in dims)]
    kept = [dim for dim in dims if dim in images.lead_dims]
    ordered = first.transpose([kept.index(dim) for dim in images.lead_dims if dim in kept])
    lengths = zip(images.lead_dims, images.lead_shape, strict=True)
    shape = [n if dim in kept else 1 for dim, n in lengths]
    return list(np.broadcast_to(ordered.reshape(shape), images.lead_shape).ravel().tolist())
