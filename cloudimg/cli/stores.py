"""Options of commands that decide how images are opened and how their stores are reached."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping
from typing import Any

from cloudimg.errors import ArgumentError
from cloudimg.storage import split_url

_ABBREVIATIONS = {
    "--anon": {"s3": "anon", "gs": "token", "az": "anon", "abfs": "anon"},
    "--endpoint-url": {"s3": "endpoint_url", "gs": "endpoint_url"},
}


def add_opening(
    parser: argparse.ArgumentParser,
    *,
    missing: str = "fill",
    options_name: str = "--storage-options",
) -> None:
    """Add the options that decide how files form an image, and those of their store."""
    group = parser.add_argument_group("how files form an image")
    add = group.add_argument
    add("--axes", metavar="OLD=NEW", nargs="+", action="extend", type=_renaming, default=[],
        help="rename axes of the files, as in page=z")  # fmt: skip
    add("--series", metavar="N", type=int, default=0, help="which image of files that hold several")
    add("--missing", choices=["fill", "raise"], default=missing,
        help="where files are missing: raise is an error, fill reads zeros; default:"
        " %(default)s")  # fmt: skip
    add("--no-mosaic", dest="mosaic", action="store_false", help="stack tiles instead of joining")
    add("--validate", choices=["first", "all"], default="first",
        help="headers to read before any pixel; default: %(default)s")  # fmt: skip
    add_store(parser, options_name)


def add_store(parser: argparse.ArgumentParser, options_name: str = "--storage-options") -> None:
    """Add the options of the store of the first URL."""
    add = parser.add_argument_group("store").add_argument
    add(options_name, dest="url_options", metavar="JSON", type=json_object, default={},
        help="fsspec's options for the store of the first URL")  # fmt: skip
    add("--anon", action="store_true", help="read without credentials")
    add("--endpoint-url", metavar="URL", help="the server, where it is not Amazon's or Google's")
    parser.set_defaults(url_options_name=options_name)


def open_options(args: argparse.Namespace) -> dict[str, Any]:
    """Keyword arguments of `cloudimg.open`, from those of a command with one URL."""
    return {**file_options(args), "storage_options": url_options(args)}


def file_options(args: argparse.Namespace) -> dict[str, Any]:
    """Keyword arguments that decide how files form an image."""
    return {
        "axes": dict(args.axes),
        "series": args.series,
        "missing": args.missing,
        "mosaic": args.mosaic,
        "validate": args.validate,
    }


def url_options(args: argparse.Namespace) -> dict[str, Any]:
    """fsspec's options for the store of the first URL, with ``--anon`` and ``--endpoint-url``.

    Raises
    ------
    ArgumentError
    """
    links = args.url.split("::")
    protocol = split_url(links[-1])[0].protocol
    options = dict(args.url_options)
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
            raise ArgumentError(f"{option} and {args.url_options_name} both give {name}")
        inner[name] = "anon" if name == "token" else value
    return {**options, protocol: inner} if len(links) > 1 and inner else inner


def target_options(args: argparse.Namespace) -> Mapping[str, Any]:
    """fsspec's options for the store of the second URL.

    Its own, or those of the first URL where both are of one protocol.
    """
    given: Mapping[str, Any] = args.target_options
    if given or "::" in args.url or "::" in args.out:
        return given
    first, second = (split_url(each)[0].protocol for each in (args.url, args.out))
    if first != second:
        return {}
    # Nobody may write without credentials.
    return {name: value for name, value in url_options(args).items() if name != "anon"}


# argparse would repeat the value in its own messages, and the value may hold a secret.


def json_object(text: str) -> dict[str, Any]:
    """An object of JSON; the message of an error does not repeat it, since it may hold a secret."""
    try:
        value = json.loads(text)
    except ValueError as error:
        at = getattr(error, "pos", 0)
        raise argparse.ArgumentTypeError(f"not JSON from character {at} on") from None
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError('must be a JSON object, such as {"anon": true}')
    return value


def _renaming(text: str) -> tuple[str, str]:
    if not re.fullmatch(r"\w+=\w+", text):
        raise argparse.ArgumentTypeError("must be OLD=NEW such as page=z; the URL goes before it")
    old, new = text.split("=")
    return old, new
