"""The arguments of every command; ``args.run`` is the function that executes it."""

from __future__ import annotations

import argparse
import itertools
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any, NoReturn

import cloudimg
from cloudimg.cli.exit_codes import USAGE
from cloudimg.cli.messages import printable
from cloudimg.cli.session import DEFAULT_HEARTBEAT_S
from cloudimg.errors import counted
from cloudimg.opening.keywords import close_matches
from cloudimg.storage import redact

# A command's module is imported when its arguments are parsed, and packages that take long to
# import (Dask, moto) by the command that needs them.

EXAMPLES = """\
examples:
  cloudimg info "s3://lab/exp/mydata_ch{c}_{t}t_{x}x_{y}y_{z}z.tif"
  cloudimg info s3://lab/exp/                  proposes patterns for the files in a folder
  cloudimg info --json --anon s3://open-data/image.ome.tif
  cloudimg validate "s3://lab/exp/img_{t}_{z}.tif" -o grid.png
  cloudimg preview s3://lab/slide.svs slide.png
  cloudimg index "s3://lab/exp/img_{t}_{z}.tif" -o files.parquet
  cloudimg migrate "s3://lab/exp/img_{t}_{z}.tif" s3://lab/exp.ome.zarr
  cloudimg verify s3://lab/exp.ome.zarr --against-source
  cloudimg export s3://lab/exp.ome.zarr tiffs
  cloudimg migrate SRC DST --cluster cluster.json --workers 40
  cloudimg demo                                a tour on a built-in S3 server

Credentials, endpoint and region are found as by the AWS and Google Cloud command lines.
exit codes:
  0 done                        6 store busy or not reachable: try later
  1 problems found or left      7 the destination holds something else
  2 wrong usage or argument     8 another migration writes there
  3 nothing is there            9 no room
  4 files missing or bad       10 damaged copy
  5 the store refuses          11 files in an archive of the store
 12 Dask cluster failed        70 unexpected error
129, 130, 143 ended by SIGHUP, Ctrl-C, SIGTERM; 141 the reader of stdout closed it
"""


@dataclass(frozen=True, slots=True)
class _Command:
    """A command: a module below has a function of its name, which yields texts to print, and one
    that adds its arguments."""

    name: str
    about: str
    module: str


_COMMANDS = (
    _Command("info", "describe what is at a URL", "images"),
    _Command("validate", "show which files are missing, odd or bad", "images"),
    _Command("preview", "write a PNG of one plane", "images"),
    _Command("index", "store a table of files that opens without a request", "index"),
    _Command("migrate", "write image files to a sharded OME-Zarr; resumable", "copies"),
    _Command("verify", "check every byte of a copy", "verifications"),
    _Command("repair", "store again what is damaged in a copy", "repairs"),
    _Command("export", "write TIFF files from a copy", "exports"),
    _Command("retire", "tag or move the files that were copied", "retirements"),
    _Command("cluster", "start, inspect and stop a Dask cluster in the cloud", "cluster"),
    _Command("demo", "a tour that needs no set-up", "images"),
)


class UsageError(SystemExit):
    """A command line that cannot be parsed; it was said on stderr."""

    def __init__(self, command: str, message: str) -> None:
        super().__init__(USAGE)
        self.command, self.message = command, message


_LONG_OPTION = re.compile(r"--[a-z][a-z-]*")


class _Parser(argparse.ArgumentParser):
    add_later: Callable[[Sequence[str]], None] | None = None
    """Adds the arguments of a command, given the rest of the command line, once it is known to be
    the one."""

    def error(self, message: str) -> NoReturn:
        text = printable(redact(message))
        try:
            super().error(text)
        except SystemExit:
            raise UsageError(self.prog.removeprefix("cloudimg").strip(), text) from None

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Refuse what this command does not have: a command's parser is called by this method."""
        add, self.add_later = self.add_later, None
        if add is not None:
            add(args or ())
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


_DEFAULTS = {"debug": False, "json": False, "log": None, "heartbeat": DEFAULT_HEARTBEAT_S}
"""Of options that may stand before the command as well as behind it."""


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Parse a command line; ``run`` of the result is the function of its command."""
    return _parser().parse_args(argv, argparse.Namespace(**_DEFAULTS))


def wants_json(argv: Sequence[str]) -> bool:
    """Whether a command line that could not be parsed asks for JSON."""
    options = itertools.takewhile(lambda word: word != "--", argv)
    names = (word.partition("=")[0] for word in options)
    return any(len(name) > 2 and "--json".startswith(name) for name in names)


def _heartbeat(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1
    if not 0 <= seconds < threading.TIMEOUT_MAX:
        raise argparse.ArgumentTypeError("must be a number of seconds; 0 for none")
    return seconds


def _common() -> _Parser:
    """Options of all commands."""
    common = _Parser(add_help=False, argument_default=argparse.SUPPRESS)
    add = common.add_argument_group("scripts").add_argument
    add("--json", action="store_true",
        help="print one JSON object, also of an error; all else goes to stderr")  # fmt: skip
    add("--log", metavar="FILE",
        help="append what is done to a local file, in lines with times")  # fmt: skip
    add("--heartbeat", metavar="SECONDS", type=_heartbeat,
        help="say how far the work is every so many seconds, in the log, and on stderr where that"
        f" is no terminal; 0: never; default: {DEFAULT_HEARTBEAT_S:.0f}")  # fmt: skip
    add("--debug", action="store_true", help="show the traceback of an error")
    return common


def _parser() -> argparse.ArgumentParser:
    common = _common()
    parser = _Parser(
        prog="cloudimg",
        description=cloudimg.__doc__.split("\n")[0] if cloudimg.__doc__ else None,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[common],
    )
    parser.add_argument("--version", action="version", version=f"cloudimg {cloudimg.__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in _COMMANDS:
        own = commands.add_parser(
            command.name,
            parents=[] if command.name == "cluster" else [common],
            help=command.about,
        )
        own.add_later = partial(_add_arguments, own, command, common)
    return parser


def _add_arguments(
    parser: argparse.ArgumentParser,
    command: _Command,
    common: argparse.ArgumentParser,
    given: Sequence[str],
) -> None:
    module = import_module(f"cloudimg.cli.{command.module}")
    add = getattr(module, f"add_{command.name}")
    if command.name == "cluster":
        add(parser, common)
        return
    if command.name == "migrate":
        add(parser, writes_labels=any(text.startswith("--labels-of") for text in given))
    else:
        add(parser)
    parser.set_defaults(run=getattr(module, command.name), command=command.name)
