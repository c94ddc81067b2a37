"""Names of index files, which instruments store beside images, among names that were listed. Pure.

What a listing has seen decides whether an index file is asked for: no request is made for one that
the listing would have shown.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from cloudimg.pattern import Pattern

INDEX_NAME = re.compile(
    r"(?i)(?:.*/)?(?:[^/]+\.(?:htd|mlf)|index(?:\.idx)?\.xml|metadata\.txt)", re.DOTALL
)
MOST_NAMES = 10_000
"""Most names that are kept."""


@dataclass(frozen=True, slots=True)
class IndexNames:
    """Which index files a listing has shown, and which it would have shown."""

    begins_with: str
    """Pattern text with which all listed names begin."""
    names: frozenset[str]
    """Names of index files among them, as pattern texts."""
    pattern: Pattern | None = None
    """Pattern of the image files that were looked for; None if only a folder was listed."""

    def among(self, name: str) -> bool | None:
        """Whether a name exists; None if it was not listed."""
        if name in self.names:
            return True
        is_listed = name.startswith(self.begins_with) and len(self.names) < MOST_NAMES
        return False if is_listed else None
