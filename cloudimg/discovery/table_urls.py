"""URLs of a table: as pattern texts, in the store that they have in common. Pure."""

from __future__ import annotations

import posixpath

from cloudimg.errors import ArgumentError
from cloudimg.storage import Location, common_location, redact, split_url

_REMOTE = {
    *("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "http", "https"),
    *("zip", "tar", "simplecache", "filecache", "blockcache"),
}
"""Protocols and filters that tables in a store may use; others may lead to local files."""


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
        self._refuse_local(location, key, row)
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

    def _refuse_local(self, location: Location, key: str, row: int) -> None:
        """Refuse a file of this machine in a table that lies in a store.

        Otherwise the author of the table could choose which files of the user are read.

        Raises
        ------
        ArgumentError
        """
        if self._folder is None or self._folder[0].is_on_this_machine:
            return
        *_, last = links = location.url(key).split("::")
        protocols = {link.partition("://")[0].lower() for link in links}
        known = {*_REMOTE, self._folder[0].protocol}
        if "://" in last and protocols <= known and not location.is_on_this_machine:
            return
        raise ArgumentError(
            f"row {row} of the table, counted from 0, names {location.display(key)}, but a table in"
            " a store may name only files in object stores and on web servers, not files of this"
            " machine: read the table by another library, such as pyarrow.parquet, and pass it if"
            " this file is right"
        )

    def _resolved(self, url: str, row: int) -> str:
        """A relative URL beside the table.

        Raises
        ------
        ArgumentError
        """
        if self._folder is None:
            raise ArgumentError(
                f"row {row} of the table, counted from 0, has the relative URL {_path_of(url)!r},"
                " and a table in memory has no folder that it could belong to: write whole URLs,"
                " or paths that begin with a slash"
            )
        location, folder = self._folder
        key = posixpath.normpath(posixpath.join(folder, url))
        if location.root and not key.startswith(f"{location.root}/"):
            raise ArgumentError(
                f"row {row} of the table, counted from 0, has the relative URL {_path_of(url)!r},"
                f" which leads out of {location.display(location.root)}"
            )
        return location.url(key)


def _path_of(url: str) -> str:
    """A relative URL without its query, of which nothing is known."""
    return redact(url.partition("?")[0])
