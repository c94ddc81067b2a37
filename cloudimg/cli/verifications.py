"""The command that checks copies: ``cloudimg verify``."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from cloudimg.cli.clients import add_cluster_options, client_for
from cloudimg.cli.copies import ShowProgress, spoken
from cloudimg.cli.questions import confirm
from cloudimg.cli.session import Session
from cloudimg.cli.stores import add_store, json_object, source_options, url_options
from cloudimg.cli.values import sample
from cloudimg.errors import ProblemsError, counted


def verify(args: argparse.Namespace, session: Session) -> Iterator[str]:
    """Run ``cloudimg verify``; yield lines to print.

    Raises
    ------
    ProblemsError
        At the end, if there are problems.
    """
    import cloudimg

    storage_options = url_options(args)
    with client_for(args, session) as client:
        if args.against_source and args.source is None and not args.yes:
            _confirm_source(args, storage_options, client)
        verification = cloudimg.verify(
            args.url,
            against_source=args.against_source,
            source=args.source[0] if args.source and len(args.source) == 1 else args.source,
            sample=args.sample,
            storage_options=storage_options,
            source_options=source_options(args),
            max_mem=args.max_mem,
            client=client,
            progress=ShowProgress(args, session),
        )
    session.result(verification.to_json())
    yield str(replace(verification, notes=spoken(args, verification.notes)))
    if not verification:
        raise ProblemsError(
            f"{counted(verification.n_problems, 'problem')} in {verification.url}",
            url=verification.url,
        )


def _confirm_source(
    args: argparse.Namespace, storage_options: Mapping[str, Any], client: Any
) -> None:
    """Ask before files are opened that whoever wrote a copy has chosen.

    Raises
    ------
    CloudimgError
        If the user declines, or if standard input or standard error is not a terminal.
    """
    from cloudimg.api.recorded_source import unnamed_place

    place = unnamed_place(args.url, storage_options, source_options(args), client=client)
    if place is not None:
        confirm(
            f"{args.url} says that it was made of files in {place}",
            "Open them with your rights?",
            "to have them opened with your rights, add --yes, or name the source with --source",
        )


def add_verify(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``cloudimg verify``."""
    parser.description = (
        "Read all of a copy again and check it against its checksums, commit records and metadata."
        " Lists all problems; the exit code is 1 if there are any. What others edited or added"
        " (attributes, labels, tables) is listed, and is not a problem."
    )
    add = parser.add_argument
    add("url", metavar="COPY", help="copy that cloudimg migrate wrote")
    add("--against-source", action="store_true",
        help="compare the pixels with the source that the copy names, too; asks first if that is"
        " in another bucket or on another host than COPY, and not on a local disk")  # fmt: skip
    add("--source", metavar="SRC", nargs="+",
        help="compare the pixels with this source: where it was when it was copied, or is"
        " now")  # fmt: skip
    add("--yes", action="store_true",
        help="open the source that the copy names, wherever that is, without asking")  # fmt: skip
    add("--sample", metavar="N", type=sample,
        help="compare only N cells, or a fraction such as 0.1, chosen at random")  # fmt: skip
    add("--source-options", metavar="JSON", type=json_object,
        help="options of fsspec for the source; default: those of COPY if the source was copied"
        " from the same endpoint, else none")  # fmt: skip
    add_cluster_options(parser)
    add_store(parser, url_name="COPY")
