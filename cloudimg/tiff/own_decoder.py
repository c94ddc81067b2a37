"""What the decoders of this package share: where a segment belongs, and what is not stored."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy.typing as npt

from cloudimg.tiff.pieces import PageLayout, SegmentPlace

Array = npt.NDArray[Any]


class OwnDecoder(ABC):
    """Decoder of segments with the signature of `tifffile.TiffPage.decode`.

    Parameters
    ----------
    keyframe : tifffile.TiffPage
    """

    def __init__(self, keyframe: Any) -> None:
        self._layout = PageLayout.of(keyframe, keyframe.shaped)

    def __call__(
        self, data: Any, index: int, **_: Any
    ) -> tuple[Array | None, SegmentPlace, tuple[int, ...]]:
        """Decode one segment.

        Returns
        -------
        pixels : ndarray or None
            Depth, height, width, contiguous samples; None if `data` is None.
        place : tuple of int
            Where the segment begins in the page.
        shape : tuple of int
        """
        place, shape = self._layout.segment_place(index)
        return None if data is None else self._pixels(data, index, shape), place, shape

    @abstractmethod
    def _pixels(self, data: Any, index: int, shape: tuple[int, int, int, int]) -> Array:
        """The pixels of a stored segment of a shape."""
