"""Which server requests for a location go to, so that options are given to that server only.

Options hold credentials, and endpoints that mean other objects under the same names.
"""

from __future__ import annotations

import configparser
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cloudimg.storage.azure_options import account_of, named_by_url
from cloudimg.storage.gcs_options import endpoint_of_gcs
from cloudimg.storage.s3_options import configured_endpoint
from cloudimg.storage.urls import Location

_PORTS = {"http": 80, "https": 443}
AZURE = ("abfs", "abfss", "az")
"""Protocols of Azure Blob Storage, which mean the same."""
_ACCOUNT = re.compile(r"(?i)(?:^|;)AccountName=([^;]+)")


def endpoint_of(location: Location, options: Mapping[str, Any]) -> str | None:
    """Protocol and host of the server that serves a location, without credentials.

    Such as ``s3://127.0.0.1:9000``, or ``s3://amazonaws.com`` for all regions of AWS. None where it
    is not known: for chains of URLs, whose options are nested by protocol, and where the
    configuration cannot be read.

    Parameters
    ----------
    location : Location
    options : mapping
        fsspec's ``storage_options``.
    """
    if location.before or location.after:
        return None
    protocol = "az" if location.protocol in AZURE else location.protocol
    host: str | None = location.root.rpartition("@")[2].lower()
    # Broken files and options of other types than they have: the first request says what is wrong.
    with suppress(OSError, ValueError, TypeError, AttributeError, RuntimeError, configparser.Error):
        given = {**fsspec_configuration(location.protocol), **options}
        if protocol in _PORTS:
            host = _host(f"{protocol}://{location.root}")
        elif protocol == "s3":
            host = _host_of_s3(given)
        elif protocol == "gs":
            host = _host(endpoint_of_gcs(given))
        elif protocol == "az":
            host = _host_of_azure(given, location.root)
        return f"{protocol}://{host}" if host is not None else None
    return None


def fsspec_configuration(protocol: str) -> Mapping[str, Any]:
    """Options for a protocol in fsspec's own configuration, from its files and its variables."""
    folder = Path(os.environ.get("FSSPEC_CONFIG_DIR", "~/.config/fsspec")).expanduser()
    if not folder.is_dir() and not any(name.startswith("FSSPEC_") for name in os.environ):
        return {}  # without importing fsspec
    import fsspec.config

    return dict(fsspec.config.conf.get(protocol) or {})


def _host_of_s3(options: Mapping[str, Any]) -> str | None:
    from botocore.exceptions import BotoCoreError

    url = (options.get("client_kwargs") or {}).get("endpoint_url") or options.get("endpoint_url")
    try:
        url = url or configured_endpoint(options.get("profile"))
    except BotoCoreError:  # such as a profile that does not exist
        return None
    host = _host(url or "https://amazonaws.com")
    # Whatever the region: s3.eu-west-1.amazonaws.com, vpce-1a2b.s3.us-east-1.vpce.amazonaws.com.
    aws = re.search(r"(?:^|\.)(amazonaws\.com(?:\.cn)?)$", host)
    return aws[1] if aws else host


def _host_of_azure(options: Mapping[str, Any], root: str) -> str | None:
    """The account, and the server where that is another one; None if no option names it."""
    account = named_by_url(root)[0] or options.get("account_name")
    given = account_of(options, root)
    if given is None:
        text = options.get("connection_string") or os.environ.get("AZURE_STORAGE_CONNECTION_STRING")
        named = _ACCOUNT.search(text) if text else None
        return (named and named[1]) or account or os.environ.get("AZURE_STORAGE_ACCOUNT_NAME")
    account, url = given["accountname"], given["blobendpoint"]
    host = _host(url)
    return account if host.startswith(f"{account}.blob.core.") else f"{host}/{account}"


def _host(url: str) -> str:
    """Host and port of a URL; the port is omitted where it is the usual one of the protocol."""
    parts = urlsplit(url)
    usual = parts.port in (None, _PORTS.get(parts.scheme))
    return f"{parts.hostname}" if usual else f"{parts.hostname}:{parts.port}"
