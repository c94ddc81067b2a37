"""What tifffile logs while a file is parsed, as remarks about that file.

tifffile reports damage to its logger and goes on with what is left. The records name neither the
URL nor what follows from them, so they are kept from the handlers while a file is parsed, and
become remarks. Whether pixels are missing is not decided from them: logging may be switched off,
and texts change with releases. `chain` and `stacks` compare numbers for that.
"""

from __future__ import annotations

import logging
import re
import threading
from typing import Self

from cloudimg.errors.notes import Remark

_MOST = 100
"""Different texts that are kept of one file; a damaged file can cause one for each tag."""
_CHAIN = re.compile(
    r"invalid page offset|corrupted tag list of page|invalid offset to page|circular reference"
)
"""Records about the chain of IFDs, of which `chain` says more."""
_PLANES = re.compile(
    r"OME series (expected|is missing) \d+ frames|OME series contains index out of"
)
"""Records about planes and pages in unequal numbers, of which `images` and tables of planes say
more."""
_NODATA = re.compile(r"parsing GDAL_NODATA tag raised ValueError: .* is not castable to")
"""Records about nodata values that are outside the type of the pixels, which tifffile also says of
some that are not; see `fill_values`."""
_REPLACEMENTS = (
    # The text of an exception instead of its representation, which may be cut off at its end.
    (re.compile(r"[\s,]*\braised \w+\((['\"])(.*?)(?:\1,?\)?)?$"), r": \2"),
    (re.compile(r"<(?:tifffile\.)?Tiff(?:Page|Frame) ([\d.]+)(?: @\d+)?>"), r"page \1:"),
    (re.compile(r"<(?:tifffile\.)?TiffTag (\d+) @(\d+)>"), r"tag \1 at byte \2:"),
    # Functions and objects of tifffile, and file objects.
    (re.compile(r"<[^<>]*>"), ""),
    (re.compile(r"\s+"), " "),
    (re.compile(r":(?: ?:)+"), ":"),
)


class ParserLog:
    """Collects what tifffile logs in this thread, in the order of the first of each text.

    An inner collection takes from an outer one. A filter leaves handlers, level and propagation of
    the logger to the application; it is added anew where an application has replaced the filters.
    """

    __slots__ = ("_outer", "_texts")

    def __init__(self) -> None:
        self._texts: dict[str, None] = {}
        self._outer: ParserLog | None = None

    def __enter__(self) -> Self:
        if _COLLECTOR not in _LOGGER.filters:
            _LOGGER.addFilter(_COLLECTOR)
        self._outer = getattr(_of_thread, "log", None)
        _of_thread.log = self
        return self

    def __exit__(self, *_: object) -> None:
        _of_thread.log = self._outer

    def add(self, text: str) -> None:
        """Add the message of a record."""
        if len(self._texts) < _MOST:
            self._texts[text] = None

    def remarks(self, *, with_chain: bool = True, with_planes: bool = True) -> tuple[Remark, ...]:
        """A remark for each text.

        Parameters
        ----------
        with_chain : bool
            Whether to include records about the chain of IFDs.
        with_planes : bool
            Whether to include records about planes that the pages of the file do not match.
        """
        if not self._texts:
            return ()
        texts = (
            text
            for text in self._texts
            if (with_chain or not _CHAIN.search(text))
            and (with_planes or not _PLANES.search(text))
            and not _NODATA.search(text)
        )
        plain = dict.fromkeys(map(plain_text, texts))
        return tuple(Remark("parser-log", text) for text in plain if text)


def plain_text(message: str) -> str:
    """A message of tifffile without the representations of its objects."""
    for pattern, replacement in _REPLACEMENTS:
        message = pattern.sub(replacement, message)
    return message.strip(" :.")


class _Collector(logging.Filter):
    """Takes the records of threads that parse a file; lets all others through."""

    def filter(self, record: logging.LogRecord) -> bool:
        log: ParserLog | None = getattr(_of_thread, "log", None)
        if log is None or record.levelno < logging.WARNING:
            return True
        log.add(record.getMessage())
        return False


_LOGGER = logging.getLogger("tifffile")
_COLLECTOR = _Collector()
_of_thread = threading.local()
