"""The arguments of every command; ``args.run`` is the function that executes it."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Sequence
from typing import Any, NoReturn

import cloudimg
from cloudimg.cli import cluster, copies, repairs, retirements
from cloudimg.cli.clients import add_scheduler_options, client_at
from cloudimg.cli.messages import ProgressLine, printable
from cloudimg.cli.stores import add_opening, open_options
from cloudimg.errors import ArgumentError, counted
from cloudimg.opening.keywords import close_matches
from cloudimg.settings import SIZE, parse_bytes
from cloudimg.storage import redact

# Packages that take long to import (Dask, moto) are imported by the command that needs them.

EXAMPLES = """\
examples:
  cloudimg info "s3://lab/exp/mydata_ch{c}_{t}t_{x}x_{y}y_{z}z.tif"
  cloudimg info s3://lab/exp/                  proposes patterns for the files in a folder
  cloudimg info --json --anon s3://open-data/image.ome.tif
  cloudimg preview s3://lab/slide.svs slide.png
  cloudimg migrate "s3://lab/exp/img_{t}_{z}.tif" s3://lab/exp.ome.zarr
  cloudimg verify s3://lab/exp.ome.zarr --against-source
  cloudimg export s3://lab/exp.ome.zarr tiffs
  cloudimg migrate SRC DST --cluster cluster.json --workers 40
  cloudimg demo                                a tour on a built-in S3 server

