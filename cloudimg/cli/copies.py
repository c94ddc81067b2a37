"""The commands that make, check and export copies: ``cloudimg migrate``, ``verify``, ``export``."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from cloudimg.cli.clients import (
    Line,
    add_cluster_options,
    add_scheduler_options,
    client_at,
    client_for,
)
from cloudimg.cli.following import add_follow, followed, refuse_options
from cloudimg.cli.messages import notice, option_names, printable, speak_options
from cloudimg.cli.questions import confirm
from cloudimg.cli.reports import reported, write_report
from cloudimg.cli.stores import (
    add_opening,
    add_store,
    add_target_store,
    file_options,
    json_object,
    source_options,
    target_options,
    target_url,
    url_options,
)
from cloudimg.cli.values import by_axis, codec, extents, price, sample, sizes, steps
from cloudimg.errors import ArgumentError, CloudimgError, counted
from cloudimg.errors.notes import MARK, Note

if TYPE_CHECKING:
    from cloudimg.migration.deletion import Deletion
    from cloudimg.migration.progress import Advance


def migrate(args: argparse.Namespace, line: Line) -> Iterator[str]:
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
        "rgb": args.rgb,
        **file_options(args),
    }
    if args.dry_run:
        if args.labels_of is not None:
            raise ArgumentError("--labels-of and --dry-run exclude each other")
        # No cluster is started for it, and one that is running is not asked for its memory.
        with client_at(args) as client:
            estimate = cloudimg.dry_run(
                args.url,
                storage_options=url_options(args),
                prices=dict(args.price),
                client=client,
                **planned,
            )
        if args.json:
            yield json.dumps(estimate.to_json())
        else:
            yield from replace(estimate, notes=spoken(args, estimate.notes)).lines()
        return
    if args.json or args.price:
        raise ArgumentError("--json and --price need --dry-run")
    if args.follow:
        yield from _follow(args, line, planned)
        return
    notes: list[str] = []
    with reported(args.report), client_for(args, line) as client:
        try:
            done = cloudimg.migrate(
                args.url,
                args.out,
                labels_of=args.labels_of,
                source_options=url_options(args),
                target_options=target_options(args),
                overwrite=args.overwrite,
                yes=args.yes,
                confirm=partial(_confirm_deletion, line),
                resume=args.resume,
                part=args.part,
                client=client,
                progress=show_progress(args, line, notes),
                **planned,
            )
        except BaseException:
            for note in spoken(args, notes):  # of a finished copy, they are printed below
                notice(note)
            raise
        # Before the cluster is stopped, which may fail.
        text = str(replace(done, notes=spoken(args, done.notes)))
        yield text if done.part is None else spoken(args, [text])[0]
        if args.report:
            # A report without bad files is false.
            no_report = cloudimg.FileReport(n_files=0)
            write_report(args.report, no_report if done.report is None else done.report)


def _follow(args: argparse.Namespace, line: Line, planned: Mapping[str, Any]) -> Iterator[str]:
    """Follow a source; each line is printed when it is said, and the last result's are yielded."""

    def say(text: str) -> None:
        line("")
        print(*spoken(args, [printable(text)]), flush=True)

    given = {
        **planned,
        "source_options": url_options(args),
        "target_options": target_options(args),
        "resume": args.resume,
        "progress": show_progress(args, line, []),
    }
    done = followed(args, say, given)
    if done is not None:
        yield from (f"note: {note}" for note in spoken(args, done.notes))


def _refuse_beside_part(args: argparse.Namespace) -> None:
    for option in ("cluster", "scheduler", "dry_run"):
        if getattr(args, option):
            shown = option.replace("_", "-")
            raise ArgumentError(
                f"--part and --{shown} exclude each other: each part is done by one process"
            )


def _confirm_deletion(line: Line, deletion: Deletion) -> bool:
    """Ask before a migration deletes what its destination holds.

    Raises
    ------
    CloudimgError
        If the user declines, or if standard input or standard error is not a terminal.
    """
    from dask.utils import format_bytes

    line("")
    objects = counted(deletion.n_objects, "object")
    confirm(
        f"{deletion.url} holds {objects} of {format_bytes(deletion.n_bytes)} in all",
        f"Delete {'it' if deletion.n_objects == 1 else 'them'}?",
        "to delete without being asked, add --yes",
    )
    return True


