"""Errors of fsspec filesystems, of their HTTP clients and of botocore, as errors of cloudimg."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from urllib.parse import urlsplit

from cloudimg.errors import AccessDeniedError, NotFoundError, ServerError, StorageError
from cloudimg.storage.failures import (
    CREDENTIAL_NAMES,
    Kind,
    cause_text,
    hide_secrets,
    kind_of_response,
    most_specific,
    storage_error,
    without_answer,
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
    "ProxyConnectionError",
    "ProxyError",  # a 502 of gcsfs
    "IncompleteReadError",
    "JSONDecodeError",  # HTML of a proxy
    "ReadTimeoutError",
    "SSLError",
    "ResponseParserError",
    "ResponseStreamingError",
    "ServerDisconnectedError",
    "ServiceRequestError",
    "ServiceResponseError",
}
_HINTS: Mapping[Kind, str] = {
    AccessDeniedError: "; check that storage_options or the environment hold credentials for it"
}


def translate(
    exc: BaseException,
    url: str,
    action: str = "read",
    server: Callable[[], str | None] = lambda: None,
) -> StorageError:
    """The error to raise, after the ``except`` block, for an exception of a filesystem.

    Parameters
    ----------
    exc : BaseException
    url : str
        The object, without credentials.
    action : str
        The request: ``"read"``, ``"write"`` or ``"delete"``.
    server : callable, optional
        Returns host and port of the server, where they are known; used if `exc` has none.
    """
    if isinstance(exc, StorageError):
        return exc
    # aiohttp gives a broken transfer the status 400, although the server did not send it.
    status, code = (None, None) if _is_temporary(exc) else status_and_code(exc)
    name, cause = type(exc).__name__, cause_text(exc)
    kind = most_specific((kind_of_response(status, code), _kind_of_type(exc)))
    if kind is not None:
        reported = [str(part) for part in (status, code) if part]
        detail = f" ({', '.join(reported)})" if reported else ""
        if not reported and kind is ServerError:
            texts = " ".join(f"{type(linked).__name__} {linked}" for linked in _linked(exc))
            found = without_answer(texts, _server_of(exc) or server())
            kind, detail = found or (kind, f" ({name})")
        detail += _HINTS.get(kind, "")
        return storage_error(kind, url, action, detail, cause, status=status)
    # Only a request reveals wrong options, so their names must be shown. The text of a ValueError
    # is not: HTTP clients quote an invalid header, which may be a token.
    shows_text = isinstance(exc, TypeError) or type(exc).__module__.startswith("botocore")
    reason = hide_secrets(str(exc)) if shows_text else name
    return StorageError(f"cannot {action} {url}: {reason}", url=url, cause=cause)


def _linked(exc: BaseException) -> Iterator[BaseException]:
    """An exception and those from which it was made, as far as the libraries keep them."""
    found, waiting = set(), [exc]
    while waiting:
        current = waiting.pop(0)
        if id(current) in found:
            continue
        found.add(id(current))
        yield current
        of_botocore = getattr(current, "kwargs", None)
        of_botocore = of_botocore.get("error") if isinstance(of_botocore, dict) else None
        of_aiohttp = (getattr(current, name, None) for name in ("os_error", "certificate_error"))
        more = (current.__cause__, current.__context__, of_botocore, *of_aiohttp)
        waiting += [each for each in more if isinstance(each, BaseException)]


def _server_of(exc: BaseException) -> str | None:
    """Host and port of the server, or of the proxy, that a connection failed to."""
    for linked in _linked(exc):
        host, port = (getattr(linked, name, None) for name in ("host", "port"))  # of aiohttp
        if host and port:
            return f"{host}:{port}"
        of_botocore = getattr(linked, "kwargs", None)
        url = of_botocore.get("endpoint_url") if isinstance(of_botocore, dict) else None
        if url:
            return urlsplit(str(url)).netloc.rpartition("@")[2]
    return None


def status_and_code(exc: BaseException) -> tuple[int | None, str | None]:
    """HTTP status and error code of a response, wherever the filesystem's exception keeps them."""
    current: BaseException | None = exc
    while current is not None:
        response = getattr(current, "response", None)
        if isinstance(response, dict) and "ResponseMetadata" in response:
            status = response["ResponseMetadata"].get("HTTPStatusCode")
            return status, (response.get("Error") or {}).get("Code")
        for name in ("status", "code", "status_code"):
            status = _http_status(getattr(current, name, None))
            if status is not None:
                code = getattr(current, "error_code", None)  # of Azure, an enumeration
                return status, code and str(getattr(code, "value", code))
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
    return isinstance(exc, _TEMPORARY_TYPES) or any(
        base.__name__ in _TEMPORARY_NAMES for base in type(exc).__mro__
    )
