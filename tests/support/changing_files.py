"""Archives of numbered files that change while they are migrated, on any kind of store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import zarr

import cloudimg
from tests.conftest import WebServer
from tests.support import copies, seed
from tests.support.metering import Meter, Traffic

N = 6
CELLS: dict[str, Any] = {
    "chunks": 16,
    "shards": {"t": 1, "y": 32, "x": 48},
    "levels": 2,
    "max_mem": 24_000,
}
"""One file a cell, one or two cells at a time."""


def plane(value: int) -> npt.NDArray[np.uint16]:
    return np.arange(32 * 48, dtype=np.uint16).reshape(32, 48) + 100 * value


def tiff(value: int, **options: Any) -> bytes:
    return seed.encode(plane(value), **options)


def big_tiff(value: int) -> bytes:
    pixels = np.arange(128 * 128, dtype=np.uint16).reshape(128, 128) + value
    return seed.encode(pixels, tile=(32, 32))


def texts(notes: Any) -> list[str]:
    return [note.text.partition(";")[0] for note in notes]


class Stop(Exception):  # noqa: N818
    """Raised by the callbacks of these tests, to end a migration as Ctrl-C does."""


@dataclass
class Files:
    """An archive of numbered files on some store, and a place for copies."""

    kind: str
    source: Any
    options: dict[str, Any] = field(repr=False)
    put: Callable[[str, bytes], object]
    delete: Callable[[str], object]
    meter: Meter
    bucket: str

    @property
    def axis(self) -> str:
        return "file" if self.kind.endswith(("list", "glob")) else "t"

    def url(self, name: str = "copy") -> str:
        return f"s3://{self.bucket}/{name}.zarr"

    def migrate(self, name: str = "copy", **arguments: Any) -> Any:
        cells = {**CELLS, "shards": {self.axis: 1, "y": 32, "x": 48}}
        return cloudimg.migrate(
            self.source,
            self.url(name),
            source_options=self.options,
            target_options=self.meter.storage_options,
            **{**cells, **arguments},
        )

    def stop_after(self, n_cells: int, **arguments: Any) -> None:
        """Migrate some cells."""

        def stop(advance: Any) -> None:
            if advance.n_done >= n_cells:
                raise Stop

        with pytest.raises(Stop):
            self.migrate(progress=stop, **arguments)

    def migrate_and_replace(
        self, name: str, data: bytes, *, after_cell: int, **arguments: Any
    ) -> Any:
        """Migrate, and replace a file once some cells are done."""
        left = [data]

        def replace(advance: Any) -> None:
            if advance.n_done >= after_cell and left:
                self.put(name, left.pop())

        done = self.migrate(progress=replace, **arguments)
        assert not left
        return done

    def pixels(self, name: str = "copy") -> Any:
        stored = copies.objects(self.url(name), self.meter.storage_options)
        image: Any = zarr.open_group(store=memory_store(stored), mode="r")["0"]
        return image[:].reshape(-1, 32, 48)

    def verify(self, name: str = "copy", **arguments: Any) -> cloudimg.Verification:
        return cloudimg.verify(
            self.url(name),
            against_source=True,
            storage_options=self.meter.storage_options,
            source_options=self.options,
            source=self.source if "signed" in self.kind else None,
            **arguments,
        )

    def assert_as_fresh(self, **arguments: Any) -> None:
        """The copy has the same objects as one that is made from the files as they are now."""
        self.migrate("fresh", **arguments)
        fresh, copy = (
            copies.image_of(copies.objects(self.url(name), self.meter.storage_options))
            for name in ("fresh", "copy")
        )
        assert copy == fresh
        proof = self.verify()
        assert proof, str(proof)

    def read_in(self, traffic: Traffic) -> set[str]:
        """Names of the files from which more than a byte was requested."""
        return {
            request.key.rpartition("/")[2]
            for request in traffic.requests
            if request.method == "GET"
            and request.key.startswith("src/")
            and request.range != (0, 1)
        }

    def stored_in(self, traffic: Traffic) -> set[int]:
        """Numbers of the planes whose shards were stored."""
        return {
            int(request.key.split("/0/c/")[1].split("/")[0])
            for request in traffic.requests
            if request.method == "PUT" and "/0/c/" in request.key and request.status < 300
        }

    def n_records(self) -> int:
        names = copies.names(self.url(), self.meter.storage_options)
        return sum(".cloudimg/cells/0/" in name for name in names)


def memory_store(objects: dict[str, bytes]) -> Any:
    from zarr.core.buffer import default_buffer_prototype
    from zarr.storage import MemoryStore

    prototype = default_buffer_prototype()
    return MemoryStore(
        {key: prototype.buffer.from_bytes(data) for key, data in objects.items()}, read_only=True
    )


KINDS = (
    "s3-pattern",
    "s3-glob",
    "s3-list",
    "s3-signed-list",
    "http-pattern",
    "http-list",
    "local-pattern",
    "local-list",
)
COUNTED = ("s3-pattern", "s3-glob", "s3-list", "s3-signed-list")


def files_of_kind(kind: str, meter: Meter, bucket: str, httpd: WebServer, tmp_path: Path) -> Files:
    store, _, how = kind.partition("-")
    options: dict[str, Any] = {}
    if store == "s3":
        base, options = f"s3://{bucket}/src", meter.storage_options

        def put(name: str, data: bytes) -> None:
            meter.put(bucket, f"src/{name}", data)

        def delete(name: str) -> None:
            meter.delete(bucket, f"src/{name}")
    else:
        folder = tmp_path / "src" if store == "local" else httpd.root / bucket
        folder.mkdir()
        base = str(folder) if store == "local" else f"{httpd.endpoint}/{bucket}"

        def put(name: str, data: bytes) -> None:
            path = folder / name
            path.with_suffix(".new").write_bytes(data)
            path.with_suffix(".new").replace(path)

        def delete(name: str) -> None:
            (folder / name).unlink()

    names = [f"t{t}.tif" for t in range(N)]
    for t, name in enumerate(names):
        put(name, tiff(t))
    source: Any = f"{base}/t{{t}}.tif"
    if how == "glob":
        source = f"{base}/t*.tif"
    elif how == "list":
        source = [f"{base}/{name}" for name in names]
    elif how == "signed-list":
        options = {}
        source = [f"{meter.endpoint}/{bucket}/src/{n}?X-Amz-Signature=SECRET" for n in names]
    return Files(kind, source, options, put, delete, meter, bucket)
