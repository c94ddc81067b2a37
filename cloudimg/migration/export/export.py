"""Export a copy to TIFF: the files that it was made of, or one OME-TIFF per image."""

from __future__ import annotations

import hashlib
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from cloudimg.errors import ArgumentError
from cloudimg.migration.export.copy_pixels import READ_AHEAD, CopyPixels
from cloudimg.migration.export.file_names import common_folder, path_of, unique_name
from cloudimg.migration.export.manifest import Manifest, store
from cloudimg.migration.export.ome_tiff import write_ome
from cloudimg.migration.export.original_file import Level, OriginalFile
from cloudimg.migration.export.original_pixels import OriginalPixels
from cloudimg.migration.export.original_tiff import write_original
from cloudimg.migration.export.originals import read_rows, rows_by_file
from cloudimg.migration.export.result import ExportResult, Lost, LostByKind, NotWritten
from cloudimg.migration.journal.destination import Destination, as_json
from cloudimg.migration.journal.state import State
from cloudimg.migration.metadata.image_attributes import image_name
from cloudimg.migration.metadata.ome_xml import pixel_type
from cloudimg.migration.plan.axes_mapping import AxesMapping
from cloudimg.migration.plan.plan import Plan
from cloudimg.migration.run.filled_files import report_of_notes

