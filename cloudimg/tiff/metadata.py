"""Metadata of an image in a TIFF: sizes, channels, times, positions."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import IntEnum
from functools import partial
from typing import Any
from xml.etree import ElementTree

import numpy as np

from cloudimg.errors import CloudimgError
from cloudimg.errors.notes import Remark
from cloudimg.tiff.colours.convert import attributes_in_rgb
from cloudimg.tiff.flavours import (
    baseline,
    colour,
    confocal,
    geo,
    imagej,
    instruments,
    metamorph,
    micromanager,
    ome,
    slides,
)
from cloudimg.tiff.flavours.facts import HeaderFacts, MetadataSource, number
from cloudimg.tiff.parsed import PlaneValues
from cloudimg.tiff.sparse import NotFetchedError, SparseFile

Reader = Callable[[MetadataSource], HeaderFacts]

_FLAVOURS: Mapping[str, Reader] = {
    "ome": ome.read_ome,
    "lsm": confocal.read_lsm,
    "stk": metamorph.read_stk,
    "metaseries": metamorph.read_metaseries,
    "micromanager": micromanager.read_micromanager,
    "imagej": imagej.read_imagej,
    "fluoview": confocal.read_fluoview,
    "sis": confocal.read_sis,
    "scanimage": confocal.read_scanimage,
    "svs": slides.read_svs,
    "scn": slides.read_scn,
    "ndpi": slides.read_ndpi,
    "philips": slides.read_philips,
    "bif": slides.read_bif,
    "qpi": slides.read_qpi,
    "indica": slides.read_indica,
    "eer": instruments.read_eer,
    "tvips": instruments.read_tvips,
    "fei": instruments.read_fei,
    "sem": instruments.read_sem,
    "nih": imagej.read_nih,
    "epics": instruments.read_epics,
    "pilatus": instruments.read_pilatus,
    "andor": instruments.read_andor,
    "astrotiff": instruments.read_astrotiff,
}
"""Readers by the flag that tifffile gives a page; the first value of an item is kept."""

_TAGS: Mapping[int, tuple[str, Reader]] = {
    geo.PIXEL_SCALE: ("geotiff", geo.read_geo),
    geo.TRANSFORMATION: ("geotiff", geo.read_geo),
    geo.TIEPOINTS: ("geotiff", geo.read_geo),
    geo.GEO_KEYS: ("geotiff", geo.read_geo),
    geo.GDAL_METADATA: ("gdal", geo.read_gdal),
    geo.GDAL_NODATA: ("nodata", geo.read_nodata),
    colour.COLORMAP: ("colormap", colour.read_colormap),
    baseline.ORIENTATION: ("orientation", baseline.read_orientation),
    baseline.DATETIME: ("datetime", baseline.read_datetime),
}
"""Names and readers by a tag of the keyframe of the image."""

_WITHOUT_DESCRIPTION = {
    "micromanager",
    "lsm",
    "stk",
    "sis",
    "eer",
    "tvips",
    "fei",
    "sem",
    "nih",
    "andor",
}
"""Flavours that do not use ImageDescription, which may then be a text for people."""
MEMBER = "member"
"""Kind of an image that is a file of a multi-file dataset."""
_OF_ONE_FILE = ("datetime", "description")
"""Names of readers of what differs from file to file."""
_SHARED = ("colours", "colormap", "geotiff", "nodata", "resolution")
"""Names of readers of what must be the same in all files, from small tags."""
_SMALL_BYTES = 2**14
"""Largest tag of scales and offsets that is fetched to be compared; it may hold much else."""
_STRUCTURED = ("shaped", "streak")
"""Flags of pages whose description is for programs and is not read here."""

BROKEN = (
    KeyError,
    IndexError,
    TypeError,
    ValueError,  # also UnicodeDecodeError, JSONDecodeError, tifffile's TiffFileError
    AttributeError,
    ArithmeticError,
    RecursionError,
    struct.error,
    ElementTree.ParseError,
)
"""Errors that broken metadata causes in readers and in tifffile."""


def describe(
    tiff: Any,
    series: Any,
    dims: Sequence[str],
    index: int,
    *,
    compared: SparseFile | None = None,
) -> tuple[dict[str, Any], dict[str, Sequence[Any]], dict[str, PlaneValues]]:
    """Read the attributes and coordinates of an image that tifffile parsed.

    The tags of the image's keyframe and of the first page are used. Broken metadata gives fewer
    attributes and is not an error; only failures of the store and limits raise.

    Parameters
    ----------
    tiff : tifffile.TiffFile
    series : tifffile.TiffPageSeries
    dims : sequence of str
    index : int
        Number of the image in the file.
    compared : SparseFile, optional
        The file, if its metadata is only compared with that of others. Time and description, which
        are only of the file itself, are left out then, and for what may differ nothing is fetched.

    Returns
    -------
    attrs : dict
        Each only if the file gives it; plain Python values except the palette.

        - Storage: ``kind`` (flavour), ``compression``, ``photometric`` (as the file states it),
          ``orientation`` (tag 274, if the pixels are not stored upright), ``nodata``.
        - Colours of the pixels as they are read: ``color_space``, ``samples`` (meaning of each
          sample of a pixel, if they are not just red, green and blue), ``bits_per_sample`` (if the
          dtype has more), ``colormap`` (uint16 array of 3 x 2**bits), ``ycbcr_coefficients``,
          ``reference_black_white``.
        - Image: ``name``, ``description``, ``info`` (ImageJ's), ``acquired`` (ISO 8601),
          ``pixel_size`` and ``pixel_size_unit`` by dim, ``time_step_s``, ``magnification``,
          ``objective``, ``exposure_s``, ``elapsed_s`` (from the start of the acquisition),
          ``channel_names``, ``channel_colors`` (RGBA integers as in OME), ``display_ranges``
          (lowest and highest value shown, by channel), ``plane_labels``.
        - Position: ``stage_position`` and ``stage_position_unit`` by dim; ``geo`` with
          ``pixel_scale``, ``tiepoints``, ``transform`` (a..f of x = a column + b row + c,
          y = d column + e row + f, of the corner of a pixel) and ``epsg``.
        - ``metadata_problem``: which metadata was broken, and how.
    coords : dict
        Coordinates by dim, as many as the axis is long: names of channels, labels of modulo axes,
        positions along z, seconds along t.
    planes : dict
        What differs between the planes of the image, by name of the fact; empty if the metadata is
        only compared.
    """
    import tifffile

    source = MetadataSource(tiff, series, tuple(dims), index)
    facts = HeaderFacts()
    facts.put("kind", series.kind)
    facts.put("compression", _name(tifffile.COMPRESSION, source.keyframe.compression))
    if colour.PHOTOMETRIC in source.keyframe.tags:
        facts.put("photometric", _name(tifffile.PHOTOMETRIC, source.keyframe.photometric))
    facts.put("name", str(series.name or ""))
    problems: list[str] = []
    n_refused = 0 if compared is None else compared.n_refused
    # What is said of a whole dataset is in the metadata of the dataset.
    is_member = compared is not None and series.kind == MEMBER
    for name, read in _shared_readers(source) if is_member else _readers(source, facts):
        if compared is not None:
            if name in _OF_ONE_FILE:
                continue
            # Unless a flavour gives the size, which is not known if not all of them were read.
            if name == "resolution" and compared.n_refused > n_refused:
                continue
            read = partial(_read_compared, name, read, compared)
        try:
            facts.add(read(source))
        except CloudimgError:
            raise
        except BROKEN as exc:
            problems.append(f"{name}: {type(exc).__name__}: {exc}"[:200])
    facts.put("metadata_problem", "; ".join(problems))
    planes = {} if compared is not None else _planes_of(facts, source)
    return attributes_of(facts), coordinates_of(facts, source), planes


def _planes_of(facts: HeaderFacts, source: MetadataSource) -> dict[str, PlaneValues]:
    """What differs between the planes of an image, by name of the fact."""
    letters = {"C", *(facts.planes.at if facts.planes is not None else ())}
    axes = {letter: source.dim(letter) for letter in letters}
    steps = {
        letter: (source.dims.index(dim), int(source.series.shape[source.dims.index(dim)]))
        for letter, dim in axes.items()
        if dim is not None
    }
    planes = {} if facts.planes is None else facts.planes.by_axis(steps)
    names = facts.attrs.get("channel_names", ())
    if "C" in steps and len(names) == steps["C"][1] > 1:
        planes["channel"] = PlaneValues((steps["C"][0],), np.array(names, object))
    return planes


def _read_compared(
    name: str, read: Reader, file: SparseFile, source: MetadataSource
) -> HeaderFacts:
    """Read metadata; nothing, or that it was not read, if too much would have to be fetched."""
    n_refused, outside = file.n_refused, file.fetches
    is_gdal = name == "gdal"
    file.fetches = name in _SHARED or (is_gdal and _is_small(source, geo.GDAL_METADATA))
    not_read = HeaderFacts({"unread": name} if is_gdal else {})
    try:
        facts = read(source)
    except NotFetchedError:
        return not_read
    finally:
        file.fetches = outside
    return facts if file.n_refused == n_refused else not_read


def _is_small(source: MetadataSource, code: int) -> bool:
    return bool(source.keyframe.tags[code].valuebytecount <= _SMALL_BYTES)


def _name(codes: type[IntEnum], value: int) -> str:
    """Name of a tag's value, or its number if it has no name."""
    try:
        return codes(value).name
    except ValueError:
        return str(value)


def _readers(source: MetadataSource, facts: HeaderFacts) -> Iterator[tuple[str, Reader]]:
    """Names and readers that apply to the file; later ones depend on what `facts` has by then."""
    first, tags = source.first, source.keyframe.tags
    has_text = bool(source.keyframe.description)
    yield "colours", colour.read_color_space
    for flag, read in _FLAVOURS.items():
        if _is(first, flag):
            has_text = has_text and flag in _WITHOUT_DESCRIPTION
            yield flag, read
    done: set[str] = set()
    for code, (name, read) in _TAGS.items():
        if code in tags and name not in done:
            done.add(name)
            yield name, read
    # The resolution tags of a map refer to its print.
    has_size = bool(facts.sizes.keys() & {"x", "y"})
    if baseline.X_RESOLUTION in tags and not has_size and "geotiff" not in done:
        yield "resolution", baseline.read_resolution
    if has_text and not any(_is(source.keyframe, flag) for flag in _STRUCTURED):
        yield "description", baseline.read_description


def _shared_readers(source: MetadataSource) -> Iterator[tuple[str, Reader]]:
    """Names and readers of what the pages of all files of a dataset must share."""
    yield "colours", colour.read_color_space
    done: set[str] = set()
    for code, (name, read) in _TAGS.items():
        if code in source.keyframe.tags and name in _SHARED and name not in done:
            done.add(name)
            yield name, read


def _is(page: Any, flag: str) -> bool:
    """Whether tifffile recognizes a page as one of a flavour; errors in its test count as no."""
    try:
        return bool(getattr(page, "is_" + flag))
    except CloudimgError:
        raise
    except (NotFetchedError, *BROKEN):
        return False


def attributes_of(facts: HeaderFacts) -> dict[str, Any]:
    """Attributes as `describe` returns them."""
    attrs = dict(facts.attrs)
    for name, lengths in (("pixel_size", facts.sizes), ("stage_position", facts.stage)):
        if lengths:
            attrs[name] = {dim: value for dim, (value, _) in lengths.items()}
            attrs[f"{name}_unit"] = {dim: unit for dim, (_, unit) in lengths.items()}
    return attrs


def coordinates_of(facts: HeaderFacts, source: MetadataSource) -> dict[str, Sequence[Any]]:
    """Coordinates that are valid and as many as their axis is long."""
    coords = {"c": tuple(facts.attrs.get("channel_names", ()))} | facts.coords
    return {
        dim: values
        for dim, values in coords.items()
        if len(values) == source.length(dim)
        and all(isinstance(value, str) or number(value) is not None for value in values)
    }


def colour_attributes(tiff: Any, series: Any, dims: Sequence[str]) -> dict[str, Any]:
    """Attributes of the colours of an image alone, as `describe` returns them."""
    source = MetadataSource(tiff, series, tuple(dims), 0)
    return attributes_of(colour.read_color_space(source))


def of_converted(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes of an image whose samples are converted to RGB."""
    if "color_space" not in attrs:
        return dict(attrs)
    kept = attributes_in_rgb(attrs)
    n_names = len(kept.get("channel_names", ()))
    if n_names == len(attrs.get("samples", ())):
        kept.pop("channel_names", None)  # of samples that are not there
    return kept


def of_expanded_palette(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes of an image whose palette is expanded to colours of 16 bits."""
    kept = {name: value for name, value in attrs.items() if name not in colour.OF_INDICES}
    return {**kept, "color_space": "rgb"} if "color_space" in attrs else kept


def metadata_remarks(attrs: Mapping[str, Any]) -> tuple[Remark, ...]:
    """What was noticed while attributes were read, from the attributes."""
    problem = attrs.get("metadata_problem")
    return (Remark("metadata-problem", f"metadata cannot be read: {problem}"),) if problem else ()
