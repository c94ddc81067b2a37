"""``cloudimg repair``."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from cloudimg.cli.clients import add_cluster_options, client_for
from cloudimg.cli.copies import ShowProgress, spoken
from cloudimg.cli.questions import confirm
from cloudimg.cli.session import Session
from cloudimg.cli.stores import add_store, json_object, source_options, url_options
from cloudimg.errors import CloudimgError, ProblemsError, counted

if TYPE_CHECKING:
    from cloudimg.migration.deletion import Deletion, Opening


def repair(args: argparse.Namespace, session: Session) -> Iterator[str]:
    """Run ``cloudimg repair``; yield lines to print.

    Raises
    ------
    ProblemsError
        At the end, if there are problems that were not mended.
    """
    import cloudimg

    with client_for(args, session) as client:
        done = cloudimg.repair(
            args.url,
            from_source=True if args.yes else None,
            source=args.source[0] if args.source and len(args.source) == 1 else args.source,
            dry_run=args.dry_run,
            remove_orphans=args.yes,
            new_documents=args.new_documents,
            replace_edits=args.replace_edits,
            confirm=partial(_may, session),
            storage_options=url_options(args),
            source_options=source_options(args),
            max_mem=args.max_mem,
            client=client,
            progress=ShowProgress(args, session),
        )
    session.result(done.to_json())
    yield spoken(args, [str(done)])[0]
    if done:
        return
    left = f"{counted(done.n_problems, 'problem')} in {done.url}"
    if args.dry_run:
        left += ": cloudimg repair without --dry-run mends what can be mended"
    elif done.n_orphaned:
        orphaned = counted(done.n_orphaned, "object does", "objects do")
        left += f": {orphaned} not belong to the copy, and --yes deletes them"
    raise ProblemsError(left, url=done.url)


def _may(session: Session, about: Deletion | Opening) -> bool:
    """Ask whether a repair may delete what is in the way, or open what the copy names.

    Without a terminal it may not; what is left then is reported.
    """
    from dask.utils import format_bytes

    from cloudimg.migration.deletion import Deletion

    session.line("")
    if isinstance(about, Deletion):
        objects = counted(about.n_objects, "object")
        verb = "does" if about.n_objects == 1 else "do"
        size = format_bytes(about.n_bytes)
        facts = f"{about.url} holds {objects} of {size} in all that {verb} not belong to the copy"
        question = f"Delete {'it' if about.n_objects == 1 else 'them'}?"
    else:
        facts = (
            f"only the source has what is needed, and {about.url} says that it was made of files in"
            f" {about.place}"
        )
        question = "Open them with your rights?"
    with suppress(CloudimgError):
        confirm(facts, question, "")
        return True
    return False


def add_repair(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``cloudimg repair``."""
    parser.description = (
        "Verify a copy, and store again what is missing or damaged: from the copy itself where that"
        " is possible, and what is damaged at level 0 from the source, of which only the files of"
        " that part are read. Lists what is beyond repair; the exit code is 1 if anything is left."
        " What others edited or added stays."
    )
    add = parser.add_argument
    add("url", metavar="COPY", help="copy that cloudimg migrate wrote")
    add("--source", metavar="SRC", nargs="+",
        help="make what is damaged at level 0 from this source: where it was when it was copied, or"
        " is now; default: the one that the copy names, which asks first if that is in another"
        " bucket or on another host than COPY, and not on a local disk")  # fmt: skip
    add("--dry-run", action="store_true", help="list the problems; change nothing")
    add("--new-documents", action="store_true",
        help="write the metadata of COPY anew by the rules of this version, from the source or from"
        " what COPY has of it: colours, names, units, OME-XML; no pixels are read or stored, and"
        " what others edited stays")  # fmt: skip
    add("--replace-edits", action="store_true",
        help="with --new-documents: replace what others edited, too")  # fmt: skip
    add("--yes", action="store_true",
        help="do not ask: open the source that the copy names, wherever that is, and delete objects"
        " among those of the copy that do not belong to it; edits of others stay")  # fmt: skip
    add("--source-options", metavar="JSON", type=json_object,
        help="options of fsspec for the source; default: those of COPY if the source was copied"
        " from the same endpoint, else none")  # fmt: skip
    add_cluster_options(parser)
    add_store(parser, url_name="COPY")
