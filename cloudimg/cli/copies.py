"""The command that makes copies: ``cloudimg migrate``."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from cloudimg.cli.clients import add_cluster_options, client_at, client_for
from cloudimg.cli.following import add_follow, followed, refuse_options
from cloudimg.cli.messages import option_names, speak_options
from cloudimg.cli.questions import confirm
from cloudimg.cli.reports import reported, write_report
from cloudimg.cli.session import Session
from cloudimg.cli.stores import (
    add_opening,
    add_target_store,
    file_options,
    target_options,
    target_url,
    url_options,
)
from cloudimg.cli.values import by_axis, codec, extents, price, sizes, steps
from cloudimg.errors import ArgumentError, ProblemsError, counted
from cloudimg.errors.notes import MARK, Note

if TYPE_CHECKING:
    from cloudimg.cli.progress import Progress
    from cloudimg.migration.deletion import Deletion
    from cloudimg.migration.progress import Advance


def migrate(args: argparse.Namespace, session: Session) -> Iterator[str]:
    """Run ``cloudimg migrate``; yield lines to print."""
    import cloudimg

    if args.part is not None:
        _refuse_beside_part(args)
    refuse_options(args)
    planned: Any = {
        **({} if args.zarr_format is None else {"zarr_format": args.zarr_format}),
        "chunks": extents(args.chunks),
        "shards": extents(args.shards),
        "levels": args.levels,
        "factors": steps(args.factors),
        "downsampling": args.downsampling,
        "codec": codec(args.codec),
        "name": args.name,
        "pixel_size": dict(args.pixel_size) or None,
        "plate": args.plate,
        "overview": args.overview,
        "grow": args.grow,
        "max_mem": args.max_mem,
        "allow_unmatched": args.allow_unmatched,
        "companions": args.companions,
        "rgb": args.rgb,
        **file_options(args),
    }
    if args.dry_run:
        if args.labels_of is not None:
            raise ArgumentError("--labels-of and --dry-run exclude each other")
        yield from _dry_run(args, session, planned)
        return
    if args.price or args.probe:
        raise ArgumentError("--price and --probe need --dry-run")
    if args.follow:
        yield from _follow(args, session, planned)
        return
    notes: list[str] = []
    with reported(args.report), client_for(args, session) as client:
        try:
            done = cloudimg.migrate(
                args.url,
                args.out,
                labels_of=args.labels_of,
                source_options=url_options(args),
                target_options=target_options(args),
                overwrite=args.overwrite,
                yes=args.yes,
                confirm=partial(_confirm_deletion, session),
                resume=args.resume,
                part=args.part,
                client=client,
                progress=ShowProgress(args, session, notes),
                **planned,
            )
        except BaseException:
            for note in spoken(args, notes):  # of a finished copy, they are printed below
                session.notice(note)
            raise
        # Before the cluster is stopped, which may fail.
        session.result(done.to_json())
        text = str(replace(done, notes=spoken(args, done.notes)))
        yield text if done.part is None else spoken(args, [text])[0]
        if args.report:
            # A report without bad files is false.
            no_report = cloudimg.FileReport(n_files=0)
            write_report(args.report, no_report if done.report is None else done.report)


def _dry_run(
    args: argparse.Namespace, session: Session, planned: Mapping[str, Any]
) -> Iterator[str]:
    """Report what a migration would do.

    Raises
    ------
    ProblemsError
        At the end, if it would be refused.
    """
    import cloudimg

    # No cluster is started for it, and one that is running is not asked for its memory.
    with client_at(args) as client:
        estimate = cloudimg.dry_run(
            args.url,
            args.out,
            storage_options=url_options(args),
            target_options=target_options(args),
            overwrite=args.overwrite,
            yes=args.yes,
            resume=args.resume,
            probe=args.probe,
            prices=dict(args.price),
            client=client,
            **planned,
        )
    told = estimate.spoken(partial(spoken, args))
    about_files = estimate.to_json()["source_notes"]  # notes in words are texts
    session.result({**told.to_json(), "source_notes": about_files})
    yield from told.lines()
    found = told.destination
    if found is not None and found.problems:
        n_problems = counted(len(found.problems), "problem")
        raise ProblemsError(f"the migration would be refused: {n_problems} with {found.url}")


def _follow(
    args: argparse.Namespace, session: Session, planned: Mapping[str, Any]
) -> Iterator[str]:
    """Follow a source; each line is said at once, and those of the last result are yielded."""

    def say(text: str) -> None:
        session.say(*spoken(args, [text]))

    given = {
        **planned,
        "source_options": url_options(args),
        "target_options": target_options(args),
        "resume": args.resume,
        "progress": ShowProgress(args, session, []),
    }
    session.result({"is_unchanged": True, "url": session.hide(args.out)})
    done = followed(args, say, given)
    if done is not None:
        session.result(done.to_json())
        yield from (f"note: {note}" for note in spoken(args, done.notes))


def _refuse_beside_part(args: argparse.Namespace) -> None:
    for option in ("cluster", "scheduler", "dry_run"):
        if getattr(args, option):
            shown = option.replace("_", "-")
            raise ArgumentError(
                f"--part and --{shown} exclude each other: each part is done by one process"
            )


def _confirm_deletion(session: Session, deletion: Deletion) -> bool:
    """Ask before a migration deletes what its destination holds.

    Raises
    ------
    CloudimgError
        If the user declines, or if standard input or standard error is not a terminal.
    """
    from dask.utils import format_bytes

    session.line("")
    objects = counted(deletion.n_objects, "object")
    confirm(
        f"{deletion.url} holds {objects} of {format_bytes(deletion.n_bytes)} in all",
        f"Delete {'it' if deletion.n_objects == 1 else 'them'}?",
        "to delete without being asked, add --yes",
    )
    return True


def spoken(args: argparse.Namespace, notes: Iterable[str]) -> tuple[str, ...]:
    """Notes of the library in terms of the command's options."""
    names, given = option_names(args), [args.url, target_url(args)]
    return tuple(
        speak_options(note, names, [*given, *(note.urls if isinstance(note, Note) else ())])
        for note in notes
    )


