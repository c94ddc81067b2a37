"""Open a file with tifffile, and find the images in it."""

from __future__ import annotations

from typing import IO, Any, cast

from cloudimg.errors import CorruptFileError, TruncatedFileError
from cloudimg.tiff.chain import begins_beyond_end, find_break
from cloudimg.tiff.frames import Frames
from cloudimg.tiff.limits import DecodeLimits, check_description, check_ome
from cloudimg.tiff.malformed import MALFORMED, is_bug
from cloudimg.tiff.markup import has_document_type
from cloudimg.tiff.multifile import without_own_name
from cloudimg.tiff.sparse import SparseFile
from cloudimg.tiff.tifffile_private import first_known_offsets, open_alone


def open_tiff(
    file: SparseFile, url: str, name: str, limits: DecodeLimits, *, is_ome: bool | None = None
) -> Any:
    """Open a file as `tifffile.TiffFile`, after checking that its descriptions can be parsed.

    Parameters
    ----------
    file : SparseFile
    url, name : str
        See `parse_tiff`.
    limits : DecodeLimits
    is_ome : bool, optional
        False ignores OME-XML, and Micro-Manager's index. None detects them.
    """
    file.seek(0)
    # Micro-Manager's index describes planes as OME-XML does.
    tiff = open_alone(cast(IO[bytes], file), name=name, is_ome=is_ome, is_mmstack=is_ome)
    if tiff.pages:
        check_description(tiff.pages.first.description, url, limits)
        if tiff.is_ome and has_document_type(tiff.ome_metadata or ""):
            return open_tiff(file, url, name, limits, is_ome=False)
        if tiff.is_ome:
            page_pixels = max(2, tiff.pages.first.size)
            check_ome(tiff.ome_metadata or "", url, page_pixels, file_bytes=file.size_bytes)
    return tiff


def find_images(
    tiff: Any, frames: Frames, file: SparseFile, url: str, name: str
) -> tuple[Any, list[Any]]:
    """Find the images of a file.

    Parameters
    ----------
    tiff : tifffile.TiffFile
    frames : Frames
        Compares the pages of the file.
    file : SparseFile
    url, name : str
        See `open_tiff`.

    Returns
    -------
    tiff : tifffile.TiffFile
        The file, opened again where tifffile has to be told how to read it.
    images : list of tifffile.TiffPageSeries
        At least one.

    Raises
    ------
    CorruptFileError
    """
    try:
        images = _series_of(tiff, file, url)
        own = _own_planes(tiff, images)
        if own is not None:
            tiff = _open_again(file, name, omexml=own)
            images = _series_of(tiff, file, url)
        if images[0].kind != "uniform" or frames.are_alike(images[0]):
            return tiff, images
        unlike: list[int] = []  # tifffile takes pages for equal if three of them are
    except RuntimeError:  # tifffile's "incompatible keyframe"
        unlike = frames.unlike(first_known_offsets(tiff)) if file.error is None else []
        if not unlike:
            raise
    detected = None if tiff.is_ome else False
    tiff = _open_again(file, name, is_ome=detected, is_mmstack=detected, is_uniform=False)
    for number in unlike:
        tiff.pages.get(number, cache=True)
    return tiff, _series_of(tiff, file, url)


def _own_planes(tiff: Any, images: list[Any]) -> str | None:
    """OME-XML for a file that its own OME-XML calls by another name, None for all others.

    tifffile looks for a file of that name, and reads bare pages if there is none.
    """
    if not tiff.is_ome or any(image.kind in ("ome", "mmstack") for image in images):
        return None
    return without_own_name(tiff.ome_metadata or "")


def _open_again(file: SparseFile, name: str, **options: Any) -> Any:
    file.seek(0)
    return open_alone(cast(IO[bytes], file), name=name, **options)


def _series_of(tiff: Any, file: SparseFile, url: str) -> list[Any]:
    """tifffile's series; the only page if its metadata cannot be parsed."""
    import tifffile

    try:
        images: list[Any] = list(tiff.series)  # newer releases parse when it is iterated
    except MALFORMED as exc:
        if file.error is not None or is_bug(exc):
            raise
        n_pages, page = len(tiff.pages), tiff.pages.first
        broken = find_break(tiff, file)
        if broken is not None:
            n_pages = broken.n_pages
            if n_pages > 1 or broken.loses_pages([page], tiff.tiff):
                raise broken.error(url) from exc
        if n_pages > 1:
            raise
        images = [tifffile.TiffPageSeries([page], page.shape, page.dtype, page.axes)]
    if file.error is not None:
        raise file.error
    if not images:
        error = TruncatedFileError if begins_beyond_end(tiff, file) else CorruptFileError
        raise error(f"{url} is a TIFF without images", url=url)
    return images
