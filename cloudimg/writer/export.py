"""Back to TIFF: the files that a copy was made of, or one OME-TIFF for each image."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cloudimg.errors import ArgumentError, NotFoundError
from cloudimg.writer.canonical import Canonical
from cloudimg.writer.destination import Destination
from cloudimg.writer.originals import read_rows
from cloudimg.writer.state import State
from cloudimg.writer.tiff_files import Read, write_ome, write_original

Array = npt.NDArray[Any]
LAYOUTS = ("originals", "ome-tiff")
_TIFF_ENDINGS = (".tif", ".tiff", ".btf", ".tf8", ".lsm", ".stk")
_AT_ONCE = 4
_LARGEST_PUT_BYTES = 2**30


@dataclass(frozen=True, slots=True)
class Exporting:
    """A copy, and where its files go."""

    copy: Destination
    state: State
    out: Destination
    compression: str | None
    overwrite: bool
    progress: Callable[[str, int], None] | None

    def array(self, image: int, level: int) -> Any:
        """One level of one image, by zarr-python, which reads single chunks of shards."""
        import zarr

        path = self.state.plan.array_path(image, level)
        return zarr.open_array(_zarr_store(self.copy, path), mode="r")


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
    """One OME-TIFF for each image; how many were written."""
    plan, facts = work.state.plan, work.state.facts
    for image in range(plan.n_images):
        name = f"{image}.ome.tif" if plan.lead_dims else "image.ome.tif"
        _refuse_existing(work, name)
        arrays = [work.array(image, level) for level in range(len(plan.levels))]
        reads: list[Read] = [partial(_read_level, array) for array in arrays]
        write = partial(
            write_ome, reads=reads, plan=plan, facts=facts, compression=work.compression
        )
        _to_store(work, name, write)
        _tell(work, image + 1)
    return plan.n_images


def _read_level(array: Any, region: tuple[slice, ...]) -> Array:
    return np.asarray(array[region])


def export_originals(work: Exporting) -> int:
    """Each file that the copy was made of; how many were written.

    Raises
    ------
    ArgumentError
        If the copy was not made of files, or a file is there already.
    """
    canonical = Canonical(work.state.source["dims"], work.state.source["shape"])
    arrays = [work.array(image, 0) for image in range(work.state.plan.n_images)]
    stem = _common_folder(row["key"] for row in read_rows(work.copy))
    n_done = 0
    with ThreadPoolExecutor(_AT_ONCE, "cloudimg-export") as threads:
        under_way: list[Any] = []
        for rows in _files(read_rows(work.copy)):
            name = _name(rows[0]["key"][len(stem) :])
            task = partial(_export_file, work, canonical, arrays, rows, name)
            under_way.append(threads.submit(task))
            if len(under_way) > 2 * _AT_ONCE:
                under_way.pop(0).result()
            n_done += 1
            _tell(work, n_done)
        for future in under_way:
            future.result()
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


def _name(relative: str) -> str:
    return relative if relative.lower().endswith(_TIFF_ENDINGS) else f"{relative}.tif"


def _export_file(
    work: Exporting,
    canonical: Canonical,
    arrays: list[Any],
    rows: list[Mapping[str, Any]],
    name: str,
) -> None:
    _refuse_existing(work, name)
    first = rows[0]
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
            partial(_read_file, canonical, arrays, rows),
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
    arrays: list[Any],
    rows: list[Mapping[str, Any]],
    region: tuple[slice, ...],
) -> Array:
    """Pixels of a region of a file, in its own axes."""
    if rows[0]["page"] is None:
        return _read_row(canonical, arrays, rows[0], region)
    pages = range(region[0].start, region[0].stop)
    return np.stack([_read_row(canonical, arrays, rows[i], region[1:]) for i in pages])


def _read_row(
    canonical: Canonical, arrays: list[Any], row: Mapping[str, Any], region: tuple[slice, ...]
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
    pixels = np.stack([np.asarray(arrays[image][at]) for image in images])
    found = canonical.to_source_pixels(pixels, tuple(whole))
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
