"""``cloudimg info``, ``validate``, ``preview`` and ``demo``."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Iterator

import cloudimg
from cloudimg.cli.clients import add_scheduler_options, client_at
from cloudimg.cli.reports import reported, write_report
from cloudimg.cli.session import Session
from cloudimg.cli.stores import add_opening, open_options
from cloudimg.errors import ArgumentError, ProblemsError, counted
from cloudimg.image.png import refuse_unwritable
from cloudimg.settings import SIZE, parse_bytes


def info(args: argparse.Namespace, session: Session) -> Iterator[str]:
    """Run ``cloudimg info``; yield lines to print."""
    from cloudimg.cli.info import report

    with client_at(args) as client:
        options = {**open_options(args), "listing": args.listing, "client": client}
        yield from report(args.url, session, **options)


def validate(args: argparse.Namespace, session: Session) -> Iterator[str]:
    """Run ``cloudimg validate``; yield lines to print.

    Raises
    ------
    ProblemsError
        At the end, if files are missing, odd or bad.
    """
    if args.out is not None:
        refuse_unwritable(args.out)
    with client_at(args) as client, reported(args.report):
        found = cloudimg.validate(
            args.url, client=client, progress=session.progress, **open_options(args)
        )
    if args.out is not None:
        found.picture(args.out)
    if args.report is not None:
        write_report(args.report, found.report)
    session.result(found.to_json())
    yield str(found)
    if not found:
        n_files = counted(found.report.total, "file is", "files are")
        raise ProblemsError(f"{n_files} missing, odd or bad in {found.url}", url=found.url)


def preview(args: argparse.Namespace, session: Session) -> Iterator[str]:
    """Run ``cloudimg preview``; yield lines to print."""
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
            progress=session.progress,
            listing=args.listing,
            **open_options(args),
        )
    session.result(done.to_json())
    yield str(done)


def demo(args: argparse.Namespace, session: Session) -> Iterator[str]:
    """Run ``cloudimg demo``; yield lines to print."""
    from cloudimg.cli.demo import run

    yield from run(session, out=args.out, port=args.port, keep=args.keep)


def add_info(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``cloudimg info``."""
    parser.description = (
        "Describe the image at a URL (a pattern, a file), or propose patterns for the files in a"
        " folder. Lists names and reads headers, no pixels."
    )
    parser.add_argument(
        "url", metavar="URL", help="pattern, file or folder, in any store that fsspec supports"
    )
    _add_listing(parser)
    add_scheduler_options(parser)
    add_opening(parser)


def add_validate(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``cloudimg validate``."""
    parser.description = (
        "Read the headers of all files of an image, and show which are fine, missing, odd (they"
        " differ from the first file) or bad (they cannot be read), with a picture of the grid. The"
        " exit code is 1 if any is not fine. Reads no pixels."
    )
    add = parser.add_argument
    add("url", metavar="URL", help="pattern, file or table, in any store that fsspec supports")
    add("-o", "--out", metavar="PNG", type=_png,
        help="write the picture of the grid: a square for each file, in blue where it is fine, grey"
        " where it is missing, amber where it is odd, red where it is bad")  # fmt: skip
    add("--report", metavar="FILE",
        help="write the list of all missing, odd and bad files to a local file: as JSON, or as a"
        " table if its name ends in .txt")  # fmt: skip
    add_scheduler_options(parser)
    add_opening(parser, chooses_files=False)


def add_preview(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``cloudimg preview``."""
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
    _add_listing(parser)
    add_scheduler_options(parser)
    add_opening(parser)


def add_demo(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``cloudimg demo``."""
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


def _add_listing(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--listing",
        choices=["full", "probe"],
        default="full",
        help="how to find the files of a pattern: list all names, or ask S3 or Google only for the"
        " labels of each axis, so that gaps are not seen; default: %(default)s",
    )


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
