"""The arguments of every command; what they mean is decided by the function that ``run`` names."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Sequence
from typing import NoReturn

import cloudimg
from cloudimg.cli import cluster, copies
from cloudimg.cli.messages import ProgressLine, printable
from cloudimg.cli.stores import add_opening, open_options
from cloudimg.storage import redact

# Whatever takes long to import (Dask, moto) is imported by the command that needs it.

EXAMPLES = """\
examples:
  cloudimg info "s3://lab/exp/mydata_ch{c}_{t}t_{x}x_{y}y_{z}z.tif"
  cloudimg info s3://lab/exp/                  proposes patterns for what lies there
  cloudimg info --json --anon s3://open-data/image.ome.tif
  cloudimg preview s3://lab/slide.svs slide.png
  cloudimg migrate "s3://lab/exp/img_{t}_{z}.tif" s3://lab/exp.ome.zarr
  cloudimg verify s3://lab/exp.ome.zarr --against-source
  cloudimg migrate SRC DST --cluster cluster.json --workers 40
  cloudimg demo                                a tour on an S3 server of its own

Credentials, endpoint and region come from where the tools of AWS and Google find them.
exit codes: 0 fine, 1 it did not work, 2 usage, 130 Ctrl-C
"""


def run_info(args: argparse.Namespace, progress: ProgressLine) -> None:
    """``cloudimg info``."""
    from cloudimg.cli.info import report

    lines = report(args.url, as_json=args.json, progress=progress, **open_options(args))
    for line in lines:
        progress.clear()
        print(printable(line))


def run_preview(args: argparse.Namespace, progress: ProgressLine) -> None:
    """``cloudimg preview``."""
    import cloudimg

    done = cloudimg.preview(
        args.url,
        args.out,
        size=args.size,
        level=args.level,
        index=dict(args.index),
        project=args.project,
        max_bytes=math.inf if args.yes else args.max_bytes,
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
    """``cloudimg migrate``, ``verify`` and ``export``."""
    for text in args.write(args, progress.line):
        progress.clear()
        for line in text.splitlines():
            print(printable(line))


def run_cluster(args: argparse.Namespace, progress: ProgressLine) -> None:
    """``cloudimg cluster up``, ``status`` and ``down``."""
    for line in args.act(args).splitlines():
        print(printable(line))


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        super().error(printable(redact(message)))


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The arguments of a command line; ``run`` is the function for its command."""
    parser = _parser()
    args, rest = parser.parse_known_args(argv)
    if rest:
        # Only the names: a misspelt option may be followed by a secret.
        names = [text.split("=")[0] for text in rest if text.startswith("-")]
        what = f"unrecognized: {', '.join(names)}" if names else f"{len(rest)} arguments too many"
        parser.error(what)
    return args


def _parser() -> argparse.ArgumentParser:
    debug = _Parser(add_help=False)
    debug.add_argument(
        "--debug", action="store_true", default=argparse.SUPPRESS, help="tracebacks of errors"
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
    _add_info(commands.add_parser("info", parents=[debug], help="what is at a URL"))
    _add_preview(
        commands.add_parser("preview", parents=[debug], help="a picture of what is at a URL")
    )
    for name, add, about in (
        ("migrate", copies.add_migrate, "TIFF files to sharded OME-Zarr; stops and resumes"),
        ("verify", copies.add_verify, "prove that a copy is whole and right"),
        ("export", copies.add_export, "TIFF files of a copy again"),
    ):
        command = commands.add_parser(name, parents=[debug], help=about)
        add(command)
        command.set_defaults(run=run_copies, write=getattr(copies, name))
    command = commands.add_parser("cluster", help="a Dask cluster in the cloud: up, status, down")
    cluster.add_cluster(command, debug)
    command.set_defaults(run=run_cluster)
    _add_demo(commands.add_parser("demo", parents=[debug], help="a tour, with nothing to set up"))
    return parser


def _add_info(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Tell what image is at a URL (a pattern, a file), or what the names in a folder suggest."
        " Lists and reads headers, no pixels."
    )
    parser.add_argument(
        "url", metavar="URL", help="pattern, file or folder, in any store of fsspec"
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="one JSON object; see the docstring of cloudimg.image.facts",
    )
    add_opening(parser)
    parser.set_defaults(run=run_info)


def _add_preview(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Leave a PNG of one plane, from the smallest level that serves: the middle along z, the"
        " first along other axes, up to six channels in their colours. A picture that is there is"
        " replaced."
    )
    add = parser.add_argument
    add("url", metavar="URL", help="pattern or file, in any store that fsspec knows")
    add("out", metavar="PNG", type=_png, help="the picture to leave")
    add("--size", metavar="N", type=_positive, default=1024,
        help="pixels of its longer side at most; default: %(default)s")  # fmt: skip
    add("--level", metavar="N", type=int,
        help="resolution level: 0 is the full one, -1 the smallest")  # fmt: skip
    add("--index", metavar="AXIS=N", type=_positions, action="extend", default=[],
        help="positions along axes, counted from 0, as in c=0,t=3")  # fmt: skip
    add("--project", choices=["max", "mean"], help="all planes along z instead of one")
    add("--max-bytes", metavar="N", type=_positive, default=2**30,
        help="refuse to decode more; default: %(default)s")  # fmt: skip
    add("--yes", action="store_true", help="decode whatever it takes")
    add_opening(parser)
    parser.set_defaults(run=run_preview)


def _add_demo(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Put 360 small TIFF files into an S3 server inside this process, open them as one array"
        " and leave a picture. What it prints is a Python script."
    )
    add = parser.add_argument
    add("--out", metavar="PNG", default="cloudimg-demo.png", help="default: %(default)s")
    add("--port", metavar="N", type=_port, default=0, help="of the server; default: a free one")
    add("--keep", action="store_true", help="leave the server running until Ctrl-C")
    parser.set_defaults(run=run_demo)


def _port(text: str) -> int:
    if not (text.isdecimal() and int(text) < 2**16):
        raise argparse.ArgumentTypeError("must be a number from 0 to 65535")
    return int(text)


def _png(text: str) -> str:
    if not text.lower().endswith(".png"):
        raise argparse.ArgumentTypeError("must be a file whose name ends in .png")
    return text


def _positive(text: str) -> int:
    if not (text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError("must be a number from 1 on")
    return int(text)


def _positions(text: str) -> list[tuple[str, int]]:
    found = [re.fullmatch(r"(\w+)=(-?\d+)", part) for part in text.split(",")]
    if not all(found):
        raise argparse.ArgumentTypeError("must be AXIS=N, several with commas, as in c=0,t=3")
    return [(match[1], int(match[2])) for match in found if match]
