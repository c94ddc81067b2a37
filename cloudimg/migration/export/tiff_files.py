"""TIFF files from pixels that come piece by piece: memory holds a few planes, or a band of one."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cloudimg.migration.metadata.facts import ImageFacts
from cloudimg.migration.plan.plan import Plan

Array = npt.NDArray[Any]
ReadPixels = Callable[[tuple[slice, ...]], Array]
"""Gives the pixels of a region."""

_TILE = 256
_BIG_BYTES = 2**32 - 2**25
_BLOCK_BYTES = 2**28
_WRITTEN_ANYWAY = {254, 256, 257, 258, 259, 262, 270, 273, 274, 277, 278, 279, 282, 283, 284, 296}
_WRITTEN_ANYWAY |= {317, 320, 322, 323, 324, 325, 330, 338, 339, 530, 531, 532}
_WRITTEN_ANYWAY |= {32997, 32998}
"""Tags that say how pixels are stored, which a copy decides itself, or have arguments."""
_DESCRIPTION = "ImageDescription"
_TEXT = 2
_UNDEFINED = (1, 7)
_OF_OME = {"b1", "i1", "u1", "i2", "u2", "i4", "u4", "f4", "f8", "c8", "c16"}
"""Types of pixels that OME-XML has,
https://www.openmicroscopy.org/Schemas/Documentation/Generated/OME-2016-06/ome_xsd.html#PixelType"""
_RATIONAL = (5, 10)