@dataclass(frozen=True, slots=True)
class ShowProgress:
    """Show progress on stderr; collect notes on the source in a list, if one is given."""

    args: argparse.Namespace
    session: Session
    notes: list[str] | None = None

    def __call__(self, advance: Advance) -> None:
        """Show a cell that is done, or a note."""
        if advance.note and self.notes is not None and advance.note.startswith(MARK):
            self.notes.append(advance.note)
        elif advance.note:
            self.session.notice(*spoken(self.args, [advance.note]))
        else:
            self.session.line(advance.line())

    @property
    def counts(self) -> Progress:
        """Shows how many names are listed, or headers read."""
        return self.session.progress


# ----------------------------------------------------------------------------------------- options


def add_migrate(parser: argparse.ArgumentParser, *, writes_labels: bool) -> None:
    """Arguments of ``cloudimg migrate``; a destination may be left out for labels only.

    Where it may be, argparse does not find it behind options.
    """
    parser.description = (
        "Write the image at a URL (a pattern, a file) to a sharded OME-Zarr. After an interruption,"
        " the same command continues. Refuses a destination that holds anything else."
    )
    add = parser.add_argument
    add("url", metavar="SRC", help="pattern or file, in any store that fsspec supports")
    either = parser.add_mutually_exclusive_group(required=writes_labels)
    (either if writes_labels else parser).add_argument("out", metavar="DST",
        nargs="?" if writes_labels else None,
        help="folder for the copy: S3, Google Cloud, Azure or local")  # fmt: skip
    either.add_argument("--labels-of", metavar="COPY",
        help="instead of DST: write labels of this image of OME-Zarr, into its folder labels/NAME;"
        " NAME is that of --name, or of the files")  # fmt: skip
    add("--dry-run", action="store_true",
        help="report planned reads, writes and cost, what the copy would lack, and what speaks"
        " against DST; write nothing. The exit code is 1 if the migration would be"
        " refused")  # fmt: skip
    add("--price", metavar="KIND=DOLLARS", type=price, nargs="+", action="extend", default=[],
        help="with --dry-run: price of a thousand requests (put, get, list), of a GiB stored for a"
        " month (storage) or read from SRC (egress), such as put=0.005 storage=0.023")  # fmt: skip
    add("--probe", action="store_true",
        help="with --dry-run: store an object of a few bytes at DST and delete it, to find out"
        " whether that can be done")  # fmt: skip
    add("--report", metavar="FILE",
        help="write the list of all missing and bad files to a local file: as JSON, or as a table"
        " if its name ends in .txt")  # fmt: skip
    add("--allow-unmatched", action="store_true",
        help="copy although the pattern leaves out image files of its folder")  # fmt: skip
    add("--companions", action="store_true",
        help="copy the files with metadata beside the images (such as Index.xml), too, into the"
        " folder companions of DST")  # fmt: skip
    add("--zarr-format", type=int, choices=[3, 2],
        help="3: OME-Zarr 0.5 with shards; 2: OME-Zarr 0.4 for older viewers; default: 3, and for"
        " labels that of their image")  # fmt: skip
    add("--chunks", metavar="AXIS=N,...", type=by_axis,
        help="shape of the chunks that viewers read; a single N is for y and x")  # fmt: skip
    add("--shards", metavar="AXIS=N,...", type=by_axis, help="shape of the stored objects")
    add("--levels", metavar="N", type=int, help="number of resolution levels, including level 0")
    add("--factors", metavar="AXIS=N,...", type=by_axis, action="append",
        help="downsampling from each level to the next; once, or once per step")  # fmt: skip
    add("--downsampling", choices=["mean", "nearest", "mode"],
        help="mean for images, nearest or mode for labels; default: what the headers"
        " say")  # fmt: skip
    add("--rgb", action="store_true",
        help="convert CMYK, YCbCr, CIELab and palettes to RGB of 8 bits")  # fmt: skip
    add("--codec", metavar="NAME[:LEVEL]", help="blosc, zstd, none, or a codec of Zarr 3 as JSON")
    add("--pixel-size", metavar="AXIS=SIZE", type=sizes, action="extend", default=[],
        help="distance of the pixels, instead of what the headers say, as in x=325nm,y=325nm,z=2um;"
        " a single SIZE is for y and x; without a unit, micrometers, and seconds of t")  # fmt: skip
    add("--name", metavar="TEXT", help="name of the image in viewers")
    add("--plate", action=argparse.BooleanOptionalAction,
        help="copy the images as the fields of a plate, or one by one; default: as a plate if an"
        " axis is well, or two are row and col")  # fmt: skip
    add("--overview", action="store_true", default=None,
        help="add one array with a small image of each image")  # fmt: skip
    add("--grow", metavar="AXIS",
        help="make a copy that may grow along a field of the pattern, such as t: the same command"
        " adds what came later")  # fmt: skip
    add("--overwrite", action="store_true",
        help="delete what is at DST if it is anything else; asks first")  # fmt: skip
    add("--yes", action="store_true",
        help="with --overwrite: delete without asking, even if a process that cannot be seen from"
        " here may still be deleting there")  # fmt: skip
    add("--no-resume", dest="resume", action="store_false",
        help="refuse to continue an interrupted migration")  # fmt: skip
    add("--part", metavar="I/N",
        help="do part I of N of the work, I from 0, as one job of an array; when all have ended,"
        " the same command without --part finishes the copy")  # fmt: skip
    add_follow(parser)
    add_target_store(parser, "SRC", "DST")
    add_cluster_options(parser)
    add_opening(parser, missing="raise", options_name="--source-options", url_name="SRC")
