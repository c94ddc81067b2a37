"""Errors of fsspec filesystems, of their HTTP clients and of botocore, as errors of cloudimg."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from cloudimg.errors import AccessDeniedError, NotFoundError, ServerError, StorageError
from cloudimg.storage.failures import (
    CREDENTIAL_NAMES,
    Kind,
    cause_text,
    hide_secrets,
    kind_of_response,
    most_specific,
    storage_error,
)

_TEMPORARY_TYPES = (TimeoutError, ConnectionError, asyncio.IncompleteReadError)
_TEMPORARY_NAMES = {
    "ClientConnectorError",
    "ClientOSError",
    "ClientPayloadError",
    "ConnectTimeoutError",
    "ConnectionClosedError",
    "EndpointConnectionError",
    "FSTimeoutError",
    "HTTPClientError",
    "ProxyError",  # a 502 of gcsfs
    "IncompleteReadError",
    "JSONDecodeError",  # HTML of a proxy
    "ReadTimeoutError",
    "ResponseParserError",
    "ResponseStreamingError",
    "ServerDisconnectedError",
}
_HINTS: Mapping[Kind, str] = {
    AccessDeniedError: "; check that storage_options or the environment hold credentials for it"
}


def translate(exc: BaseException, url: str, action: str = "read") -> StorageError:
    """The error to raise, after the ``except`` block, for an exception of a filesystem.

    Parameters
    ----------
    exc : BaseException
    url : str
        The object, without credentials.
    action : str
        The request: ``"read"``, ``"write"`` or ``"delete"``.
    """
    if isinstance(exc, StorageError):
        return exc
    # aiohttp gives a broken transfer the status 400, although the server did not send it.
    status, code = (None, None) if _is_temporary(exc) else status_and_code(exc)
    name, cause = type(exc).__name__, cause_text(exc)
    kind = most_specific((kind_of_response(status, code), _kind_of_type(exc)))
    if kind is not None:
        reported = [str(part) for part in (status, code) if part]
        if not reported and kind is ServerError:
            reported = [name]
        detail = f" ({', '.join(reported)})" if reported else ""
        detail += _HINTS.get(kind, "")
        return storage_error(kind, url, action, detail, cause, status=status)
    # Only a request reveals wrong options, so their names must be shown. The text of a ValueError
    # is not: HTTP clients quote an invalid header, which may be a token.
    shows_text = isinstance(exc, TypeError) or type(exc).__module__.startswith("botocore")
    reason = hide_secrets(str(exc)) if shows_text else name
    return StorageError(f"cannot {action} {url}: {reason}", url=url, cause=cause)


def status_and_code(exc: BaseException) -> tuple[int | None, str | None]:
    """HTTP status and error code of a response, wherever the filesystem's exception keeps them."""
    current: BaseException | None = exc
    while current is not None:
        response = getattr(current, "response", None)
        if isinstance(response, dict) and "ResponseMetadata" in response:
            status = response["ResponseMetadata"].get("HTTPStatusCode")
            return status, (response.get("Error") or {}).get("Code")
        for name in ("status", "code"):
            status = _http_status(getattr(current, name, None))
            if status is not None:
                return status, None
        current = current.__cause__
    return None, None


def _http_status(value: object) -> int | None:
    if isinstance(value, str) and value.isdigit():
        value = int(value)
    return value if isinstance(value, int) and 400 <= value < 600 else None


def _kind_of_type(exc: BaseException) -> Kind | None:
    if isinstance(exc, FileNotFoundError):
        return NotFoundError
    if _is_refusal(exc):
        return AccessDeniedError
    return ServerError if _is_temporary(exc) else None


def _is_refusal(exc: BaseException) -> bool:
    name = type(exc).__name__
    is_403_of_gcsfs = type(exc) is OSError and str(exc).startswith("Forbidden: ")
    return (
        isinstance(exc, PermissionError)
        or is_403_of_gcsfs
        or any(mark in name for mark in CREDENTIAL_NAMES)
    )


def _is_temporary(exc: BaseException) -> bool:
    """Whether another try may help: timeouts, connection resets, broken transfers."""
    return isinstance(exc, _TEMPORARY_TYPES) or type(exc).__name__ in _TEMPORARY_NAMES
