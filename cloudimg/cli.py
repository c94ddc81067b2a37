"""The command ``cloudimg``: arguments in, text out, an exit code that scripts can rely on.

======  =====================================================================================
0       fine
1       it did not work: one line on stderr says what and why, ``--debug`` shows the traceback
2       the command itself is wrong
130     Ctrl-C
141     nobody reads the output any more
======  =====================================================================================
"""

from __future__ import annotations

import argparse
import math
import os
import re
import signal
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn, TextIO

import cloudimg
from cloudimg import cli_cluster, cli_writing
from cloudimg.cli_writing import json_object
from cloudimg.errors import ArgumentError, CloudimgError
from cloudimg.storage import redact, split_url

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
_SECRET_NAME = re.compile(r"(?i)key|secret|token|password|passwd|credential|sas|connection_string")
_ABBREVIATIONS = {
    "--anon": {"s3": "anon", "gs": "token", "az": "anon", "abfs": "anon"},
    "--endpoint-url": {"s3": "endpoint_url", "gs": "endpoint_url"},
}
_SHORTEST_SECRET = 6  # characters: replacing shorter texts would garble messages


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments after the name of the program; those of the process without it.

    Returns
    -------
    int
        The exit code. A command that is wrong itself raises SystemExit(2).
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a µ must not be an error where the locale is C
            stream.reconfigure(errors="backslashreplace")
    args = parse(argv)
    progress = Progress(sys.stderr)
    try:
        if argv is None:
            for number in (signal.SIGTERM, *_HANGUP):
                if signal.getsignal(number) is signal.SIG_DFL:  # nohup has it ignored
                    signal.signal(number, _interrupt)
            # Ctrl-C reaches the main thread between two calls only, and a call may wait for a
            # store for long: the work is done in another thread.
            ThreadPoolExecutor(1).submit(args.run, args, progress).result()
        else:
            args.run(args, progress)
        progress.clear()
        sys.stdout.flush()
        return 0
    except BrokenPipeError:
        # What is left in the buffer would fail again at exit, and loudly.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        progress.clear()
        print("cloudimg: interrupted", file=sys.stderr)
        if argv is not None:
            return 130
        try:
            _end_clusters()
        finally:
            sys.stderr.flush()
            os._exit(130)  # an ordinary exit waits for all threads
    except Exception as error:  # noqa: BLE001 - no traceback for people who did not ask for one
        progress.clear()
        _report(error, args)
        return 1


_HANGUP = (signal.SIGHUP,) if hasattr(signal, "SIGHUP") else ()


def _interrupt(number: int, frame: object) -> NoReturn:
    """Other ways to be asked to end are like Ctrl-C: a cluster in the cloud would stay behind."""
    raise KeyboardInterrupt


def _still_ending(number: int, frame: object) -> None:
    """Half an end would leave machines behind."""
    print("cloudimg: still ending the cluster; wait", file=sys.stderr)


def _end_clusters() -> None:
    """End what was started in the cloud, whatever the thread that does the work is doing."""
    running = sys.modules.get("cloudimg.cluster.running")
    if running is None:
        return
    for number in (signal.SIGINT, signal.SIGTERM, *_HANGUP):
        signal.signal(number, _still_ending)
    try:
        running.end_all(lambda text: print(f"cloudimg: {text}", file=sys.stderr))
    except CloudimgError as error:
        print(f"cloudimg: error: {printable(redact(str(error)))}", file=sys.stderr)


def _report(error: Exception, args: argparse.Namespace) -> None:
    hidden = list(_secrets(args))

    def show(text: str) -> None:
        for secret in hidden:
            text = text.replace(secret, "***")
        print(redact(text), file=sys.stderr)

    if "debug" in args:
        show("".join(traceback.format_exception(error)))
    what = str(error)
    if not isinstance(error, CloudimgError):
        what = f"unexpected {type(error).__name__}: {what} (a bug; --debug shows where)"
    show(f"cloudimg: error: {printable(what)}")


def _secrets(args: argparse.Namespace) -> Iterator[str]:
    """Values of options that no message may repeat, whatever library made the message."""

    def walk(name: str, value: Any) -> Iterator[str]:
        if isinstance(value, Mapping):
            for inner, each in value.items():
                yield from walk(f"{name} {inner}", each)
        elif _SECRET_NAME.search(name) and len(str(value)) >= _SHORTEST_SECRET:
            yield str(value)

    for name in ("storage_options", "to_options", "source_options"):
        yield from walk("", getattr(args, name, {}))


def printable(text: str) -> str:
    """Text with control characters escaped: names in a store may hold what terminals obey."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class Progress:
    """One line on a terminal that says how far a count is; nothing where nobody watches."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream if stream.isatty() else None
        self._shown_at = -1.0

    def __call__(self, what: str, count: int) -> None:
        """Show a count, but not more often than it can be read."""
        if self._stream is not None and time.monotonic() - self._shown_at > 0.1:
            self._shown_at = time.monotonic()
            self._stream.write(f"\r{what}{f': {count}' if count else ''}\x1b[K")
            self._stream.flush()

    def line(self, text: str) -> None:
        """Show a text in place of the one before."""
        if text:
            self(text, 0)
        else:
            self.clear()

    def clear(self) -> None:
        """Take the line away."""
        if self._stream is not None and self._shown_at >= 0:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
            self._shown_at = -1.0


