"""Archives in which one file was removed, renamed, added, doubled or changed.

Whatever happened: `imread`, `info`, `migrate` and `verify` say so, or what they return is right.
``CLOUDIMG_TEST_ARCHIVES=1000 pytest tests/migration/run/test_changed_archives.py`` is the long run.
"""

from __future__ import annotations

import itertools
import os
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import zarr

import cloudimg
from cloudimg.errors import CloudimgError
from tests.support import seed

SEED = 15
N_ARCHIVES = int(os.environ.get("CLOUDIMG_TEST_ARCHIVES", "100"))
SHAPE = (6, 8)
Index = tuple[int, ...]
NAMES = ["img_{0}.tif", "t{0}_z{1}.tif", "T{0}/z{1}.tif", "run/s_{0}/p{1}_end.tiff", "{0}.TIF"]
"""Names of files by label; a stem, fields in folders, and fields alone."""


@dataclass
class Archive:
    """Files on a disk, and what they should be read as."""

    folder: Path
    name: str
    """One of `NAMES`."""
    digits: int
    """Number of digits of the labels; 0: no padding."""
    planes: dict[Index, Any] = field(default_factory=dict)
    """Pixels by labels; None of a file that cannot be used."""
    about: set[str] = field(default_factory=set)
    """Texts one of which a message must have to tell what happened."""
    n_doubled: int = 0
    """Number of files whose labels another one has."""
    left_out: Path | None = None
    """An image file that does not match the pattern."""

    @property
    def pattern(self) -> str:
        spec = f":0{self.digits}d" if self.digits else ""
        fields = (f"{{{axis}{spec}}}" for axis in "tz")
        return f"{self.folder}/{self.name.format(*fields)}"

    def path(self, index: Index, digits: int | None = None) -> Path:
        width = self.digits if digits is None else digits
        return self.folder / self.name.format(*(f"{n:0{width}d}" if width else n for n in index))

    def write(self, path: Path, pixels: Any) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(seed.encode(pixels))

    @property
    def extents(self) -> list[list[int]]:
        """The labels along each axis."""
        return [sorted(set(labels)) for labels in zip(*self.planes, strict=True)]

    @property
    def holes(self) -> list[Index]:
        return [i for i in itertools.product(*self.extents) if i not in self.planes]

    @property
    def bad(self) -> list[Index]:
        return [index for index, pixels in self.planes.items() if pixels is None]

    @property
    def can_be_read(self) -> bool:
        return not (self.holes or self.bad or self.n_doubled)

    def pixels(self) -> Any:
        """What the whole archive should be read as, if it has no holes."""
        extents = self.extents
        stacked = [self.planes[index] for index in itertools.product(*extents)]
        return np.reshape(stacked, (*map(len, extents), *SHAPE))

    def is_told_by(self, text: str) -> bool:
        return any(each in text for each in self.about)

    def tell(self, *paths: Path) -> None:
        self.about |= {str(path.relative_to(self.folder)) for path in paths}

    def tell_hole(self, index: Index) -> None:
        names = ("t", "z")[: len(index)]
        self.about.add(", ".join(f"{name}={n}" for name, n in zip(names, index, strict=True)))


def make(folder: Path, rng: Random) -> Archive:
    archive = Archive(folder, rng.choice(NAMES), rng.choice([0, 2, 3]))
    n_axes = 1 + ("{1}" in archive.name)
    counts = [rng.randint(2, 5 if n_axes == 1 else 3) for _ in range(n_axes)]
    first = rng.choice([0, 1, 8])
    noise = np.random.default_rng(rng.getrandbits(32))
    for index in itertools.product(*(range(first, first + n) for n in counts)):
        archive.planes[index] = noise.integers(1, 2**16, SHAPE, np.uint16)
        archive.write(archive.path(index), archive.planes[index])
    return archive


# ------------------------------------------------------------------------------------- what happens


def beyond(archive: Archive, index: Index, rng: Random) -> Index:
    """Labels that no file has, along one axis."""
    axis = rng.randrange(len(index))
    return (*index[:axis], archive.extents[axis][-1] + rng.randint(1, 3), *index[axis + 1 :])


def removed(archive: Archive, rng: Random) -> None:
    index = rng.choice(sorted(archive.planes))
    archive.path(index).unlink()
    del archive.planes[index]
    archive.tell(archive.path(index))
    archive.tell_hole(index)


def renamed(archive: Archive, rng: Random) -> None:
    index = rng.choice(sorted(archive.planes))
    path, pixels = archive.path(index), archive.planes.pop(index)
    archive.tell(path)
    archive.tell_hole(index)
    how = rng.choice(["before", "after", "label", "kind"])
    if how == "label":
        moved = beyond(archive, index, rng) if archive.planes else (index[0] + 1, *index[1:])
        archive.planes[moved] = pixels
        target = archive.path(moved)
    elif how == "kind":
        target = path.with_name(f"{path.name}.bak")
    else:
        stem = f"copy of {path.stem}" if how == "before" else f"{path.stem}_old"
        target = archive.left_out = path.with_name(stem + path.suffix)
    target.parent.mkdir(parents=True, exist_ok=True)
    path.rename(target)
    archive.tell(target)
    for hole in archive.holes:
        archive.tell_hole(hole)


def added(archive: Archive, rng: Random) -> None:
    how = rng.choice(["label", "beside", "other", "below"])
    index = rng.choice(sorted(archive.planes))
    pixels = np.full(SHAPE, 7, np.uint16)
    target = archive.path(index)
    if how == "label":
        new = beyond(archive, index, rng)
        archive.planes[new] = pixels
        target = archive.path(new)
    elif how == "below":
        target = archive.left_out = target.parent / "thumbs" / target.name
    elif how == "beside":
        target = archive.left_out = target.with_name(f"overview{target.suffix}")
    else:
        target = target.with_name("notes.txt")
    archive.write(target, pixels)
    archive.tell(target)
    for hole in archive.holes:
        archive.tell_hole(hole)


