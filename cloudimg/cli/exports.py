"""``cloudimg export``."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from cloudimg.cli.clients import add_scheduler_options, client_at
from cloudimg.cli.copies import spoken
from cloudimg.cli.session import Session
from cloudimg.cli.stores import add_store, add_target_store, target_options, url_options
from cloudimg.errors import counted


def export(args: argparse.Namespace, session: Session) -> Iterator[str]:
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
            progress=session.progress,
        )
        session.result(
            {
                "url": session.hide(args.url),
                "out": session.hide(args.out),
                **exported.to_json(),
                "notes": [],
            }
        )
        yield f"{counted(exported.n_files, 'file')} written to {args.out}{exported.before}"
        yield from map(str, exported.not_written)
        notes = notes_of_copy(args.url, url_options(args), client=client)
    told = spoken(args, notes)
    session.result({"notes": list(told)})
    yield from (f"note: {note}" for note in told)


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
