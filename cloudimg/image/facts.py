"""Facts of an image or a folder as plain JSON values: the result of `cloudimg.info`.

Sizes are in bytes. Later versions may add keys, but do not change or remove any. Facts of an image:

==================  ==============================================================================
``kind``            ``"image"``
``url``             the given URL, without credentials
``dims``            names of the axes
``shape``           lengths of the axes
``dtype``           data type in NumPy's spelling, such as ``"uint16"``
``labels``          labels and coordinates by dim; one label per file where files are concatenated;
                    times in ISO 8601
``nbytes``          decoded size of level 0
``stored_nbytes``   size of all files, null where the store does not list it, and of Zarrs
``chunks``          ``shape`` of the most common Dask chunk, and the ``count`` of chunks
``levels``          ``shape``, ``downsampling`` and ``segment`` (tile or strip, by dim) by level
``compression``     compression in tifffile's spelling
``color_space``     colours of the pixels as they are read, null if they are not known; see
                    `cloudimg.ImageAttributes`
``samples``         meaning of each sample of a pixel, empty if they are just red, green and blue
``files``           ``count``; ``missing`` and ``missing_examples`` (labels by axis); ``listed``:
                    what was listed, null where nothing was; of the names listed that do not match
                    the pattern: their number ``unmatched``, that of images among them
                    ``unmatched_images``, numbers by kind ``unmatched_kinds``,
                    ``unmatched_examples`` (URLs), and ``advice`` on the pattern; ``report``:
                    files that are missing, or were found to be bad, with ``n_files``, ``total``,
                    ``n_excluded``, ``is_complete`` (whether all files were looked at) and
                    ``kinds``: the ``kind``, its ``n_files``, and ``examples`` (``url``, ``text``)
``canvas``          null unless files have places of their own along y and x, by the stage or their
                    transforms: its ``shape`` along y and x, and the ``axes`` of the names whose
                    files lie on one
``on_earth``        null unless the image has a reference system or a transform: ``crs`` and
                    ``transform`` as in ``Image.attrs["geo"]``, null if unknown
``values``          ``nodata``, and ``scale`` and ``offset`` of each sample, null if the file does
                    not give them
``pixel_size``      ``value`` and ``unit`` by dim
``coordinates``     what headers say of each file (`cloudimg.Image.coords`), by name: ``dims`` along
                    which it varies, ``unit`` (null if it has none), ``n_known`` of ``n_values``
                    that are known, ``range`` (least and greatest number or time, null of texts),
                    and ``values`` in C order, of texts only different ones; null if there are more
                    than 1,000
``channel_names``   names of the channels, empty if the file does not give them
``time_step_s``     seconds between frames, null if the file does not give it
``series``          number of the image in its file
``images``          all images of the file, empty if it has only one: ``series``, ``role``
                    (``"image"``, ``"thumbnail"``, ``"label"``, ``"macro"``, ``"map"``, ``"mask"``,
                    ``"empty"``), ``name``, ``shape`` and ``dtype``
``notes``           what was noticed in the headers that were read, one note per ``kind``: ``text``,
                    ``n_files`` and up to three ``urls``
==================  ==============================================================================

Facts of a folder:

==================  ==============================================================================
``kind``            ``"folder"``
``url``             the given URL, without credentials
``objects``         number of names listed
``truncated``       whether the folder has more names
``images``          number of names with the extension of an image format
``proposals``       known layouts first, then most files first: the ``pattern`` and the number of
                    ``files`` that it matches; ``layout`` and its ``source`` (a URL), null for a
                    guess; ``certainty``: ``"known"``, ``"likely"`` or ``"guess"``; ``roles``: what
                    shows that a field is this axis, by field; ``axes``: lengths by field;
                    ``missing``: indices without a file; ``left_out``: files of the folder that it
                    does not match; ``exclude``: globs of files that are not planes, to be passed as
                    `exclude`, and ``excluded``: their numbers by kind; ``problem``: why the files
                    form no grid, null if they do
``zarrs``           Zarr groups and arrays in the folder, which are not proposed; ``[""]`` where the
                    folder is one itself
``image``           facts of the image of the first proposal, null if it cannot be opened
``image_problem``   why it cannot be opened, null if it can
==================  ==============================================================================
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

from cloudimg.discovery.fact_kinds import FACTS
from cloudimg.discovery.folder import Folder
from cloudimg.discovery.proposals import Proposal
from cloudimg.image.image import Image
from cloudimg.migration.plain_json import to_plain
from cloudimg.opening.fact_coordinates import unit_of
from cloudimg.storage import redact

Facts = dict[str, Any]
_EXAMPLES = 5
_VALUES = 1000


def folder_facts(folder: Folder) -> Facts:
    """Return the facts of a folder, without those of its image."""
    return {
        "kind": "folder",
        "url": redact(folder.url),
        "objects": folder.n_objects,
        "truncated": folder.is_truncated,
        "images": folder.n_images,
        "proposals": list(map(_proposal_facts, folder.proposals)),
        "zarrs": list(folder.zarrs),
        "image": None,
        "image_problem": None,
    }


def _proposal_facts(proposal: Proposal) -> Facts:
    return {
        "pattern": redact(proposal.pattern),
        "files": proposal.n_files,
        "layout": proposal.layout or None,
        "source": proposal.source or None,
        "certainty": proposal.certainty,
        "roles": dict(proposal.roles),
        "axes": dict(proposal.lengths),
        "missing": proposal.n_missing,
        "left_out": proposal.n_left_out,
        "exclude": list(proposal.exclude),
        "excluded": dict(proposal.excluded),
        "problem": proposal.problem or None,
    }


def image_facts(image: Image, url: str) -> Facts:
    """Return the facts of an image that was opened from a URL."""
    attrs = image.attrs
    beside = image.beside
    units = attrs.get("pixel_size_unit", {})
    chunks = image.chunks
    return {
        "kind": "image",
        "url": redact(url),
        "dims": list(image.dims),
        "shape": list(image.shape),
        "dtype": str(image.dtype),
        "labels": _labels(image),
        "nbytes": image.nbytes,
        "stored_nbytes": image.stored_nbytes,
        "chunks": {
            "shape": [Counter(lengths).most_common(1)[0][0] for lengths in chunks],
            "count": math.prod(map(len, chunks)),
        },
        "levels": [
            {
                "shape": list(level.shape),
                "downsampling": list(level.downsampling),
                "segment": dict(level.segment),
            }
            for level in image.levels
        ],
        "compression": attrs.get("compression"),
        "color_space": attrs.get("color_space"),
        "samples": list(attrs.get("samples", [])),
        "files": {
            "count": image.n_files,
            "missing": image.n_missing,
            "missing_examples": [
                to_plain(labels, finite_only=True)
                for labels in itertools.islice(image.missing, _EXAMPLES)
            ],
            "listed": beside.scope if beside else None,
            "unmatched": beside.n_objects if beside else 0,
            "unmatched_images": beside.n_images if beside else 0,
            "unmatched_kinds": dict(beside.kinds) if beside else {},
            "unmatched_examples": list(beside.examples) if beside else [],
            "advice": beside.advice if beside else "",
            "report": image.report.to_json(),
        },
        "canvas": _canvas(image),
        **_of_maps(attrs),
        "pixel_size": {
            dim: {"value": float(size), "unit": units.get(dim)}
            for dim, size in attrs.get("pixel_size", {}).items()
            if math.isfinite(size)
        },
        "coordinates": _coordinates(image),
        "channel_names": list(attrs.get("channel_names", [])),
        "time_step_s": to_plain(attrs.get("time_step_s"), finite_only=True),
        "series": image.series,
        "images": [{**asdict(each), "shape": list(each.shape)} for each in image.images],
        "notes": [note.to_json() for note in image.notes],
    }


def _of_maps(attrs: Mapping[str, Any]) -> Facts:
    geo = attrs.get("geo")
    return {
        "on_earth": {name: geo.get(name) for name in ("crs", "transform")} if geo else None,
        "values": {name: to_plain(attrs.get(name)) for name in ("nodata", "scale", "offset")},
    }


def _canvas(image: Image) -> Facts | None:
    opened = image.opened
    canvas = opened.sources[0].layout.canvas
    if canvas is None:
        return None
    return {
        "shape": list(canvas.shape),
        "axes": [opened.grid.fields[axis] for axis in canvas.fields],
    }


def _coordinates(image: Image) -> dict[str, Any]:
    """Return what the coordinates made of facts of files are like, by name."""
    coords = image.coords
    return {
        name: _coordinate(name, dims, coords)
        for name, dims in image.coord_dims.items()
        if name in FACTS and name not in image.dims
    }


def _coordinate(
    name: str, dims: Sequence[str], coords: Mapping[str, npt.NDArray[Any]]
) -> dict[str, Any]:
    values = coords[name].ravel()
    is_text = values.dtype.kind == "U"
    known = values[values != ""] if is_text else values[values == values]  # neither NaN nor NaT
    shown = np.array(list(dict.fromkeys(known.tolist())), values.dtype) if is_text else values
    return {
        "dims": list(dims),
        "unit": unit_of(name, coords) or None,
        "n_values": values.size,
        "n_known": known.size,
        "range": None if is_text else to_plain([known.min().item(), known.max().item()]),
        "values": to_plain(shown.tolist(), finite_only=True) if shown.size <= _VALUES else None,
    }


def _labels(image: Image) -> dict[str, list[Any]]:
    """Return labels and coordinates by dim, one label per file where files are concatenated."""
    coords = image.coords
    labels = {}
    for dim in image.dims:
        values = coords.get(f"{dim}_label")
        if values is not None:  # repeated for each position in a file
            values = values[np.flatnonzero(np.append(True, values[1:] != values[:-1]))]
        else:
            values = coords.get(dim)
        if values is not None:
            labels[dim] = to_plain(values.tolist(), finite_only=True)
    return labels
