"""What tifffile and GDAL read of a file, and whether cloudimg's pixels are the same."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

Array = np.ndarray[Any, Any]

_ORDER = "TCZYXS"
"""How cloudimg orders axes, after all others."""


def read_series(
    source: Any, largest_bytes: int, side: int, **options: Any
) -> list[tuple[str, list[Array | str]]] | str:
    """Axes and levels of every series of a path or file; why, where there are none.

    Of a larger level the corner of `side` pixels; in place of what tifffile does not read, why.
    """
    try:
        with tifffile.TiffFile(source, **options) as tiff:
            return [
                (one.axes, [read_level(level, largest_bytes, side) for level in one.levels])
                for one in tiff.series
            ]
    except Exception as exc:  # noqa: BLE001
        return f"{type(exc).__name__}: {str(exc)[:100]}"


def read_level(level: tifffile.TiffPageSeries, largest_bytes: int, side: int) -> Array | str:
    try:
        claimed = level.nbytes > largest_bytes
        # Metadata may claim more than there are pages; those that there are come back then.
        large = claimed and (
            level.dataoffset is not None or len(level.pages) * level.keyframe.nbytes > largest_bytes
        )
        wrong = next(filter(None, map(partial(_misread, level.keyframe), level.pages)), "")
        if wrong and not large:
            return wrong
        # With larger buffers it misplaces segments that follow an empty one.
        pixels = _corner(level, side) if large else level.asarray(maxworkers=1, buffersize=1)
    except Exception as exc:  # noqa: BLE001
        return f"{type(exc).__name__}: {str(exc)[:100]}"
    # An image without samples or type comes back as an empty array: nothing was read.
    return pixels if pixels.size else "empty"


def _misread(keyframe: tifffile.TiffPage, one: Any) -> str:
    """What tifffile is known to make something of that is not in the file."""
    page = keyframe
    if page.planarconfig not in (1, 2):
        return "planar configuration unknown, of which tifffile leaves samples unset"
    if page.compression == 1 and page.predictor != 1:
        return "uncompressed with a predictor, which tifffile runs on from row to row"
    if page.is_contiguous and one and not one.dataoffsets[0]:
        return "not stored, where tifffile reads the header as pixels"
    if page.compression == 1 and one and len(one.databytecounts) < len(one.dataoffsets):
        return "uncompressed with byte counts missing, for which tifffile takes zeros"
    if one and _is_strip_of_no_bytes(page, one):
        return "a page of one strip with a byte count of 0, for which tifffile takes zeros"
    return ""


def _is_strip_of_no_bytes(page: tifffile.TiffPage, one: Any) -> bool:
    """Whether a page is one strip that begins somewhere and has no bytes.

    libtiff takes its size from the rows, or reads it up to the end of the file.
    """
    is_one_strip = not page.is_tiled and page.rowsperstrip >= page.imagelength
    return is_one_strip and one.dataoffsets[0] > 0 and tuple(one.databytecounts) == (0,)


def _corner(level: tifffile.TiffPageSeries, side: int) -> Array:
    """Of the first page, by tifffile's decoder of segments; nodata where none is stored."""
    page = level.keyframe
    _, _, height, width, samples = page.shaped
    shape = (min(side, height), min(side, width), samples)
    out = np.full(shape, page.nodata, level.dtype)
    if page.is_contiguous and page.dataoffsets[0]:
        for y in range(shape[0]):
            start = page.dataoffsets[0] + y * width * samples * level.dtype.itemsize
            page.parent.filehandle.seek(start)
            stored = np.dtype(page.parent.byteorder + level.dtype.char)
            row = page.parent.filehandle.read_array(stored, shape[1] * samples)
            out[y] = row.reshape(shape[1:])
    elif not page.is_contiguous:
        _fill_from_segments(page, out)
    return out.reshape((1,) * (level.ndim - 2 - (samples > 1)) + shape[: 2 + (samples > 1)])


