"""Errors of obstore, as errors of cloudimg."""

from __future__ import annotations

import re

from obstore import exceptions

from cloudimg.errors import AccessDeniedError, NotFoundError, ServerError, WrongRegionError
from cloudimg.storage.base import NotMappableError, UnreadableAnswerError
from cloudimg.storage.failures import (
    Kind,
    cause_text,
    hide_secrets,
    kind_of_response,
    most_specific,
    storage_error,
    without_answer,
)
from cloudimg.storage.network import way_to

FOREIGN = (exceptions.BaseError, OSError, ValueError)
"""What obstore raises for a request."""

_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>([^<]{1,80})</Code>")
_MESSAGE = re.compile(r"<Message>([^<\r\n]{1,200})(?:[\r\n][^<]*)?</Message>")
"""Its first line: Azure adds the number of the request, and the time."""
_UNDELETED = re.compile(
    r"DeleteObjects request failed for key (?P<path>.+?):"
    r" (?P<message>.{0,200}?) \(code: (?P<code>\w+)\)"
)
_NOT_MAPPABLE = (
    exceptions.NotSupportedError,
    exceptions.InvalidPathError,
    ValueError,  # a key that obstore's paths cannot hold, like a//b
)
_KINDS_OF_TYPES: tuple[tuple[type[BaseException], Kind], ...] = (
    (FileNotFoundError, NotFoundError),
    (exceptions.NotFoundError, NotFoundError),
    (exceptions.PermissionDeniedError, AccessDeniedError),
    (exceptions.UnauthenticatedError, AccessDeniedError),
    (PermissionError, AccessDeniedError),
)
_WRONG_REGION_MARKS = (
    "PermanentRedirect",
    "AuthorizationHeaderMalformed",
    "without LOCATION",
    "IllegalLoc",
)
_REQUESTED = re.compile(r"Error performing [A-Z]+ (https?://[^/?#\s]+)")


_NOT_READABLE = re.compile(
    r"Content-Length Header missing|value for CONTENT_RANGE header|Received non-partial response"
    r"|Range request not supported"
)
"""Answers that are right and that obstore refuses: in chunks, without the size of the object, and
of servers that ignore ranges."""


def translate(exc: BaseException, url: str, action: str = "read", hint: str = "") -> Exception:
    """The error to raise, after the ``except`` block, for an exception of obstore.

    Parameters
    ----------
    exc : BaseException
    url : str
        The object, without credentials.
    action : str
        The request: ``"read"``, ``"write"`` or ``"delete"``.
    hint : str
        Appended where access is denied.
    """
    text = str(exc)
    if action == "read" and _NOT_READABLE.search(text):
        return UnreadableAnswerError()
    if isinstance(exc, _NOT_MAPPABLE):
        return NotMappableError()
    kind = most_specific(_kinds(exc, text)) or ServerError
    detail = _reported(text)
    if not detail and kind is ServerError:
        kind, detail = _without_answer(text)
    if kind is AccessDeniedError:
        detail += hint
    return storage_error(kind, url, action, detail, cause_text(exc), status=status_of(exc))


def status_of(exc: BaseException) -> int | None:
    """HTTP status of the response, if there was one."""
    match = _STATUS.search(str(exc))
    return int(match.group(1)) if match else None


def undeleted_path(exc: BaseException) -> str | None:
    """The object that an answer to DeleteObjects, with status 200, says to be still there."""
    match = _UNDELETED.search(str(exc))
    return None if match is None else match["path"]


def code_of(exc: BaseException) -> str | None:
    """S3's code in the response, if there was one."""
    match = _CODE.search(str(exc))
    return match.group(1) if match else None


def _kinds(exc: BaseException, text: str) -> list[Kind | None]:
    undeleted = _UNDELETED.search(text)
    is_denied = undeleted is not None and undeleted["code"] == "AccessDenied"
    is_wrong_region = any(mark in text for mark in _WRONG_REGION_MARKS)
    return [
        AccessDeniedError if is_denied else None,
        kind_of_response(status_of(exc), code_of(exc)),
        WrongRegionError if is_wrong_region else None,
        *(kind for base, kind in _KINDS_OF_TYPES if isinstance(exc, base)),
    ]


def _reported(text: str) -> str:
    """Status, code and message of the server, without the rest, which may hold key IDs."""
    parts = [m.group(1) for m in (p.search(text) for p in (_STATUS, _CODE, _MESSAGE)) if m]
    undeleted = _UNDELETED.search(text)
    if undeleted is not None:
        parts = [undeleted["code"], undeleted["message"]]
    # Servers quote requests in their messages, and signed ones have the signature in the query.
    return f" ({hide_secrets(', '.join(parts))})" if parts else ""


def _without_answer(text: str) -> tuple[Kind, str]:
    requested = _REQUESTED.search(text)
    server = way_to(requested[1]) if requested else None
    after_settings = text.rpartition("retry_timeout")[2]  # obstore lists its settings first
    found = without_answer(after_settings, server)
    return found or (ServerError, f" (the transfer failed{f': {server}' if server else ''})")