def planes(
    read: ReadPixels, shape: Sequence[int], n_plane: int, depth: int, itemsize: int
) -> Iterator[Array]:
    """All planes of an array, in C order of the axes before them.

    Parameters
    ----------
    read : callable
    shape : sequence of int
    n_plane : int
        How many of the last axes make a plane.
    depth : int
        Planes along the last axis before them that are read at once, where they are not too large.
    itemsize : int
    """
    lead, plane = tuple(shape[:-n_plane]), tuple(shape[-n_plane:])
    inner = tuple(slice(0, n) for n in plane)
    if not lead:
        yield read(inner)
        return
    size = int(np.prod(plane, dtype=np.int64)) * itemsize
    depth = max(1, min(depth, _BLOCK_BYTES // max(1, size)))
    for outer in np.ndindex(*lead[:-1]):
        for start in range(0, lead[-1], depth):
            stop = min(start + depth, lead[-1])
            at = (*(slice(i, i + 1) for i in outer), slice(start, stop), *inner)
            yield from read(at).reshape(stop - start, *plane)


def tiles(read: ReadPixels, shape: Sequence[int]) -> Iterator[Array]:
    """All tiles of all planes (the last two axes), a band of tiles at a time."""
    lead, (height, width) = tuple(shape[:-2]), shape[-2:]
    for outer in np.ndindex(*lead):
        for top in range(0, height, _TILE):
            rows = slice(top, min(top + _TILE, height))
            at = (*(slice(i, i + 1) for i in outer), rows, slice(0, width))
            band = read(at).reshape(rows.stop - rows.start, width)
            for left in range(0, width, _TILE):
                tile = band[:, left : left + _TILE]
                if tile.shape != (_TILE, _TILE):
                    padding = [(0, _TILE - n) for n in tile.shape]
                    tile = np.pad(tile, padding)
                yield np.ascontiguousarray(tile)


def write_original(
    path: Path,
    read: ReadPixels,
    shape: Sequence[int],
    dims: Sequence[str],
    dtype: np.dtype[Any],
    row: Mapping[str, Any],
    *,
    depth: int,
    compression: str | None,
    numbers: Sequence[int] | None = None,
    series: int = 0,
) -> None:
    """A file as it was: pages in its own order, each with its plain tags and its description.

    OME-XML may tell any order of the pages; a first try finds it out. A description that makes
    another image of the pages than the one that they were (as that of a set of files may) is left
    out, and so are tags that may be another page's.

    Parameters
    ----------
    path : Path
    read : callable
    shape : sequence of int
    dims : sequence of str
    dtype : dtype
    row : mapping
        Of the table of originals.
    depth : int
        See `planes`.
    compression : str, optional
    numbers : sequence of int, optional
        Of the pages in the original, where they are known.
    series : int
        Which image of the original it is.
    """
    n_plane = 3 if tuple(dims[-3:]) in (("y", "x", "s"), ("s", "y", "x")) else 2
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    planar = tuple(dims[-3:]) == ("s", "y", "x")
    n_pages = int(np.prod(shape[: len(shape) - n_plane], dtype=np.int64))
    tags, own = _tags_by_page(row, n_pages, numbers, series)
    write = partial(
        _write_pages,
        path,
        shape=shape,
        dtype=dtype,
        n_plane=n_plane,
        tags=tags,
        planar=planar,
        bigtiff=size > _BIG_BYTES,
        compression=compression,
    )
    in_order = partial(planes, read, shape, n_plane, depth, dtype.itemsize)
    description = row.get("description") if series == 0 else None
    write(in_order(), _described(own, description))
    found = None if description is None else _order(path, shape)
    if description is not None and found is None:
        write(in_order(), _described(own, None))
    elif numbers is None and found and sorted(found) == list(range(n_pages)) != found:
        write(_chosen(read, shape, n_plane, found), _described(own, description))


def _tags_by_page(
    row: Mapping[str, Any], n_pages: int, numbers: Sequence[int] | None, series: int
) -> tuple[Mapping[str, Any], list[Mapping[str, Any]]]:
    """Tags of a file's first directory, and those of each page that is written.

    Of a page whose directory in the original is not known, nothing is told: its time is not that
    of the first one.
    """
    first: dict[str, Any] = json.loads(row["tags"]) if row.get("tags") else {}
    further = json.loads(row["further_tags"]) if row.get("further_tags") else []
    if numbers is None or max(numbers) > len(further):  # numbers may be offsets too
        is_each = series == 0 and row.get("has_all_tags") and n_pages == len(further) + 1
        numbers = range(n_pages) if is_each else ()
    if not numbers:
        # One directory may stand for all pages (ImageJ's), or pages for several images.
        own: list[Mapping[str, Any]] = [{} for _ in range(n_pages)]
        return first, [first, *own[1:]] if series == 0 else own
    changes = [further[number - 1] if number > 0 else {} for number in numbers]
    return first, [_changed(first, change) if change else first for change in changes]


def _changed(tags: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """Tags of another directory; those that it has not are None in the change."""
    return {name: tag for name, tag in {**tags, **change}.items() if tag is not None}


def _described(
    tags: Sequence[Mapping[str, Any]], description: str | None
) -> list[tuple[Mapping[str, Any], str | None]]:
    """Tags of each page with its description; that of the first one is given."""
    texts = [each.get(_DESCRIPTION, {}).get("value") for each in tags[1:]]
    known = [text if isinstance(text, str) and text else None for text in texts]
    return list(zip(tags, [description, *known], strict=True))


def _order(path: Path, shape: Sequence[int]) -> list[int] | None:
    """Which page is each plane of a file's first image, where its description tells that.

    None where that image has not the shape that was written, but for axes of length 1.
    """
    import tifffile

    try:
        with tifffile.TiffFile(path, _multifile=False) as tiff:
            image = tiff.series[0]
            if [n for n in image.shape if n > 1] != [n for n in shape if n > 1]:
                return None
            # In OME-TIFF pages lie in any order; elsewhere in that of the planes.
            return [page.index for page in image if page is not None] if tiff.is_ome else []
    except (tifffile.TiffFileError, ValueError, KeyError, IndexError, TypeError):
        return None


def _chosen(
    read: ReadPixels, shape: Sequence[int], n_plane: int, order: Sequence[int]
) -> Iterator[Array]:
    """Planes page by page, of which `order` tells which page each plane is."""
    lead, plane = tuple(shape[:-n_plane]), tuple(shape[-n_plane:])
    inner = tuple(slice(0, n) for n in plane)
    for number in np.argsort(order):
        outer = np.unravel_index(int(number), lead)
        yield read((*(slice(int(i), int(i) + 1) for i in outer), *inner)).reshape(plane)


def _write_pages(
    path: Path,
    pages: Iterator[Array],
    own: Sequence[tuple[Mapping[str, Any], str | None]],
    *,
    shape: Sequence[int],
    dtype: np.dtype[Any],
    n_plane: int,
    tags: Mapping[str, Any],
    planar: bool,
    bigtiff: bool,
    compression: str | None,
) -> None:
    """Pages, of which `own` has the tags and the description of each."""
    import tifffile

    n_samples = shape[-3 if planar else -1] if n_plane == 3 else 1
    options: dict[str, Any] = {"compression": compression, "metadata": None, "software": False}
    if n_samples > 1:
        options["planarconfig"] = "separate" if planar else "contig"
    with tifffile.TiffWriter(path, bigtiff=bigtiff) as file:
        for page, (known, description) in zip(pages, own, strict=True):
            file.write(
                np.ascontiguousarray(page, dtype),
                description=_as_description(description),
                extratags=_extra(known),
                **_photometric(known or tags, n_samples, dtype),
                **_resolution(known),
                **options,
            )


def _photometric(tags: Mapping[str, Any], n_samples: int, dtype: np.dtype[Any]) -> dict[str, Any]:
    """What pixels mean: as in the original, where a copy has what it had (TIFF 6.0, p. 37).

    Of what readers decode to RGB (YCbCr), RGB is written.
    """
    was = tags.get("PhotometricInterpretation", {}).get("value")
    colours = tags.get("ColorMap", {}).get("value")
    if n_samples == 1 and was == 3 and dtype in (np.uint8, np.uint16):
        palette = np.array(colours, np.uint16)
        if palette.shape == (3, 2 ** (8 * dtype.itemsize)):
            return {"photometric": "palette", "colormap": palette}
    known = {(0, 1): "miniswhite", (5, 4): "separated", (8, 3): "cielab"}
    plain = "rgb" if n_samples in (3, 4) and was != 1 else "minisblack"
    return {"photometric": known.get((was, n_samples), plain)}


def _as_description(text: str | None) -> bytes | None:
    return None if text is None else text.encode("utf-8", "replace")


def _resolution(tags: Mapping[str, Any]) -> dict[str, Any]:
    found = [tags.get(name, {}).get("value") for name in ("XResolution", "YResolution")]
    if not all(isinstance(each, list) and len(each) == 2 and each[1] for each in found):
        return {}
    unit = tags.get("ResolutionUnit", {}).get("value", 2)
    across, down = (Fraction(*each) for each in found)
    return {
        "resolution": ((across.numerator, across.denominator), (down.numerator, down.denominator)),
        "resolutionunit": unit if unit in (1, 2, 3) else 1,
    }


def _extra(tags: Mapping[str, Any]) -> list[tuple[int, int, int, Any, bool]]:
    """Further tags whose values can be written as they were."""
    extra: list[tuple[int, int, int, Any, bool]] = []
    for tag in tags.values():
        value = tag.get("value")
        if tag["code"] in _WRITTEN_ANYWAY or value is None:
            continue
        if isinstance(value, dict):
            if tag["type"] not in _UNDEFINED or set(value) != {"base64"}:
                continue  # what tifffile made sense of, it cannot write again
            value = base64.b64decode(value["base64"])
            extra.append((tag["code"], tag["type"], len(value), value, True))
        elif isinstance(value, str):
            if tag["type"] == _TEXT and value.isascii() and value:
                extra.append((tag["code"], _TEXT, 0, value, True))
        elif isinstance(value, int | float) or _is_flat(value):
            count = len(value) if isinstance(value, list) else 1
            if tag["type"] in _RATIONAL:
                count //= 2
            if count == tag["count"] and tag["type"] not in _UNDEFINED:
                known = tuple(value) if isinstance(value, list) else value
                extra.append((tag["code"], tag["type"], count, known, True))
    return extra


def _is_flat(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, int | float) for each in value)


def is_of_ome(dtype: np.dtype[Any]) -> bool:
    """Whether OME-TIFF has pixels of a type."""
    return dtype.str[1:] in _OF_OME


def write_ome(
    path: Path,
    reads: Sequence[ReadPixels],
    plan: Plan,
    facts: ImageFacts,
    *,
    compression: str | None,
) -> None:
    """One image as a tiled OME-TIFF, its further levels as SubIFDs.

    Pixels that OME-TIFF has not make a plain TIFF of the same build, with the names of the axes as
    tifffile writes them.

    Parameters
    ----------
    path : Path
    reads : sequence of callable
        By level.
    plan : Plan
    facts : Facts
    compression : str, optional
    """
    import tifffile

    dtype = np.dtype(plan.dtype)
    total = sum(int(np.prod(level.shape, dtype=np.int64)) for level in plan.levels)
    options: dict[str, Any] = {
        "dtype": dtype,
        "tile": (_TILE, _TILE),
        "photometric": "minisblack",
        "compression": compression,
    }
    is_big, is_ome = total * dtype.itemsize > _BIG_BYTES, is_of_ome(dtype)
    known = _ome_metadata(plan, facts)
    with tifffile.TiffWriter(path, bigtiff=is_big, ome=is_ome) as file:
        for number, (level, read) in enumerate(zip(plan.levels, reads, strict=True)):
            first = number == 0
            file.write(
                tiles(read, level.shape),
                shape=level.shape,
                subifds=len(plan.levels) - 1 if first else 0,
                subfiletype=0 if first else 1,
                # In a plain TIFF each level tells its own shape.
                metadata=known if first or not is_ome else None,
                **options,
            )


def _ome_metadata(plan: Plan, facts: ImageFacts) -> dict[str, Any]:
    """What tifffile writes OME-XML from."""
    # OME-TIFF has no axis of another kind: it is written as time where there is none, else as
    # channel.
    spare = "T" if "t" not in plan.dims else "C"
    axes = "".join(d.upper() if d in ("t", "c", "z", "y", "x") else spare for d in plan.dims)
    found: dict[str, Any] = {"axes": axes, "Name": facts.name or "image"}
    units = {"micrometer": "µm", "nanometer": "nm", "millimeter": "mm", "centimeter": "cm"}
    for dim in ("x", "y", "z"):
        size, unit = facts.scales.get(dim, (0.0, None))
        if dim in plan.dims and unit in units:
            found[f"PhysicalSize{dim.upper()}"] = size
            found[f"PhysicalSize{dim.upper()}Unit"] = units[unit]
    if "t" in plan.dims and facts.scales.get("t", (0.0, None))[1] == "second":
        found["TimeIncrement"], found["TimeIncrementUnit"] = facts.scales["t"][0], "s"
    if "c" in plan.dims and len(facts.channel_names) == plan.levels[0].shape[plan.dims.index("c")]:
        found["Channel"] = {"Name": list(facts.channel_names)}
    return found