def doubled(archive: Archive, rng: Random) -> None:
    index = rng.choice(sorted(archive.planes))
    path = archive.path(index)
    target = archive.path(index, max(archive.digits, 2) + 2)
    if rng.randint(0, 1):
        target = archive.left_out = path.with_name(f"{path.stem} (1){path.suffix}")
    elif archive.digits:
        archive.left_out = target  # too many zeros
    else:
        archive.n_doubled = 1
    archive.write(target, archive.planes[index])
    archive.tell(target)


def changed(archive: Archive, rng: Random) -> None:
    index = rng.choice(sorted(archive.planes))
    path, pixels = archive.path(index), archive.planes[index]
    archive.tell(path)
    how = rng.choice(["pixels", "dtype", "shape", "empty", "short", "other"])
    if how == "pixels":
        archive.planes[index] = pixels ^ np.uint16(1 << rng.randrange(16))
        archive.write(path, archive.planes[index])
        return
    data = {
        "dtype": seed.encode(pixels.astype(np.uint8)),
        "shape": seed.encode(pixels[:-1]),
        "empty": b"",
        "short": path.read_bytes()[: rng.randint(1, 200)],
        "other": b"<html>Service Unavailable</html>",
    }
    path.write_bytes(data[how])
    archive.planes[index] = None
    if how in ("dtype", "shape") and index == min(archive.planes):
        # The first file stands for the others, which then differ from it.
        archive.tell(*map(archive.path, archive.planes))


CHANGES = [removed, renamed, added, doubled, changed]


# ------------------------------------------------------------------------------------ what is told


@dataclass
class Told:
    """What one call returned, and what it said."""

    result: Any = None
    text: str = ""
    error: CloudimgError | None = None


def call(function: Any, *arguments: Any, **options: Any) -> Told:
    told = Told()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            told.result = function(*arguments, **options)
        except CloudimgError as exc:
            told.error = exc
            report = getattr(exc, "report", None)
            told.text = f"{exc}\n{report.table() if report else ''}"
    told.text += "\n".join(str(each.message) for each in caught)
    return told


def check_imread(archive: Archive) -> None:
    told = call(lambda: np.asarray(cloudimg.imread(archive.pattern)))
    if told.error is not None:
        assert archive.is_told_by(told.text), told.text
        return
    assert archive.can_be_read
    np.testing.assert_array_equal(told.result, archive.pixels())


def check_info(archive: Archive) -> None:
    told = call(cloudimg.info, archive.pattern, missing="fill", bad="fill", validate="all")
    if told.error is not None:
        assert archive.is_told_by(told.text), told.text
        return
    files = told.result["files"]
    assert not archive.n_doubled
    assert files["count"] == len(archive.planes)
    assert files["missing"] == len(archive.holes)
    found = {each["kind"]: each["n_files"] for each in files["report"]["kinds"]}
    n_bad = sum(n for kind, n in found.items() if kind != "missing")
    assert n_bad >= len(archive.bad)
    if archive.bad:
        assert archive.is_told_by(str(files["report"]))
    if files["unmatched"]:
        assert archive.is_told_by(str(files["unmatched_examples"]))


def check_migrate(archive: Archive, copy: Path) -> None:
    told = call(cloudimg.migrate, archive.pattern, copy)
    if told.error is not None:
        assert archive.is_told_by(told.text), told.text
        assert not (copy / "zarr.json").exists()
        return
    assert archive.can_be_read
    assert archive.left_out is None
    pixels: Any = zarr.open_group(str(copy), mode="r")["0"][:]  # type: ignore[index]
    np.testing.assert_array_equal(pixels.reshape(archive.pixels().shape), archive.pixels())
    assert cloudimg.verify(copy, against_source=True)


def check_verify(archive: Archive, copy: Path, planes: dict[Index, Any]) -> None:
    """The copy was made before the change."""
    told = call(cloudimg.verify, copy, against_source=True)
    assert told.error is None, told.text
    text = str(told.result)
    differs = any(archive.planes.get(index) is not pixels for index, pixels in planes.items())
    if differs:
        assert not told.result, text
    if differs or archive.n_doubled or archive.left_out or archive.planes.keys() - planes:
        assert archive.is_told_by(text), text


def cases() -> Iterator[tuple[int, Any]]:
    for number in range(N_ARCHIVES):
        yield number, CHANGES[number % len(CHANGES)]


@pytest.mark.slow
@pytest.mark.timeout(300 + N_ARCHIVES)
def test_what_happens_to_an_archive_is_told(tmp_path: Path) -> None:
    seen: Counter[str] = Counter()
    for number, change in cases():
        rng = Random(f"{SEED}/{number}")
        folder = tmp_path / str(number)
        archive = make(folder / "in", rng)
        planes = dict(archive.planes)
        cloudimg.migrate(archive.pattern, folder / "before.zarr")
        check_imread(archive)
        change(archive, rng)
        try:
            check_imread(archive)
            check_info(archive)
            check_migrate(archive, folder / "after.zarr")
            check_verify(archive, folder / "before.zarr", planes)
        except AssertionError as exc:
            exc.add_note(f"archive {number}, {change.__name__}: {archive.pattern}")
            raise
        seen[change.__name__] += 1
    assert set(seen) == {change.__name__ for change in CHANGES}
