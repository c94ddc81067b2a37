"""The commands that write: ``cloudimg migrate``, ``verify`` and ``export``."""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import re
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from cloudimg.cli.stores import (
    add_opening,
    add_store,
    file_options,
    json_object,
    target_options,
    url_options,
)
from cloudimg.errors import ArgumentError, CloudimgError

if TYPE_CHECKING:
    from cloudimg.migration.progress import Advance

_CONNECT_S = 20
_COMES_S = 5
Line = Callable[[str], None]
"""Shows a line that is written again and again; "" takes it away."""


def migrate(args: argparse.Namespace, line: Line) -> Iterator[str]:
    """Lines that report what ``cloudimg migrate`` did."""
    import cloudimg

    planned: Any = {
        "zarr_format": args.zarr_format,
        "chunks": _extents(args.chunks),
        "shards": _extents(args.shards),
        "levels": args.levels,
        "factors": _steps(args.factors),
        "downsampling": args.downsampling,
        "codec": _codec(args.codec),
        "name": args.name,
        "max_mem": args.max_mem,
        **file_options(args),
    }
    if args.dry_run:
        found = cloudimg.dry_run(
            args.url, storage_options=url_options(args), prices=dict(args.price), **planned
        )
        yield from [json.dumps(found.to_json())] if args.json else found.lines()
        return
    if args.json or args.price:
        raise ArgumentError("--json and --price go with --dry-run")
    with _client(args, line) as client:
        done = cloudimg.migrate(
            args.url,
            args.out,
            source_options=url_options(args),
            target_options=target_options(args),
            overwrite=args.overwrite,
            resume=args.resume,
            client=client,
            progress=_shown(line),
            **planned,
        )
        yield str(done)  # before a cluster is ended, which may fail


def verify(args: argparse.Namespace, line: Line) -> Iterator[str]:
    """Lines that report what ``cloudimg verify`` found.

    Raises
    ------
    CloudimgError
        At the end, if there is any problem.
    """
    import cloudimg

    storage_options = url_options(args)
    with _client(args, line) as client:
        found = cloudimg.verify(
            args.url,
            against_source=args.against_source,
            sample=args.sample,
            storage_options=storage_options,
            source_options=args.source_options or storage_options,
            max_mem=args.max_mem,
            client=client,
            progress=_shown(line),
        )
    line("")
    yield str(found)
    if not found:
        raise CloudimgError(f"{found.n_problems} problems in {found.url}")


def export(args: argparse.Namespace, line: Line) -> Iterator[str]:
    """Lines that report what ``cloudimg export`` did."""
    import cloudimg

    count = cloudimg.export(
        args.url,
        args.out,
        layout=args.layout,
        compression=None if args.compression == "none" else args.compression,
        overwrite=args.overwrite,
        source_options=url_options(args),
        target_options=target_options(args),
        progress=lambda what, count: line(f"{what}: {count}"),
    )
    yield f"{count} files written to {args.out}"


def _shown(line: Line) -> Callable[[Advance], None]:
    def show(advance: Advance) -> None:
        if advance.note:
            line("")
            print(f"cloudimg: {advance.note}", file=sys.stderr)
        else:
            line(advance.line())

    return show


@contextlib.contextmanager
def _client(args: argparse.Namespace, line: Line) -> Iterator[Any]:
    """A client of the cluster that shall do the work, or what gives one when it is needed.

    None where this process does it.
    """
    if args.cluster is None:
        if args.workers is not None or args.job is not None:
            raise ArgumentError("--workers and --job go with --cluster")
        with _client_at(args) as client:
            yield client
        return
    if args.scheduler is not None:
        raise ArgumentError("--cluster starts a scheduler of its own: give it or --scheduler")
    if args.workers is None and args.job is None:
        raise ArgumentError(
            "--cluster needs --workers N to start some for this command, or --job NAME to use those"
            " that `cloudimg cluster up` has started"
        )
    from cloudimg import cluster

    def say(text: str) -> None:
        line("")
        print(f"cloudimg: {text}", file=sys.stderr)

    where = cluster.check(args.cluster, workers=args.workers, job=args.job)
    if args.job is None:
        started = cluster.start(where, args.workers, say=say)
    else:
        started = cluster.connect(where, job=args.job, workers=args.workers, say=say)
    with contextlib.ExitStack() as until_done:
        # When there is work for it: a source or a destination that is refused costs nothing.
        yield functools.cache(lambda: until_done.enter_context(started))


