"""``cloudimg index``."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from cloudimg.cli.clients import add_scheduler_options, client_at
from cloudimg.cli.session import Session
from cloudimg.cli.stores import (
    add_opening,
    add_target_store,
    file_options,
    target_options,
    url_options,
)


def add_index(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``cloudimg index``."""
    parser.description = (
        "Store the table of the files of an image, with sizes, ETags, headers, and what is known of"
        " each file: cloudimg opens the table without listing files or reading headers."
    )
    add = parser.add_argument
    add("url", metavar="SRC", help="pattern, folder or table, in any store that fsspec supports")
    add("-o", "--out", metavar="PARQUET", required=True,
        help="table to write, NAME.parquet; an existing one is replaced")  # fmt: skip
    add(
        "--segments",
        action="store_true",
        help="store the headers of all files, so that pixels are read without reading them",
    )
    add_scheduler_options(parser)
    add_opening(parser, options_name="--source-options", url_name="SRC", missing="raise")
    add_target_store(parser, "SRC", "PARQUET")
    parser.set_defaults(validate="all")


def index(args: argparse.Namespace, session: Session) -> Iterator[str]:
    """Run ``cloudimg index``; yield lines to print."""
    import cloudimg

    with client_at(args) as client:
        done = cloudimg.index(
            args.url,
            args.out,
            segments=args.segments,
            source_options=url_options(args),
            target_options=target_options(args),
            client=client,
            progress=session.progress,
            **file_options(args),
        )
    session.result(done.to_json())
    yield str(done)
