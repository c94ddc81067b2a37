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
        """Number of connections, also refused ones, by process; 0 stands for those that are not
        watched."""
        self._watched = [os.getpid()]

    def __enter__(self) -> Self:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._listening.close()

    def watch(self, pid: int) -> None:
        """Count the connections of a process, besides those of this one."""
        self._watched.append(pid)

    def _accept(self) -> None:
        while True:
            try:
                connection, peer = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection, peer), daemon=True).start()

    def _serve(self, connection: socket.socket, peer: tuple[str, int]) -> None:
        with connection:
            ends = (peer, connection.getsockname())
            pid = next((pid for pid in self._watched if _has_connection(pid, ends)), 0)
            self.connections[pid] += 1
            if pid == os.getpid():
                return
            with contextlib.suppress(OSError), socket.create_connection(self._server) as server:
                back = threading.Thread(target=_pump, args=(server, connection), daemon=True)
                back.start()
                _pump(connection, server)
                back.join()


def _has_connection(pid: int, ends: tuple[tuple[str, int], tuple[str, int]]) -> bool:
    """Whether a process has the first end of a connection, and has not closed it yet.

    To look through the descriptors of all processes takes 0.2 s with the interpreter's lock. A
    scheduler in this process would get no turn while its workers connect.
    """
    with contextlib.suppress(psutil.NoSuchProcess):
        found = psutil.Process(pid).net_connections("tcp")
        return any((tuple(each.laddr), tuple(each.raddr)) == ends for each in found)
    return False


def _pump(source: socket.socket, target: socket.socket) -> None:
    """Forward until one side has ended."""
    with contextlib.suppress(OSError):
        while piece := source.recv(_PIECE_BYTES):
            target.sendall(piece)
        target.shutdown(socket.SHUT_WR)