def _fill_from_segments(page: tifffile.TiffPage, out: Array) -> None:
    high = page.tilelength if page.is_tiled else page.rowsperstrip
    wide = page.tilewidth if page.is_tiled else page.imagewidth
    across = -(-page.imagewidth // wide)
    for top in range(0, out.shape[0], high):
        for left in range(0, out.shape[1], wide):
            index = top // high * across + left // wide
            if index < len(page.dataoffsets) and page.databytecounts[index]:
                page.parent.filehandle.seek(page.dataoffsets[index])
                data = page.parent.filehandle.read(page.databytecounts[index])
                segment, _, _ = page.decode(data, index)
                part = out[top : top + high, left : left + wide]
                part[...] = segment[0, : part.shape[0], : part.shape[1]]


def difference(ours: Array, theirs: Array, axes: str) -> str:
    """How pixels differ from tifffile's, whose axes are `axes`; empty where they do not."""
    # Planes that tifffile calls samples without their being such are pages.
    found = [
        unequal(ours, theirs.transpose(_ranks(axes, order)) if len(axes) == theirs.ndim else theirs)
        for order in (_ORDER, _ORDER[:-1])
    ]
    # Where the metadata do not fit the pages, the pages come as they are and axes mean nothing,
    # or as many images as they make.
    found.append(unequal(ours, theirs))
    if theirs.ndim == len(axes) + 1:
        found.append(unequal(ours, theirs.transpose(_ranks("Q" + axes, _ORDER))))
    return found[0] if all(found) else ""


def _ranks(axes: str, order: str) -> list[int]:
    # Of an axis whose letter comes twice the second is one of the others.
    ranks = [order.find(a) if axes.index(a) == i else -1 for i, a in enumerate(axes)]
    return sorted(range(len(axes)), key=lambda i: ranks[i])


def unequal(ours: Array, theirs: Array) -> str:
    """How two arrays differ; empty where they do not."""
    if (ours.shape, ours.dtype) != (theirs.shape, theirs.dtype):
        return f"{ours.shape} {ours.dtype} for {theirs.shape} {theirs.dtype}"
    with np.errstate(invalid="ignore"):  # signalling NaN
        same = (ours == theirs) | ((ours != ours) & (theirs != theirs))
    if same.all():
        return ""
    first = tuple(int(i) for i in np.argwhere(~same)[0])
    count = int(same.size - same.sum())
    return f"{count} of {same.size} differ, first {first}: {ours[first]} for {theirs[first]}"


def read_by_gdal(path: Path, side: int | None = None, offset: int = 0) -> Array | str:
    """All bands of a directory, or their corner; why, where GDAL does not read it.

    The first directory, or that at an offset.
    """
    rasterio = _rasterio()
    window = rasterio.windows.Window(0, 0, side, side) if side else None
    name, options = (f"GTIFF_DIR:off:{offset}:{path}", {}) if offset else (path, _GTIFF)
    try:
        with rasterio.open(name, **options) as dataset:
            bands: Array = dataset.read(window=window)
            return bands
    except (rasterio.errors.RasterioError, MemoryError, ValueError) as exc:
        return f"{type(exc).__name__}: {str(exc)[:100]}"


_GTIFF = {"driver": "GTiff"}


def stored_pages(data: bytes) -> list[tuple[Array, int]]:
    """Each directory by itself, SubIFDs included, and how many bytes its pixels take in the file.

    Without those that tifffile does not read. Of one with depth, each plane; of one with planes of
    samples that has only one, this plane.
    """
    found: list[tuple[Array, int]] = []
    with tifffile.TiffFile(io.BytesIO(data), _multifile=False) as tiff:
        for page, _ in _directories(tiff):
            pixels = _page_or_none(page)
            if pixels is not None:
                is_stack = page.imagedepth > 1 or (pixels.ndim == 3 and pixels.shape[0] == 1)
                planes = list(pixels) if is_stack else [pixels]
                found += [(plane, sum(page.databytecounts) // len(planes)) for plane in planes]
    return found


def read_pages_by_gdal(path: Path) -> list[Array]:
    """Each directory by itself, SubIFDs included, samples last; without those that GDAL does not
    read."""
    with tifffile.TiffFile(path, _multifile=False) as tiff:
        offsets = [offset for _, offset in _directories(tiff)]
    read = [read_by_gdal(path, offset=offset) for offset in offsets]
    return [samples_last(bands) for bands in read if not isinstance(bands, str)]


def samples_last(bands: Array) -> Array:
    return bands[0] if len(bands) == 1 else np.moveaxis(bands, 0, -1)


def _directories(tiff: tifffile.TiffFile) -> Iterator[tuple[Any, int]]:
    for page in _until_broken(tiff.pages):
        yield page, page.offset
        if page.subifds:
            yield from ((sub, sub.offset) for sub in _until_broken(page.pages))


def _until_broken(pages: Any) -> Iterator[Any]:
    """The pages before the chain breaks or loops."""
    try:
        for i in range(min(len(pages), 100)):
            yield pages[i].aspage()
    except Exception:  # noqa: BLE001
        return


def _page_or_none(page: Any) -> Array | None:
    try:
        return page.asarray()
    except Exception:  # noqa: BLE001
        return None


def _rasterio() -> Any:
    import rasterio
    import rasterio.windows

    return rasterio


def difference_from_gdal(ours: Array, dims: Sequence[str], theirs: Array) -> str:
    """How the first page differs from GDAL's bands; empty where it does not."""
    return unequal(bands_of_first_page(ours, dims), theirs)


def bands_of_first_page(ours: Array, dims: Sequence[str]) -> Array:
    """As GDAL gives them."""
    n_plane = 3 if dims[-1] == "s" else 2
    page = ours[(0,) * (ours.ndim - n_plane)]
    bands = np.moveaxis(page, -1, 0) if n_plane == 3 else page[None]
    return _as_by_gdal(bands)


def _as_by_gdal(pixels: Array) -> Array:
    """GDAL has neither bits nor half floats."""
    if pixels.dtype in (np.bool_, np.float16):
        return pixels.astype(np.uint8 if pixels.dtype == np.bool_ else np.float32)
    return pixels


def pages_not_in(ours: Array, dims: Sequence[str], path: Path, offsets: Sequence[int]) -> list[int]:
    """Which pages that GDAL reads at the offsets are not among ours."""
    n_plane = 3 if dims[-1] == "s" else 2
    planes = _as_by_gdal(ours).reshape(-1, *ours.shape[-n_plane:])
    known = {plane.tobytes() for plane in planes}
    read = [read_by_gdal(path, offset=offset) for offset in offsets]
    return [
        i
        for i, bands in enumerate(read)
        if not isinstance(bands, str) and samples_last(bands).tobytes() not in known
    ]
