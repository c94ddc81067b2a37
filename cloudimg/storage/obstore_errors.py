"""Errors of obstore, as errors of cloudimg."""

from __future__ import annotations

import re

from obstore import exceptions

from cloudimg.errors import AccessDeniedError, NotFoundError, ServerError, WrongRegionError
from cloudimg.storage.base import NotMappableError
from cloudimg.storage.failures import (
    Kind,
    cause_text,
    kind_of_response,
    most_specific,
    storage_error,
)

FOREIGN = (exceptions.BaseError, OSError, ValueError)
"""What obstore raises for a request."""

_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>([^<]{1,80})</Code>")
_MESSAGE = re.compile(r"<Message>([^<]{1,200})</Message>")
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
_FAILURES = (
    ("refused", "connection refused"),
    ("dns", "no such host"),
    ("timed out", "no response in time"),
    ("timeout", "no response in time"),
    ("connect", "no connection"),
    ("decoding response body", "the response broke off"),
    ("incomplete", "the response broke off"),
    ("certificate", "the server's certificate is not trusted"),
)
"""Words of obstore's text for requests without a response, and what they mean."""


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
    if isinstance(exc, _NOT_MAPPABLE):
        return NotMappableError()
    text = str(exc)
    kind = most_specific(_kinds(exc, text)) or ServerError
    detail = _reported(text) or (_failure(text) if kind is ServerError else "")
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
    return f" ({', '.join(parts)})" if parts else ""


def _failure(text: str) -> str:
    lowered = text.lower().rpartition("retry_timeout")[2]  # obstore lists its settings first
    meaning = next((meaning for mark, meaning in _FAILURES if mark in lowered), None)
    return f" ({meaning or 'the transfer failed'})"
