"""What stands between a client and a server in a company's network: TLS of its own, and a proxy.

Both relay bytes to a server of the tests and change nothing in them. They live in threads of the
test's own process, because they only copy.
"""

from __future__ import annotations

import base64
import contextlib
import datetime
import ipaddress
import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

NAME = "hidden-store"
"""A host that the certificates are for and that only the proxy can find."""


@dataclass(frozen=True, slots=True)
class Authority:
    """An authority that nobody knows, and a server's certificate that it signed."""

    bundle: Path
    """What clients need: the certificate of the authority."""
    server: Path
    """The server's certificate and its key."""

    @classmethod
    def make(
        cls,
        folder: Path,
        names: Sequence[str] = ("localhost", NAME),
        ends_in: datetime.timedelta = datetime.timedelta(days=1),
    ) -> Authority:
        keys = {name: ec.generate_private_key(ec.SECP256R1()) for name in ("authority", "server")}
        made = cls(folder / "authority.pem", folder / "server.pem")
        made.bundle.write_bytes(_certificate("authority", keys))
        key = keys["server"].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        made.server.write_bytes(_certificate("server", keys, names, ends_in) + key)
        return made


def _certificate(
    subject: str,
    keys: dict[str, ec.EllipticCurvePrivateKey],
    names: Sequence[str] = (),
    ends_in: datetime.timedelta = datetime.timedelta(days=1),
) -> bytes:
    is_authority = subject == "authority"
    now = datetime.datetime.now(datetime.UTC)
    issued_by = keys["authority"].public_key()
    builder = x509.CertificateBuilder(
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority")]),
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]),
        keys[subject].public_key(),
        x509.random_serial_number(),
        now - datetime.timedelta(hours=1),
        now + ends_in,
    )
    builder = builder.add_extension(x509.BasicConstraints(is_authority, None), critical=True)
    builder = builder.add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(issued_by), critical=False
    )
    builder = builder.add_extension(
        x509.SubjectKeyIdentifier.from_public_key(keys[subject].public_key()), critical=False
    )
    if is_authority:
        usage = x509.KeyUsage(*([False] * 5), True, *([False] * 3))
        builder = builder.add_extension(usage, critical=True)
    else:
        of: list[x509.GeneralName] = [x509.DNSName(name) for name in names]
        if "localhost" in names:
            of.append(x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
        builder = builder.add_extension(x509.SubjectAlternativeName(of), critical=False)
    return builder.sign(keys["authority"], hashes.SHA256()).public_bytes(Encoding.PEM)


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 512

    def handle_error(self, *_: Any) -> None:
        """Say nothing of clients that hang up, as those do that trust nobody."""


@contextmanager
def _serving(handler: type[socketserver.BaseRequestHandler]) -> Iterator[int]:
    with _Server(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_RDWR)


def _join(client: socket.socket, upstream: tuple[str, int], first: bytes = b"") -> None:
    """Copy bytes both ways until one side ends."""
    with socket.create_connection(upstream) as server:
        server.sendall(first)
        back = threading.Thread(target=_copy, args=(server, client), daemon=True)
        back.start()
        _copy(client, server)
        back.join()


def _address(endpoint: str) -> tuple[str, int]:
    parts = urlsplit(endpoint)
    assert parts.hostname is not None
    assert parts.port is not None
    return parts.hostname, parts.port


@contextmanager
def tls_relay(upstream: str, authority: Authority) -> Iterator[str]:
    """An https endpoint in front of an http one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.server)

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with context.wrap_socket(self.request, server_side=True) as client:
                _join(client, _address(upstream))

    with _serving(Handler) as port:
        yield f"https://127.0.0.1:{port}"


@dataclass
class Proxy:
    """A forward proxy that knows the hosts which nobody else can find."""

    endpoint: str = ""
    hosts: dict[str, str] = field(default_factory=dict)
    """Where requests to ``host:port`` really go."""
    credentials: str = ""
    """User and password that it asks for, if any."""
    asked: list[str] = field(default_factory=list)
    """What clients asked for, by method: ``CONNECT host:port``, ``GET http://host:port``."""


@contextmanager
def forward_proxy(hosts: dict[str, str]) -> Iterator[Proxy]:
    """A proxy for http (RFC 9112, section 3.2.2) and, by CONNECT, for https."""
    proxy = Proxy(hosts=hosts)

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            head = b""
            while b"\r\n\r\n" not in head:
                head += self.request.recv(1 << 16)
            method, target, _ = head.split(b" ", 2)
            text = target.decode()
            host = text if method == b"CONNECT" else urlsplit(text).netloc
            proxy.asked.append(f"{method.decode()} {text if method == b'CONNECT' else host}")
            given = base64.b64encode(proxy.credentials.encode())
            if proxy.credentials and given not in head:
                self._refuse(b"407 Proxy Authentication Required", b"Proxy-Authenticate: Basic\r\n")
                return
            if host not in proxy.hosts:
                self._refuse(b"502 Bad Gateway")
                return
            upstream = _address(proxy.hosts[host])
            if method == b"CONNECT":
                self.request.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                _join(self.request, upstream)
            else:
                # One request a connection, so that only its first line names the host.
                head = head.replace(f"http://{host}".encode(), b"", 1)
                head = head.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
                _join(self.request, upstream, head)

        def _refuse(self, status: bytes, header: bytes = b"") -> None:
            self.request.sendall(
                b"HTTP/1.1 %b\r\n%bContent-Length: 0\r\nConnection: close\r\n\r\n"
                % (status, header)
            )

    with _serving(Handler) as port:
        proxy.endpoint = f"http://127.0.0.1:{port}"
        yield proxy
