"""The arguments of every command; ``args.run`` is the function that executes it."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any, NoReturn

import cloudimg
from cloudimg.cli.messages import ProgressLine, printable
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
exit codes: 0 success, 1 failure, 2 usage error, 130 interrupted
"""


@dataclass(frozen=True, slots=True)
class _Command:
    """A command, whose arguments and work are functions of a module below."""

    name: str
    about: str
    module: str
    write: bool = False
    """Whether the function with the command's name yields texts to print; otherwise the one that
    adds its arguments sets what is run."""


_COMMANDS = (
    _Command("info", "describe what is at a URL", "images"),
    _Command("validate", "show which files are missing, odd or bad", "images"),
    _Command("preview", "write a PNG of one plane", "images"),
    _Command("index", "store a table of files that opens without a request", "index", True),
    _Command("migrate", "write image files to a sharded OME-Zarr; resumable", "copies", True),
    _Command("verify", "check every byte of a copy", "copies", True),
    _Command("repair", "store again what is damaged in a copy", "repairs", True),
    _Command("export", "write TIFF files from a copy", "copies", True),
    _Command("retire", "tag or move the files that were copied", "retirements", True),
    _Command("cluster", "start, inspect and stop a Dask cluster in the cloud", "cluster"),
    _Command("demo", "a tour that needs no set-up", "images"),
)

Write = Callable[[argparse.Namespace, Callable[[str], None]], Iterator[str]]
"""Does the work of a command and yields texts to print."""


def _printing(write: Write) -> Callable[[argparse.Namespace, ProgressLine], None]:
    def run(args: argparse.Namespace, progress: ProgressLine) -> None:
        for text in write(args, progress.line):
            progress.clear()
            for line in text.splitlines():
                print(printable(line))

    return run


_LONG_OPTION = re.compile(r"--[a-z][a-z-]*")


class _Parser(argparse.ArgumentParser):
    add_later: Callable[[Sequence[str]], None] | None = None
    """Adds the arguments of a command, given the rest of the command line, once it is known to be
    the one."""

    def error(self, message: str) -> NoReturn:
        super().error(printable(redact(message)))

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
    for command in _COMMANDS:
        own = commands.add_parser(
            command.name,
            parents=[] if command.name == "cluster" else [debug],
            help=command.about,
        )
        own.add_later = partial(_add_arguments, own, command, debug)
    return parser


def _add_arguments(
    parser: argparse.ArgumentParser,
    command: _Command,
    debug: argparse.ArgumentParser,
    given: Sequence[str],
) -> None:
    module = import_module(f"cloudimg.cli.{command.module}")
    add = getattr(module, f"add_{command.name}")
    if command.name == "cluster":
        add(parser, debug)
    elif command.name == "migrate":
        add(parser, writes_labels=any(text.startswith("--labels-of") for text in given))
    else:
        add(parser)
    if command.write:
        parser.set_defaults(run=_printing(getattr(module, command.name)))
