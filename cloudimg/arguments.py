"""What users may pass to `cloudimg.open`, checked before anything is asked of a store."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from cloudimg.errors import ArgumentError


def as_texts(urls: Any) -> list[str]:
    """URLs and paths as texts."""
    found = [urls] if isinstance(urls, str | os.PathLike) else urls
    if not isinstance(found, Sequence) or isinstance(found, bytes):
        raise ArgumentError(f"a URL, a path or a sequence of them is needed, not {urls!r}")
    texts = [os.fspath(url) if isinstance(url, os.PathLike) else url for url in found]
    for text in texts:
        if not isinstance(text, str):
            raise ArgumentError(f"a URL or a path is needed, not {text!r}")
    return texts


def check_arguments(
    axes: Any,
    dims: Any,
    mosaic: Any,
    series: Any,
    missing: Any,
    validate: Any,
    palette: Any,
    imread: Any,
) -> None:
    """Types and choices, before anything is asked of a store."""
    if axes is not None and not (
        isinstance(axes, Mapping) and all(isinstance(n, str) for pair in axes.items() for n in pair)
    ):
        raise ArgumentError(f"axes={axes!r} must map names of axes to names")
    if dims is not None and not (
        isinstance(dims, Sequence) and all(isinstance(name, str) for name in dims)
    ):
        raise ArgumentError(f"dims={dims!r} must be a sequence of names of axes")
    if not isinstance(mosaic, bool):
        raise ArgumentError(f"mosaic={mosaic!r} must be True or False")
    if isinstance(series, bool) or not isinstance(series, int) or series < 0:
        raise ArgumentError(f"series={series!r} must be a number from 0 on")
    for name, value, choices in (
        ("missing", missing, ("raise", "fill")),
        ("validate", validate, ("first", "all")),
        ("palette", palette, ("index", "rgb")),
    ):
        if value not in choices:
            raise ArgumentError(f"{name}={value!r} must be one of {', '.join(map(repr, choices))}")
    if imread is not None and not callable(imread):
        raise ArgumentError(
            f"imread={imread!r} must be a function of a binary file and its URL that returns pixels"
        )
