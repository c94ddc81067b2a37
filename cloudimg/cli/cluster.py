"""The commands ``cloudimg cluster up``, ``status`` and ``down``."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from cloudimg.cli.session import Session
from cloudimg.errors import ClusterError, counted


def up(args: argparse.Namespace, session: Session) -> Iterator[str]:
    """Start a cluster that keeps running after the command; yield lines to print."""
    from cloudimg import cluster

    cluster.up(args.cluster, args.workers, job=args.job, say=session.notice)
    session.result({"cluster": args.cluster, "job": args.job, "workers": args.workers})
    yield (
        f"{args.job} is running; use it with: cloudimg migrate SRC DST --cluster {args.cluster}"
        f" --job {args.job}"
    )


def status(args: argparse.Namespace, session: Session) -> Iterator[str]:
    """Describe what is running of a cluster; yield lines to print."""
    from cloudimg import cluster

    addresses, fleet = cluster.status(args.cluster, job=args.job)
    connected: dict[str, int] | None = None
    problems = list(fleet.problems)
    if addresses is not None and args.ask:
        try:
            with cluster.connect(args.cluster, job=args.job) as client:
                connected = _connected_workers(client.scheduler_info(n_workers=-1))
        except ClusterError as exc:
            problems.insert(0, str(exc))
    scheduler = None
    if addresses is not None:
        scheduler = {"client": addresses.client, "workers": addresses.workers}
    session.result(
        {
            "cluster": args.cluster,
            "job": args.job,
            "scheduler": scheduler,
            "workers": {"running": fleet.n_running, "starting": fleet.n_starting},
            "connected": connected,
            "problems": problems,
        }
    )
    where = "starting"
    if addresses is not None:
        where = addresses.client or f"{addresses.workers} (inside its network only)"
    yield f"scheduler: {where}"
    yield f"workers: {fleet.n_running} running, {fleet.n_starting} starting"
    if connected is not None:
        yield _in_words(connected)
    yield from (f"problem: {each}" for each in problems)


def _connected_workers(info: dict[str, Any]) -> dict[str, int]:
    workers = info["workers"].values()
    return {
        "workers": len(workers),
        "threads": sum(worker["nthreads"] for worker in workers),
        "memory_bytes": sum(worker["memory_limit"] or 0 for worker in workers),
    }


def _in_words(connected: dict[str, int]) -> str:
    from dask.utils import format_bytes

    return (
        f"connected: {counted(connected['workers'], 'worker')},"
        f" {counted(connected['threads'], 'thread')},"
        f" {format_bytes(connected['memory_bytes'])} of memory"
    )


def down(args: argparse.Namespace, session: Session) -> Iterator[str]:
    """Stop a cluster; yield lines to print."""
    from cloudimg import cluster

    cluster.down(args.cluster, job=args.job)
    session.result({"cluster": args.cluster, "job": args.job})
    yield f"{args.job} is stopped"


def add_cluster(parser: argparse.ArgumentParser, common: argparse.ArgumentParser) -> None:
    """Arguments of ``cloudimg cluster``."""
    parser.description = (
        "A Dask cluster in the cloud that outlives a command. The scheduler stops after it was idle"
        " for long, and its workers stop with it."
    )
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    for run, about in (
        (up, "start a cluster"),
        (status, "show what is running"),
        (down, "stop it"),
    ):
        verb = verbs.add_parser(run.__name__, parents=[common], help=about)
        verb.add_argument(
            "cluster",
            metavar="FILE",
            help="Terraform output cloudimg_cluster, or folder of the module",
        )
        verb.add_argument("--job", metavar="NAME", default="main",
            help="name of the cluster; default: %(default)s")  # fmt: skip
        verb.set_defaults(run=run, command=f"cluster {run.__name__}")
        if run is up:
            verb.add_argument("--workers", metavar="N", type=int, required=True,
                help="number of workers")  # fmt: skip
        if run is status:
            verb.add_argument("--no-ask", dest="ask", action="store_false",
                help="do not connect to the scheduler")  # fmt: skip
