"""Whether the file is long enough for what its header says, as far as the header can tell."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cloudimg.errors.notes import Remark
from cloudimg.tiff import surplus
from cloudimg.tiff.derived import Derived
from cloudimg.tiff.extent import error_of, remark_on, remark_on_unstored
from cloudimg.tiff.level import Level
from cloudimg.tiff.pages import PlainPages
from cloudimg.tiff.parsed import AnyLevel


def check_length(levels: Sequence[AnyLevel], size_bytes: int, url: str) -> Iterator[Remark]:
    """Compare what the header places in the file with the size of the file.

    Parameters
    ----------
    levels : sequence of AnyLevel
        Levels of one image, the full one first.
    size_bytes : int
        Size of the file.
    url : str
        For messages.

    Yields
    ------
    Remark
        If segments are not stored, or are in no image; if it can be decided only by decoding
        whether pixels are missing; if pixels of a reduced level are missing, which reading that
        level reports.

    Raises
    ------
    CorruptFileError
        Pixels of the full image are missing, or would be those of other planes.
    """
    for number, level in enumerate(levels):
        stored = _stored(level)
        if stored is not None:
            yield from _check_level(stored, number, size_bytes, url)


def _check_level(level: Level, number: int, size_bytes: int, url: str) -> Iterator[Remark]:
    pages = level.pages
    beyond = (pages if isinstance(pages, PlainPages) else level).beyond(size_bytes)
    more = level.surplus()
    if beyond.n_lost and number == 0:
        raise error_of(beyond, size_bytes, url)
    if more is not None and more.is_of_other_planes and number == 0:
        raise surplus.error_of(more, url)
    what = f"level {number}" if number else "the image"
    if beyond.n_lost or beyond.n_doubtful:
        yield remark_on(beyond, size_bytes, what)
    if beyond.n_unstored:
        yield remark_on_unstored(beyond, what)
    if more is not None:
        yield surplus.remark_on(more, what)


def _stored(level: AnyLevel) -> Level | None:
    """The pages that a level is made of; None if it is not one of a TIFF."""
    while isinstance(level, Derived):
        level = level.base
    return level if isinstance(level, Level) else None