def verify(args: argparse.Namespace, line: Line) -> Iterator[str]:
    """Run ``cloudimg verify``; yield lines to print.

    Raises
    ------
    CloudimgError
        At the end, if there are problems.
    """
    import cloudimg

    storage_options = url_options(args)
    with client_for(args, line) as client:
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
            progress=show_progress(args, line),
        )
    line("")
    if args.json:
        yield json.dumps(verification.to_json())
    else:
        yield str(replace(verification, notes=spoken(args, verification.notes)))
    if not verification:
        raise CloudimgError(f"{counted(verification.n_problems, 'problem')} in {verification.url}")


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


def export(args: argparse.Namespace, line: Line) -> Iterator[str]:
    """Run ``cloudimg export``; yield lines to print."""
    import cloudimg
    from cloudimg.api.copies import notes_of_copy

    with client_at(args) as client:
        exported = cloudimg.export(
            args.url,
            args.out,
            layout=args.layout,
            compression=None if args.compression == "none" else args.compression,
            overwrite=args.overwrite,
            source_options=url_options(args),
            target_options=target_options(args),
            client=client,
            progress=lambda what, count: line(f"{what}: {count}"),
        )
        yield f"{counted(exported.n_files, 'file')} written to {args.out}{exported.before}"
        yield from map(str, exported.not_written)
        notes = notes_of_copy(args.url, url_options(args), client=client)
    yield from (f"note: {note}" for note in spoken(args, notes))


def spoken(args: argparse.Namespace, notes: Iterable[str]) -> tuple[str, ...]:
    """Notes of the library in terms of the command's options."""
    names, given = option_names(args), [args.url, target_url(args)]
    return tuple(
        speak_options(note, names, [*given, *(note.urls if isinstance(note, Note) else ())])
        for note in notes
    )


def show_progress(
    args: argparse.Namespace, line: Line, notes: list[str] | None = None
) -> Callable[[Advance], None]:
    """Show progress on stderr; collect notes on the source in a list, if one is given."""

    def show(advance: Advance) -> None:
        if advance.note and notes is not None and advance.note.startswith(MARK):
            notes.append(advance.note)
        elif advance.note:
            line("")
            notice(*spoken(args, [advance.note]))
        else:
            line(advance.line())

    return show


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
        help="report planned reads, writes and cost; write nothing")  # fmt: skip
    add("--json", action="store_true", help="with --dry-run: print one JSON object")
    add("--price", metavar="KIND=DOLLARS", type=price, nargs="+", action="extend", default=[],
        help="with --dry-run: price of a thousand requests, such as put=0.005")  # fmt: skip
    add("--report", metavar="FILE",
        help="write the list of all missing and bad files to a local file: as JSON, or as a table"
        " if its name ends in .txt")  # fmt: skip
    add("--allow-unmatched", action="store_true",
        help="copy although the pattern leaves out image files of its folder")  # fmt: skip
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
    add("--json", action="store_true", help="print one JSON object")
    add("--sample", metavar="N", type=sample,
        help="compare only N cells, or a fraction such as 0.1, chosen at random")  # fmt: skip
    add("--source-options", metavar="JSON", type=json_object,
        help="options of fsspec for the source; default: those of COPY if the source was copied"
        " from the same endpoint, else none")  # fmt: skip
    add_cluster_options(parser)
    add_store(parser, url_name="COPY")


def add_export(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``cloudimg export``."""
    parser.description = (
        "Write TIFF files from a copy: the original files under their names, or one OME-TIFF per"
        " image. After an interruption, the same command continues. Lists what the files lack of"
        " the originals."
    )
    add = parser.add_argument
    add("url", metavar="COPY", help="copy that cloudimg migrate wrote")
    add("out", metavar="FOLDER", help="folder for the files, in any writable store")
    add("--layout", choices=["originals", "ome-tiff"], default="originals",
        help="the original files, or one OME-TIFF per image; default: %(default)s")  # fmt: skip
    add("--compression", choices=["zlib", "zstd", "lzw", "lzma", "packbits", "none"],
        default="zlib",
        help="lossless compression of the files; default: %(default)s")  # fmt: skip
    add("--overwrite", action="store_true",
        help="replace files that this export did not write")  # fmt: skip
    add_scheduler_options(parser)
    add_target_store(parser, "COPY", "FOLDER")
    add_store(parser, "--source-options", url_name="COPY")
