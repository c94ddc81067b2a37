"""Files read as a whole by a reader that is not ours, and compared with the pixels of the copy.

The pixels of all files are compared as cloudimg reads them. What it reads wrongly, it would compare
wrongly: so a sample is read by tifffile's own reader of whole images, which has no part of how
cloudimg finds pages, plans byte ranges and puts segments together. Where it reads something else,
or nothing, GDAL is asked, if rasterio is installed.
"""

from __future__ import annotations

import random
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cloudimg.errors import CloudimgError, counted
from cloudimg.migration.export.original_pixels import OriginalPixels
from cloudimg.migration.export.originals import Row
from cloudimg.storage import Store
from cloudimg.tiff.parser_log import ParserLog
from cloudimg.tiff.tifffile_private import open_alone

Array = npt.NDArray[Any]

_LEAST_FILES = 20
_SHARE = 100
_READ_BYTES = 2**26
_IN_MEMORY_BYTES = 2**28
"""Pixels of a file that are decoded into memory; those of larger ones into a temporary file."""
_ORDERS = ("TCZYXS", "TCZYX")
"""Orders of axes by their letters in tifffile; the others come before them."""


def sample_of(n_files: int) -> frozenset[int]:
    """Numbers of the files that are read by another reader: 20 or one in a hundred, by chance."""
    n_sampled = max(_LEAST_FILES, -(-n_files // _SHARE))
    return frozenset(random.sample(range(n_files), min(n_sampled, n_files)))


@dataclass(slots=True)
class SecondReading:
    """What other readers made of a sample of files."""

    n_files: Counter[str] = field(default_factory=Counter)
    """Number of files by the reader that read the pixels of the copy."""
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        parts = [f"{counted(n, 'file')} by {reader}" for reader, n in sorted(self.n_files.items())]
        return " and ".join(parts)


def read_again(
    store: Store, key: str, pixels: OriginalPixels, series: int, found: SecondReading
) -> None:
    """Read a file by another reader and compare it with the copy.

    Parameters
    ----------
    store : Store
        Where the file is.
    key : str
    pixels : OriginalPixels
        The pixels of the copy.
    series : int
        Which image of the file was copied.
    found : SecondReading
        What is found is added to it.

    Raises
    ------
    StorageError
    """
    with tempfile.TemporaryDirectory(prefix="cloudimg-retire-") as folder:
        path = Path(folder) / "file.tif"
        _fetch(store, key, path)
        tried = []
        for reader, read in (("tifffile", _by_tifffile), ("GDAL", _by_gdal)):
            difference = _difference(read, path, pixels, series)
            if not difference:
                found.n_files[reader] += 1
                return
            tried.append(f"{reader}: {difference}")
    url = store.location.display(key)
    found.problems.append(f"{url} is not read as the copy has it ({'; '.join(tried)})")


def _fetch(store: Store, key: str, path: Path) -> None:
    with path.open("wb") as file:
        size_bytes: int | None = None
        while size_bytes is None or file.tell() < size_bytes:
            start = file.tell()
            blob = store.get(key, start, start + _READ_BYTES)
            file.write(blob.data)
            size_bytes = blob.size_bytes or file.tell()
            if not blob.data:
                return


Reader = Callable[[Path, Sequence[Row], int], Iterator[tuple[Array, str]]]
"""Yields the pixels of the planes that rows name, or of the whole image of one row, and their axes
if the reader names them."""


def _difference(read: Reader, path: Path, pixels: OriginalPixels, series: int) -> str:
    """How the pixels that a reader finds differ from the copy's; empty if they do not."""
    try:
        for number, (theirs, axes) in enumerate(read(path, pixels.rows, series)):
            difference = _unequal(pixels, number, theirs, axes)
            if difference:
                return difference
    except CloudimgError:
        raise
    except Exception as exc:  # noqa: BLE001 - readers raise whatever they like
        return f"{type(exc).__name__}: {str(exc)[:100]}"
    return ""


def _by_tifffile(path: Path, rows: Sequence[Row], series: int) -> Iterator[tuple[Array, str]]:
    with ParserLog(), open_alone(path) as tiff:
        if rows[0]["page"] is not None:
            for row in rows:
                page = tiff.pages[int(row["page"])]
                yield page.asarray(maxworkers=1), page.axes
            return
        image = tiff.series[series]
        # With larger buffers, segments that follow an empty one are misplaced.
        out = None if image.nbytes <= _IN_MEMORY_BYTES else "memmap"
        yield image.asarray(out=out, maxworkers=1, buffersize=1), image.axes


def _by_gdal(path: Path, rows: Sequence[Row], series: int) -> Iterator[tuple[Array, str]]:
    import rasterio

    if rows[0]["page"] is not None or series:
        raise ValueError("reads the first image of a file")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # few images have a place on Earth
        with rasterio.open(path) as dataset:
            bands: Array = dataset.read()
    yield np.moveaxis(bands, 0, -1), ""


def _unequal(pixels: OriginalPixels, number: int, theirs: Array, axes: str) -> str:
    """How pixels differ from those of the copy; those of a row, or of one plane of a dataset."""
    row = pixels.rows[number]
    shape = tuple(int(n) for n in row["file_shape"])
    ours = tuple(slice(number, number + 1) for _ in range(row["page"] is not None))
    candidates = [each for each in _arranged(theirs, axes) if _long(each.shape) == _long(shape)]
    if not candidates:
        return f"its shape is {theirs.shape}, and the copy's {shape}"
    arranged = [each.reshape(shape) for each in candidates]
    for region in _slabs(shape, theirs.dtype.itemsize):
        expected = pixels.read((*ours, *region)).reshape([p.stop - p.start for p in region])
        arranged = [each for each in arranged if _is_same(expected, each[region])]
        if not arranged:
            return f"its pixels differ from the copy's in the region {_shown(region)}"
    return ""


def _arranged(theirs: Array, axes: str) -> Iterator[Array]:
    """The pixels with their axes as they are, and in the orders in which cloudimg has them."""
    yield theirs
    if len(axes) == theirs.ndim:
        for order in _ORDERS:
            ranks = [order.find(a) if axes.index(a) == i else -1 for i, a in enumerate(axes)]
            yield theirs.transpose(sorted(range(len(axes)), key=ranks.__getitem__))


def _long(shape: Iterable[int]) -> list[int]:
    return [n for n in shape if n > 1]


def _slabs(shape: Sequence[int], itemsize: int) -> Iterator[tuple[slice, ...]]:
    """Regions of an image that fit into memory, along its first axes."""
    n_bytes = int(np.prod(shape, dtype=np.int64)) * itemsize
    axis = next((i for i, n in enumerate(shape) if n > 1), 0)
    depth = max(1, shape[axis] * _IN_MEMORY_BYTES // max(1, n_bytes)) if shape else 1
    for start in range(0, shape[axis], depth):
        part = slice(start, min(start + depth, shape[axis]))
        yield tuple(part if i == axis else slice(0, n) for i, n in enumerate(shape))


def _is_same(ours: Array, theirs: Array) -> bool:
    if ours.dtype != theirs.dtype.newbyteorder("="):
        return False
    same = ours == theirs
    if ours.dtype.kind in "fc":
        same |= (ours != ours) & (theirs != theirs)  # NaN
    return bool(same.all())


def _shown(region: Sequence[slice]) -> str:
    return ", ".join(f"{part.start}-{part.stop}" for part in region)
