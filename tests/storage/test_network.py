"""Networks with authorities of their own and with proxies; what errors say of connections."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cloudimg
from cloudimg.errors import (
    AccessDeniedError,
    ArgumentError,
    CertificateError,
    CloudimgError,
    ServerError,
)
from tests.conftest import WebServer, gcs_place, moto_place
from tests.support import seed
from tests.support.relays import NAME, Authority, Proxy, forward_proxy, tls_relay
from tests.support.servers import S3Account

pytestmark = pytest.mark.slow  # servers behind servers

PIXELS = np.arange(96, dtype=np.uint16).reshape(8, 12)
KINDS = ("s3", "http", "gs")
BUNDLES = ("AWS_CA_BUNDLE", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")


@pytest.fixture(params=["default", "fsspec"], autouse=True)
def backend(request: pytest.FixtureRequest, set_variable: Callable[[str, str], None]) -> str:
    set_variable("CLOUDIMG_BACKEND", "" if request.param == "default" else "fsspec")
    set_variable("CLOUDIMG_ATTEMPTS", "2")
    return str(request.param)


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the machine says of its own network does not matter here."""
    for name in list(os.environ):
        if name in (*BUNDLES, "SSL_CERT_DIR") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@dataclass(frozen=True)
class Servers:
    """One server of each kind, with the same file."""

    endpoints: dict[str, str]
    bucket: str
    options: dict[str, dict[str, Any]] = field(default_factory=dict)

    def open(self, kind: str, endpoint: str | None = None, name: str = "z.tif") -> cloudimg.Image:
        """Open its file at another endpoint than its own, if one is given."""
        endpoint = endpoint or self.endpoints[kind]
        options: dict[str, Any] = {}
        url = f"{endpoint}/{self.bucket}/dir/{name}"
        if kind == "s3":
            url, options = f"s3://{self.bucket}/dir/{name}", S3Account(endpoint).storage_options
        elif kind == "gs":
            url = f"gs://{self.bucket}/dir/{name}"
            options = {"endpoint_url": endpoint, "token": "anon"}
        return cloudimg.open(url, storage_options=options)

    def read(self, kind: str, endpoint: str | None = None) -> bool:
        return np.array_equal(self.open(kind, endpoint).read(), PIXELS)


@pytest.fixture
def servers(request: pytest.FixtureRequest, bucket: str) -> Iterator[Servers]:
    httpd: WebServer = request.getfixturevalue("httpd")
    folder = httpd.root / bucket / "dir"
    folder.mkdir(parents=True)
    (folder / "z.tif").write_bytes(seed.encode(PIXELS))
    with moto_place(request) as s3, gcs_place(request) as gs:
        for place in (s3, gs):
            place.put("z.tif", seed.encode(PIXELS))
        moto, gcs = (request.getfixturevalue(name) for name in ("moto", "gcs"))
        yield Servers({"s3": moto, "http": httpd.endpoint, "gs": gcs}, bucket)
        s3.delete("z.tif")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.make(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    with forward_proxy({}) as proxy:
        for name in ("HTTP_PROXY", "HTTPS_PROXY"):
            monkeypatch.setenv(name, proxy.endpoint)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
        yield proxy


def closed_endpoint() -> str:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return f"127.0.0.1:{taken.getsockname()[1]}"


@pytest.mark.parametrize("kind", KINDS)
def test_authorities_that_the_environment_names(
    servers: Servers, authority: Authority, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    with tls_relay(servers.endpoints[kind], authority) as endpoint:
        host = endpoint.removeprefix("https://")
        with pytest.raises(CertificateError, match=f"{host}.*SSL_CERT_FILE.*PEM") as caught:
            servers.open(kind, endpoint)
        with pytest.raises(CertificateError, match=host):
            servers.open(kind, endpoint, "{z:s}.tif")
        assert "certificate" in str(caught.value)
        assert "attempts" not in str(caught.value)
        for name in BUNDLES:
            with monkeypatch.context() as changed:
                changed.setenv(name, str(authority.bundle))
                assert servers.read(kind, endpoint), name
                assert servers.open(kind, endpoint, "{name:s}.tif").shape == (1, 8, 12)


@pytest.mark.parametrize(
    ("made", "advice"),
    [
        ({"ends_in": timedelta(minutes=-1)}, "it has expired, unless the clock of this machine"),
        ({"names": ["elsewhere"]}, "it is for another host: check the endpoint"),
    ],
    ids=["expired", "of another host"],
)
def test_certificates_that_nothing_makes_right(
    servers: Servers,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    made: dict[str, Any],
    advice: str,
) -> None:
    authority = Authority.make(tmp_path, **made)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.bundle))
    for kind in KINDS:
        with tls_relay(servers.endpoints[kind], authority) as endpoint:
            with pytest.raises(CertificateError, match=advice) as caught:
                servers.open(kind, endpoint)
            assert "PEM" not in str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_proxies(
    servers: Servers,
    authority: Authority,
    proxy: Proxy,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
) -> None:
    plain = servers.endpoints[kind]
    with tls_relay(plain, authority) as encrypted:
        for real in (plain, encrypted):
            scheme, port = real.split("://")[0], real.rsplit(":", 1)[1]
            host = f"{NAME}:{port}"
            proxy.hosts[host] = real
            if scheme == "https":
                monkeypatch.setenv("SSL_CERT_FILE", str(authority.bundle))
            assert servers.read(kind, f"{scheme}://{host}")
            assert f"CONNECT {host}" in proxy.asked if scheme == "https" else proxy.asked
    asked = list(proxy.asked)
    assert servers.read(kind)  # of NO_PROXY
    assert proxy.asked == asked


