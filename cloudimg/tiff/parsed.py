"""Header of one image of one file, parsed, of any format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from cloudimg.errors.notes import Remark


class AnyLevel(Protocol):
    """One resolution level of a file."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the axes."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the decoded pixels, in native byte order."""

    @property
    def segment(self) -> tuple[int, ...]:
        """Shape of a tile or strip, with the same axes as `shape`."""

    @property
    def pixel_bytes(self) -> int | None:
        """Stored size of a pixel of pages that are fetched by rows; 0 where segments are fetched
        whole, None where neither holds."""

    @property
    def is_bound(self) -> bool:
        """Whether decoding needs the file that was parsed."""

    @property
    def held_bytes(self) -> int:
        """Approximate memory that the level takes."""

    def of(self, url: str) -> Self:
        """The same level of another file with an identical header."""


IMAGE = "image"
"""Role of an image of its own, which no copy leaves out unasked."""


@dataclass(frozen=True, slots=True)
class FileImage:
    """One of several images of a file, or of a multi-file dataset."""

    series: int
    """Its number, by which ``series=`` opens it."""
    role: str
    """``"image"``, or what it is beside an image: ``"thumbnail"``, ``"label"``, ``"macro"``,
    ``"map"``, ``"mask"`` or ``"empty"``."""
    name: str
    """Name that the file gives it; empty if it has none."""
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True, slots=True)
class DatasetMembership:
    """What a file knows about the multi-file dataset that it belongs to."""

    planes: Any = None
    """Planes of the image, a `cloudimg.tiff.multifile.PlaneTable`; None if another file has it."""
    described_by: str = ""
    """Name of the file in the same folder that has the table. A name that ends with ``*`` is a
    prefix: the table is built from the `part` of every file with that prefix."""
    part: Any = None
    """Contribution of this file to a table that is built from several files."""
    ome_xml: str = ""
    """The OME-XML that `planes` was read from, if any."""


@dataclass(frozen=True, slots=True)
class PlaneValues:
    """What a file says of each of its planes, if it is not the same for all."""

    axes: tuple[int, ...]
    """Numbers of the axes of the file along which it differs, increasing."""
    values: npt.NDArray[Any]
    """A value for each step along these axes: NaN or an empty text where the file gives none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedImage:
    """Header of one image of a file."""

    dims: tuple[str, ...]
    """Names of the axes."""
    levels: tuple[AnyLevel, ...]
    """Levels by decreasing resolution; level 0 is the full image."""
    attrs: Mapping[str, Any]
    """Attributes that the file gives."""
    coords: Mapping[str, Sequence[Any]]
    """Coordinates that the file gives, by dim."""
    depends_on_name: bool
    """Whether the result depends on the name of the file, by which OME and Micro-Manager metadata
    identify files."""
    planes: Mapping[str, PlaneValues] = field(default_factory=dict)
    """What differs between the planes of the image, by name of the fact, see
    `cloudimg.discovery.fact_kinds.FACTS`."""
    membership: DatasetMembership | None = None
    """Set if the file holds only a part of its image; the other fields are empty then."""
    others: tuple[tuple[AnyLevel, ...], ...] = ()
    """Levels of the pages that have another layout than those of `levels`; only members of a
    multi-file dataset have such pages."""
    remarks: tuple[Remark, ...] = ()
    """What was noticed about the file without being an error; the same whether attributes are read
    or not, so that commit records do not depend on who read the header before."""
    metadata_remarks: tuple[Remark, ...] = ()
    """What was noticed while attributes and coordinates were read; empty where they are not."""
    images: tuple[FileImage, ...] = ()
    """All images of the file, by number; empty if it has only one."""
    n_pages: int = 0
    """Number of pages of a file that is parsed as a member of a multi-file dataset."""
    first_page: int = 0
    """Number of the first page of such a file, which its attributes describe; see `Offsets`."""
    uuid: str = ""
    """UUID by which OME-XML identifies the file; empty if it has none, or was not looked for."""

    def with_levels(self, levels: tuple[AnyLevel, ...]) -> ParsedImage:
        """The same header with other levels; faster than `dataclasses.replace`."""
        twin = object.__new__(ParsedImage)
        for name in ParsedImage.__slots__:
            object.__setattr__(twin, name, getattr(self, name))
        object.__setattr__(twin, "levels", levels)
        return twin
