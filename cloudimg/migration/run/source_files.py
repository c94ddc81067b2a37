"""What identifies the files of a source, and how they form its image."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from cloudimg.discovery.earlier_listing import shown_name
from cloudimg.discovery.fact_columns import FactColumns
from cloudimg.discovery.find_files import locate
from cloudimg.discovery.grid import FileGrid
from cloudimg.discovery.table import FileTable
from cloudimg.migration.plain_json import to_plain
from cloudimg.opening.opened import Opened
from cloudimg.opening.options import PIXEL_OPTIONS, OpenArguments, URLs, as_texts
from cloudimg.reading.source import Source, make_token
from cloudimg.reading.zarr_images.documents import is_document
from cloudimg.storage import redact, unsigned


def shown_urls(urls: URLs) -> list[str]:
    """URLs without secrets, to be stored; the image can be opened from them again."""
    location, texts = locate(as_texts(urls))
    return [redact(f"{location.before}{text}{location.after}") for text in texts]


def stored_nbytes(opened: Opened) -> int | None:
    """Size of all files in bytes; None if it is not known of every file."""
    if is_document(opened.inspection.headers[0].key):
        return None  # pixels are in other objects
    sizes = opened.grid.sizes
    if (sizes >= 0).sum() == opened.n_files:
        return int(sizes[sizes >= 0].sum())
    return opened.inspection.headers[0].size_bytes if opened.n_files == 1 else None


def n_pixel_objects(opened: Opened) -> int:
    """Number of objects with the pixels of Zarrs; 0 of files, which have their own."""
    if not is_document(opened.inspection.headers[0].key):
        return 0
    source = opened.sources[0]
    shape = source.layout.file_shape(opened.grid.first())
    n_each = math.prod(-(-n // m) for n, m in zip(shape, source.segment, strict=True))
    return opened.n_files * n_each


_FINGERPRINT = "2-"
"""Those of plans without it are digests of the same facts in another form."""


def file_table(
    grid: FileGrid, pages: npt.NDArray[np.int64] | None, facts: FactColumns | None = None
) -> FileTable:
    """The table of the files in a grid, with their pages if they are a multi-file dataset."""
    return FileTable.of(grid, shown_name, pages, facts)


def fingerprint_of(opened: Opened) -> str:
    """Digest of the names, sizes and versions of all files, and of how they form the image.

    Unlike the token of a source, it is never random: if a store has no versions, it depends on
    sizes alone.
    """
    header = opened.inspection.headers[0]
    source = opened.sources[0]
    context = source.reader.headers.context
    first = unsigned(source.reader.store.location.pattern_text(header.key))
    return _FINGERPRINT + make_token(
        (first, header.etag, header.size_bytes, header.dtype.str),
        (context.series, context.ignore_siblings, context.palette),
        opened.grid.digest,
        *_places_of(source),
        repr(source.fill_value),
    )


def is_comparable(fingerprint: str) -> bool:
    """Whether fingerprints of today can be compared with one that a plan records."""
    return fingerprint.startswith(_FINGERPRINT)


def arrangement_of(opened: Opened) -> str:
    """Digest of how files form the image, whatever their versions: which pixels are whose."""
    source = opened.sources[0]
    context = source.reader.headers.context
    return make_token(
        (context.series, context.ignore_siblings, context.palette),
        *_places_of(source),
        repr(source.fill_value),
    )


def _places_of(source: Source) -> tuple[Any, ...]:
    """Where files lie in the image, and which part of it was selected."""
    return (source.layout,) if source.window is None else (source.layout, source.window)


def recorded_options(arguments: OpenArguments) -> dict[str, Any]:
    """The arguments that determine which pixels an image has, as a plan records them."""
    options = {name: to_plain(arguments.value(name)) for name in PIXEL_OPTIONS}
    return options | {"axes": to_plain(arguments.axes or None)}  # {} and None are equal


def options_of_plan(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments in a plan by their names today, and the default values of those it lacks."""
    options = recorded_options(OpenArguments())
    if "mosaic" in recorded:
        options["place"] = "index" if recorded["mosaic"] else "stack"
    return options | {name: value for name, value in recorded.items() if name != "mosaic"}


def number_of_plan(value: Any) -> Any:
    """A fill value as the plan stores it: complex as a pair, NaN and infinities as text."""
    if isinstance(value, list):
        return complex(*(float(part) for part in value))
    return float(value) if isinstance(value, str) else value
