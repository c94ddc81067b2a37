"""The Dask cluster that does a command's work: its options, and a client of it."""

from __future__ import annotations

import argparse
import contextlib
import functools
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from cloudimg.cli.session import Session
from cloudimg.errors import ArgumentError, ClusterError
from cloudimg.storage import redact

_CONNECT_TIMEOUT_S = 20
_REFUSED_FOR_S = 5
"""How long to retry while connections are refused: the scheduler may be starting."""


def add_cluster_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose a cluster and limit memory."""
    add = parser.add_argument
    add("--max-mem", metavar="SIZE", help="memory for pixels in flight, such as 2GB")
    add_scheduler_options(parser)
    add("--cluster", metavar="FILE",
        help="start a cluster in the cloud for this command: Terraform output cloudimg_cluster, or"
        " folder of the module")  # fmt: skip
    add("--workers", metavar="N", type=int,
        help="number of workers of that cluster; lost ones are replaced")  # fmt: skip
    add("--job", metavar="NAME", help="use the cluster that `cloudimg cluster up` started")


def add_scheduler_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that name a cluster which is running."""
    add = parser.add_argument
    add("--scheduler", metavar="ADDRESS",
        help="run on the Dask cluster at tcp://... or tls://...; only its workers need to reach the"
        " store, and paths are theirs")  # fmt: skip
    add("--tls-ca-file", metavar="PEM", help="for tls://: certificate of the authority")
    add("--tls-cert", metavar="PEM", help="for tls://: certificate of this client")
    add("--tls-key", metavar="PEM", help="for tls://: key of that certificate")


@contextlib.contextmanager
def client_for(args: argparse.Namespace, session: Session) -> Iterator[Any]:
    """A client of the cluster that does the work, or a function that starts one when called.

    None if this process does the work.

    Raises
    ------
    CloudimgError
    """
    if args.cluster is None:
        if args.workers is not None or args.job is not None:
            raise ArgumentError("--workers and --job need --cluster")
        with client_at(args) as client:
            yield client
        return
    if args.scheduler is not None:
        raise ArgumentError("--cluster starts its own scheduler: pass it or --scheduler, not both")
    if args.workers is None and args.job is None:
        raise ArgumentError(
            "--cluster needs --workers N to start workers for this command, or --job NAME to use"
            " the cluster that `cloudimg cluster up` started"
        )
    from cloudimg import cluster

    where = cluster.check(args.cluster, workers=args.workers, job=args.job)
    if args.job is not None:
        with cluster.connect(
            where, job=args.job, workers=args.workers, say=session.notice
        ) as client:
            yield client
        return
    started = cluster.start(where, args.workers, say=session.notice)
    with contextlib.ExitStack() as until_done:
        # Started when there is work: a source or destination that is rejected then costs nothing.
        yield functools.cache(lambda: until_done.enter_context(started))


@contextlib.contextmanager
def client_at(args: argparse.Namespace) -> Iterator[Any]:
    """A client of the scheduler at ``--scheduler``; None without it."""
    files = {
        "tls_ca_file": args.tls_ca_file,
        "tls_client_cert": args.tls_cert,
        "tls_client_key": args.tls_key,
    }
    given = {name: path for name, path in files.items() if path is not None}
    if args.scheduler is None:
        if given:
            raise ArgumentError("--tls-ca-file, --tls-cert and --tls-key need --scheduler")
        yield None
        return
    for path in given.values():
        if not Path(path).is_file():
            raise ArgumentError(f"no such file: {path}")
    with _connect(args.scheduler, given) as client:
        yield client


def _connect(address: str, tls_files: dict[str, str]) -> Any:
    """Connect to a scheduler.

    Raises
    ------
    ArgumentError
        If Dask's distributed scheduler is not installed.
    ClusterError
        If there is no answer.
    """
    try:
        from distributed import Client
        from distributed.security import Security
    except ImportError as error:
        raise ArgumentError(
            '--scheduler needs the package distributed: pip install "cloudimg-dask[all]"'
        ) from error
    _wait_for_listener(address)
    # Without files, Dask's own configuration decides which ones to use.
    security = cast(Any, Security)(**tls_files) if tls_files else None
    try:
        return cast(Any, Client)(
            address, timeout=_CONNECT_TIMEOUT_S, security=security, set_as_default=False
        )
    except (OSError, ValueError, TypeError) as error:
        problem, kind = redact(str(error)), type(error).__name__
    raise ClusterError(f"no scheduler answers at {address}: {problem}", cause=f"{kind}: {problem}")


def _wait_for_listener(address: str) -> None:
    """Fail after seconds if nothing listens at an address; Dask would retry for a minute.

    Raises
    ------
    ClusterError
    """
    match = re.fullmatch(r"(?:tcp|tls)://(?:\[([^]]+)\]|([^:/]+)):(\d+)/?", address)
    if match is None:
        return  # Dask knows other kinds of addresses, and reports what is wrong with them
    deadline = time.monotonic() + _REFUSED_FOR_S
    while True:
        try:
            socket.create_connection(
                (match[1] or match[2], int(match[3])), _CONNECT_TIMEOUT_S
            ).close()
            return
        except (OSError, OverflowError) as error:
            problem = str(error)
        if time.monotonic() > deadline:
            raise ClusterError(f"no scheduler answers at {address}: {problem}")
        time.sleep(_REFUSED_FOR_S / 10)
