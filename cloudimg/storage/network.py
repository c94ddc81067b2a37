"""What the environment says about the network: authorities of certificates, and proxies.

obstore reads the variables for proxies, and ``SSL_CERT_FILE``; botocore those for proxies, AWS's
and those of requests for authorities; aiohttp by itself only ``SSL_CERT_FILE``. Here all ways learn
all of them: what a user has set for one tool is meant for the network, not for that tool.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cloudimg.errors import ArgumentError

AUTHORITIES = ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")
"""Variables that name a file with certificates of authorities to trust, in the order in which
botocore prefers them; the last one is OpenSSL's."""
VARIABLES = (*AUTHORITIES, "SSL_CERT_DIR", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
"""All variables that requests depend on; names of those for proxies may be in lower case."""


def authorities() -> list[Path]:
    """Files with certificates of authorities that the environment names.

    Raises
    ------
    ArgumentError
        If one of these files does not exist.
    """
    found = []
    for name in AUTHORITIES:
        path = Path(os.environ.get(name, ""))
        if not os.environ.get(name) or path.is_dir():  # of requests: OpenSSL's folder of hashes
            continue
        if not path.is_file():
            raise ArgumentError(
                f"the environment variable {name} names {path}, which does not exist: it must be a"
                " PEM file with the certificates of the authorities to trust"
            )
        if path not in found:
            found.append(path)
    return found


def root_certificates(configured: str | None = None) -> dict[str, bytes]:
    """The option of obstore's client with the authorities to trust beside those of the system.

    Parameters
    ----------
    configured : str, optional
        One more file, from a configuration.
    """
    paths = authorities()
    if configured and Path(configured) not in paths:
        paths.append(Path(configured))
    return {"root_certificate": b"\n".join(map(Path.read_bytes, paths))} if paths else {}


def http_options(url: str) -> dict[str, Any]:
    """Options of fsspec's http filesystem, which it passes on with each request to a server."""
    options: dict[str, Any] = {}
    context = _ssl_context() if url.startswith("https") else None
    if context is not None:
        options["ssl"] = context
    proxy = proxy_of(url)
    return options | ({"proxy": proxy} if proxy else {})


def session_options(url: str, loop: Any) -> dict[str, Any]:
    """Arguments of the session of aiohttp that gcsfs makes for requests to a server."""
    import aiohttp

    options: dict[str, Any] = {}
    context = _ssl_context() if url.startswith("https") else None
    if context is not None:
        options["connector"] = aiohttp.TCPConnector(ssl=context, loop=loop)
    proxy = proxy_of(url)
    return options | ({"proxy": proxy} if proxy else {})


def _ssl_context() -> Any:
    """What aiohttp trusts where a variable names authorities: by itself it asks when imported."""
    if not any(os.environ.get(name) for name in AUTHORITIES):
        return None
    import ssl

    context = ssl.create_default_context()
    for path in authorities():
        try:
            context.load_verify_locations(path)
        except ssl.SSLError:
            failure = ArgumentError(f"{path} is not a PEM file with certificates of authorities")
        else:
            continue
        raise failure
    return context


def botocore_options(client_kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """An argument of botocore's clients: OpenSSL's variable, where they have none of their own."""
    if "verify" in client_kwargs or str(client_kwargs.get("endpoint_url")).startswith("http:"):
        return {}
    found = authorities()
    has_own = any(os.environ.get(name) for name in AUTHORITIES[:-1])
    return {"verify": str(found[0])} if found and not has_own else {}


def way_to(url: str) -> str:
    """Host and port of a server, and the proxy that leads to it, for messages."""
    parts = urlsplit(url)
    port = parts.port or {"https": 443, "http": 80}.get(parts.scheme)
    proxy = (_proxy_of(url) or "").rpartition("@")[2].rpartition("://")[2].rstrip("/")
    return f"{parts.hostname}:{port}" + (f", through the proxy {proxy}" if proxy else "")


def proxy_of(url: str) -> str | None:
    """The proxy for requests to a server, if the environment or the system names one.

    By ``http_proxy``, ``https_proxy``, ``all_proxy`` and ``no_proxy``, in either case.

    Raises
    ------
    ArgumentError
        If its password has a character that ends the host of a URL: others would show parts of it.
    """
    proxy = _proxy_of(url)
    if proxy is not None and "@" in proxy and "@" not in urlsplit(proxy).netloc:
        raise ArgumentError(
            f"the user name or the password of the proxy for {urlsplit(url).scheme} has one of the"
            " characters / ? #, which end the host of a URL: write them as %2F, %3F and %23"
        )
    return proxy


def _proxy_of(url: str) -> str | None:
    from urllib.request import getproxies, proxy_bypass  # which imports ssl

    parts = urlsplit(url)
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or not parts.hostname or proxy_bypass(parts.hostname):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"