# ---------------------------------------------------------------------------------------- commands


def run_info(args: argparse.Namespace, progress: Progress) -> None:
    """``cloudimg info``."""
    from cloudimg.info import report

    lines = report(
        args.url,
        as_json=args.json,
        progress=progress,
        **_options_of_open(args),
    )
    for line in lines:
        progress.clear()
        print(printable(line))


def run_preview(args: argparse.Namespace, progress: Progress) -> None:
    """``cloudimg preview``."""
    from cloudimg.preview import make

    line = make(
        args.url,
        args.out,
        size=args.size,
        level=args.level,
        index=dict(args.index),
        project=args.project,
        max_bytes=math.inf if args.yes else args.max_bytes,
        progress=progress,
        **_options_of_open(args),
    )
    progress.clear()
    print(printable(line))


def run_demo(args: argparse.Namespace, progress: Progress) -> None:
    """``cloudimg demo``."""
    from cloudimg.demo import run

    run(out=args.out, port=args.port, keep=args.keep)


def run_writing(args: argparse.Namespace, progress: Progress) -> None:
    """``cloudimg migrate``, ``verify`` and ``export``."""
    args.source_options_found = storage_options(args)
    options = args.source_options_found if args.of_copy else _options_of_open(args)
    for text in args.write(args, options, progress.line):
        progress.clear()
        for line in text.splitlines():
            print(printable(line))


def run_cluster(args: argparse.Namespace, progress: Progress) -> None:
    """``cloudimg cluster up``, ``status`` and ``down``."""
    for line in args.act(args).splitlines():
        print(printable(line))


def _options_of_open(args: argparse.Namespace) -> dict[str, Any]:
    return {
        "axes": dict(args.axes),
        "series": args.series,
        "missing": args.missing,
        "mosaic": args.mosaic,
        "validate": args.validate,
        "storage_options": storage_options(args),
    }


def storage_options(args: argparse.Namespace) -> dict[str, Any]:
    """fsspec's options, from ``--storage-options`` and its abbreviations."""
    links = args.url.split("::")
    protocol = split_url(links[-1])[0].protocol
    options = dict(args.storage_options)
    # Along a chain of URLs each protocol has its own options; the store is the last one.
    inner = dict(options.get(protocol, {})) if len(links) > 1 else options
    given = {"--anon": args.anon or None, "--endpoint-url": args.endpoint_url}
    for option, value in given.items():
        if value is None:
            continue
        if protocol not in _ABBREVIATIONS[option]:
            raise ArgumentError(f"{option} means nothing for {protocol}://")
        name = _ABBREVIATIONS[option][protocol]
        if name in inner or name in inner.get("client_kwargs", {}):
            raise ArgumentError(f"{option} and --storage-options both give {name}")
        inner[name] = "anon" if name == "token" else value
    return {**options, protocol: inner} if len(links) > 1 and inner else inner


# ------------------------------------------------------------------------------------------ parser


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
        ("migrate", cli_writing.add_migrate, "TIFF files to sharded OME-Zarr; stops and resumes"),
        ("verify", cli_writing.add_verify, "prove that a copy is whole and right"),
        ("export", cli_writing.add_export, "TIFF files of a copy again"),
    ):
        command = commands.add_parser(name, parents=[debug], help=about)
        add(command, _add_opening if name == "migrate" else _add_store)
        command.set_defaults(
            run=run_writing, write=getattr(cli_writing, name), of_copy=name != "migrate"
        )
    command = commands.add_parser("cluster", help="a Dask cluster in the cloud: up, status, down")
    cli_cluster.add_cluster(command, debug)
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
        "--json", action="store_true", help="one JSON object; see the docstring of cloudimg.info"
    )
    _add_opening(parser)
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
    _add_opening(parser)
    parser.set_defaults(run=run_preview)


def _add_opening(parser: argparse.ArgumentParser, *, missing: str = "fill") -> None:
    """How images are opened."""
    add = parser.add_argument
    add("--axes", metavar="OLD=NEW", nargs="+", action="extend", type=_renaming, default=[],
        help="rename axes of the files, as in page=z")  # fmt: skip
    add("--series", metavar="N", type=int, default=0, help="which image of files that hold several")
    add("--missing", choices=["fill", "raise"], default=missing,
        help="where files are missing: raise fails, fill has zeros there; default:"
        " %(default)s")  # fmt: skip
    add("--no-mosaic", dest="mosaic", action="store_false", help="stack tiles instead of joining")
    add("--validate", choices=["first", "all"], default="first", help="which headers to read")
    _add_store(parser)


def _add_store(parser: argparse.ArgumentParser) -> None:
    """How the store of the first URL is reached."""
    add = parser.add_argument
    add("--storage-options", metavar="JSON", type=json_object, default={},
        help="fsspec's options for the store")  # fmt: skip
    add("--anon", action="store_true", help="without credentials")
    add("--endpoint-url", metavar="URL", help="the server, where it is not Amazon's or Google's")


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


# argparse would repeat the value in its own messages, and the value may hold a secret.


def _renaming(text: str) -> tuple[str, str]:
    if not re.fullmatch(r"\w+=\w+", text):
        raise argparse.ArgumentTypeError("must be OLD=NEW such as page=z; the URL goes before it")
    old, new = text.split("=")
    return old, new


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
