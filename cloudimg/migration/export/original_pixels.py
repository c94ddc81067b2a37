"""Pixels of an original file, put together from a copy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cloudimg.migration.export.copy_pixels import CopyPixels, Region
from cloudimg.migration.export.originals import Row
from cloudimg.migration.plan.axes_mapping import AxesMapping

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class OriginalPixels:
    """Pixels of one original file, in the file's own axes."""

    axes_mapping: AxesMapping
    """From the axes of the source to those of the copy."""
    pixels: CopyPixels
    """Pixels of the copy."""
    rows: Sequence[Row]
    """One row, or for a member of a multi-file dataset a row for each of its pages."""

    def read(self, region: Region, level: int = 0) -> Array:
        """Read the pixels of a region; for a member, the first axis of the file is the page.

        A level above 0 has the same axes, and only files with whole planes have such levels.
        """
        if self.rows[0]["page"] is None:
            return self._read_row(self.rows[0], region, level)
        pages = range(region[0].start, region[0].stop)
        return np.stack([self._read_row(self.rows[i], region[1:], level) for i in pages])

    def has_whole_planes(self) -> bool:
        """Whether the planes of the file are those of the image, rather than parts of a mosaic."""
        row = self.rows[0]
        bounds = zip(
            self.axes_mapping.source_dims,
            self.axes_mapping.source_shape,
            row["region_start"],
            row["region_stop"],
            strict=True,
        )
        return all((start, stop) == (0, n) for dim, n, start, stop in bounds if dim in ("y", "x"))

    def _read_row(self, row: Row, region: Region, level: int) -> Array:
        source_dims = self.axes_mapping.source_dims
        in_source = self._in_source(row, region)
        # All samples of a pixel are read together, as the copy stores them.
        with_samples = tuple(
            slice(0, n) if dim == "s" else part
            for dim, part, n in zip(
                source_dims, in_source, self.axes_mapping.source_shape, strict=True
            )
        )
        images, in_image = self.axes_mapping.to_plan(with_samples)
        stacked = np.stack([self.pixels.read(image, level, in_image) for image in images])
        pixels = self.axes_mapping.to_source_pixels(stacked, with_samples)
        pixels = pixels[
            tuple(
                part if dim == "s" else slice(None)
                for dim, part in zip(source_dims, in_source, strict=True)
            )
        ]
        own = [source_dims.index(dim) for dim in row["file_dims"]]
        others = [i for i in range(pixels.ndim) if i not in own]  # of length 1
        moved = pixels.transpose([*others, *own])
        return moved.reshape(moved.shape[len(others) :])

    def _in_source(self, row: Row, region: Region) -> Region:
        """The region of the source that a region of the file corresponds to."""
        in_file = dict(zip(row["file_dims"], region, strict=True))
        bounds = zip(
            self.axes_mapping.source_dims, row["region_start"], row["region_stop"], strict=True
        )
        return tuple(
            slice(start + in_file[dim].start, start + in_file[dim].stop)
            if dim in in_file
            else slice(start, stop)
            for dim, start, stop in bounds
        )
