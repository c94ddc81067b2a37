"""A door to a server that some processes may not use, as from a laptop outside the network.

It stands in front of a server on loopback, asks the kernel which process has connected, and counts.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections import Counter
from typing import Self
from urllib.parse import urlsplit

import psutil

_PIECE_BYTES = 2**16


class Gate:
    """Forwards connections to an endpoint, except those of this process; use as context manager.

    Parameters
    ----------
    endpoint : str
        URL of the server.
    """

    def __init__(self, endpoint: str) -> None:
        address = urlsplit(endpoint)
        self._server = (str(address.hostname), int(address.port or 80))
        self.connections: Counter[int] = Counter()
        """Number of connections, also refused ones, by process."""

    def __enter__(self) -> Self:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._listening.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, peer = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection, peer), daemon=True).start()

    def _serve(self, connection: socket.socket, peer: tuple[str, int]) -> None:
        with connection:
            pid = _process_at(peer, connection.getsockname())
            self.connections[pid] += 1
            if pid == os.getpid():
                return
            with contextlib.suppress(OSError), socket.create_connection(self._server) as server:
                back = threading.Thread(target=_pump, args=(server, connection), daemon=True)
                back.start()
                _pump(connection, server)
                back.join()


def _process_at(here: tuple[str, int], there: tuple[str, int]) -> int:
    """The process at one end of a connection."""
    for each in psutil.net_connections("tcp"):
        if each.pid and (tuple(each.laddr), tuple(each.raddr)) == (here, there):
            return int(each.pid)
    return 0  # it has closed the connection


def _pump(source: socket.socket, target: socket.socket) -> None:
    """Forward until one side has ended."""
    with contextlib.suppress(OSError):
        while piece := source.recv(_PIECE_BYTES):
            target.sendall(piece)
        target.shutdown(socket.SHUT_WR)
