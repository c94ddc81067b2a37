"""The version of an object as text, the same whichever backend asks, so that it can be compared.

Backends report one ETag in several forms, and one time in several types. The text is the ETag as a
strong one, with its quotes (RFC 9110, section 8.8.3); without an ETag it is the time of the last
change in whole seconds, which is all that the header Last-Modified has.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any


def version_text(etag: str | None, modified: datetime | str | None = None) -> str | None:
    """Version of an object by what a server says of it; None if it says nothing.

    Parameters
    ----------
    etag : str, optional
        With or without quotes, strong or weak. A proxy that compresses makes a strong one weak, and
        some servers leave out the quotes.
    modified : datetime or str, optional
        When the object changed last; a text is the value of the header.
    """
    if etag:
        return f'"{etag.removeprefix("W/").strip(chr(34))}"'
    moment = _parsed(modified) if isinstance(modified, str) else modified
    # obstore's time is 1970 where the server states none.
    if moment is None or moment.timestamp() <= 0:
        return None
    return moment.astimezone(UTC).isoformat(timespec="seconds")


def version_of_details(details: Mapping[str, Any]) -> str | None:
    """Version of an object by what a filesystem of fsspec reports of it; None without one.

    Google's generation comes first: its ETag changes with the metadata of an object, too.
    """
    for name in ("generation", "md5Hash"):
        if details.get(name):
            return str(details[name])
    etag = details.get("ETag") or details.get("etag")
    modified = details.get("LastModified") or details.get("Last-Modified")
    stated = version_text(etag, modified)
    if stated is not None:
        return stated
    moment = details.get("mtime") or details.get("created")
    if isinstance(moment, int | float):  # a listing may have a number where `info` has a datetime
        moment = datetime.fromtimestamp(moment, UTC)
    if isinstance(moment, datetime):
        return moment.astimezone(UTC).isoformat()
    return str(moment) if moment else None


def _parsed(header: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(header)
    except ValueError:
        return None
    return moment.replace(tzinfo=moment.tzinfo or UTC)