LAYOUTS = ("originals", "ome-tiff")
"""Values of the argument `layout`."""
_FORMAT = 1
"""Version of what an export writes for the same copy and arguments: part of its identity."""
_FILES_AT_ONCE = 4
"""Original files that are written at once."""
_MAX_PUT_BYTES = 2**30
"""Largest file that is read into memory and stored with one request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """An export: what to write, and where."""

    copy: Destination
    """The copy."""
    state: State
    """The migration that wrote it."""
    out: Destination
    """Folder for the files."""
    compression: str | None
    """Compression of the files, by its name in tifffile."""
    overwrite: bool
    """Whether to replace existing files."""
    progress: Callable[[str, int], object] | None
    """Called with ``"files"`` and the number of files written."""


def export_ome(export: Export) -> ExportResult:
    """Write one OME-TIFF per image, except of wells of a plate without any file.

    Arrays with pixels of a type that OME-TIFF lacks are written as plain TIFF, because they have no
    originals to write instead.

    Raises
    ------
    ArgumentError
        If OME-TIFF lacks the pixel type of a copy that was made of files, or another file has the
        name of one to write.
    """
    plan, facts = export.state.plan, export.state.facts
    _refuse_folder_of_copy(export)
    dtype = np.dtype(plan.dtype)
    is_ome = pixel_type(dtype) is not None
    if not is_ome and export.state.source["kind"] == "image":
        raise ArgumentError(
            f'OME-TIFF has no pixels of type {dtype}: export with layout="originals"'
        )
    images = list(filter(plan.is_listed, range(plan.n_images)))
    progress = _Progress(export, len(images))
    with _manifest(export, "ome-tiff") as manifest, _reading_threads() as readers:
        pixels = CopyPixels(export.copy, plan, readers)
        for image in images:
            suffix = "ome.tif" if is_ome else "tif"
            name = f"{plan.image_path(image).replace('/', '_') or 'image'}.{suffix}"
            reads = [partial(pixels.read, image, level) for level in range(len(plan.levels))]
            write = partial(
                write_ome, reads=reads, plan=plan, compression=export.compression,
                facts=replace(facts, name=image_name(plan, facts, image)),
                url=export.out.display(name),
            )  # fmt: skip
            progress.add(_store(export, manifest, name, write))
    return progress.result()


def export_originals(export: Export) -> ExportResult:
    """Write every file that the copy was made of.

    Raises
    ------
    ArgumentError
        If the copy was not made of files, or another file has the name of one to write.
    """
    _refuse_folder_of_copy(export)
    source, is_plate = export.state.source, export.state.plan.plate is not None
    axes_mapping = AxesMapping(source["dims"], source["shape"], is_plate=is_plate)
    n_files, folder = _number_and_folder(read_rows(export.copy, source))
    progress = _Progress(export, n_files)
    taken: set[str] = set()
    with (
        _manifest(export, "originals") as manifest,
        _reading_threads() as readers,
        ThreadPoolExecutor(_FILES_AT_ONCE, "cloudimg-export") as threads,
    ):
        pixels = CopyPixels(export.copy, export.state.plan, readers)
        pending: deque[Future[_Outcome]] = deque()
        try:
            for rows in rows_by_file(read_rows(export.copy, export.state.source)):
                name = unique_name(path_of(rows[0])[len(folder) :], rows[0]["index"], taken)
                original = OriginalPixels(axes_mapping, pixels, rows)
                pending.append(threads.submit(_export_file, export, manifest, original, name))
                if len(pending) > 2 * _FILES_AT_ONCE:
                    progress.add(pending.popleft().result())
            while pending:
                progress.add(pending.popleft().result())
        finally:
            for future in pending:
                future.cancel()
    state = export.state
    return progress.result((*_filled_files(state), *_hidden_parts(state)))


def _number_and_folder(rows: Iterable[Mapping[str, Any]]) -> tuple[int, str]:
    """The number of the files, and the folder that they have in common."""
    n_single, members = 0, set()

    def paths() -> Iterator[str]:
        nonlocal n_single
        for row in rows:
            if row["page"] is None:
                n_single += 1
            else:  # a file with a row for each page
                members.add(row["key"])
            yield path_of(row)

    folder = common_folder(paths())
    return n_single + len(members), folder


def _filled_files(state: State) -> tuple[NotWritten, ...]:
    """The files whose pixels the copy does not have, by what was wrong with them."""
    return tuple(
        NotWritten(
            "all",
            f"{each.kind}, so the copy has the fill value for its pixels: {each.files[0].url}",
            each.n_files,
            each.files[0].url,
        )
        for each in report_of_notes(state.notes, {}).kinds
        if each.kind != "missing" and each.files
    )


def _hidden_parts(state: State) -> tuple[NotWritten, ...]:
    """The files of which others may hide parts, or that reach beyond the copy."""
    source = state.source
    options = source["open"] if source["kind"] == "image" else {}
    why = 'the copy was made with place="stage", so it has one value where files overlap'
    if options.get("place") != "stage":
        if options.get("align") is None:
            return ()
        why = f'the copy was made with align="{options["align"]}", so it may lack parts of files'
    n_files = source.get("files", {}).get("n_files", 0)
    return (NotWritten("pixels", why, n_files, source["urls"][0]),)


def _export_file(export: Export, manifest: Manifest, pixels: OriginalPixels, name: str) -> _Outcome:
    source, plan, rows = export.state.source, export.state.plan, pixels.rows
    # For a member of a multi-file dataset, one row of each part describes the file as a whole.
    row = next((row for row in rows if row["tags"] is not None), rows[0])
    shape, dims = tuple(row["file_shape"]), tuple(row["file_dims"])
    is_member = row["page"] is not None
    if is_member:
        shape, dims = (len(rows), *shape), ("page", *dims)
    original = OriginalFile(
        shape=shape,
        dims=dims,
        dtype=np.dtype(source["dtype"]),
        row=row,
        # Pages along z may lie in one chunk: they are read together.
        depth=plan.chunk[plan.dims.index("z")] if "z" in plan.dims else 1,
        numbers=[int(each["page"]) for each in rows] if is_member else row.get("ifds"),
        series=0 if is_member else source["open"]["series"],
        levels=_levels(plan, pixels, shape, dims) if row.get("pyramid") else (),
        in_rgb=source["open"].get("rgb", False) or source["open"].get("palette") == "rgb",
    )
    write = partial(
        write_original, read=pixels.read, original=original, compression=export.compression,
        url=export.out.display(name),
    )  # fmt: skip
    return _store(export, manifest, name, write)


def _levels(
    plan: Plan, pixels: OriginalPixels, shape: Sequence[int], dims: Sequence[str]
) -> tuple[Level, ...]:
    """Levels of the copy that a file with a pyramid can have: fewer pixels, not fewer planes."""
    found: list[Level] = []
    if not pixels.has_whole_planes():
        return ()
    for number, level in enumerate(plan.levels[1:], 1):
        by_dim = zip(plan.dims, level.factors, strict=True)
        if any(factor > 1 and dim not in ("y", "x") for dim, factor in by_dim):
            break
        length = dict(zip(plan.dims, level.shape, strict=True))
        own = tuple(
            length[dim] if dim in ("y", "x") else n for dim, n in zip(dims, shape, strict=True)
        )
        found.append(Level(partial(pixels.read, level=number), own))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class _Outcome:
    """A file that is exported."""

    name: str
    lost: Iterable[Lost]
    """What it lacks of the original."""
    is_new: bool
    """Whether this run wrote it."""


class _Progress:
    """Counts the files that are exported, and what they lack."""

    def __init__(self, export: Export, n_files: int) -> None:
        self._report = export.progress
        if (expected := getattr(export.progress, "expected", None)) is not None:
            expected("files", n_files)
        self._n_files = 0
        self._n_present = 0
        self._lost = LostByKind()

    def add(self, outcome: _Outcome) -> None:
        """Count a file."""
        self._n_files += 1
        self._n_present += not outcome.is_new
        self._lost.add(outcome.name, outcome.lost)
        if self._report is not None:
            self._report("files", self._n_files)

    def result(self, filled: tuple[NotWritten, ...] = ()) -> ExportResult:
        """The sum, with files that could not be written."""
        return ExportResult(
            n_files=self._n_files,
            n_present=self._n_present,
            not_written=(*self._lost.all(), *filled),
        )


# ----------------------------------------------------------------------------------------- storing


def _refuse_folder_of_copy(export: Export) -> None:
    copy, out = export.copy, export.out
    is_same_store = copy.store.location == out.store.location
    if is_same_store and f"{out.root}/".startswith(f"{copy.root}/"):
        raise ArgumentError(
            f"cannot export to {out.url}, which is part of the copy {copy.url}: choose a folder"
            " outside of it"
        )


def _reading_threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(READ_AHEAD, "cloudimg-export-read")


@contextmanager
def _manifest(export: Export, layout: str) -> Iterator[Manifest]:
    """The files that this export stored before; what it stores now is added, also if it fails."""
    identity = as_json([export.state.id, layout, export.compression, _FORMAT])
    manifest = Manifest(export.out, hashlib.sha256(identity).hexdigest()[:16])
    try:
        yield manifest
    finally:
        manifest.flush()


def _store(
    export: Export, manifest: Manifest, name: str, write: Callable[[Path], Iterable[Lost]]
) -> _Outcome:
    """Write a file to a temporary folder, then store it as a whole, unless that was done before."""
    known = manifest.exported(name)
    if known is not None:
        return _Outcome(name, known.lost, is_new=False)
    with tempfile.TemporaryDirectory(prefix="cloudimg-export-") as folder:
        path = Path(folder) / "file.tif"
        lost = tuple(sorted(write(path)))
        is_new = store(
            export.out, manifest, name, path, lost,
            overwrite=export.overwrite, most_put_bytes=_MAX_PUT_BYTES,
        )  # fmt: skip
    return _Outcome(name, lost, is_new=is_new)
