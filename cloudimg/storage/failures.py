"""Errors made from the exceptions of other libraries, without their credentials.

Exceptions of botocore, aiohttp, obstore, gcsfs, fsspec, google-auth and kubernetes may hold signed
URLs, headers with credentials, or the answer of a token server. Our errors therefore keep only
their redacted text (`CloudimgError.cause`), and are raised after the ``except`` block has ended:
inside it Python would keep the foreign exception as ``__context__``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from cloudimg.errors import (
    AccessDeniedError,
    ArchivedError,
    CertificateError,
    NoRoomError,
    NotConditionalError,
    NotFoundError,
    ServerError,
    StorageError,
    WrongRegionError,
)
from cloudimg.storage.urls import redact

Kind = type[StorageError]

_KIND_OF_STATUS: Mapping[int, Kind] = {
    401: AccessDeniedError,
    403: AccessDeniedError,
    407: AccessDeniedError,
    404: NotFoundError,
    413: NoRoomError,
    507: NoRoomError,
    501: StorageError,  # what a store does not know it will not know the next time either
    # Temporary; 409: another request for the same object was in progress.
    **dict.fromkeys((408, 409, 425, 429), ServerError),
}
_OF_GATEWAYS = (408, 502, 504)
"""Answers of a server between us and the store, which may still carry out the request."""
_TOO_MANY = (429, 503)
_CONDITION = re.compile(r"(?i)NotImplemented|if-(none-)?match|unsupported header")
_NO_ROOM_CODES = (
    "quota",
    "toolarge",
    "storagefull",
    "insufficientstorage",
    "insufficientcapacity",
)
_OF_TRANSFERS = {
    "baddigest",
    "invaliddigest",
    "requesttimeout",
    "xamzcontentchecksummismatch",
    "xamzcontentsha256mismatch",
}
_ARCHIVED = ("InvalidObjectState", "BlobArchived", "BlobBeingRehydrated")
"""Codes of S3 and of Azure Blob Storage for objects in an archive."""
_OF_A_PROXY = (
    "; the proxy asks for credentials: set HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT (or"
    " HTTP_PROXY, for endpoints without TLS)"
)
_MESSAGES: Mapping[Kind, str] = {
    CertificateError: "cannot {action} {url}: the certificate of the server is not trusted{detail}",
    ArchivedError: "{url} is in an archive{detail}, from which it cannot be read directly: restore"
    " it first (S3: `aws s3api restore-object`; Azure: set the tier to Hot or Cool), which takes"
    " minutes to days, or leave it out",
    NoRoomError: "no room to write {url}{detail}: the store or disk is full, a quota is used up, or"
    " the object is too large; free some space and try again",
    NotFoundError: "not found: {url}{detail}",
    AccessDeniedError: "access denied: cannot {action} {url}{detail}",
    WrongRegionError: "{url} is in another region or at another endpoint{detail}; name the region"
    " with storage_options={{'client_kwargs': {{'region_name': ...}}}}",
    StorageError: "the server refused to {action} {url}{detail}",
    ServerError: "the server failed to {action} {url}{detail}",
}
"""Message of each kind of error; where several kinds apply, the first one is raised."""

_LONGEST_CAUSE = 2000  # characters: an error page of a proxy can be long
CREDENTIAL_NAMES = ("Auth", "Credential", "Login", "Refresh", "SSO", "Token")
"""Parts of the names of exceptions about credentials."""
_CREDENTIAL_MODULES = ("google.auth", "google.oauth2", "oauthlib", "azure.identity")
_HIDDEN = r"(?!\*\*\*)"  # by `redact`, which keeps the rest of a query
_ALL_TO_END_OF_LINE = r"(?:authorization|cookie)[\w.-]{0,64}"
_SECRET_NAME = (
    r"(?:key|secret|token|passwo?r?d|passphrase|credential|signature|connection[ _-]?string"
    r"|(?:(?<![a-z])|(?<=%[0-9a-f]{2}))(?:auth|pwd|sas|sig)(?![a-z]))"
    r"(?![\w.]{0,64}(?:error|exception)\b)[\w.-]{0,64}"
)
_EQUALS = (
    r"\\*['\"]?\]?\s*(?:[:=]+>?|%3[ad]|,\s*\\*['\"]?value\\*['\"]?\s*[:=])\s*"
    r"|\\*['\"]\s*,\s*(?=[bru]{0,2}\\*['\"])"
)
"""What is between a name and its value: also ``('name', 'value')`` and ``"name": NAME, "value":``.
Backslashes are before the quotes in a text that is quoted itself."""
_VALUE = (
    r"[bru]{0,2}(?P<quote>\\*(?:\"\"\"|'''|['\"]))(?:(?!(?P=quote))(?:\\.|.))*(?:(?P=quote))?"
    r"|[\[({].*"  # up to the end of the text, because expressions cannot count brackets
    r"|[^\r\n]+"
)
_NAMED_SECRET = re.compile(
    rf"(?is)({_ALL_TO_END_OF_LINE}(?:{_EQUALS})){_HIDDEN}(?:[\[({{].*|[^\r\n]+)"
    rf"|({_SECRET_NAME}(?:{_EQUALS})){_HIDDEN}(?:{_VALUE})"
)
_SCHEME = re.compile(r"(?i)(\b(?:bearer|basic)\s+)\S+")
_PRIVATE_KEY = re.compile(r"(?s)-----BEGIN [\w ]*KEY-----.*?(?:-----END [\w ]*-----|\Z)")
_XML_ELEMENT = re.compile(
    r"<(?!(?:Code|Message|RequestId|HostId|Region|Endpoint)>)([A-Z]\w*)>[^<]*"
)
"""Elements of an error document. S3 quotes the key ID, signature and signed headers of a request
in some of them."""


def is_of_transfer(code: str | None) -> bool:
    """Whether a store's error code says that the bytes changed on their way, or did not all come.

    See https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html.
    """
    return code is not None and code.lower() in _OF_TRANSFERS


def kind_of_response(status: int | None, code: str | None) -> Kind | None:
    """The kind of error for an HTTP status and a store's error code; None without a status.

    The code decides whether a store is full, because statuses differ: QuotaExceeded (Ceph, with
    403), EntityTooLarge (S3, with 400), XMinioStorageFull (MinIO). See also RFC 9110 and RFC 4918.
    """
    if code is not None and any(word in code.lower() for word in _NO_ROOM_CODES):
        return NoRoomError
    if is_of_transfer(code):
        return ServerError
    if code in _ARCHIVED:
        return ArchivedError
    if status is None:
        return None
    return _KIND_OF_STATUS.get(status, StorageError if 400 <= status < 500 else ServerError)


def most_specific(kinds: Iterable[Kind | None]) -> Kind | None:
    """The kind of error to raise where an exception has the marks of several."""
    present = set(kinds)
    return next((kind for kind in _MESSAGES if kind in present), None)


def storage_error(
    kind: Kind,
    url: str,
    action: str,
    detail: str,
    cause: str | None = None,
    *,
    status: int | None = None,
) -> StorageError:
    """An error of a kind, with its usual message.

    Parameters
    ----------
    kind : type
        `StorageError`, or a subclass of it.
    url : str
        The object, without credentials.
    action : str
        The request: ``"read"``, ``"write"`` or ``"delete"``.
    detail : str
        What the server or the operating system reported, beginning with a space; may be empty.
    cause : str, optional
        See `cause_text`.
    status : int, optional
        HTTP status of the response, if there was one.
    """
    text = _MESSAGES[kind].format(url=url, action=action, detail=detail)
    text += _OF_A_PROXY if status == 407 else ""
    error = kind(text, url=url, cause=cause)
    if isinstance(error, ServerError):
        error.is_answered = status is not None and status not in _OF_GATEWAYS
        error.is_throttled = status in _TOO_MANY
    return error


def without_answer(text: str, server: str | None) -> tuple[Kind, str] | None:
    """The kind of error, and its detail, of a request that got no answer.

    Parameters
    ----------
    text : str
        Texts and types of a library's exceptions.
    server : str, optional
        Host and port.

    Returns
    -------
    tuple or None
        None if the text says nothing of the connection.
    """
    of_server = f": {server}" if server else ""
    certificate = _CERTIFICATE.search(text)
    if certificate is not None:
        reason = (certificate[1] or certificate[2] or "").strip()
        lowered = reason.lower()
        advice = next((advice for mark, advice in _OF_CERTIFICATES if mark in lowered), _TRUST)
        return CertificateError, f" ({reason}{of_server}); {advice}"
    lowered = text.lower()
    meaning = next((meaning for mark, meaning in _NO_ANSWER if mark in lowered), None)
    return None if meaning is None else (ServerError, f" ({meaning}{of_server})")


_CERTIFICATE = re.compile(
    r"InvalidCertificate\(\s*(\w+)"
    r"|CERTIFICATE_VERIFY_FAILED\W+(?:certificate verify failed: )?([\w ,.'-]*)"
)
"""As rustls and OpenSSL say that they do not trust a certificate, and why."""
_OF_CERTIFICATES = (
    ("expired", "it has expired, unless the clock of this machine is wrong"),
    ("notvalidyet", "it is not valid yet, unless the clock of this machine is wrong"),
    ("not yet valid", "it is not valid yet, unless the clock of this machine is wrong"),
    ("notvalidforname", "it is for another host: check the endpoint"),
    ("mismatch", "it is for another host: check the endpoint"),
)
_TRUST = (
    "set the environment variable SSL_CERT_FILE or AWS_CA_BUNDLE to a PEM file with the certificate"
    " of the authority that signed it, as networks with their own authority need it"
)
_NO_ANSWER = (
    ("invalidcontenttype", "it does not answer with TLS, so the endpoint may be an http:// one"),
    ("wrong_version_number", "it does not answer with TLS, so the endpoint may be an http:// one"),
    ("proxyauth", "the proxy asks for credentials"),
    ("tunnelunsuccessful", "the proxy did not connect to the server"),
    ("proxyconnectionerror", "no connection to the proxy"),
    ("refused", "connection refused"),
    ("dnserror", "no such host"),
    ("dns error", "no such host"),
    ("gaierror", "no such host"),
    ("failed to resolve", "no such host"),
    ("timed out", "no response in time"),
    ("timeout", "no response in time"),
    ("decoding response body", "the response broke off"),
    ("disconnected", "the response broke off"),
    ("incomplete", "the response broke off"),
    ("payload", "the response broke off"),
    ("connectionreset", "the connection was reset"),
    ("connection reset", "the connection was reset"),
    ("connect", "no connection"),
)
"""Words in the types and texts of exceptions about requests without an answer."""


def refuses_conditions(status: int | None, text: str) -> bool:
    """Whether a server refused a PUT because it does not know its condition.

    RFC 9110 has 501 for what a server does not support; others answer 400 and name the header.
    """
    return status == 501 or (status == 400 and _CONDITION.search(text) is not None)


def may_refuse_checksum(status: int | None, code: str | None) -> bool:
    """Whether a server may have refused the header with a checksum, rather than the object."""
    return status in (400, 501) and not is_of_transfer(code)


def not_conditional(url: str) -> NotConditionalError:
    """The error for a store that refuses conditions."""
    return NotConditionalError(
        f"cannot create {url}: the store does not support conditional writes (If-None-Match)",
        url=url,
    )


def cause_text(exc: BaseException) -> str:
    """Type and text of a library's exception, without credentials.

    Only the type for a ValueError, because HTTP clients quote an invalid header, and for an
    exception about credentials, which may hold the answer of a token server.
    """
    name = type(exc).__name__
    if isinstance(exc, ValueError) or is_about_credentials(exc):
        return name
    return f"{name}: {hide_secrets(str(exc))}"[:_LONGEST_CAUSE]


def is_about_credentials(exc: BaseException) -> bool:
    """Whether an exception comes from a library, or has the name of one, for credentials."""
    return any(mark in type(exc).__name__ for mark in CREDENTIAL_NAMES) or any(
        base.__module__.startswith(_CREDENTIAL_MODULES) for base in type(exc).__mro__
    )


def hide_secrets(text: str) -> str:
    """Remove credentials from a library's text: what `redact` removes, and secrets by their names.

    A value without quotes is removed up to the end of its line: it may hold any character.
    """
    text = redact(_PRIVATE_KEY.sub("***", text))
    text = _SCHEME.sub(r"\1***", _NAMED_SECRET.sub(_hide_value, text))
    return _XML_ELEMENT.sub(r"<\1>***", text)


def _hide_value(secret: re.Match[str]) -> str:
    return f"{secret[1] or secret[2]}***"
