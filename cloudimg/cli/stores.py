"""Options that decide how files form an image and how a store is reached."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from cloudimg.errors import ArgumentError
from cloudimg.settings import RATE, parse_rate
from cloudimg.storage import split_url

_CHOICES = ("missing", "bad", "validate")
"""Which files are looked at, and what becomes of bad ones: options that some commands lack."""
_ABBREVIATIONS = {
    "--anon": {"s3": "anon", "gs": "token", "az": "anon", "abfs": "anon", "abfss": "anon"},
    "--endpoint-url": {"s3": "endpoint_url", "gs": "endpoint_url"},
}
"""The fsspec option that a short option sets, by protocol."""


def add_opening(
    parser: argparse.ArgumentParser,
    *,
    missing: str = "fill",
    options_name: str = "--storage-options",
    url_name: str = "URL",
    chooses_files: bool = True,
) -> None:
    """Add the options that decide how files form an image, and those of the files' store.

    Where `chooses_files` is false, all headers are read, and no file is refused or filled.
    """
    group = parser.add_argument_group("how files form an image")
    add = group.add_argument
    add(
        "--pattern",
        metavar="PATTERN",
        help="gives axes to the URLs of a table or an S3 Inventory, as in 't{t}_z{z}.tif'",
    )
    add(
        "--url-column",
        metavar="COLUMN",
        help="column of a table with the URLs, or a path in one, as in assets.red.href",
    )
    add("--axes", metavar="OLD=NEW", nargs="+", action="extend", type=_renaming, default=[],
        help="rename axes of the files, as in page=z")  # fmt: skip
    add("--series", metavar="N", type=_series,
        help="image to open if each file holds several; default: 0, the first; migrate needs"
        " the option if there are several full images, and takes all for a collection of all"
        " images")  # fmt: skip
    add("--exclude", metavar="GLOB", action="append", default=[],
        help="files to leave out: by name, or with a slash by the end of the URL")  # fmt: skip
    add("--place", choices=["index", "stage", "stack"], default="index",
        help="where tiles lie: side by side by their fields x and y, where the stage was, or"
        " stacked; default: %(default)s")  # fmt: skip
    add("--blend", choices=["last", "mean"], default="last",
        help="what is shown where fields overlap with --place stage: the last one, or the mean;"
        " default: %(default)s")  # fmt: skip
    add("--flip", choices=["x", "y", "xy", "none"],
        help="axes of the stage whose positions become smaller to the right (x) or downwards (y),"
        " with --place stage; default: y with index files of Yokogawa and Harmony, else none"
        )  # fmt: skip
    add("--align", choices=["outer", "inner"],
        help="place georeferenced files by their transforms, in whole pixels: keep the pixels of"
        " all files, or those that all have")  # fmt: skip
    add("--allow-differences", metavar="FACT", nargs="+", action="extend", default=[],
        help="facts that may differ from file to file, which is an error otherwise: pixel_size,"
        " photometric, color_space, colormap, nodata, crs, origin")  # fmt: skip
    add("--select", metavar="AXIS=WHAT", type=selected, action="extend", default=[],
        help="part of the image: labels of files, names of channels, else positions from 0, as in"
        " c=DAPI,z=0:10; an axis that is repeated keeps several, as in c=DAPI,c=GFP")  # fmt: skip
    add("--no-index-files", dest="index_files", action="store_false",
        help="do not read the index file of the instrument beside the images")  # fmt: skip
    if chooses_files:
        _add_choices(group, missing)
    add_store(parser, options_name, url_name)


def _add_choices(group: Any, missing: str) -> None:
    """Add the options that say which files are looked at, and what becomes of bad ones."""
    add = group.add_argument
    add("--missing", choices=["fill", "raise"], default=missing,
        help="if files are missing: raise an error, or fill with zeros; default:"
        " %(default)s")  # fmt: skip
    add("--bad", choices=["fill", "raise"], default="raise",
        help="if files are empty, truncated, damaged, not images, or differ in shape or type: raise"
        " an error, or fill with zeros; default: %(default)s")  # fmt: skip
    add("--validate", choices=["first", "all"], default="first",
        help="headers to read on opening; default: %(default)s")  # fmt: skip


def add_store(
    parser: argparse.ArgumentParser,
    options_name: str = "--storage-options",
    url_name: str = "URL",
) -> None:
    """Add the options of the store of the first URL, whose name in the usage is given."""
    add = parser.add_argument_group("store").add_argument
    add(options_name, dest="url_options", metavar="JSON", type=json_object, default={},
        help=f"options of fsspec for the store of {url_name}")  # fmt: skip
    add("--anon", action="store_true", help=f"access the store of {url_name} without credentials")
    add("--endpoint-url", metavar="URL",
        help=f"endpoint of an S3-compatible server or emulator with {url_name}")  # fmt: skip
    add("--max-rate", metavar="RATE", type=_rate,
        help="most bytes and requests a second to and from each store, as in 20MB/s, 100/s or"
        " 20MB/s,100/s; each worker of a cluster keeps to it by itself")  # fmt: skip
    parser.set_defaults(url_options_name=options_name)


def add_target_store(parser: argparse.ArgumentParser, url_name: str, target_name: str) -> None:
    """Add the options of the store of the second URL, where both names are those in the usage."""
    parser.add_argument("--target-options", metavar="JSON", type=json_object,
        help=f"options of fsspec for {target_name}; default: those of {url_name} except anon, if"
        " both have one protocol and lead to one endpoint with them. --endpoint-url is that of"
        f" {target_name} if {url_name} is a local file")  # fmt: skip


def open_options(args: argparse.Namespace) -> dict[str, Any]:
    """Keyword arguments of `cloudimg.open` for a command with one URL."""
    return {**file_options(args), "storage_options": url_options(args)}


def file_options(args: argparse.Namespace) -> dict[str, Any]:
    """Keyword arguments that decide how files form an image."""
    chosen = {name: getattr(args, name) for name in _CHOICES if name in args}
    return {
        **chosen,
        "pattern": args.pattern,
        "url_column": args.url_column,
        "axes": dict(args.axes),
        "series": args.series,
        "exclude": args.exclude or None,
        "place": args.place,
        "blend": args.blend,
        "flip": args.flip,
        "align": args.align,
        "select": selection(args.select),
        "index_files": args.index_files,
        "allow_differences": args.allow_differences,
    }


def url_options(args: argparse.Namespace) -> dict[str, Any]:
    """Options of fsspec for the store of the first URL, with those that have a short form.

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
    if _is_endpoint_of_target(args):
        del short["--endpoint-url"]
    for option, value in short.items():
        _set(inner, option, value, protocol, args.url_options_name)
    given = {**options, protocol: inner} if len(links) > 1 and inner else inner
    return _with_rate(args, given, args.url_options_name)