@pytest.mark.parametrize("kind", KINDS)
def test_connections_that_fail(
    servers: Servers, authority: Authority, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    closed = closed_endpoint()
    for name in ("z.tif", "{z}.tif"):  # which is listed first
        with pytest.raises(ServerError, match=rf"\(connection refused: {closed}\)"):
            servers.open(kind, f"http://{closed}", name)
        with pytest.raises(ServerError, match=r"\(no such host: none.invalid:9000\)"):
            servers.open(kind, "http://none.invalid:9000", name)
    plain = servers.endpoints[kind]
    with pytest.raises(ServerError, match=r"may be an http:// one: 127.0.0.1"):
        servers.open(kind, plain.replace("http:", "https:"))
    monkeypatch.setenv("HTTP_PROXY", f"http://me:hunter2@{closed}")
    with pytest.raises(ServerError, match=f"proxy.*{closed}") as caught:
        servers.open(kind, f"http://{NAME}:80")
    assert "hunter2" not in f"{caught.value} {caught.value.cause}"


@pytest.mark.parametrize("kind", KINDS)
def test_a_proxy_that_asks_for_credentials(
    servers: Servers, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    proxy.credentials = "me:hunter2"
    host = f"{NAME}:{servers.endpoints[kind].rsplit(':', 1)[1]}"
    proxy.hosts[host] = servers.endpoints[kind]
    with pytest.raises(AccessDeniedError, match="the proxy asks for credentials: set HTTPS_PROXY"):
        servers.open(kind, f"http://{host}")
    monkeypatch.setenv("HTTP_PROXY", proxy.endpoint.replace("://", "://me:hunter2@"))
    image = servers.open(kind, f"http://{host}")
    assert "hunter2" not in f"{image!r} {image.to_dask().dask}"


@pytest.mark.long
@pytest.mark.parametrize("kind", ["s3", "http"])
@pytest.mark.parametrize("password", ["hun/ter2", "hun#ter2", "hun?ter2"])
def test_a_proxy_whose_password_ends_its_host(
    servers: Servers, monkeypatch: pytest.MonkeyPatch, kind: str, password: str
) -> None:
    """No part of it is shown as that of a host."""
    monkeypatch.setenv("HTTP_PROXY", f"http://me:{password}@127.0.0.1:9")
    for name in ("z.tif", "%2Fz.tif"):  # which other libraries request from web servers
        with pytest.raises(CloudimgError) as caught:
            servers.open(kind, f"http://{NAME}:80", name)
        assert "hun" not in f"{caught.value} {caught.value.cause}"
        assert "me:" not in f"{caught.value} {caught.value.cause}"


def test_a_bundle_that_does_not_exist(
    servers: Servers, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "none.pem"))
    for kind in KINDS:
        with pytest.raises(ArgumentError, match=r"AWS_CA_BUNDLE names .*none.pem, which does not"):
            servers.open(kind, "https://127.0.0.1:9")
