"""Export a copy to TIFF: the files that it was made of, or one OME-TIFF per image."""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from cloudimg.errors import ArgumentError, NotFoundError
from cloudimg.migration.export.copy_pixels import READ_AHEAD, CopyPixels
from cloudimg.migration.export.ome_tiff import has_ome_type, write_ome
from cloudimg.migration.export.original_pixels import OriginalPixels, Row
from cloudimg.migration.export.original_tiff import OriginalFile, write_original
from cloudimg.migration.export.originals import read_rows
from cloudimg.migration.journal.destination import Destination
from cloudimg.migration.journal.state import State
from cloudimg.migration.plan.axes_mapping import AxesMapping
from cloudimg.storage import split_url

LAYOUTS = ("originals", "ome-tiff")
"""Values of the argument `layout`."""
_TIFF_SUFFIXES = (".tif", ".tiff", ".btf", ".tf8", ".lsm", ".stk")
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


def export_ome(export: Export) -> int:
    """Write one OME-TIFF per image; return the number of files.

    Arrays with pixels of a type that OME-TIFF lacks are written as plain TIFF, because they have no
    originals to write instead.

    Raises
    ------
    ArgumentError
        If OME-TIFF lacks the pixel type of a copy that was made of files, or a file exists.
    """
    plan, facts = export.state.plan, export.state.facts
    _refuse_folder_of_copy(export)
    dtype = np.dtype(plan.dtype)
    is_ome = has_ome_type(dtype)
    if not is_ome and export.state.source["kind"] == "image":
        raise ArgumentError(
            f'OME-TIFF has no pixels of type {dtype}: export with layout="originals"'
        )
    with ThreadPoolExecutor(READ_AHEAD, "cloudimg-export-read") as readers:
        pixels = CopyPixels(export.copy, plan, readers)
        for image in range(plan.n_images):
            suffix = "ome.tif" if is_ome else "tif"
            name = f"{image if plan.lead_dims else 'image'}.{suffix}"
            _refuse_existing(export, name)
            reads = [partial(pixels.read, image, level) for level in range(len(plan.levels))]
            write = partial(
                write_ome, reads=reads, plan=plan, facts=facts, compression=export.compression
            )
            _store(export, name, write)
            _report(export, image + 1)
    return plan.n_images


def export_originals(export: Export) -> int:
    """Write every file that the copy was made of; return the number of files.

    Raises
    ------
    ArgumentError
        If the copy was not made of files, or a file exists.
    """
    _refuse_folder_of_copy(export)
    axes_mapping = AxesMapping(export.state.source["dims"], export.state.source["shape"])
    folder = _common_folder(_path(row) for row in read_rows(export.copy))
    n_done = 0
    taken: set[str] = set()
    with (
        ThreadPoolExecutor(READ_AHEAD, "cloudimg-export-read") as readers,
        ThreadPoolExecutor(_FILES_AT_ONCE, "cloudimg-export") as threads,
    ):
        pixels = CopyPixels(export.copy, export.state.plan, readers)
        pending: deque[Future[None]] = deque()
        for rows in _rows_by_file(read_rows(export.copy)):
            name = _unique_name(_path(rows[0])[len(folder) :], rows[0]["index"], taken)
            original = OriginalPixels(axes_mapping, pixels, rows)
            pending.append(threads.submit(_export_file, export, original, name))
            if len(pending) > 2 * _FILES_AT_ONCE:
                pending.popleft().result()
                n_done += 1
                _report(export, n_done)
        for future in pending:
            future.result()
            n_done += 1
            _report(export, n_done)
    return n_done


def _export_file(export: Export, pixels: OriginalPixels, name: str) -> None:
    _refuse_existing(export, name)
    source, plan, rows = export.state.source, export.state.plan, pixels.rows
    # For a member of a multi-file dataset, one row of each part describes the file as a whole.
    row = next((row for row in rows if row["tags"] is not None), rows[0])
    shape, dims = tuple(row["file_shape"]), tuple(row["file_dims"])
    is_member = row["page"] is not None
    original = OriginalFile(
        shape=(len(rows), *shape) if is_member else shape,
        dims=("page", *dims) if is_member else dims,
        dtype=np.dtype(source["dtype"]),
        row=row,
        # Pages along z may lie in one chunk: they are read together.
        depth=plan.chunk[plan.dims.index("z")] if "z" in plan.dims else 1,
        numbers=[int(each["page"]) for each in rows] if is_member else None,
        series=0 if is_member else source["open"]["series"],
    )
    write = partial(
        write_original, read=pixels.read, original=original, compression=export.compression
    )
    _store(export, name, write)


# ---------------------------------------------------------------------------------- names of files


def _rows_by_file(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """The rows of each file: one, or for a member of a multi-file dataset one for each page."""
    members: dict[str, list[Row]] = {}
    for row in rows:
        if row["page"] is None:
            yield [row]
        else:
            members.setdefault(row["key"], []).append(row)
    for member_rows in members.values():
        yield sorted(member_rows, key=lambda row: int(row["page"]))


def _common_folder(keys: Iterable[str]) -> str:
    """The longest common prefix of all keys that ends in a slash."""
    common: str | None = None
    for key in keys:
        folder = key[: key.rfind("/") + 1]
        if common is None:
            common = folder
        while not folder.startswith(common):
            common = common[: common.rstrip("/").rfind("/") + 1]
    return common or ""


def _path(row: Row) -> str:
    """The key from which a file's name is made, without the query of a URL."""
    key = str(row["key"])
    is_web = split_url(row["url"])[0].protocol in ("http", "https")
    return key.partition("?")[0] if is_web else key


def _unique_name(relative: str, index: Iterable[int], taken: set[str]) -> str:
    """A name that no other file has and that stays in the folder; it is added to `taken`."""
    parts = ["_" if part in ("", ".", "..") else part for part in relative.split("/")]
    name = "/".join(parts)
    if not name.lower().endswith(_TIFF_SUFFIXES):
        name = f"{name}.tif"
    if name in taken:
        # Such as a.png next to a.png.tif, or URLs that differ only in their queries.
        stem, dot, suffix = name.rpartition(".")
        name = f"{stem}_{'-'.join(map(str, index))}{dot}{suffix}"
    taken.add(name)
    return name


# ----------------------------------------------------------------------------------------- storing


def _refuse_folder_of_copy(export: Export) -> None:
    copy, out = export.copy, export.out
    is_same_store = copy.store.location == out.store.location
    if is_same_store and f"{out.root}/".startswith(f"{copy.root}/"):
        raise ArgumentError(
            f"cannot export to {out.url}, which is part of the copy {copy.url}: choose a folder"
            " outside of it"
        )


def _refuse_existing(export: Export, name: str) -> None:
    if export.overwrite:
        return
    try:
        export.out.info(name)
    except NotFoundError:
        return
    raise ArgumentError(
        f"{export.out.display(name)} already exists: export to another folder, or pass"
        " overwrite=True to replace it"
    )


def _report(export: Export, count: int) -> None:
    if export.progress is not None:
        export.progress("files", count)


def _store(export: Export, name: str, write: Callable[[Path], None]) -> None:
    """Write a file to a temporary folder, then store it as a whole."""
    with tempfile.TemporaryDirectory(prefix="cloudimg-export-") as folder:
        path = Path(folder) / "file.tif"
        write(path)
        if path.stat().st_size <= _MAX_PUT_BYTES:
            export.out.put(name, path.read_bytes())
        else:
            export.out.upload(name, path)
