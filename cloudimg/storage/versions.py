"""The version of an object as text, the same whichever backend asks, so that it can be compared.

Backends report one ETag in several forms, and one time in several types. The text is the ETag as a
strong one, with its quotes (RFC 9110, section 8.8.3); without an ETag it is the time of the last
change in whole seconds, which is all that the header Last-Modified has.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

_MD5 = re.compile("[0-9a-f]{32}")


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


def is_etag(version: str | None) -> bool:
    """Whether a version is an ETag, and not the time of the last change."""
    return version is not None and version.startswith('"')


def md5_of_etag(etag: str | None) -> str | None:
    """The MD5 in an ETag that looks like one; None for any other ETag.

    The ETag of an object that was stored in one request is the MD5 of its bytes, unless they were
    encrypted with a key of KMS or of the caller; that of a multipart upload has a hyphen:
    https://docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html
    """
    text = (etag or "").removeprefix("W/").strip('"').lower()
    return text if _MD5.fullmatch(text) else None


def unquoted(version: str) -> str:
    """A version as stores of S3 take it in If-Match: Ceph compares it without the quotes.

    AWS's examples have none either, see
    https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html.
    """
    return version.strip('"')


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


def version_of_file(status: os.stat_result) -> str:
    """Version of a local file: its inode, size and modification time."""
    return f"{status.st_ino:x}-{status.st_size:x}-{status.st_mtime_ns:x}"


def _parsed(header: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(header)
    except ValueError:
        return None
    return moment.replace(tzinfo=moment.tzinfo or UTC)
