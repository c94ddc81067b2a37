"""Map the axes of a source to the axes that OME-Zarr allows, and back. Pure.

OME-Zarr 0.5 allows two to five axes: time, then channel or one axis of another kind, then space
(https://ngff.openmicroscopy.org/0.5/#axes-md). Therefore:

- t, c, z, y and x keep their names and are stored in this order;
- samples (s, as in RGB) become channels: channel ``c * n_s + s``;
- a single further axis takes the position of the channel axis if there are no channels, unless it
  is that of the wells of a plate;
- otherwise the further axes are *lead dims*: each index along them is a separate image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from cloudimg.errors import ArgumentError
from cloudimg.errors.arrival import raised_where_used

Array = npt.NDArray[Any]
Region = tuple[slice, ...]
_SPACE = ("z", "y", "x")
_KNOWN = ("t", "c", "s", *_SPACE)


class AxesMapping:
    """The axes of a source, and those of the images that are written from it.

    Parameters
    ----------
    source_dims : sequence of str
    source_shape : sequence of int
    is_plate : bool
        Whether the further axes are those of a plate, see `Plan.plate`.

    Attributes
    ----------
    dims, shape : tuples
        Axes of each image, in the order of OME-Zarr.
    lead_dims, lead_shape : tuples
        Axes of the source along which each index is a separate image.
    n_samples : int
        Number of samples per pixel; 1 if the source has no axis s.

    Raises
    ------
    ArgumentError
        If the source lacks y or x.
    """

    def __init__(
        self, source_dims: Sequence[str], source_shape: Sequence[int], *, is_plate: bool = False
    ) -> None:
        self.source_dims = tuple(source_dims)
        self.source_shape = tuple(int(n) for n in source_shape)
        if not {"y", "x"} <= set(self.source_dims):
            raise ArgumentError(
                f"an image needs the axes y and x, but this one has {self.source_dims}: name its"
                " axes with axes= or dims="
            )
        length = dict(zip(self.source_dims, self.source_shape, strict=True))
        further = tuple(dim for dim in self.source_dims if dim not in _KNOWN)
        middle = ("c",) if {"c", "s"} & set(length) else ()
        self.is_plate = is_plate
        if len(further) == 1 and not middle and not is_plate:
            further, middle = (), further
        self.n_samples = length.get("s", 1)
        self.lead_dims = further
        self.lead_shape = tuple(length[dim] for dim in further)
        self.dims = tuple(d for d in ("t", *middle, *_SPACE) if d in length or d in middle)
        self.shape = tuple(
            length.get("c", 1) * self.n_samples if dim == "c" else length[dim] for dim in self.dims
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return _arrived, (self.source_dims, self.source_shape, self.is_plate)

    @property
    def alignment(self) -> tuple[int, ...]:
        """By dim, the number of which region bounds must be multiples, to keep samples together."""
        return tuple(self.n_samples if dim == "c" else 1 for dim in self.dims)

    @property
    def n_images(self) -> int:
        """Number of images, 1 if there are no lead dims."""
        return math.prod(self.lead_shape)

    def to_source(self, lead: Region, region: Region) -> Region:
        """Region of the source that corresponds to a region of images.

        Parameters
        ----------
        lead : tuple of slice
            The images, as a region of the lead dims.
        region : tuple of slice
            The region of each image.

        Raises
        ------
        ArgumentError
            If the region would split the samples of a pixel.
        """
        part = dict(zip((*self.lead_dims, *self.dims), (*lead, *region), strict=True))
        source_region = []
        for dim, length in zip(self.source_dims, self.source_shape, strict=True):
            if dim == "s":
                source_region.append(slice(0, length, 1))
            elif dim == "c":
                source_region.append(self._source_channels(part["c"]))
            else:
                source_region.append(slice(part[dim].start, part[dim].stop, 1))
        if "s" in self.source_dims:
            self._source_channels(part["c"])
        return tuple(source_region)

    def _source_channels(self, part: slice) -> slice:
        """Channels of the source that make up a range of the image's channels."""
        n = self.n_samples
        if part.start % n or part.stop % n:
            raise ArgumentError(f"channels {part.start}-{part.stop} split pixels of {n} samples")
        return slice(part.start // n, part.stop // n, 1)

    def _source_order(self) -> list[str]:
        """The dims of the source in the order of the lead dims and the image's dims."""
        channels = [dim for dim in ("c", "s") if dim in self.source_dims]
        order = list(self.lead_dims)
        for dim in self.dims:
            order += channels if dim == "c" else [dim]
        return order

    def from_source_pixels(self, pixels: Array) -> Array:
        """Rearrange pixels of a region from `to_source` into the dims of images.

        Returns
        -------
        ndarray
            The images, stacked along a first axis, C-contiguous and little-endian. Shares memory
            with the input if that needs no change.
        """
        position = {dim: i for i, dim in enumerate(self.source_dims)}
        order = self._source_order()
        moved = pixels.transpose([position[dim] for dim in order])
        length = dict(zip(order, moved.shape, strict=True))
        shape = [
            length.get("c", 1) * length.get("s", 1) if dim == "c" else length[dim]
            for dim in self.dims
        ]
        n_images = math.prod(length[dim] for dim in self.lead_dims)
        dtype = pixels.dtype.newbyteorder("<")
        return np.ascontiguousarray(moved, dtype).reshape([n_images, *shape])

    def to_source_pixels(self, pixels: Array, source_region: Region) -> Array:
        """Rearrange pixels of images into the dims of the source.

        Parameters
        ----------
        pixels : ndarray
            The images that `to_plan` returned, stacked along a first axis, each in the image's
            dims.
        source_region : tuple of slice
            The region with which `to_plan` was called.
        """
        length = {
            dim: part.stop - part.start
            for dim, part in zip(self.source_dims, source_region, strict=True)
        }
        order = self._source_order()
        whole = pixels.reshape([length[dim] for dim in order])
        return whole.transpose([order.index(dim) for dim in self.source_dims])

    def to_plan(self, region: Region) -> tuple[list[int], Region]:
        """Images, and the region within each, that make up a region of the source."""
        part = dict(zip(self.source_dims, region, strict=True))
        ranges = [range(part[dim].start, part[dim].stop) for dim in self.lead_dims]
        images = [
            int(np.ravel_multi_index(index, self.lead_shape)) if index else 0
            for index in product(*ranges)
        ]
        image_region = []
        for dim, length in zip(self.dims, self.shape, strict=True):
            if dim != "c":
                image_region.append(slice(part[dim].start, part[dim].stop, 1))
            elif "c" in part:
                n = self.n_samples
                image_region.append(slice(part["c"].start * n, part["c"].stop * n, 1))
            else:
                image_region.append(slice(0, length, 1))
        return images, tuple(image_region)

    def boundaries(
        self, source_boundaries: Sequence[npt.NDArray[np.int64]]
    ) -> list[npt.NDArray[np.int64]]:
        """Positions along each dim of an image at which no segment of the source is split.

        Parameters
        ----------
        source_boundaries : sequence of ndarray
            The same for each dim of the source: increasing, from 0 to the dim's length.
        """
        by_dim = dict(zip(self.source_dims, source_boundaries, strict=True))
        image_boundaries = [
            by_dim.get("c", np.array([0, 1])) * self.n_samples if dim == "c" else by_dim[dim]
            for dim in self.dims
        ]
        return [np.asarray(each, np.int64) for each in image_boundaries]


@raised_where_used
def _arrived(
    source_dims: tuple[str, ...], source_shape: tuple[int, ...], is_plate: bool
) -> AxesMapping:
    return AxesMapping(source_dims, source_shape, is_plate=is_plate)
