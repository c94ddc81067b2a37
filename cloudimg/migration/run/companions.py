"""Reads the files with metadata beside the images, which a copy is to keep."""

from __future__ import annotations

from dataclasses import replace

from cloudimg.errors import ArgumentError
from cloudimg.errors.notes import Note
from cloudimg.migration.metadata.companions import (
    LEFT_OUT,
    MOST_BYTES,
    MOST_FILES,
    is_storable,
    packed,
)
from cloudimg.migration.metadata.facts import ImageFacts
from cloudimg.migration.plan.places import COMPANIONS
from cloudimg.migration.plan.request import WriteRequest
from cloudimg.migration.run.inputs import ImageInput
from cloudimg.migration.run.write_input import WriteInput


def with_companions(
    facts: ImageFacts, write_input: WriteInput, request: WriteRequest
) -> ImageFacts:
    """The facts of a copy with the files beside its images, if they are requested.

    Up to 1,000 files and 16 MiB are read, in the order of their names. A file that does not fit is
    left out and named in a note.

    Raises
    ------
    ArgumentError
        If the folder of the images was not listed, so that it is not known what else is there.
    StorageError
        If a file cannot be read.
    """
    if not request.companions:
        return facts
    unmatched, pixels = write_input.unmatched, write_input.pixels
    if unmatched is None or unmatched.is_narrow or not isinstance(pixels, ImageInput):
        raise ArgumentError(
            "companions=True copies what the folder of the images has beside them, which was not"
            " listed: migrate a pattern or a glob"
        )
    store = pixels.source.reader.store
    left, n_left_out, examples = MOST_BYTES, 0, list[str]()
    found: list[tuple[str, str]] = []
    for name in unmatched.companion_names:
        path = name.removeprefix(f"{unmatched.folder}/")
        if is_storable(path) and len(found) < MOST_FILES:
            data = bytes(store.get(store.location.key_of(name), 0, left + 1).data)
            if len(data) <= left:
                left -= len(data)
                found.append((path, packed(data)))
                continue
        n_left_out += 1
        examples.append(store.location.display_text(name))
    n_left_out += unmatched.n_companions - len(unmatched.companion_names)
    facts = replace(facts, companions=tuple(found))
    if not n_left_out:
        return facts
    most = f"{MOST_FILES:,} files and {MOST_BYTES // 2**20} MiB"
    text = f"not copied into {COMPANIONS}/, which has up to {most}, and no metadata of Zarr"
    return facts.with_notes([Note(text, kind=LEFT_OUT, n_files=n_left_out, urls=examples)])
