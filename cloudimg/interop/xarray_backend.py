"""The engine ``"cloudimg"`` of `xarray.open_dataset` and `xarray.open_datatree`.

xarray finds it by the entry point ``xarray.backends`` and loads all of these when it guesses an
engine, so nothing else of cloudimg is imported before an image is opened.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt
from xarray.backends import BackendArray, BackendEntrypoint
from xarray.core import indexing

if TYPE_CHECKING:
    import xarray

    from cloudimg.image.geo_array import Masking
    from cloudimg.image.image import Image
    from cloudimg.reading.source import Source

_PATTERN = re.compile(r"\{\w+[:}].*\.tiff?", re.IGNORECASE | re.DOTALL)
"""A URL pattern of TIFF files, which no other engine reads."""


class CloudimgBackendEntrypoint(BackendEntrypoint):
    """Opens image files in object storage, lazily, as one variable ``image``."""

    description: ClassVar[str] = "Open TIFF archives in object storage as one N-dimensional image"
    supports_groups: ClassVar[bool] = True
    # The other arguments are those of `cloudimg.open`.
    open_dataset_parameters: ClassVar[tuple[str, ...] | None] = (
        "filename_or_obj",
        "drop_variables",
        "mask_and_scale",
        "level",
    )

    def guess_can_open(self, filename_or_obj: Any) -> bool:
        """Whether it is a URL pattern of TIFF files; single files are left to other engines."""
        if not isinstance(filename_or_obj, str | os.PathLike):
            return False
        return _PATTERN.search(os.fspath(filename_or_obj)) is not None

    def open_dataset(
        self,
        filename_or_obj: Any,
        *,
        drop_variables: str | Iterable[str] | None = None,
        mask_and_scale: bool = False,
        level: int = 0,
        **options: Any,
    ) -> xarray.Dataset:
        """Open one level of an image.

        Parameters
        ----------
        filename_or_obj : str, path or sequence of them
            See `cloudimg.open`.
        drop_variables : str or iterable of str, optional
        mask_and_scale : bool
            Whether nodata values become NaN, and scale and offset are applied.
        level : int
            Resolution level.
        **options
            The other arguments of `cloudimg.open`, such as ``storage_options`` and ``select``.
        """
        import cloudimg

        image = cloudimg.open(filename_or_obj, **options)
        return _dataset(image, level, drop_variables, mask_and_scale=mask_and_scale)

    def open_datatree(self, filename_or_obj: Any, **options: Any) -> xarray.DataTree:
        """Open all levels of an image; the arguments are those of `open_dataset`."""
        import xarray

        return xarray.DataTree.from_dict(self.open_groups_as_dict(filename_or_obj, **options))

    def open_groups_as_dict(
        self,
        filename_or_obj: Any,
        *,
        drop_variables: str | Iterable[str] | None = None,
        mask_and_scale: bool = False,
        **options: Any,
    ) -> dict[str, xarray.Dataset]:
        """Open all levels of an image by name: ``level0``, ``level1``, ..."""
        import cloudimg

        image = cloudimg.open(filename_or_obj, **options)
        return {
            f"/level{level}": _dataset(image, level, drop_variables, mask_and_scale=mask_and_scale)
            for level in range(len(image.levels))
        }


def _dataset(
    image: Image, level: int, drop_variables: Any, *, mask_and_scale: bool
) -> xarray.Dataset:
    """A level as a dataset whose pixels are read when they are used, with or without Dask."""
    from cloudimg.distributed.capacity import capacity_of_dask
    from cloudimg.image.parts import source_at
    from cloudimg.image.xarray_array import data_array, masked_source
    from cloudimg.reading.dask_array import choose_chunks

    source, masking = source_at(image.opened, level), None
    if mask_and_scale:
        source, masking = masked_source(image.opened, source)
    pixels = indexing.LazilyIndexedArray(LazyPixels(source, masking))
    array = data_array(image.opened, source, pixels, mask=mask_and_scale)
    dataset = array.rename("image").to_dataset()
    chunks = choose_chunks(source, "auto", capacity_of_dask())
    dataset["image"].encoding["preferred_chunks"] = dict(zip(source.dims, chunks, strict=True))
    # xarray would keep the URL as it was given, with what is secret in it.
    dataset.encoding["source"] = image.opened.url
    names = [drop_variables] if isinstance(drop_variables, str) else list(drop_variables or ())
    return dataset.drop_vars(names, errors="ignore")


@dataclass(frozen=True)
class LazyPixels(BackendArray):
    """The pixels of a level as xarray indexes them."""

    source: Source
    masking: Masking | None = None
    """Makes values of the pixels."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the dims."""
        return self.source.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the pixels, or of their values."""
        return self.source.dtype if self.masking is None else self.masking.dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        """Read what an index of xarray selects."""
        support = indexing.IndexingSupport.OUTER_1VECTOR
        return indexing.explicit_indexing_adapter(key, self.shape, support, self._read)

    def _read(self, key: tuple[Any, ...]) -> npt.NDArray[Any]:
        # NumPy would move the axis of an array to the front where integers stand beside it.
        parts = tuple(slice(k, k + 1) if isinstance(k, int | np.integer) else k for k in key)
        dropped = tuple(i for i, k in enumerate(key) if isinstance(k, int | np.integer))
        if self.masking is None:
            return self.source[parts].squeeze(dropped)
        if not self.masking.needs_all_samples:
            return self.masking(self.source[parts]).squeeze(dropped)
        s = self.source.dims.index("s")
        of_samples = tuple(part if i == s else slice(None) for i, part in enumerate(parts))
        whole = self.source[tuple(slice(None) if i == s else p for i, p in enumerate(parts))]
        return self.masking(whole)[of_samples].squeeze(dropped)
