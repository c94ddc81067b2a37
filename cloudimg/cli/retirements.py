"""``cloudimg retire``."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from cloudimg.cli.clients import add_cluster_options, client_for
from cloudimg.cli.copies import ShowProgress, spoken
from cloudimg.cli.questions import confirm
from cloudimg.cli.session import Session
from cloudimg.cli.stores import add_store, json_object, source_options, url_options
from cloudimg.errors import ArgumentError, ProblemsError

if TYPE_CHECKING:
    from cloudimg.migration.deletion import Opening


def retire(args: argparse.Namespace, session: Session) -> Iterator[str]:
    """Run ``cloudimg retire``; yield lines to print.

    Raises
    ------
    ProblemsError
        At the end, if files were left as they are.
    """
    import cloudimg
    from cloudimg.migration.retire.result import left_in_words

    if args.undo and args.execute:
        raise ArgumentError("--undo goes back at once: leave out --execute")
    with client_for(args, session) as client:
        done = cloudimg.retire(
            args.url,
            tag=None if args.tag is None else dict([args.tag]),
            move_to=args.move_to,
            undo=args.undo,
            execute=args.execute,
            source=args.source[0] if args.source and len(args.source) == 1 else args.source,
            confirm=partial(_may, args, session),
            storage_options=url_options(args),
            source_options=source_options(args),
            max_mem=args.max_mem,
            client=client,
            progress=ShowProgress(args, session),
        )
    session.result(done.to_json())
    yield spoken(args, [str(replace(done, notes=spoken(args, done.notes)))])[0]
    if not done:
        raise ProblemsError(left_in_words(done))


def _may(args: argparse.Namespace, session: Session, about: Opening) -> bool:
    """Ask whether files may be acted on that whoever wrote the copy has chosen."""
    if args.yes:
        return True
    session.line("")
    confirm(
        f"{about.url} says that it was made of files in {about.place}",
        "Act on them with your rights?",
        "to have them acted on with your rights, add --yes, or name the source with --source",
    )
    return True


def add_retire(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``cloudimg retire``."""
    parser.description = (
        "Tag or move the files that a copy was made of. Without --execute, list what would be done,"
        " and what is not in the copy. With it, compare all pixels first, read a sample with"
        " another reader, and store a list with the way back in the copy. Files that changed since"
        " are left. After an interruption, the same command continues. Deletes no file: that is"
        " left to a lifecycle rule of the store."
    )
    add = parser.add_argument
    add("url", metavar="COPY", help="finished copy that cloudimg migrate wrote")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--tag", metavar="KEY=VALUE", type=_tag,
        help="tag each file: object tags in S3, custom metadata in Google Cloud")  # fmt: skip
    what.add_argument("--move-to", metavar="URL",
        help="move the files to a folder of the same store, which moves them itself")  # fmt: skip
    what.add_argument("--undo", action="store_true",
        help="go back: take the tag away, or move the files to where they were")  # fmt: skip
    add("--execute", action="store_true", help="do it")
    add("--source", metavar="SRC", nargs="+",
        help="the source that the copy was made of, which is then acted on without asking; default:"
        " the one that the copy names, which asks first if that is in another bucket or on another"
        " host than COPY, and not on a local disk")  # fmt: skip
    add("--yes", action="store_true",
        help="act on the source that the copy names, wherever that is, without asking")  # fmt: skip
    add("--source-options", metavar="JSON", type=json_object,
        help="options of fsspec for the source; default: those of COPY if the source was copied"
        " from the same endpoint, else none")  # fmt: skip
    add_cluster_options(parser)
    add_store(parser, url_name="COPY")


def _tag(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise argparse.ArgumentTypeError("must be KEY=VALUE, such as retired=yes")
    return name, value