Credentials, endpoint and region are found as by the AWS and Google Cloud command lines.
exit codes: 0 success, 1 failure, 2 usage error, 130 interrupted
"""


def run_info(args: argparse.Namespace, progress: ProgressLine) -> None:
    """``cloudimg info``."""
    from cloudimg.cli.info import report

    with client_at(args) as client:
        options = {**open_options(args), "client": client}
        for line in report(args.url, as_json=args.json, progress=progress, **options):
            progress.clear()
            print(printable(line))


def run_preview(args: argparse.Namespace, progress: ProgressLine) -> None:
    """``cloudimg preview``."""
    with client_at(args) as client:
        done = cloudimg.preview(
            args.url,
            args.out,
            size=args.size,
            level=args.level,
            index=dict(args.index),
            project=args.project,
            max_bytes=math.inf if args.yes else args.max_bytes,
            client=client,
            progress=progress,
            **open_options(args),
        )
    progress.clear()
    print(printable(str(done)))


def run_demo(args: argparse.Namespace, progress: ProgressLine) -> None:
    """``cloudimg demo``."""
    from cloudimg.cli.demo import run

    run(out=args.out, port=args.port, keep=args.keep)


def run_copies(args: argparse.Namespace, progress: ProgressLine) -> None:
    """``cloudimg migrate``, ``verify``, ``repair``, ``export`` and ``retire``."""
    for text in args.write(args, progress.line):
        progress.clear()
        for line in text.splitlines():
            print(printable(line))


def run_cluster(args: argparse.Namespace, progress: ProgressLine) -> None:
    """``cloudimg cluster up``, ``status`` and ``down``."""
    for line in args.act(args).splitlines():
        print(printable(line))


_LONG_OPTION = re.compile(r"--[a-z][a-z-]*")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        super().error(printable(redact(message)))

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Refuse what this command does not have: a command's parser is called by this method."""
        found, rest = super().parse_known_args(args, namespace)
        if rest:
            self.error(self._unrecognized(rest))
        return found, rest

    def _unrecognized(self, rest: Sequence[str]) -> str:
        """A message that repeats names only: the value after a misspelt option may be a secret."""
        known = sorted({name[2:] for name in _LONG_OPTION.findall(self.format_usage())})
        advice = {}
        for name in dict.fromkeys(text.partition("=")[0] for text in rest if text[:1] == "-"):
            close = [f"--{each}" for each in close_matches(name.lstrip("-"), known)]
            if close or _LONG_OPTION.fullmatch(name) or re.fullmatch("-[A-Za-z]", name):
                advice[name] = f"did you mean {' or '.join(close)}?" if close else ""
        if not advice:
            return counted(len(rest), "argument too many", "arguments too many")
        if len(advice) == 1:
            ((name, text),) = advice.items()
            return f"unrecognized option {name}" + (f"; {text}" if text else "")
        options = (f"{name} ({text})" if text else name for name, text in advice.items())
        return f"unrecognized options {', '.join(options)}"


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse a command line; ``run`` of the result is the function of its command."""
    return _parser().parse_args(argv)


def _parser() -> argparse.ArgumentParser:
    debug = _Parser(add_help=False)
    debug.add_argument(
        "--debug",
        action="store_true",
        default=argparse.SUPPRESS,
        help="show the traceback of an error",
    )
    parser = _Parser(
        prog="cloudimg",
        description=cloudimg.__doc__.split("\n")[0] if cloudimg.__doc__ else None,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[debug],
    )
    parser.add_argument("--version", action="version", version=f"cloudimg {cloudimg.__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_info(commands.add_parser("info", parents=[debug], help="describe what is at a URL"))
    _add_preview(commands.add_parser("preview", parents=[debug], help="write a PNG of one plane"))
    for name, add, about in (
        ("migrate", copies.add_migrate, "write image files to a sharded OME-Zarr; resumable"),
        ("verify", copies.add_verify, "check every byte of a copy"),
        ("repair", repairs.add_repair, "store again what is damaged in a copy"),
        ("export", copies.add_export, "write TIFF files from a copy"),
        ("retire", retirements.add_retire, "tag or move the files that were copied"),
    ):
        command = commands.add_parser(name, parents=[debug], help=about)
        add(command)
        room = {"repair": repairs, "retire": retirements}.get(name, copies)
        command.set_defaults(run=run_copies, write=getattr(room, name))
    command = commands.add_parser(
        "cluster", help="start, inspect and stop a Dask cluster in the cloud"
    )
    cluster.add_cluster(command, debug)
    command.set_defaults(run=run_cluster)
    _add_demo(commands.add_parser("demo", parents=[debug], help="a tour that needs no set-up"))
    return parser


def _add_info(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Describe the image at a URL (a pattern, a file), or propose patterns for the files in a"
        " folder. Lists names and reads headers, no pixels."
    )
    parser.add_argument(
        "url", metavar="URL", help="pattern, file or folder, in any store that fsspec supports"
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="print one JSON object; the docstring of cloudimg.image.facts lists its keys",
    )
    add_scheduler_options(parser)
    add_opening(parser)
    parser.set_defaults(run=run_info)


def _add_preview(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Write a PNG of one plane, from the smallest sufficient level: the middle of z, the first"
        " position of other axes, up to six channels in their colours. Replaces an existing file."
    )
    add = parser.add_argument
    add("url", metavar="URL", help="pattern or file, in any store that fsspec supports")
    add("out", metavar="PNG", type=_png, help="file to write")
    add("--size", metavar="N", type=_positive, default=1024,
        help="maximum length of the longer side in pixels; default: %(default)s")  # fmt: skip
    add("--level", metavar="N", type=int,
        help="resolution level: 0 is full resolution, -1 the smallest")  # fmt: skip
    add("--index", metavar="AXIS=N", type=_positions, action="extend", default=[],
        help="positions along axes, from 0, as in c=0,t=3")  # fmt: skip
    add(
        "--project",
        choices=["max", "mean"],
        help="project all planes along z instead of showing one",
    )
    add("--max-bytes", metavar="SIZE", type=_size, default=2**30,
        help="limit of bytes to decode, such as 2GB; default: %(default)s")  # fmt: skip
    add("--yes", action="store_true", help="decode any number of bytes")
    add_scheduler_options(parser)
    add_opening(parser)
    parser.set_defaults(run=run_preview)


def _add_demo(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Put 360 small TIFF files into an S3 server inside this process, open them as one array,"
        " migrate them and write a picture. The output is a Python script."
    )
    add = parser.add_argument
    add("--out", metavar="PNG", default="cloudimg-demo.png", help="default: %(default)s")
    add(
        "--port", metavar="N", type=_port, default=0, help="port of the server; default: a free one"
    )
    add("--keep", action="store_true", help="leave the server running until Ctrl-C")
    parser.set_defaults(run=run_demo)


def _port(text: str) -> int:
    if not (text.isdecimal() and int(text) < 2**16):
        raise argparse.ArgumentTypeError("must be an integer from 0 to 65535")
    return int(text)


def _png(text: str) -> str:
    if not text.lower().endswith(".png"):
        raise argparse.ArgumentTypeError("must be a file name that ends in .png")
    return text


def _positive(text: str) -> int:
    if not (text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError("must be a positive integer")
    return int(text)


def _size(text: str) -> int:
    try:
        return parse_bytes("max_bytes", text)
    except ArgumentError:
        raise argparse.ArgumentTypeError(f"must be {SIZE}") from None


def _positions(text: str) -> list[tuple[str, int]]:
    matches = [re.fullmatch(r"(\w+)=(-?\d+)", part) for part in text.split(",")]
    if not all(matches):
        raise argparse.ArgumentTypeError("must be AXIS=N, separated by commas, as in c=0,t=3")
    return [(match[1], int(match[2])) for match in matches if match]
