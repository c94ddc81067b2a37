"""Parse the header of a TIFF, and account for its pages."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain
from typing import IO, Any, cast

from cloudimg.errors import (
    ArgumentError,
    CloudimgError,
    CorruptFileError,
    FormatError,
    NotTiffError,
    TruncatedFileError,
    UnsupportedFormatError,
    counted,
)
from cloudimg.errors.notes import Remark
from cloudimg.tiff.build_image import build_image
from cloudimg.tiff.chain import KINDS, check_chain
from cloudimg.tiff.completeness import check_length
from cloudimg.tiff.dropped_tags import check_tags, tagged_pages
from cloudimg.tiff.find_images import find_images, open_tiff
from cloudimg.tiff.frames import Frames
from cloudimg.tiff.images import SURPLUS, list_images, remarks_on, surplus_pages
from cloudimg.tiff.malformed import MALFORMED, is_bug
from cloudimg.tiff.members import Offsets, parse_member
from cloudimg.tiff.membership import find_membership, find_shortfall
from cloudimg.tiff.multifile import root_uuid
from cloudimg.tiff.parsed import DatasetMembership, ParsedImage
from cloudimg.tiff.parser_log import ParserLog
from cloudimg.tiff.request import ParseRequest
from cloudimg.tiff.sample_tags import unreadable_formats
from cloudimg.tiff.sparse import SparseFile
from cloudimg.tiff.stacks import settle_stacks
from cloudimg.tiff.surplus import surplus_in_strips
from cloudimg.tiff.unread import unread_ifd, unread_parts


def parse_tiff(file: SparseFile, request: ParseRequest, *, url: str, name: str) -> ParsedImage:
    """Parse a header, fetching the parts of it that are needed.

    Parameters
    ----------
    file : SparseFile
    request : ParseRequest
    url : str
        URL of the file, for messages.
    name : str
        File name; tifffile recognizes some vendors' formats by its extension.

    Raises
    ------
    NotTiffError, CorruptFileError, UnsupportedFormatError, LimitError, StorageError
    """
    try:
        with ParserLog() as log:
            parsed = _parse(file, request, url, name)
    except CloudimgError:
        raise
    except MALFORMED as exc:
        error = file.error
        if error is None:
            if is_bug(exc):
                raise
            raise _translated(exc, file, url) from exc
    else:
        has_chain = any(remark.kind in KINDS for remark in parsed.remarks)
        logged = log.remarks(with_chain=not has_chain, with_planes=not _tells_of_planes(parsed))
        return replace(parsed, remarks=(*parsed.remarks, *logged)) if logged else parsed
    # Bytes that could not be fetched are the cause; what tifffile made of that is not.
    raise error


def _parse(
    file: SparseFile, request: ParseRequest, url: str, name: str, *, is_ome: bool | None = None
) -> ParsedImage:
    tiff = open_tiff(file, url, name, request.limits, is_ome=is_ome)
    if request.member is not None:
        return _parse_member(tiff, request.member, request, file, url)
    membership = None if request.ignore_siblings else find_membership(tiff, name, request.series)
    if membership is not None:
        return _member_of(membership, tiff)
    frames = Frames(tiff, file.look)
    tiff, images = find_images(tiff, frames, file, url, name)
    on_tags = check_tags(tiff, tagged_pages(images), file, url)
    images, on_stacks = settle_stacks(tiff, images, file, url)
    on_chain = check_chain(tiff, images, file, url)
    unread = () if on_stacks else unread_parts(tiff, images, file)
    on_pages = (*on_tags, *on_stacks, *on_chain, *unread, *unread_ifd(tiff, images[0], file))
    if not 0 <= request.series < len(images):
        found = counted(len(images), "image")
        raise ArgumentError(f"series={request.series}, but {url} has {found}", url=url)
    image = images[request.series]
    if image.kind in ("ome", "mmstack") and any(page is None for page in image):
        if request.ignore_siblings:
            return _without_axes(_parse(file, request, url, name, is_ome=False), image)
        membership = find_shortfall(tiff, name, request.series) if image.kind == "ome" else None
        if membership is not None:
            return _member_of(membership, tiff)
    # Before attributes are read, so that these remarks do not depend on whether they are.
    listed = list_images(tiff, images)
    further = (*on_pages, *remarks_on(listed, request.series), *surplus_pages(tiff, images))
    parsed = build_image(tiff, image, frames, request, file, url, n_images=len(images))
    on_length = (*check_length(parsed.levels, file.size_bytes, url), *surplus_in_strips(image))
    parsed = replace(parsed, images=listed, remarks=(*parsed.remarks, *further, *on_length))
    if file.error is not None:
        raise file.error
    return parsed


def _parse_member(
    tiff: Any, numbered_by: Offsets, request: ParseRequest, file: SparseFile, url: str
) -> ParsedImage:
    """All pages of a file of a multi-file dataset."""
    parsed = parse_member(
        tiff,
        url,
        numbered_by,
        metadata=request.metadata,
        palette=request.palette,
        compared=file if request.only_compared else None,
    )
    on_chain = check_chain(tiff, None, file, url)
    on_tags = check_tags(tiff, (tiff.pages.first,), file, url)
    all_levels = (parsed.levels, *parsed.others)
    by_levels = (check_length(levels, file.size_bytes, url) for levels in all_levels)
    return replace(
        parsed, remarks=(*parsed.remarks, *on_tags, *on_chain, *chain.from_iterable(by_levels))
    )


def _member_of(membership: DatasetMembership, tiff: Any) -> ParsedImage:
    """A file that has only a part of its image, or an image of which planes are missing."""
    return ParsedImage(
        dims=(),
        levels=(),
        attrs={},
        coords={},
        depends_on_name=True,
        membership=membership,
        uuid=root_uuid(tiff.ome_metadata or "") if tiff.is_ome else "",
    )


def _tells_of_planes(parsed: ParsedImage) -> bool:
    """Whether it is known which planes of OME-XML have no page, or which pages no plane."""
    membership = parsed.membership
    if membership is not None and membership.planes is not None:
        return bool(membership.planes.shortfall)
    return any(remark.kind in ("missing-planes", SURPLUS) for remark in parsed.remarks)


def _without_axes(parsed: ParsedImage, image: Any) -> ParsedImage:
    """Bare pages in place of an image of which planes are missing."""
    what = "OME-XML" if image.kind == "ome" else "Micro-Manager metadata"
    n_missing = sum(page is None for page in image)
    text = (
        f"its {what} gives axes to {len(image)} planes, of which the file lacks {n_missing}: its"
        " pages are read without these axes"
    )
    return replace(parsed, remarks=(*parsed.remarks, Remark("missing-planes", text)))


def _packed(file: SparseFile) -> str:
    """What a file is that was compressed as a whole; empty if it was not."""
    beginning = bytes(file.have(0, 4) or b"")
    program = next((name for magic, name in _PACKED.items() if beginning.startswith(magic)), None)
    if program is None:
        return ""
    return (
        f"its bytes are compressed by {program} as a whole, as those of an object with"
        " Content-Encoding or of a file like x.tif.gz: store it decompressed"
    )


_PACKED = {
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"BZh": "bzip2",
    b"\xfd7zX": "xz",
}
"""First bytes of what compressing programs write: RFC 1952, RFC 8878, and their documentation."""


def _translated(exc: Exception, file: SparseFile, url: str) -> FormatError:
    if "not a TIFF file" in str(exc) or "invalid TIFF version" in str(exc):
        return NotTiffError(f"{url} is not a TIFF ({_packed(file) or exc})", url=url)
    unreadable = unreadable_formats(cast(IO[bytes], file)) if isinstance(exc, TypeError) else ""
    if unreadable:
        return UnsupportedFormatError(
            f"{url} cannot be decoded: {unreadable} are not supported", url=url
        )
    if "incompatible keyframe" in str(exc):
        return UnsupportedFormatError(
            f"{url} cannot be decoded: in a file of its kind, pages of one image of different"
            " widths, or with different numbers of strips or tiles, are not supported",
            url=url,
        )
    text = f"{type(exc).__name__}: {exc}"
    error = TruncatedFileError if file.ends_too_early else CorruptFileError
    return error(f"the header of {url} cannot be parsed: {text}", url=url)
