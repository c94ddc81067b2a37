"""Facts of an image or a folder as plain JSON values: what `cloudimg.info` returns.

A URL is an image, or a folder whose names suggest one. Facts are plain JSON values; sizes are in
bytes. Keys are only ever added. Of an image:

==================  ==============================================================================
``kind``            ``"image"``
``url``             as it was given, without credentials
``dims``            names of the axes
``shape``           their lengths
``dtype``           as NumPy writes it, such as ``"uint16"``
``labels``          by dim, what names and headers call its positions; of a dim along which files
                    are concatenated one label per file; times as in ISO 8601
``nbytes``          decoded size of level 0
``stored_nbytes``   size of all files, null where the store does not tell
``chunks``          ``shape`` of the usual Dask chunk and the ``count`` of all
``levels``          ``shape``, ``downsampling`` and ``segment`` (tile or strip, by dim) of each
``compression``     as tifffile names it
``files``           ``count``; ``missing`` and ``missing_examples`` (labels by axis); ``unmatched``
                    and ``unmatched_examples`` (URLs that begin like the pattern)
``pixel_size``      by dim ``value`` and ``unit``
``channel_names``   empty where the file does not say them
``time_step_s``     null where the file does not say it
==================  ==============================================================================

Of a folder:

==================  ==============================================================================
``kind``            ``"folder"``
``url``             as it was given, without credentials
``objects``         how many names were looked at
``truncated``       whether there are more
``images``          how many of them are names of images
``proposals``       ``pattern`` and how many ``files`` it covers, most first
``image``           the facts of the first proposal, null where it does not open
``image_problem``   why it does not, null where it does
==================  ==============================================================================
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from typing import Any

import numpy as np

from cloudimg.discovery.folder import Folder
from cloudimg.image.image import Image
from cloudimg.migration.plain_json import to_plain
from cloudimg.storage import redact

Facts = dict[str, Any]
_EXAMPLES = 5


def folder_facts(folder: Folder) -> Facts:
    """Facts of a folder, without those of its image."""
    return {
        "kind": "folder",
        "url": redact(folder.url),
        "objects": folder.n_objects,
        "truncated": folder.is_truncated,
        "images": folder.n_images,
        "proposals": [{"pattern": redact(p), "files": n} for p, n in folder.proposals],
        "image": None,
        "image_problem": None,
    }


def image_facts(image: Image, url: str) -> Facts:
    """Facts of an image that was opened from a URL."""
    attrs = image.attrs
    n_unmatched, unmatched = image.unmatched
    units = attrs.get("pixel_size_unit", {})
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
            "shape": [Counter(lengths).most_common(1)[0][0] for lengths in image.chunks],
            "count": math.prod(len(lengths) for lengths in image.chunks),
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
        "files": {
            "count": image.n_files,
            "missing": image.n_missing,
            "missing_examples": [
                to_plain(labels, finite_only=True)
                for labels in itertools.islice(image.missing, _EXAMPLES)
            ],
            "unmatched": n_unmatched,
            "unmatched_examples": list(unmatched[:_EXAMPLES]),
        },
        "pixel_size": {
            dim: {"value": float(size), "unit": units.get(dim)}
            for dim, size in attrs.get("pixel_size", {}).items()
            if math.isfinite(size)
        },
        "channel_names": list(attrs.get("channel_names", [])),
        "time_step_s": to_plain(attrs.get("time_step_s"), finite_only=True),
    }


def _labels(image: Image) -> dict[str, list[Any]]:
    coords = image.coords
    labels = {}
    for dim in image.dims:
        values = coords.get(f"{dim}_label")
        if values is not None:  # of each position the label of its file; here each file once
            values = values[np.flatnonzero(np.append(True, values[1:] != values[:-1]))]
        else:
            values = coords.get(dim)
        if values is not None:
            labels[dim] = to_plain(values.tolist(), finite_only=True)
    return labels
