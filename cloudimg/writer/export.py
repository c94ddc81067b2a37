"""Back to TIFF: the files that a copy was made of, or one OME-TIFF for each image."""

from __future__ import annotations

import functools
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
from cloudimg.storage import split_url
from cloudimg.writer.canonical import Canonical
from cloudimg.writer.destination import Destination
from cloudimg.writer.originals import read_rows
from cloudimg.writer.plan import Plan
from cloudimg.writer.state import State
from cloudimg.writer.tiff_files import Read, write_ome, write_original

Array = npt.NDArray[Any]
LAYOUTS = ("originals", "ome-tiff")
_TIFF_ENDINGS = (".tif", ".tiff", ".btf", ".tf8", ".lsm", ".stk")
_AT_ONCE = 4
_LARGEST_PUT_BYTES = 2**30
_SLABS_BYTES = 2**30
"""Decoded pixels that are kept while the next planes out of the same chunks are written."""
_OF_OME = {"b1", "i1", "u1", "i2", "u2", "i4", "u4", "f4", "f8", "c8", "c16"}
"""Types of pixels that OME-XML has,
https://www.openmicroscopy.org/Schemas/Documentation/Generated/OME-2016-06/ome_xsd.html#PixelType"""


@dataclass(frozen=True, slots=True)
class Exporting:
    """A copy, and where its files go."""

    copy: Destination
    state: State
    out: Destination
    compression: str | None
    overwrite: bool
    progress: Callable[[str, int], None] | None


class Pixels:
    """Pixels of a copy, by zarr-python, which reads single chunks of shards. Thread-safe.

    Planes of the same chunks, which would each have them decoded, come out of what is kept.
    """

    def __init__(self, copy: Destination, plan: Plan) -> None:
        self._copy = copy
        self._plan = plan
        self._lock = threading.Lock()
        self._slabs: OrderedDict[tuple[Any, ...], tuple[int, Future[Array]]] = OrderedDict()

    def read(self, image: int, level: int, region: tuple[slice, ...]) -> Array:
        """Pixels of a region of a level, in the plan's dims."""
        shape, chunk = self._plan.levels[level].shape, self._plan.chunk
        # Whole chunks along all but y and x.
        whole = [
            slice(part.start // n * n, min(-(-part.stop // n) * n, length))
            for part, n, length in zip(region[:-2], chunk, shape, strict=False)
        ] + [slice(part.start, part.stop) for part in region[-2:]]
        size = math.prod(part.stop - part.start for part in whole)
        n_bytes = size * np.dtype(self._plan.dtype).itemsize
        wanted = [slice(part.start, part.stop) for part in region]
        if whole == wanted or n_bytes > _SLABS_BYTES:
            return self._decoded(image, level, tuple(wanted))
        slab = self._slab(image, level, tuple(whole), n_bytes)
        return slab[
            tuple(
                slice(part.start - all_of.start, part.stop - all_of.start)
                for part, all_of in zip(wanted, whole, strict=True)
            )
        ]

    def _slab(self, image: int, level: int, region: tuple[slice, ...], n_bytes: int) -> Array:
        key = (image, level, *((part.start, part.stop) for part in region))
        with self._lock:
            known = self._slabs.get(key)
            future: Future[Array] = Future() if known is None else known[1]
            self._slabs[key] = (n_bytes, future)
            self._slabs.move_to_end(key)
            while sum(size for size, _ in self._slabs.values()) > _SLABS_BYTES:
                self._slabs.popitem(last=False)
        if known is None:
            try:
                future.set_result(self._decoded(image, level, region))
            except BaseException as exc:
                future.set_exception(exc)
                raise
        return future.result()

    def _decoded(self, image: int, level: int, region: tuple[slice, ...]) -> Array:
        return np.asarray(self._array(image, level)[region])

    @functools.lru_cache(maxsize=256)  # noqa: B019 - lives as long as one export
    def _array(self, image: int, level: int) -> Any:
        import zarr

        path = self._plan.array_path(image, level)
        return zarr.open_array(_zarr_store(self._copy, path), mode="r")


def _zarr_store(copy: Destination, path: str) -> Any:
    from zarr.storage import FsspecStore, LocalStore

    location = copy.store.location
    key = f"{copy.root}/{path}"
    if location.protocol == "file":
        return LocalStore(key, read_only=True)
    return FsspecStore.from_url(
        location.url(key), storage_options=dict(copy.store.options), read_only=True
    )


def export_ome(work: Exporting) -> int:
    """One OME-TIFF for each image; how many were written.

    Raises
    ------
    ArgumentError
        If OME-TIFF has no such pixels, or a file is there already.
    """
    plan, facts = work.state.plan, work.state.facts
    _refuse_inside(work)
    if np.dtype(plan.dtype).str[1:] not in _OF_OME:
        raise ArgumentError(
            f'OME-TIFF has no pixels of type {np.dtype(plan.dtype)}: export with layout="originals"'
        )
    pixels = Pixels(work.copy, plan)
    for image in range(plan.n_images):
        name = f"{image}.ome.tif" if plan.lead_dims else "image.ome.tif"
        _refuse_existing(work, name)
        reads: list[Read] = [partial(pixels.read, image, n) for n in range(len(plan.levels))]
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
    canonical = Canonical(work.state.source["dims"], work.state.source["shape"])
    pixels = Pixels(work.copy, work.state.plan)
    stem = _common_folder(_path(row) for row in read_rows(work.copy))
    n_done = 0
    taken: set[str] = set()
    with ThreadPoolExecutor(_AT_ONCE, "cloudimg-export") as threads:
        under_way: deque[Future[None]] = deque()
        for rows in _files(read_rows(work.copy)):
            name = _name(_path(rows[0])[len(stem) :], rows[0]["index"], taken)
            task = partial(_export_file, work, canonical, pixels, rows, name)
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
    canonical: Canonical,
    pixels: Pixels,
    rows: list[Mapping[str, Any]],
    name: str,
) -> None:
    _refuse_existing(work, name)
    # Of a set's member, one row in each part tells of the file as a whole.
    first = next((row for row in rows if row["tags"] is not None), rows[0])
    shape = tuple(first["file_shape"])
    if first["page"] is not None:
        shape = (len(rows), *shape)
    # Pages along z may lie in one chunk: they are read together.
    plan = work.state.plan
    depth = plan.chunk[plan.dims.index("z")] if "z" in plan.dims else 1
    dims = list(first["file_dims"])
    if first["page"] is not None:
        dims = ["page", *dims]
    _to_store(
        work,
        name,
        lambda path: write_original(
            path,
            partial(_read_file, canonical, pixels, rows),
            shape,
            dims,
            np.dtype(work.state.source["dtype"]),
            first,
            depth=depth,
            compression=work.compression,
        ),
    )