@contextlib.contextmanager
def _client_at(args: argparse.Namespace) -> Iterator[Any]:
    """A client of the scheduler at an address; None without one."""
    files = {
        "tls_ca_file": args.tls_ca_file,
        "tls_client_cert": args.tls_cert,
        "tls_client_key": args.tls_key,
    }
    given = {name: path for name, path in files.items() if path is not None}
    if args.scheduler is None:
        if given:
            raise ArgumentError("--tls-ca-file, --tls-cert and --tls-key go with --scheduler")
        yield None
        return
    for path in given.values():
        if not Path(path).is_file():
            raise ArgumentError(f"there is no file {path}")
    try:
        from distributed import Client
        from distributed.security import Security
    except ImportError:
        raise ArgumentError(
            '--scheduler needs the package distributed: pip install "cloudimg-dask[all]"'
        ) from None
    _refuse_silent(args.scheduler)
    # Without files Dask's own configuration says which ones to use.
    security = cast(Any, Security)(**given) if given else None
    try:
        client: Any = cast(Any, Client)(
            args.scheduler, timeout=_CONNECT_S, security=security, set_as_default=False
        )
    except (OSError, ValueError, TypeError) as exc:
        raise CloudimgError(f"no scheduler answers at {args.scheduler}: {exc}") from None
    with client:
        yield client


def _refuse_silent(address: str) -> None:
    """Find out soon whether anything is there, or just comes: Dask would ask for a minute.

    Raises
    ------
    CloudimgError
    """
    match = re.fullmatch(r"(?:tcp|tls)://(?:\[([^]]+)\]|([^:/]+)):(\d+)/?", address)
    if match is None:
        return  # Dask knows others, and says what is wrong with them
    deadline = time.monotonic() + _COMES_S
    while True:
        try:
            socket.create_connection((match[1] or match[2], int(match[3])), _CONNECT_S).close()
        except (OSError, OverflowError) as exc:
            if time.monotonic() > deadline:
                raise CloudimgError(f"no scheduler answers at {address}: {exc}") from None
            time.sleep(_COMES_S / 10)
        else:
            return


# ------------------------------------------------------------------------------------------ parser


