"""What is kept of the header of a file once it has been read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np

from cloudimg.errors import CloudimgError
from cloudimg.errors.notes import Remark
from cloudimg.reading.file_facts import FileFacts, facts_of
from cloudimg.reading.header_cache import OpenFile
from cloudimg.reading.reader import Reader
from cloudimg.tiff import FileImage
from cloudimg.tiff.parsed import ParsedImage, PlaneValues

Index = tuple[int, ...]
"""Index of a file in the grid."""
BadHeader = tuple[Index, CloudimgError]
"""Index of a bad file, and the error that reading or comparing its header led to."""
Numbers = tuple[float, ...]
_NO_ATTRS: Mapping[str, Any] = {}


def remarks_of(opened: OpenFile) -> tuple[Remark, ...]:
    """All that was noticed about a file whose header was read with its metadata."""
    return (*opened.parsed.remarks, *opened.parsed.metadata_remarks)


@dataclass(frozen=True, slots=True)
class HeaderKind:
    """What most headers of an archive have in common. Hashable."""

    dims: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    """Shapes by level."""
    dtype: np.dtype[Any]
    images: tuple[FileImage, ...] = ()
    """All images of the file, by number; empty if it has only one."""
    facts: FileFacts | None = None
    """What the file says of the whole image, without its transform; None if unknown."""


@dataclass(frozen=True, slots=True)
class HeaderSummary:
    """The part of a header that is compared with other headers. Hashable."""

    kind: HeaderKind
    transform: Numbers = ()
    """Transform to the map; empty if unknown."""
    stage: Numbers = ()
    """Position of the stage along x and y, NaN where unknown; empty if both are."""

    @classmethod
    def of(cls, parsed: ParsedImage) -> Self:
        """Summarize the header of a file."""
        facts, transform = facts_of(parsed.attrs, parsed.coords), Numbers()
        if facts is not None and facts.transform:
            facts, transform = replace(facts, transform=()), facts.transform
        levels = parsed.levels
        shapes = tuple(level.shape for level in levels)
        kind = HeaderKind(parsed.dims, shapes, levels[0].dtype, parsed.images, facts)
        position = parsed.attrs.get("stage_position", _NO_ATTRS)
        stage = tuple(float(position.get(name, math.nan)) for name in "xy") if position else ()
        return cls(kind, transform, stage)


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The header of one file."""

    key: str
    url: str
    """URL without credentials."""
    summary: HeaderSummary
    etag: str | None
    size_bytes: int
    attrs: Mapping[str, Any] = field(default_factory=dict)
    """Attributes, until they are among the facts of all files; the first header keeps them."""
    remarks: tuple[Remark, ...] = ()
    """What was noticed about the file, until it is summed up in notes."""
    planes: Mapping[str, PlaneValues] = field(default_factory=dict)
    """What differs between its planes, until it is among the facts of all files."""

    @classmethod
    def of(cls, reader: Reader, key: str, opened: OpenFile) -> Self:
        """Return what is kept of an open file."""
        return cls(
            key=key,
            url=reader.store.location.display(key),
            summary=HeaderSummary.of(opened.parsed),
            etag=opened.etag,
            size_bytes=opened.size_bytes,
            attrs=opened.parsed.attrs,
            remarks=remarks_of(opened),
            planes=opened.parsed.planes,
        )

    @property
    def dims(self) -> tuple[str, ...]:
        return self.summary.kind.dims

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shapes by level."""
        return self.summary.kind.shapes

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.summary.kind.dtype

    @property
    def images(self) -> tuple[FileImage, ...]:
        """All images of the file, by number; empty if it has only one."""
        return self.summary.kind.images

    @property
    def facts(self) -> FileFacts | None:
        """What the file says of the whole image; None if unknown."""
        facts, transform = self.summary.kind.facts, self.summary.transform
        return facts if facts is None or not transform else replace(facts, transform=transform)

    def with_kind(self, **changes: Any) -> Self:
        """The header with some fields of its kind changed."""
        kind = replace(self.summary.kind, **changes)
        return replace(self, summary=replace(self.summary, kind=kind))
