"""URLs of a table: as pattern texts, in the store that they have in common. Pure."""

from __future__ import annotations

import posixpath

from cloudimg.errors import ArgumentError
from cloudimg.storage import Location, common_location, redact, split_url


class TableURLs:
    """Turns the URLs of a table into pattern texts, and finds the store that they have in common.

    Parameters
    ----------
    folder : tuple of Location and str, optional
        Where the table is, which relative URLs belong to.
    """

    def __init__(self, folder: tuple[Location, str] | None) -> None:
        self._folder = folder
        self._prefix = "\0"
        self.location: Location | None = None

    def text(self, url: str, row: int) -> str:
        if url.startswith(self._prefix) and "::" not in url:
            return url  # most have the protocol and the bucket of the one before
        if "://" not in url and not url.startswith(("/", "~")):
            url = self._resolved(url, row)
        location, key = split_url(url)
        try:
            self.location = (
                location if self.location is None else common_location(self.location, location, key)
            )
        except ArgumentError as exc:
            raise ArgumentError(f"row {row} of the table: {exc.message}") from exc
        text = location.pattern_text(key)
        if "::" not in url and text == url:
            at = location.protocol == "file"
            self._prefix = "/" if at else f"{location.protocol}://{location.root}/"
        return text

    def _resolved(self, url: str, row: int) -> str:
        """A relative URL beside the table.

        Raises
        ------
        ArgumentError
        """
        if self._folder is None:
            raise ArgumentError(
                f"row {row} of the table, counted from 0, has the relative URL {redact(url)!r}, and"
                " the table has no URL itself that it could belong to: write whole URLs, or paths"
                " that begin with a slash"
            )
        location, folder = self._folder
        key = posixpath.normpath(posixpath.join(folder, url))
        if location.root and not key.startswith(f"{location.root}/"):
            raise ArgumentError(
                f"row {row} of the table, counted from 0, has the relative URL {redact(url)!r},"
                f" which leads out of {location.display(location.root)}"
            )
        return location.url(key)
