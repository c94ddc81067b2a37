r"""`Layout`: one naming that an instrument or an archive is known to use. Pure.

A row says how the part of a name below some folder is written, as a regular expression in which
groups are axes: ``c``, ``t`` and ``z``; ``well``, or ``row`` and ``col``; ``field``, ``position``,
``tile`` and others. A group that ends in ``__2`` is the same axis again. ``maybe_plate`` is an axis
only where names are not told apart without it, and ``any_guid`` is never one. What an instrument
stores beside the planes (thumbnails, projections) is named by globs.

To add a row, write what a source says, with names of that source as examples: the tests try them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

WELL = r"(?:[A-P]|A[A-F])\d{1,2}"
WELL_OF_ANY_CASE = r"(?:[A-Pa-p]|A[A-F])\d{1,2}"
GUID = r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"
TIF = r"(?i:\.tiff?)"


@dataclass(frozen=True, kw_only=True)
class Layout:
    """One known way to name files."""

    name: str
    """Instrument, program or archive."""
    regex: str
    """Regular expression of names from some folder on; see the module."""
    source: str
    """URL of what says so."""
    examples: tuple[str, ...]
    """Names as its source writes them, or made after it, for the tests."""
    times: Mapping[str, str] = field(default_factory=dict)
    """Format of a time or an elapsed time, by axis."""
    beside: Mapping[str, str] = field(default_factory=dict)
    """Globs of image files that are not planes, and what they are."""
    index_files: tuple[str, ...] = ()
    """Names that the instrument's index file may have, likeliest first. In braces: a group, the
    ``folders`` above what the regular expression matches, and the ``folder`` of the image file."""

    @cached_property
    def compiled(self) -> re.Pattern[str]:
        return re.compile(rf"(?P<folders>(?:[^/]+/)*?){self.regex}", re.ASCII)


THUMBS = {"*_thumb*": "thumbnails"}
REFERENCES = {"References/*": "reference images"}
