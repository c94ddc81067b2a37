"""Options that decide how files form an image and how a store is reached."""

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
"""The fsspec option that a short option sets, by protocol."""


def add_opening(
    parser: argparse.ArgumentParser,
    *,
    missing: str = "fill",
    options_name: str = "--storage-options",
    url_name: str = "URL",
) -> None:
    """Add the options that decide how files form an image, and those of the files' store."""
    group = parser.add_argument_group("how files form an image")
    add = group.add_argument
    add("--axes", metavar="OLD=NEW", nargs="+", action="extend", type=_renaming, default=[],
        help="rename axes of the files, as in page=z")  # fmt: skip
    add("--series", metavar="N", type=int,
        help="image to open if each file holds several; default: 0, the first; migrate needs"
        " the option if there are several full images")  # fmt: skip
    add("--missing", choices=["fill", "raise"], default=missing,
        help="if files are missing: raise an error, or fill with zeros; default:"
        " %(default)s")  # fmt: skip
    add("--bad", choices=["fill", "raise"], default="raise",
        help="if files are empty, truncated, damaged, not images, or differ in shape or type: raise"
        " an error, or fill with zeros; default: %(default)s")  # fmt: skip
    add("--exclude", metavar="GLOB", action="append", default=[],
        help="files to leave out: by name, or with a slash by the end of the URL")  # fmt: skip
    add(
        "--no-mosaic",
        dest="mosaic",
        action="store_false",
        help="stack tiles instead of joining them",
    )
    add("--allow-differences", metavar="FACT", nargs="+", action="extend", default=[],
        help="facts that may differ from file to file, which is an error otherwise: pixel_size,"
        " photometric, color_space, colormap, nodata, crs, origin")  # fmt: skip
    add("--validate", choices=["first", "all"], default="first",
        help="headers to read on opening; default: %(default)s")  # fmt: skip
    add_store(parser, options_name, url_name)


def add_store(
    parser: argparse.ArgumentParser,
    options_name: str = "--storage-options",
    url_name: str = "URL",
) -> None:
    """Add the options of the store of the first URL, whose name in the usage is given."""
    add = parser.add_argument_group("store").add_argument
    add(options_name, dest="url_options", metavar="JSON", type=json_object, default={},
        help=f"options of fsspec for the store of {url_name}")  # fmt: skip
    add("--anon", action="store_true", help="access the store without credentials")
    add("--endpoint-url", metavar="URL", help="endpoint of an S3-compatible server or emulator")
    parser.set_defaults(url_options_name=options_name)


def open_options(args: argparse.Namespace) -> dict[str, Any]:
    """Keyword arguments of `cloudimg.open` for a command with one URL."""
    return {**file_options(args), "storage_options": url_options(args)}


def file_options(args: argparse.Namespace) -> dict[str, Any]:
    """Keyword arguments that decide how files form an image."""
    return {
        "axes": dict(args.axes),
        "series": args.series,
        "missing": args.missing,
        "bad": args.bad,
        "exclude": args.exclude or None,
        "mosaic": args.mosaic,
        "validate": args.validate,
        "allow_differences": args.allow_differences,
    }


def url_options(args: argparse.Namespace) -> dict[str, Any]:
    """Options of fsspec for the store of the first URL, with ``--anon`` and ``--endpoint-url``.

    Raises
    ------
    ArgumentError
        If a short option does not exist for the protocol, or is given twice.
    """
    links = args.url.split("::")
    protocol = split_url(links[-1])[0].protocol
    options = dict(args.url_options)
    # In a chain of URLs, options are nested by protocol; the store is the last link.
    inner = dict(options.get(protocol, {})) if len(links) > 1 else options
    short = {"--anon": args.anon or None, "--endpoint-url": args.endpoint_url}
    for option, value in short.items():
        if value is None:
            continue
        if protocol not in _ABBREVIATIONS[option]:
            raise ArgumentError(f"{option} does not apply to {protocol}://")
        name = _ABBREVIATIONS[option][protocol]
        if name in inner or name in inner.get("client_kwargs", {}):
            raise ArgumentError(f"{option} and {args.url_options_name} both set {name}")
        inner[name] = "anon" if name == "token" else value
    return {**options, protocol: inner} if len(links) > 1 and inner else inner


def target_options(args: argparse.Namespace) -> Mapping[str, Any]:
    """Options of fsspec for the store of the second URL.

    Without ``--target-options``, those of the first URL if both URLs have the same protocol.
    """
    given: Mapping[str, Any] = args.target_options
    if given or "::" in args.url or "::" in args.out:
        return given
    first, second = (split_url(each)[0].protocol for each in (args.url, args.out))
    if first != second:
        return {}
    # A public bucket that can be read anonymously cannot be written anonymously.
    return {name: value for name, value in url_options(args).items() if name != "anon"}


def json_object(text: str) -> dict[str, Any]:
    """Parse a JSON object.

    The error does not repeat the text, as argparse would do: it may hold a secret.
    """
    value, problem = None, 'must be a JSON object, such as {"anon": true}'
    try:
        value = json.loads(text)
    except ValueError as error:
        problem = f"not valid JSON at character {getattr(error, 'pos', 0)}"
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(problem)
    return value


def _renaming(text: str) -> tuple[str, str]:
    if not re.fullmatch(r"\w+=\w+", text):
        raise argparse.ArgumentTypeError(
            "must be OLD=NEW, such as page=z; put the URL before this option"
        )
    old, new = text.split("=")
    return old, new
