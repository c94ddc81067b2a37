"""What is known of one image of one file once its header has been read, whatever its format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np


class AnyLevel(Protocol):
    """One resolution level of a file."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the axes."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the decoded pixels, in native byte order."""

    @property
    def segment(self) -> tuple[int, ...]:
        """Shape of what is read together, in the same axes."""

    @property
    def is_bound(self) -> bool:
        """Whether decoding asks the file that was parsed for more."""

    @property
    def held_bytes(self) -> int:
        """Memory that remembering it takes, about."""

    def of(self, url: str) -> Self:
        """The same level of another file, whose header says the same."""


@dataclass(frozen=True, slots=True)
class DatasetMembership:
    """That an image is spread over several files, and what the one at hand knows of it."""

    planes: Any = None
    """Where each plane lies, a `cloudimg.tiff.multifile.PlaneTable`; None if another file says."""
    described_by: str = ""
    """Name of the file beside this one that tells; where it ends with ``*``, all those that begin
    so tell together."""
    part: Any = None
    """What this file contributes to what they tell together."""
    ome_xml: str = ""
    """Where `planes` come from an OME-XML."""


@dataclass(frozen=True, slots=True)
class ParsedImage:
    """One image of a file."""

    dims: tuple[str, ...]
    levels: tuple[AnyLevel, ...]
    """By decreasing resolution; the first is the image itself."""
    attrs: Mapping[str, Any]
    coords: Mapping[str, Sequence[Any]]
    """Coordinates that the file itself gives, by dim."""
    n_series: int
    depends_on_name: bool
    """Whether the name of the file took part: OME and Micro-Manager metadata tell files apart."""
    membership: DatasetMembership | None = None
    """Set where the file holds only a part of its image."""
    others: tuple[tuple[AnyLevel, ...], ...] = ()
    """Levels of pages of other shapes than those of `levels`, in members of a set."""