def source_options(args: argparse.Namespace) -> Mapping[str, Any] | None:
    """Options of fsspec for the store of the files that were copied; None if none are given."""
    given: Mapping[str, Any] | None = args.source_options
    return None if given is None else _with_rate(args, given, "--source-options")


def _with_rate(args: argparse.Namespace, options: Mapping[str, Any], beside: str) -> dict[str, Any]:
    """Options of a store with ``--max-rate``, where the option `beside` does not set it too.

    Raises
    ------
    ArgumentError
    """
    if args.max_rate is None:
        return dict(options)
    if "max_rate" in options:
        raise ArgumentError(f"--max-rate and {beside} both set max_rate")
    return {**options, "max_rate": args.max_rate}


def target_url(args: argparse.Namespace) -> Any:
    """The second URL of a command: where it writes to, or whose labels it writes; None if none."""
    out = getattr(args, "out", None)
    return getattr(args, "labels_of", None) if out is None else out


def target_options(args: argparse.Namespace) -> Mapping[str, Any]:
    """Options of fsspec for the store of the second URL.

    Without ``--target-options``, those of the first URL if both are at one endpoint then.
    ``--endpoint-url`` is that of the second one if the first is a local file.
    """
    given: Mapping[str, Any] | None = args.target_options
    if _is_endpoint_of_target(args):
        options = dict(given or {})
        protocol = split_url(target_url(args))[0].protocol
        _set(options, "--endpoint-url", args.endpoint_url, protocol, "--target-options")
        return _with_rate(args, options, "--target-options")
    if given is not None:
        return _with_rate(args, given, "--target-options")
    # A public bucket that can be read anonymously cannot be written anonymously.
    options = {name: value for name, value in url_options(args).items() if name != "anon"}
    from cloudimg.storage import endpoint_of

    both = (args.url, target_url(args))
    first, second = (endpoint_of(split_url(each)[0], options) for each in both)
    return options if first is not None and first == second else _with_rate(args, {}, "")


