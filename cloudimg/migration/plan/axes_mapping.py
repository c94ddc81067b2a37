"""From the axes of a source to those that OME-Zarr has a place for, and back. Pure.

OME-Zarr 0.5 allows two to five axes: time, then channel or one axis of another kind, then space
(https://ngff.openmicroscopy.org/0.5/#axes-md). So:

- t, c, z, y, x are themselves, in this order;
- samples (s, as of RGB) become channels: channel ``c * n_s + s``;
- one further axis takes the channel's place where there is no channel;
- otherwise each combination of the further axes is an image of its own. They are *lead dims*.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cloudimg.errors import ArgumentError

Array = npt.NDArray[Any]
Region = tuple[slice, ...]
_SPACE = ("z", "y", "x")


class AxesMapping:
    """The axes of a source and those of the images that are made of it.

    Parameters
    ----------
    source_dims : sequence of str
    source_shape : sequence of int

    Raises
    ------
    ArgumentError
        If there are no y and x.
    """

    def __init__(self, source_dims: Sequence[str], source_shape: Sequence[int]) -> None:
        self.source_dims = tuple(source_dims)
        self.source_shape = tuple(int(n) for n in source_shape)
        if not {"y", "x"} <= set(self.source_dims):
            raise ArgumentError(
                f"an image needs the axes y and x, this one has {self.source_dims}: name its axes"
                " with axes= or dims="
            )
        length = dict(zip(self.source_dims, self.source_shape, strict=True))
        self.n_samples = length.get("s", 1)
        further = [dim for dim in self.source_dims if dim not in ("t", "c", "s", *_SPACE)]
        has_channels = "c" in length or "s" in length
        self.custom = further[0] if len(further) == 1 and not has_channels else None
        """The axis that stands in the channel's place."""
        self.lead_dims = tuple(further) if self.custom is None else ()
        self.lead_shape = tuple(length[dim] for dim in self.lead_dims)
        middle = self.custom or ("c" if has_channels else None)
        order = [dim for dim in ("t", middle, *_SPACE) if dim is not None]
        self.dims = tuple(dim for dim in order if dim in length or dim == middle)
        """Of each image."""
        self.shape = tuple(
            length.get("c", 1) * self.n_samples if dim == "c" else length[dim] for dim in self.dims
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return AxesMapping, (self.source_dims, self.source_shape)

    @property
    def alignment(self) -> tuple[int, ...]:
        """Per dim, a number at whose multiples a region must begin: pixels have all samples."""
        return tuple(self.n_samples if dim == "c" else 1 for dim in self.dims)

    @property
    def n_images(self) -> int:
        """How many images there are."""
        return math.prod(self.lead_shape)

    def lead_index(self, image: int) -> tuple[int, ...]:
        """Position of an image along the lead dims."""
        return tuple(int(i) for i in np.unravel_index(image, self.lead_shape))

    def to_source(self, image: int, region: Region) -> Region:
        """Region of the source that holds a region of an image.

        Raises
        ------
        ArgumentError
            If the region cuts through the samples of a pixel.
        """
        lead = dict(zip(self.lead_dims, self.lead_index(image), strict=True))
        part = dict(zip(self.dims, region, strict=True))
        chosen = []
        for dim, length in zip(self.source_dims, self.source_shape, strict=True):
            if dim in lead:
                chosen.append(slice(lead[dim], lead[dim] + 1, 1))
            elif dim == "s":
                chosen.append(slice(0, length, 1))
            elif dim == "c":
                chosen.append(self._channels(part["c"]))
            else:
                chosen.append(slice(part[dim].start, part[dim].stop, 1))
        if "s" in self.source_dims:
            self._channels(part["c"])
        return tuple(chosen)

    def _channels(self, part: slice) -> slice:
        """Channels of the source that merged ones belong to."""
        n = self.n_samples
        if part.start % n or part.stop % n:
            raise ArgumentError(f"channels {part.start}-{part.stop} cut pixels of {n} samples")
        return slice(part.start // n, part.stop // n, 1)

    def from_source_pixels(self, pixels: Array) -> Array:
        """Pixels of one image in its dims, from those of the region that `to_source` gave.

        Returns
        -------
        ndarray
            C-contiguous, little-endian; of the same memory where nothing must be moved.
        """
        at = {dim: i for i, dim in enumerate(self.source_dims)}
        middle = [dim for dim in ("c", "s") if dim in at]
        order = list(self.lead_dims)
        for dim in self.dims:
            order += middle if dim == "c" else [dim]
        moved = pixels.transpose([at[dim] for dim in order])
        length = dict(zip(order, moved.shape, strict=True))
        shape = [
            length.get("c", 1) * length.get("s", 1) if dim == "c" else length[dim]
            for dim in self.dims
        ]
        dtype = pixels.dtype.newbyteorder("<")
        return np.ascontiguousarray(moved, dtype).reshape(shape)

    def to_source_pixels(self, pixels: Array, source_region: Region) -> Array:
        """Pixels in the source's dims, from those of some images stacked in front.

        Parameters
        ----------
        pixels : ndarray
            The images that `to_plan` tells, along a first axis, each in the plan's dims.
        source_region : tuple of slice
            The region that `to_plan` was asked for.
        """
        part = dict(zip(self.source_dims, source_region, strict=True))
        length = {dim: s.stop - s.start for dim, s in part.items()}
        order = list(self.lead_dims)
        for dim in self.dims:
            order += [d for d in ("c", "s") if d in part] if dim == "c" else [dim]
        whole = pixels.reshape([length[dim] for dim in order])
        return whole.transpose([order.index(dim) for dim in self.source_dims])

    def to_plan(self, region: Region) -> tuple[list[int], Region]:
        """Images and the region of each that hold a region of the source."""
        part = dict(zip(self.source_dims, region, strict=True))
        ranges = [range(part[dim].start, part[dim].stop) for dim in self.lead_dims]
        grid = np.indices([len(r) for r in ranges]).reshape(len(ranges), -1).T if ranges else [()]
        images = [
            int(np.ravel_multi_index(tuple(r[i] for r, i in zip(ranges, at, strict=True)),
                                     self.lead_shape)) if ranges else 0
            for at in grid
        ]  # fmt: skip
        inside = []
        for dim, length in zip(self.dims, self.shape, strict=True):
            if dim != "c":
                inside.append(slice(part[dim].start, part[dim].stop, 1))
            elif "c" in part:
                n = self.n_samples
                inside.append(slice(part["c"].start * n, part["c"].stop * n, 1))
            else:
                inside.append(slice(0, length, 1))
        return images, tuple(inside)

    def boundaries(
        self, source_cuts: Sequence[npt.NDArray[np.int64]]
    ) -> list[npt.NDArray[np.int64]]:
        """Per dim of an image, where it can be cut without cutting what is read at once."""
        of = dict(zip(self.source_dims, source_cuts, strict=True))
        found = []
        for dim in self.dims:
            if dim == "c":
                found.append(of.get("c", np.array([0, 1])) * self.n_samples)
            else:
                found.append(of[dim])
        return [np.asarray(each, np.int64) for each in found]
