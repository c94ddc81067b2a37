"""Back to TIFF: the files that a copy was made of, or one OME-TIFF for each image."""

from __future__ import annotations

import itertools
import math
import tempfile
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cloudimg.errors import ArgumentError, NotFoundError
from cloudimg.migration.export.originals import read_rows
from cloudimg.migration.export.tiff_files import ReadPixels, is_of_ome, write_ome, write_original
from cloudimg.migration.journal.destination import Destination
from cloudimg.migration.journal.state import State
from cloudimg.migration.plan.axes_mapping import AxesMapping
from cloudimg.migration.plan.plan import Plan
from cloudimg.migration.run.inputs import LevelInput
from cloudimg.storage import split_url

Array = npt.NDArray[Any]
Region = tuple[slice, ...]
LAYOUTS = ("originals", "ome-tiff")
_TIFF_ENDINGS = (".tif", ".tiff", ".btf", ".tf8", ".lsm", ".stk")
_AT_ONCE = 4
_LARGEST_PUT_BYTES = 2**30
_KEPT_BYTES = 2**30
"""Decoded pixels that are kept while the next planes and files out of them are written."""
_AHEAD = 8
"""Objects that are asked for before they are needed."""


@dataclass(frozen=True, slots=True)
class Exporting:
    """A copy, and where its files go."""

    copy: Destination
    state: State
    out: Destination
    compression: str | None
    overwrite: bool
    progress: Callable[[str, int], None] | None


