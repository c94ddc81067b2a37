"""The certificates of a job: which of its roles may be the server and the client of which."""

from __future__ import annotations

import ssl
from typing import Any

import pytest

from cloudimg.cluster.tls import JobTls, Tls

JOB, OTHER = JobTls.make(), JobTls.make()


def is_accepted(client: Tls, server: Tls) -> bool:
    """Whether both sides of a connection accept the other, with the contexts that Dask makes."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    contexts: list[Any] = [
        client.security().get_connection_args("client")["ssl_context"],
        server.security().get_listen_args("client")["ssl_context"],
    ]
    sides = [
        contexts[0].wrap_bio(to_client, to_server, server_side=False),
        contexts[1].wrap_bio(to_server, to_client, server_side=True),
    ]
    try:
        for _ in range(10):
            for side in sides:
                try:
                    side.do_handshake()
                except ssl.SSLWantReadError:
                    continue
        # TLS 1.3: the client learns with the first answer that the server refuses it.
        sides[1].write(b"x")
        return bool(sides[0].read(1) == b"x")
    except ssl.SSLError:
        return False


@pytest.mark.parametrize(
    ("client", "server", "expected"),
    [
        (JOB.client, JOB.scheduler, True),
        (JOB.worker, JOB.scheduler, True),
        (JOB.worker, JOB.worker, True),
        (JOB.scheduler, JOB.worker, True),
        (JOB.client, JOB.worker, False),  # a worker in the place of the scheduler
        (JOB.worker, JOB.client, False),
        (JOB.scheduler, JOB.client, False),
        (JOB.client, OTHER.scheduler, False),
        (OTHER.client, JOB.scheduler, False),
        (OTHER.worker, JOB.worker, False),
        (JOB.scheduler, OTHER.worker, False),
    ],
)
def test_who_talks_to_whom(client: Tls, server: Tls, *, expected: bool) -> None:
    assert is_accepted(client, server) is expected