def add_migrate(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``cloudimg migrate``."""
    parser.description = (
        "Write what is at a URL (a pattern, a file) to a sharded OME-Zarr. Stopped at any moment,"
        " the same command goes on from there. What exists and is not this migration is left"
        " alone."
    )
    add = parser.add_argument
    add("url", metavar="SRC", help="pattern or file, in any store that fsspec knows")
    add("out", metavar="DST", help="folder for the copy, in S3, Google Cloud, Azure or a local one")
    add(
        "--dry-run",
        action="store_true",
        help="report planned reads, writes and cost; write nothing",
    )
    add("--json", action="store_true", help="with --dry-run: print one JSON object")
    add("--price", metavar="KIND=DOLLARS", type=_price, nargs="+", action="extend", default=[],
        help="of a thousand requests, as in put=0.005")  # fmt: skip
    add("--zarr-format", type=int, choices=[3, 2], default=3,
        help="3: OME-Zarr 0.5 with shards; 2: OME-Zarr 0.4, for older viewers")  # fmt: skip
    add("--chunks", metavar="AXIS=N,...", type=_by_axis, help="what viewers read; N is for y and x")
    add("--shards", metavar="AXIS=N,...", type=_by_axis, help="what is stored as one object")
    add("--levels", metavar="N", type=int, help="resolution levels, the full one too")
    add("--factors", metavar="AXIS=N,...", type=_by_axis, action="append",
        help="from each level to the next; once, or once for each step")  # fmt: skip
    add("--downsampling", choices=["mean", "nearest", "mode"],
        help="mean for images, the others for labels")  # fmt: skip
    add("--codec", metavar="NAME[:LEVEL]", help="blosc, zstd, none, or JSON as in Zarr 3")
    add("--name", metavar="TEXT", help="of the image, for viewers")
    add("--overwrite", action="store_true", help="delete what is at DST if it is something else")
    add("--no-resume", dest="resume", action="store_false",
        help="refuse to go on with what was interrupted")  # fmt: skip
    add("--target-options", metavar="JSON", type=json_object, default={},
        help="fsspec's options for DST; by default those of SRC where both have one protocol")  # fmt: skip
    _add_work(parser)
    add_opening(parser, missing="raise", options_name="--source-options")


def add_verify(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``cloudimg verify``."""
    parser.description = (
        "Read a copy again, all of it, and prove that it is whole and right, or list what is not."
        " Ends with 1 if anything is wrong."
    )
    add = parser.add_argument
    add("url", metavar="DST", help="what cloudimg migrate wrote")
    add("--against-source", action="store_true", help="compare the pixels with the source's")
    add("--sample", metavar="N", type=_sample,
        help="of how many cells, or of which part of them, as in 0.1")  # fmt: skip
    add("--source-options", metavar="JSON", type=json_object, default={},
        help="fsspec's options for the source; those of DST without them")  # fmt: skip
    _add_work(parser)
    add_store(parser)


def add_export(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``cloudimg export``."""
    parser.description = (
        "Make TIFF files of a copy again: the files that it was made of, by their names, or one"
        " OME-TIFF for each image."
    )
    add = parser.add_argument
    add("url", metavar="DST", help="what cloudimg migrate wrote")
    add("out", metavar="FOLDER", help="for the files, in any store that can be written to")
    add("--layout", choices=["originals", "ome-tiff"], default="originals")
    add("--compression", choices=["zlib", "zstd", "lzw", "lzma", "packbits", "none"],
        default="zlib", help="default: %(default)s")  # fmt: skip
    add("--overwrite", action="store_true", help="replace files that are there")
    add("--target-options", metavar="JSON", type=json_object, default={},
        help="fsspec's options for FOLDER; by default those of DST where both have one"
        " protocol")  # fmt: skip
    add_store(parser, "--source-options")


def _add_work(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--max-mem", metavar="SIZE", help="memory for pixels under way, as in 2GB")
    add("--scheduler", metavar="ADDRESS",
        help="have the workers of a Dask cluster do it: tcp://... or tls://...")  # fmt: skip
    for name, what in (("ca-file", "of the authority"), ("cert", "to show"), ("key", "to it")):
        add(f"--tls-{name}", metavar="PEM",
            help=f"for tls://: the {'key' if name == 'key' else 'certificate'} {what}")  # fmt: skip
    add("--cluster", metavar="FILE",
        help="start a cluster in the cloud for this command: the Terraform output cloudimg_cluster,"
        " or the module's folder")  # fmt: skip
    add("--workers", metavar="N", type=int, help="of that cluster; lost ones are replaced")
    add("--job", metavar="NAME", help="use what `cloudimg cluster up` has started there")


def _by_axis(text: str) -> list[tuple[str, int]]:
    if re.fullmatch(r"-?\d+", text):
        return [("", int(text))]
    found = [re.fullmatch(r"(\w+)=(-?\d+)", part) for part in text.split(",")]
    if not all(found):
        raise argparse.ArgumentTypeError("must be AXIS=N, several with commas, as in y=256,x=256")
    return [(match[1], int(match[2])) for match in found if match]


def _extents(found: list[tuple[str, int]] | None) -> Any:
    if found is None:
        return None
    return found[0][1] if found[0][0] == "" else dict(found)


def _steps(found: list[list[tuple[str, int]]] | None) -> Any:
    if found is None:
        return None
    steps = [_extents(each) for each in found]
    return steps[0] if len(steps) == 1 else steps


def _codec(text: str | None) -> Any:
    if text is None or not text.lstrip().startswith(("{", "[")):
        return text
    try:
        return json.loads(text)
    except ValueError as exc:
        raise ArgumentError(f"--codec is no JSON: {exc}") from None


def _price(text: str) -> tuple[str, float]:
    match = re.fullmatch(r"(\w+)=(\d+(?:\.\d+)?)", text)
    if match is None:
        raise argparse.ArgumentTypeError("must be KIND=DOLLARS, as in put=0.005")
    return match[1], float(match[2])


def _sample(text: str) -> int | float:
    try:
        value = float(text) if "." in text else int(text)
    except ValueError:
        value = 0
    if value <= 0:
        raise argparse.ArgumentTypeError("must be a number of cells, or a part such as 0.1")
    return value
