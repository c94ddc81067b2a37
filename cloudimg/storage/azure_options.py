"""Translation of adlfs's options and of its environment variables into arguments of obstore.

What they mean is documented by adlfs (https://github.com/fsspec/adlfs) and, for connection strings,
at https://learn.microsoft.com/en-us/azure/storage/common/storage-configure-connection-string. If an
option has no exact counterpart, `translate` returns None, and adlfs makes the requests.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from cloudimg.errors import ArgumentError

_IGNORED = {
    # Options of adlfs about files, caches and uploads, which do not affect reading by ranges.
    *("assume_container_exists", "asynchronous", "blocksize", "default_cache_type"),
    *("default_fill_cache", "listings_expiry_time", "max_concurrency", "max_paths"),
    *("skip_instance_cache", "use_listings_cache"),
}
_MAPPED = {"account_host", "account_key", "account_name", "anon", "connection_string", "sas_token"}
_OF_STRINGS = {
    *("accountkey", "accountname", "blobendpoint", "defaultendpointsprotocol", "endpointsuffix"),
    *("fileendpoint", "queueendpoint", "sharedaccesssignature", "tableendpoint"),
}
_HOST = re.compile(
    r"(?i)(?:(?P<container>[^@/]+)@)?(?P<account>[^@/]+)\.(?:blob|dfs)\.core\.windows\.net"
)
"""In place of the container: ``container@account.dfs.core.windows.net``."""


@dataclass(frozen=True, slots=True)
class AzureSettings:
    """The arguments of an obstore client of one container."""

    account: str
    container: str
    endpoint: str
    credential: dict[str, Any] | None = field(repr=False)
    """A key or a shared access signature; None: requests are not signed."""


def translate(options: Mapping[str, Any], root: str) -> AzureSettings | None:
    """Settings for one container, or None if only adlfs can apply the options.

    Parameters
    ----------
    options : mapping
        Options of adlfs.
    root : str
        What URLs name behind ``az://``: a container, or also the account.

    Raises
    ------
    ArgumentError
        If no request can be signed with the key.
    """
    account, container = named_by_url(root)
    given = account_of(options, root)
    is_known = {name for name, value in options.items() if value is not None} <= _IGNORED | _MAPPED
    # obstore would encrypt with this key, and adlfs knows nothing of it.
    if given is None or container is None or not is_known or "AZURE_ENCRYPTION_KEY" in os.environ:
        return None
    if account is not None and options.get("account_name") not in (None, account):
        return None
    credential = _credential(given)
    if credential is None and not given.get("anon"):
        return None
    return AzureSettings(given["accountname"], container, given["blobendpoint"], credential)


def named_by_url(root: str) -> tuple[str | None, str | None]:
    """The account and the container that a URL names, whose first part is given."""
    match = _HOST.fullmatch(root)
    return (None, root) if match is None else (match["account"], match["container"])


def account_of(options: Mapping[str, Any], root: str = "") -> dict[str, Any] | None:
    """What options and environment say of the account, by the names of connection strings.

    None where adlfs decides: accounts with other ways to sign requests, and broken strings. There
    is always a ``blobendpoint`` and an ``accountname``; ``anon`` is set for unsigned requests.
    """
    text = _given(options, "connection_string")
    if text:
        return _of_string(str(text))
    if _given(options, "client_id") or options.get("credential") is not None:
        return None
    account = named_by_url(root)[0] or _given(options, "account_name")
    if not account:
        return None
    host = options.get("account_host") or f"{account}.blob.core.windows.net"
    return {
        "accountname": account,
        "blobendpoint": f"https://{host}",
        "accountkey": _given(options, "account_key"),
        "sharedaccesssignature": _given(options, "sas_token"),
        "anon": _is_anonymous(options),
    }


def _given(options: Mapping[str, Any], name: str) -> Any:
    """An option of adlfs, or the variable that it reads in its place."""
    return options.get(name) or os.environ.get(f"AZURE_STORAGE_{name.upper()}")


def _is_anonymous(options: Mapping[str, Any]) -> bool:
    if options.get("anon") is not None:
        return bool(options["anon"])
    return os.environ.get("AZURE_STORAGE_ANON", "").lower() not in ("false", "0", "f", "")


def _of_string(text: str) -> dict[str, Any] | None:
    """The parts of a connection string; None for one that only adlfs understands."""
    pairs = [part.partition("=") for part in text.rstrip(";").split(";")]
    parts: dict[str, Any] = {name.lower(): value for name, _, value in pairs}
    if not set(parts) <= _OF_STRINGS:
        return None
    account = parts.get("accountname")
    if account and not parts.get("blobendpoint"):
        protocol = parts.get("defaultendpointsprotocol") or "https"
        suffix = parts.get("endpointsuffix") or "core.windows.net"
        parts["blobendpoint"] = f"{protocol}://{account}.blob.{suffix}"
    url = urlsplit(parts.get("blobendpoint") or "")
    if url.scheme not in ("http", "https") or not url.hostname or url.query:
        return None
    parts["accountname"] = account or url.hostname.partition(".")[0]
    parts["blobendpoint"] = parts["blobendpoint"].rstrip("/")
    parts["anon"] = True  # where the string has neither key nor signature
    return parts


def _credential(given: Mapping[str, Any]) -> dict[str, Any] | None:
    """The credential in the form that obstore takes it.

    Raises
    ------
    ArgumentError
    """
    key, signature = given.get("accountkey"), given.get("sharedaccesssignature")
    if key:
        try:
            base64.b64decode(key, validate=True)
            return {"access_key": key, "expires_at": None}
        except ValueError:
            pass  # the error is raised below, without this one, which may hold a part of the key
        raise ArgumentError(
            "the key of the Azure account is not base64, so no request can be signed with it: check"
            " where it is read from"
        )
    if signature:
        return {"sas_token": str(signature).lstrip("?"), "expires_at": None}
    return None
