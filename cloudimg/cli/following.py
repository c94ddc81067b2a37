"""``cloudimg migrate --follow``: its options, and how it is told to stop."""

from __future__ import annotations

import argparse
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from cloudimg.errors import ArgumentError

if TYPE_CHECKING:
    from cloudimg.migration.run.result import Migration

_OPTIONS = ("interval", "settle", "until_idle", "stop_file")
_EXCLUDED = (
    "dry_run", "overwrite", "labels_of", "part", "cluster", "scheduler", "report",
)  # fmt: skip


def add_follow(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``--follow``."""
    add = parser.add_argument
    add("--follow", action="store_true",
        help="with --grow: watch SRC while it is acquired, and add what is whole again and again,"
        " until Ctrl-C")  # fmt: skip
    add("--interval", metavar="S", type=_seconds,
        help="with --follow: list SRC every S seconds; default: 10")  # fmt: skip
    add("--settle", metavar="S", type=_seconds,
        help="with --follow: take a file when its size stood still for S seconds; default:"
        " 30")  # fmt: skip
    add("--until-idle", metavar="S", type=_seconds,
        help="with --follow: stop when nothing came for S seconds")  # fmt: skip
    add("--stop-file", metavar="FILE",
        help="with --follow: stop when this local file exists")  # fmt: skip


def refuse_options(args: argparse.Namespace) -> None:
    """Refuse options that need ``--follow`` without it, and those that it cannot follow.

    Raises
    ------
    ArgumentError
    """
    if not args.follow:
        given = [name for name in _OPTIONS if getattr(args, name) is not None]
        if given:
            raise ArgumentError(f"{_shown(given[0])} needs --follow")
        return
    if args.grow is None:
        raise ArgumentError("--follow needs --grow AXIS, such as --grow t")
    for name in _EXCLUDED:
        if getattr(args, name):
            raise ArgumentError(f"--follow and {_shown(name)} exclude each other")


def followed(args: argparse.Namespace, say: Callable[[str], None], given: Any) -> Migration | None:
    """Follow a source until it is over, or until the command is told to stop.

    Parameters
    ----------
    args : Namespace
        Gets ``stop``, which ends it after what is under way.
    say : callable
    given : dict
        Arguments of `cloudimg.migrate`.
    """
    import cloudimg

    stop = threading.Event()
    args.stop = stop.set
    times: Any = {
        name: value
        for name in ("interval", "settle", "until_idle")
        if (value := getattr(args, name)) is not None
    }
    return cloudimg.follow(
        args.url, args.out, stop_file=args.stop_file, stop=stop, say=say, **times, **given
    )


def _shown(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e9:
        raise argparse.ArgumentTypeError("must be a number of seconds, such as 10 or 0.5")
    return value
