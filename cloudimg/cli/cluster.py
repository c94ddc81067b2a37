"""The commands ``cloudimg cluster up``, ``status`` and ``down``."""

from __future__ import annotations

import argparse
from typing import Any

from cloudimg.cli.messages import ProgressLine, notice, printable
from cloudimg.errors import ClusterError, counted


def up(args: argparse.Namespace) -> str:
    """Start a cluster that keeps running after the command."""
    from cloudimg import cluster

    cluster.up(args.cluster, args.workers, job=args.job, say=notice)
    return (
        f"{args.job} is running; use it with: cloudimg migrate SRC DST --cluster {args.cluster}"
        f" --job {args.job}"
    )


def status(args: argparse.Namespace) -> str:
    """Describe what is running of a cluster."""
    from cloudimg import cluster

    addresses, fleet = cluster.status(args.cluster, job=args.job)
    if addresses is None:
        lines = ["scheduler: starting"]
    else:
        lines = [
            f"scheduler: {addresses.client or f'{addresses.workers} (inside its network only)'}"
        ]
    lines.append(f"workers: {fleet.n_running} running, {fleet.n_starting} starting")
    if addresses is not None and args.ask:
        try:
            with cluster.connect(args.cluster, job=args.job) as client:
                lines += _connected_workers(client.scheduler_info(n_workers=-1))
        except ClusterError as exc:
            lines.append(f"problem: {exc}")
    return "\n".join([*lines, *(f"problem: {each}" for each in fleet.problems)])


def _connected_workers(info: dict[str, Any]) -> list[str]:
    from dask.utils import format_bytes

    workers = info["workers"].values()
    threads = sum(worker["nthreads"] for worker in workers)
    memory = sum(worker["memory_limit"] or 0 for worker in workers)
    return [
        f"connected: {counted(len(workers), 'worker')}, {counted(threads, 'thread')},"
        f" {format_bytes(memory)} of memory"
    ]


def down(args: argparse.Namespace) -> str:
    """Stop a cluster."""
    from cloudimg import cluster

    cluster.down(args.cluster, job=args.job)
    return f"{args.job} is stopped"


def run_cluster(args: argparse.Namespace, progress: ProgressLine) -> None:
    """``cloudimg cluster up``, ``status`` and ``down``."""
    for line in args.act(args).splitlines():
        print(printable(line))


def add_cluster(parser: argparse.ArgumentParser, debug: argparse.ArgumentParser) -> None:
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
        verb = verbs.add_parser(run.__name__, parents=[debug], help=about)
        verb.add_argument(
            "cluster",
            metavar="FILE",
            help="Terraform output cloudimg_cluster, or folder of the module",
        )
        verb.add_argument("--job", metavar="NAME", default="main",
            help="name of the cluster; default: %(default)s")  # fmt: skip
        verb.set_defaults(run=run_cluster, act=run)
        if run is up:
            verb.add_argument("--workers", metavar="N", type=int, required=True,
                help="number of workers")  # fmt: skip
        if run is status:
            verb.add_argument("--no-ask", dest="ask", action="store_false",
                help="do not connect to the scheduler")  # fmt: skip