def _read_file(
    canonical: Canonical,
    pixels: Pixels,
    rows: list[Mapping[str, Any]],
    region: tuple[slice, ...],
) -> Array:
    """Pixels of a region of a file, in its own axes."""
    if rows[0]["page"] is None:
        return _read_row(canonical, pixels, rows[0], region)
    pages = range(region[0].start, region[0].stop)
    return np.stack([_read_row(canonical, pixels, rows[i], region[1:]) for i in pages])


def _read_row(
    canonical: Canonical, pixels: Pixels, row: Mapping[str, Any], region: tuple[slice, ...]
) -> Array:
    inside = dict(zip(row["file_dims"], region, strict=True))
    wanted = []
    for dim, start, stop in zip(
        canonical.source_dims, row["region_start"], row["region_stop"], strict=True
    ):
        part = inside.get(dim)
        wanted.append(
            slice(start, stop) if part is None else slice(start + part.start, start + part.stop)
        )
    # Samples of a pixel are read together, as the copy has them.
    whole = [
        slice(0, n) if dim == "s" else part
        for dim, part, n in zip(canonical.source_dims, wanted, canonical.source_shape, strict=True)
    ]
    images, at = canonical.to_plan(tuple(whole))
    stacked = np.stack([pixels.read(image, 0, at) for image in images])
    found = canonical.to_source_pixels(stacked, tuple(whole))
    found = found[
        tuple(
            part if dim == "s" else slice(None)
            for dim, part in zip(canonical.source_dims, wanted, strict=True)
        )
    ]
    own = [canonical.source_dims.index(dim) for dim in row["file_dims"]]
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