def _is_endpoint_of_target(args: argparse.Namespace) -> bool:
    """Whether ``--endpoint-url`` can only be meant for the second URL, since disks have none."""
    target = target_url(args)
    if target is None or args.endpoint_url is None or "::" in args.url or "::" in target:
        return False
    first, second = (split_url(each)[0].protocol for each in (args.url, target))
    return first == "file" and second in _ABBREVIATIONS["--endpoint-url"]


def _set(options: dict[str, Any], option: str, value: Any, protocol: str, beside: str) -> None:
    """Set what a short option stands for in the options of a protocol.

    Raises
    ------
    ArgumentError
        If the protocol has no such option, or if `beside`, the option that holds JSON, sets it
        too.
    """
    if value is None:
        return
    if protocol not in _ABBREVIATIONS[option]:
        raise ArgumentError(f"{option} does not apply to {protocol}://")
    name = _ABBREVIATIONS[option][protocol]
    if name in options or name in options.get("client_kwargs", {}):
        raise ArgumentError(f"{option} and {beside} both set {name}")
    options[name] = "anon" if name == "token" else value


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


def _rate(text: str) -> str:
    try:
        parse_rate("--max-rate", text)
    except ArgumentError:
        raise argparse.ArgumentTypeError(f"must be {RATE}") from None
    return text


def _series(text: str) -> int | str:
    if text == "all":
        return text
    if not re.fullmatch(r"-?\d+", text):
        raise argparse.ArgumentTypeError("must be a number, or all")
    return int(text)


def _renaming(text: str) -> tuple[str, str]:
    if not re.fullmatch(r"\w+=\w+", text):
        raise argparse.ArgumentTypeError(
            "must be OLD=NEW, such as page=z; put the URL before this option"
        )
    old, new = text.split("=")
    return old, new


def selected(text: str) -> list[tuple[str, str]]:
    """Parse what is to be selected along axes, such as ``c=DAPI,z=0:10``."""
    parts: list[tuple[str, str]] = []
    for part in text.split(","):
        axis, is_axis, value = part.partition("=")
        if is_axis and value and re.fullmatch(r"\w+", axis):
            parts.append((axis, value))
        elif parts and part:
            parts.append((parts[-1][0], part))  # c=DAPI,GFP
        else:
            raise argparse.ArgumentTypeError(
                "must be AXIS=LABEL or AXIS=FIRST:LAST, separated by commas, as in c=DAPI,z=0:10"
            )
    return parts


def selection(parts: Sequence[tuple[str, str]]) -> dict[str, str | list[str]] | None:
    """What is selected, by axis: a list where an axis is repeated; None if nothing is."""
    given: dict[str, list[str]] = {}
    for axis, value in parts:
        given.setdefault(axis, []).append(value)
    return {axis: v if len(v) > 1 else v[0] for axis, v in given.items()} or None
