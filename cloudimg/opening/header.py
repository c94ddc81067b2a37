"""What is kept of the header of a file once it has been read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from cloudimg.errors.notes import Remark
from cloudimg.reading.file_facts import FileFacts, facts_of
from cloudimg.reading.header_cache import OpenFile
from cloudimg.reading.reader import Reader
from cloudimg.tiff import FileImage
from cloudimg.tiff.parsed import PlaneValues

Index = tuple[int, ...]
"""Index of a file in the grid."""
STAGE_ATTRS = ("stage_position", "stage_position_unit")
"""Attributes of one file that are compared with those of its neighbours."""


def remarks_of(opened: OpenFile) -> tuple[Remark, ...]:
    """All that was noticed about a file whose header was read with its metadata."""
    return (*opened.parsed.remarks, *opened.parsed.metadata_remarks)


@dataclass(frozen=True, slots=True)
class HeaderSummary:
    """The part of a header that is compared with other headers."""

    dims: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    """Shapes by level."""
    dtype: np.dtype[Any]
    attrs: Mapping[str, Any]
    """Stage position."""
    images: tuple[FileImage, ...] = ()
    """All images of the file, by number; empty if it has only one."""
    facts: FileFacts | None = None
    """What the file says of the whole image; None if unknown."""

    @classmethod
    def of(cls, opened: OpenFile) -> Self:
        """Summarize the header of a file."""
        parsed = opened.parsed
        return cls(
            parsed.dims,
            tuple(level.shape for level in parsed.levels),
            parsed.levels[0].dtype,
            {name: parsed.attrs[name] for name in STAGE_ATTRS if name in parsed.attrs},
            parsed.images,
            facts_of(parsed.attrs, parsed.coords),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The header of one file; small, because there may be a million."""

    key: str
    url: str
    """URL without credentials."""
    dims: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    """Shapes by level."""
    dtype: np.dtype[Any]
    etag: str | None
    size_bytes: int
    attrs: Mapping[str, Any]
    """Attributes; only the stage position if the header was read by a cluster."""
    remarks: tuple[Remark, ...] = ()
    """What was noticed about the file, until it is summed up in notes."""
    images: tuple[FileImage, ...] = ()
    """All images of the file, by number; empty if it has only one."""
    facts: FileFacts | None = None
    """What the file says of the whole image; None if unknown."""
    planes: Mapping[str, PlaneValues] = field(default_factory=dict)
    """What differs between its planes, until it is among the facts of all files."""

    @classmethod
    def of(cls, reader: Reader, key: str, opened: OpenFile) -> Self:
        """Return what is kept of an open file."""
        levels = opened.parsed.levels
        return cls(
            key=key,
            url=reader.store.location.display(key),
            dims=opened.parsed.dims,
            shapes=tuple(level.shape for level in levels),
            dtype=levels[0].dtype,
            etag=opened.etag,
            size_bytes=opened.size_bytes,
            attrs=opened.parsed.attrs,
            remarks=remarks_of(opened),
            images=opened.parsed.images,
            facts=facts_of(opened.parsed.attrs, opened.parsed.coords),
            planes=opened.parsed.planes,
        )

    @classmethod
    def from_summary(
        cls, reader: Reader, key: str, summary: HeaderSummary, size_bytes: int
    ) -> Self:
        """Return the header of a file that another process read and summarized."""
        return cls(
            key=key,
            url=reader.store.location.display(key),
            dims=summary.dims,
            shapes=summary.shapes,
            dtype=summary.dtype,
            etag=None,
            size_bytes=size_bytes,
            attrs=summary.attrs,
            images=summary.images,
            facts=summary.facts,
        )
