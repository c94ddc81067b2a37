"""Stacks of several planes with one IFD: whether the planes follow one another.

A writer may leave out the IFDs of uncompressed planes that follow the first one. tifffile takes
every stack with one IFD for such a one, also where each plane has an IFD in front of it and the
link to the second one is damaged. The IFDs are then read as pixels, and each plane is shifted.
"""

from __future__ import annotations

from typing import Any

from cloudimg.errors import CorruptFileError
from cloudimg.errors.notes import Remark
from cloudimg.tiff.chain import n_planes
from cloudimg.tiff.ifd import LEAST_IFD_BYTES, Dialect, read_ifd
from cloudimg.tiff.sparse import SparseFile
from cloudimg.tiff.tifffile_private import first_known_offsets

_PADDING_BYTES = 16
"""Most bytes between the pixels of a page and the next IFD: writers align it."""
_SIZES, _SEGMENTS = {256, 257}, {273, 324}
"""Tags that each page has: its sizes, and where its strips or tiles are."""
_FIRST = {254, 255, 256}
"""The first tag of a page: the sizes, or one of the types of a page in front of them."""
_WRITERS = {"shaped": "shaped", "imagej": "ImageJ"}
"""What messages call the metadata of each kind of image."""
_MARK = '"truncated": true'
"""What tifffile writes into the description of a stack with one IFD."""


def check_planes(tiff: Any, image: Any, file: SparseFile, url: str) -> tuple[Remark, ...]:
    """Check that the planes of an image follow one another if only one of them has an IFD.

    Nothing is read. IFDs between the planes make the file longer than the planes.

    Parameters
    ----------
    tiff : tifffile.TiffFile
    image : tifffile.TiffPageSeries
        An image by tifffile or ImageJ.
    file : SparseFile
    url : str

    Returns
    -------
    tuple of Remark
        A remark if IFDs between the planes cannot be ruled out.

    Raises
    ------
    CorruptFileError
    """
    page, n = image.keyframe, n_planes(image)
    if n < 2 or image.dataoffset is None or page.is_subifd or not page.nbytes:
        return ()
    end = int(image.dataoffset) + int(page.nbytes)
    stop = end + (n - 1) * int(page.nbytes)
    if end <= page.offset < stop:
        raise _error(n, f"its IFD is at byte {page.offset}, after the first plane", url)
    starts = first_known_offsets(tiff)[page.index :]
    n_more = min((at for at in starts if at >= stop), default=file.size_bytes) - stop
    has_room = n_more >= (n - 1) * LEAST_IFD_BYTES
    is_short = image.kind == "shaped" and 1 < len(starts) < n
    if not has_room and not is_short:
        return ()
    is_fetched = _check_end(tiff, end, n, file, url)
    is_known = len(starts) >= (n if image.kind == "shaped" else 2)
    if not has_room or is_known:
        return ()
    return _remarks_on(image, n, n_more, is_fetched=is_fetched, url=url)


def _remarks_on(
    image: Any, n: int, n_more: int, *, is_fetched: bool, url: str
) -> tuple[Remark, ...]:
    """A remark on bytes after the planes, unless the description says that there is one IFD."""
    description = image.keyframe.shaped_description or ""
    if _MARK in description or (is_fetched and image.kind == "imagej"):
        return ()  # where planes of ImageJ end, anything may follow, see `stacks`
    rest = f"{n_more} bytes follow these planes, which their IFDs may take"
    if not is_fetched and description.startswith("{"):
        raise _error(n, rest, url)
    text = (
        f"its {_WRITERS[image.kind]} metadata tell of {n} planes, of which one has an IFD: they are"
        f" read as if they followed one another, but {rest}"
    )
    return (Remark("planes-of-description", text),)


def _check_end(tiff: Any, end: int, n: int, file: SparseFile, url: str) -> bool:
    """Check that an IFD does not follow the first plane; False if it is not known."""
    data = file.have(end, min(end + 2 * _PADDING_BYTES, file.size_bytes))
    if data is None:
        return False
    dialect = Dialect(tiff.byteorder, tiff.is_bigtiff)
    for i in range(_PADDING_BYTES):
        first = i + dialect.count_bytes
        if int.from_bytes(data[first : first + 2], dialect.byteorder) not in _FIRST:
            continue
        found = read_ifd(file.have, dialect, end + i)
        if found is not None and _is_page(found.codes):
            raise _error(n, f"there is an IFD at byte {end + i}, after the first plane", url)
    return True


def _is_page(codes: tuple[int, ...]) -> bool:
    """Whether tags are those of a page; they are sorted (TIFF 6.0, section 2)."""
    found = set(codes)
    return found >= _SIZES and bool(found & _SEGMENTS) and codes == tuple(sorted(codes))


def _error(n: int, reason: str, url: str) -> CorruptFileError:
    return CorruptFileError(
        f"{url} is damaged: its metadata tell of {n} planes, but the chain of IFDs leads to one of"
        f" them, and {reason}: the planes do not follow one another, and further pages are"
        " missing; copy the file again from where it was written",
        url=url,
    )