class CopyPixels:
    """Pixels of a copy. Thread-safe.

    Each stored object is read and decoded once for all files and planes that have a part in it, as
    far as the memory for them goes. Whether one that is missing was empty, its receipt tells;
    zarr-python would give zeros for either.
    """

    def __init__(self, copy: Destination, plan: Plan, threads: ThreadPoolExecutor) -> None:
        self._copy = copy
        self._plan = plan
        self._threads = threads
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[Any, ...], Future[Array]] = OrderedDict()
        n_bytes = math.prod(plan.stored_shape(0)) * np.dtype(plan.dtype).itemsize
        self._n_kept = max(_AHEAD, _KEPT_BYTES // n_bytes)

    def read(self, image: int, level: int, region: Region) -> Array:
        """Pixels of a region of a level, in the plan's dims.

        Raises
        ------
        NotFoundError
            If an object is missing that was stored.
        CorruptFileError, StorageError
        """
        stored = self._plan.stored_shape(level)
        out = np.empty([part.stop - part.start for part in region], np.dtype(self._plan.dtype))
        touched = itertools.product(
            *(range(p.start // n, -(-p.stop // n)) for p, n in zip(region, stored, strict=True))
        )
        waiting: deque[tuple[tuple[int, ...], Future[Array]]] = deque()
        while True:
            ahead = itertools.islice(touched, _AHEAD - len(waiting))
            waiting += [(at, self._object(image, level, at)) for at in ahead]
            if not waiting:
                return out
            at, future = waiting.popleft()
            inside, place = [], []
            for i, n, part in zip(at, stored, region, strict=True):
                start, stop = max(i * n, part.start), min((i + 1) * n, part.stop)
                inside.append(slice(start - i * n, stop - i * n))
                place.append(slice(start - part.start, stop - part.start))
            out[tuple(place)] = future.result()[tuple(inside)]

    def _object(self, image: int, level: int, at: tuple[int, ...]) -> Future[Array]:
        """Pixels of a stored object, now or soon."""
        key = (image, level, at)
        lengths = zip(
            at, self._plan.stored_shape(level), self._plan.levels[level].shape, strict=True
        )
        region = tuple(slice(i * n, min((i + 1) * n, length), 1) for i, n, length in lengths)
        with self._lock:
            future = self._kept.get(key)
            if future is None:
                source = LevelInput(self._plan, self._copy, level)
                future = self._kept[key] = self._threads.submit(source.read, image, region)
            self._kept.move_to_end(key)
            while len(self._kept) > self._n_kept:
                self._kept.popitem(last=False)
            return future


def export_ome(work: Exporting) -> int:
    """One OME-TIFF for each image; how many were written.

    Of arrays whose pixels OME-TIFF has not it is a plain TIFF, as they have no originals that
    could be written in its place.

    Raises
    ------
    ArgumentError
        If OME-TIFF has no pixels as those of the originals, or a file is there already.
    """
    plan, facts = work.state.plan, work.state.facts
    _refuse_inside(work)
    is_ome = is_of_ome(np.dtype(plan.dtype))
    if not is_ome and work.state.source["kind"] == "image":
        raise ArgumentError(
            f'OME-TIFF has no pixels of type {np.dtype(plan.dtype)}: export with layout="originals"'
        )
    with ThreadPoolExecutor(_AHEAD, "cloudimg-export-read") as readers:
        pixels = CopyPixels(work.copy, plan, readers)
        for image in range(plan.n_images):
            ending = "ome.tif" if is_ome else "tif"
            name = f"{image if plan.lead_dims else 'image'}.{ending}"
            _refuse_existing(work, name)
            reads: list[ReadPixels] = [
                partial(pixels.read, image, n) for n in range(len(plan.levels))
            ]
            write = partial(
                write_ome, reads=reads, plan=plan, facts=facts, compression=work.compression
            )
            _to_store(work, name, write)
            _tell(work, image + 1)
    return plan.n_images


def export_originals(work: Exporting) -> int:
    """Each file that the copy was made of; how many were written.

    Raises
    ------
    ArgumentError
        If the copy was not made of files, or a file is there already.
    """
    _refuse_inside(work)
    axes_mapping = AxesMapping(work.state.source["dims"], work.state.source["shape"])
    stem = _common_folder(_path(row) for row in read_rows(work.copy))
    n_done = 0
    taken: set[str] = set()
    with (
        ThreadPoolExecutor(_AHEAD, "cloudimg-export-read") as readers,
        ThreadPoolExecutor(_AT_ONCE, "cloudimg-export") as threads,
    ):
        pixels = CopyPixels(work.copy, work.state.plan, readers)
        under_way: deque[Future[None]] = deque()
        for rows in _files(read_rows(work.copy)):
            name = _name(_path(rows[0])[len(stem) :], rows[0]["index"], taken)
            task = partial(_export_file, work, axes_mapping, pixels, rows, name)
            under_way.append(threads.submit(task))
            if len(under_way) > 2 * _AT_ONCE:
                under_way.popleft().result()
                n_done += 1
                _tell(work, n_done)
        for future in under_way:
            future.result()
            n_done += 1
            _tell(work, n_done)
    return n_done


def _files(rows: Iterable[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    """Rows file by file: one each, but for members of sets, of whose pages each has its own."""
    members: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["page"] is None:
            yield [row]
        else:
            members.setdefault(row["key"], []).append(row)
    for found in members.values():
        yield sorted(found, key=lambda row: int(row["page"]))


def _common_folder(keys: Iterable[str]) -> str:
    """What all keys begin with, up to a slash."""
    common: str | None = None
    for key in keys:
        folder = key[: key.rfind("/") + 1]
        if common is None:
            common = folder
        while not folder.startswith(common):
            common = common[: common.rstrip("/").rfind("/") + 1]
    return common or ""


def _path(row: Mapping[str, Any]) -> str:
    """What a file is named after: its key, without the query of a URL."""
    key = str(row["key"])
    is_web = split_url(row["url"])[0].protocol in ("http", "https")
    return key.partition("?")[0] if is_web else key


def _name(relative: str, index: Iterable[int], taken: set[str]) -> str:
    """Name of a file that no other has and that stays in the folder; it becomes taken."""
    parts = ["_" if part in ("", ".", "..") else part for part in relative.split("/")]
    name = "/".join(parts)
    if not name.lower().endswith(_TIFF_ENDINGS):
        name = f"{name}.tif"
    if name in taken:
        # Such as a.png beside a.png.tif, or URLs that differ in their queries alone.
        stem, dot, ending = name.rpartition(".")
        name = f"{stem}_{'-'.join(map(str, index))}{dot}{ending}"
    taken.add(name)
    return name


def _export_file(
    work: Exporting,
    axes_mapping: AxesMapping,
    pixels: CopyPixels,
    rows: list[Mapping[str, Any]],
    name: str,
) -> None:
    _refuse_existing(work, name)
    # Of a set's member, one row in each part tells of the file as a whole.
    first = next((row for row in rows if row["tags"] is not None), rows[0])
    shape = tuple(first["file_shape"])
    is_member = first["page"] is not None
    if is_member:
        shape = (len(rows), *shape)
    # Pages along z may lie in one chunk: they are read together.
    plan = work.state.plan
    depth = plan.chunk[plan.dims.index("z")] if "z" in plan.dims else 1
    dims = list(first["file_dims"])
    if is_member:
        dims = ["page", *dims]
    _to_store(
        work,
        name,
        lambda path: write_original(
            path,
            partial(_read_file, axes_mapping, pixels, rows),
            shape,
            dims,
            np.dtype(work.state.source["dtype"]),
            first,
            depth=depth,
            compression=work.compression,
            numbers=[int(row["page"]) for row in rows] if is_member else None,
            series=0 if is_member else work.state.source["open"]["series"],
        ),
    )


def _read_file(
    axes_mapping: AxesMapping,
    pixels: CopyPixels,
    rows: list[Mapping[str, Any]],
    region: Region,
) -> Array:
    """Pixels of a region of a file, in its own axes."""
    if rows[0]["page"] is None:
        return _read_row(axes_mapping, pixels, rows[0], region)
    pages = range(region[0].start, region[0].stop)
    return np.stack([_read_row(axes_mapping, pixels, rows[i], region[1:]) for i in pages])


def _read_row(
    axes_mapping: AxesMapping, pixels: CopyPixels, row: Mapping[str, Any], region: Region
) -> Array:
    inside = dict(zip(row["file_dims"], region, strict=True))
    wanted = []
    for dim, start, stop in zip(
        axes_mapping.source_dims, row["region_start"], row["region_stop"], strict=True
    ):
        part = inside.get(dim)
        wanted.append(
            slice(start, stop) if part is None else slice(start + part.start, start + part.stop)
        )
    # Samples of a pixel are read together, as the copy has them.
    whole = [
        slice(0, n) if dim == "s" else part
        for dim, part, n in zip(
            axes_mapping.source_dims, wanted, axes_mapping.source_shape, strict=True
        )
    ]
    images, at = axes_mapping.to_plan(tuple(whole))
    stacked = np.stack([pixels.read(image, 0, at) for image in images])
    found = axes_mapping.to_source_pixels(stacked, tuple(whole))
    found = found[
        tuple(
            part if dim == "s" else slice(None)
            for dim, part in zip(axes_mapping.source_dims, wanted, strict=True)
        )
    ]
    own = [axes_mapping.source_dims.index(dim) for dim in row["file_dims"]]
    others = [i for i in range(found.ndim) if i not in own]
    moved = found.transpose([*others, *own])
    return moved.reshape(moved.shape[len(others) :])


def _refuse_inside(work: Exporting) -> None:
    copy, out = work.copy, work.out
    same = copy.store.location == out.store.location
    if same and f"{out.root}/".startswith(f"{copy.root}/"):
        raise ArgumentError(
            f"{out.url} lies in the copy {copy.url}, where nothing else belongs: export to another"
            " place"
        )


def _refuse_existing(work: Exporting, name: str) -> None:
    if work.overwrite:
        return
    try:
        work.out.info(name)
    except NotFoundError:
        return
    raise ArgumentError(
        f"{work.out.display(name)} is there already: export to another place, or pass overwrite"
    )


def _tell(work: Exporting, count: int) -> None:
    if work.progress is not None:
        work.progress("files", count)


def _to_store(work: Exporting, name: str, write: Callable[[Path], None]) -> None:
    """Have a file written beside, then put where it belongs, whole."""
    with tempfile.TemporaryDirectory(prefix="cloudimg-export-") as folder:
        path = Path(folder) / "file.tif"
        write(path)
        if path.stat().st_size <= _LARGEST_PUT_BYTES:
            work.out.put(name, path.read_bytes())
        else:
            work.out.upload(name, path)
