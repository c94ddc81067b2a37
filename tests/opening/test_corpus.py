"""Every file of the corpus through S3: pixels equal to tifffile's and GDAL's, or a `CloudimgError`.

Every series and every level is read, in child processes, to detect crashes, hangs and the memory
that each file takes. Each is compared with both readers where both read it. Where one of them gives
other pixels, or reads what cloudimg refuses or does not read what cloudimg reads, the reason has to
be one of those in `tests.support.explained`, which the pixels, the header or the message prove.
`pytest -rP` prints a table of outcomes.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import tifffile

import cloudimg
from cloudimg.errors import ArgumentError, CloudimgError
from tests.support.counting import steps_of_this_process
from tests.support.explained import (
    why_gdal_differs,
    why_gdal_fails,
    why_refused,
    why_tifffile_differs,
)
from tests.support.isolation import Outcome, PeakMemory, Step, each_apart
from tests.support.metering import Meter
from tests.support.peers import (
    Array,
    bands_of_first_page,
    difference,
    difference_from_gdal,
    pages_not_in,
    read_by_gdal,
    read_series,
)

LARGEST_BYTES = 10**9
"""Of larger images, only a corner is read."""
CORNER = 64
MOST_MEMORY_BYTES = 10**9
MOST_HOSTILE_BYTES = 700 * 10**6
"""For files that tifffile does not read, which are small."""
MOST_PAGES = 40
"""So many pages of an image are compared with GDAL's."""
HUNG_S = 120
"""Nothing takes nearly as long, even where much else is running: what does has no end."""
MOST_STEPS = 50_000_000
"""See `tests.support.counting`; ten seconds or so of Python, if nobody counts."""
BAD = ("WRONG", "FAILED", "READ BY CLOUDIMG ONLY", "READ, BUT", "BROKE", "MEMORY", "WORK")
"""Outcomes that are failures."""


@dataclass(frozen=True, slots=True)
class Case:
    path: Path
    url: str
    options: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Read:
    """What cloudimg reads of one level of one series."""

    dims: tuple[str, ...] = ()
    pixels: Array | None = None
    is_corner: bool = False
    error: str = "no such level"


@dataclass(frozen=True, slots=True)
class Directories:
    """What tifffile knows about a level of a series."""

    pages: tuple[Any, ...] = ()
    """Its pages, none if tifffile does not read the file; at most `MOST_PAGES`."""

    @property
    def offsets(self) -> tuple[int, ...]:
        """Where they lie in the file."""
        return tuple(page.offset for page in self.pages)


# In the child


def examine(case: Case) -> Generator[Step, None, list[str]]:
    """One verdict per level, the first level of the first series first."""
    yield Step("cloudimg", HUNG_S)
    memory, steps = PeakMemory(), steps_of_this_process()
    begin = steps.so_far()
    with steps.counting():
        ours = dict(read_all(case))
    n_steps, peak_bytes = steps.so_far() - begin, memory.bytes()
    yield Step("tifffile", HUNG_S)
    theirs: dict[tuple[int, int], tuple[str, Any]] = {(0, 0): ("", "none")}
    all_series = read_series(case.path, LARGEST_BYTES, CORNER)
    for i, (axes, levels) in enumerate(all_series if isinstance(all_series, list) else []):
        theirs |= {(i, j): (axes, pixels) for j, pixels in enumerate(levels)}
    is_hostile = any(isinstance(pixels, str) for _, pixels in theirs.values())
    most_bytes = MOST_HOSTILE_BYTES if is_hostile else MOST_MEMORY_BYTES
    costs = [f"MEMORY: {peak_bytes} bytes"] if peak_bytes > most_bytes else []
    costs += [f"WORK: {n_steps} steps"] if n_steps > MOST_STEPS else []
    yield Step("GDAL", HUNG_S)
    known = directories(case.path) if isinstance(all_series, list) else {}
    verdicts = [
        verdict(
            case.path,
            known.get(target, Directories()),
            ours.get(target, Read()),
            *theirs.get(target, ("", "none")),
        )
        for target in sorted(theirs.keys() | ours.keys())
    ]
    return [*costs, *verdicts]


def directories(path: Path) -> dict[tuple[int, int], Directories]:
    with tifffile.TiffFile(path) as tiff:
        return {
            (i, j): Directories(
                tuple(
                    page.aspage()
                    for page in level.pages[:MOST_PAGES]
                    if page is not None and page.offset and page.parent is tiff
                )
            )
            for i, series in enumerate(tiff.series)
            for j, level in enumerate(series.levels)
        }


def verdict(path: Path, found: Directories, read: Read, axes: str, theirs: Array | str) -> str:
    """Compare a level with what tifffile and GDAL make of it."""
    offset = found.offsets[0] if found.offsets else 0
    side = CORNER if read.is_corner else None
    by_gdal: Array | str = read_by_gdal(path, side, offset)
    if read.pixels is None:
        peers = {"tifffile": theirs, "GDAL": by_gdal}
        who = " and ".join(name for name, one in peers.items() if not isinstance(one, str))
        if not who:
            return f"failed in all: {read.error}"
        why = why_refused(read.error, by_gdal=not isinstance(by_gdal, str))
        return f"refused, read by {who}: {why}" if why else f"FAILED, read by {who}: {read.error}"
    from_tifffile = theirs if isinstance(theirs, str) else difference(read.pixels, theirs, axes)
    if isinstance(by_gdal, str):
        if isinstance(theirs, str):
            return f"READ BY CLOUDIMG ONLY: {read.pixels.shape}, {theirs}; {by_gdal}"
        if from_tifffile:
            return f"WRONG, and GDAL does not read it: {from_tifffile}"
        why = why_gdal_fails(found.pages, by_gdal)
        return f"equal to tifffile: {why}" if why else f"READ, BUT not by GDAL: {by_gdal}"
    from_gdal = difference_from_gdal(read.pixels, read.dims, by_gdal)
    if not from_gdal and not read.is_corner:
        lost = pages_not_in(read.pixels, read.dims, path, found.offsets)
        from_gdal = f"pages {lost} are not in the image" if lost else ""
    if not from_gdal and not from_tifffile:
        return "equal to both"
    if not from_gdal and isinstance(theirs, str):
        return f"equal to GDAL: tifffile: {theirs}"
    if not from_gdal:
        why = why_tifffile_differs(found.pages)
        return f"equal to GDAL: {why}" if why else f"WRONG against tifffile: {from_tifffile}"
    bands = bands_of_first_page(read.pixels, read.dims)
    why = why_gdal_differs(found.pages, bands, by_gdal)
    if isinstance(theirs, str):
        return f"as GDAL: {why}" if why else f"WRONG against GDAL: {from_gdal}; {theirs}"
    if from_tifffile:
        return f"WRONG: {from_tifffile}; against GDAL: {from_gdal}"
    return f"equal to tifffile: {why}" if why else f"WRONG against GDAL: {from_gdal}"


def read_all(case: Case) -> Iterator[tuple[tuple[int, int], Read]]:
    """Every level of every series; of very large ones a corner."""
    before = ""
    for series in range(1000):
        try:
            image = cloudimg.open(case.url, series=series, storage_options=case.options)
        except ArgumentError:
            return  # there are no more
        except CloudimgError as exc:
            yield (series, 0), Read(error=described(exc))
            if str(exc) == before:
                return  # the file as a whole cannot be read
            before = str(exc)
        else:
            for level in range(len(image.levels)):
                yield (series, level), read_level(image, level)


def read_level(image: cloudimg.Image, level: int) -> Read:
    shape, region, is_corner = image.levels[level].shape, None, False
    size = image.dtype.itemsize
    for n in shape:
        size *= n
    if size > LARGEST_BYTES:
        lengths = {"y": CORNER, "x": CORNER, "s": None}
        region, is_corner = {dim: slice(lengths.get(dim, 1)) for dim in image.dims}, True
    try:
        return Read(image.dims, image.read(region, level=level), is_corner)
    except CloudimgError as exc:
        return Read(error=described(exc))


def described(exc: CloudimgError) -> str:
    return f"{type(exc).__name__}: {exc}"


# In the test


def classes(row: dict[str, str]) -> Iterator[str]:
    """Columns of the table in which a file is counted."""
    yield "all"
    for name in ("ome", "imagej", "geotiff"):
        if row[f"is_{name}"] == "1":
            yield name
    if row["tiled"]:
        yield "tiled" if row["tiled"] == "1" else "strips"
    yield from (["bilevel"] if row["bits_per_sample"] == "1" else [])
    yield from (["palette"] if row["photometric"] == "PALETTE" else [])
    yield from (["jpeg"] if "JPEG" in row["compression"] else [])
    yield from (["bigtiff"] if row["bigtiff"] == "1" else [])
    yield from (["pages"] if row["n_pages"] not in ("", "0", "1") else [])
    yield from ([] if row["tifffile_status"].startswith("ok") else ["hostile"])


def verdicts_of(outcome: Outcome) -> list[str]:
    if outcome.trouble:
        return [f"BROKE: in {outcome.step}: {outcome.trouble}"]
    return list(outcome.result)


def print_table(counts: Counter[tuple[str, str]], n_levels: Counter[str]) -> None:
    kinds = sorted({kind for kind, _ in counts}, key=lambda kind: -counts[kind, "all"])
    columns = list(dict.fromkeys(column for _, column in counts))
    print(f"{'first level of first series':28}" + "".join(f"{name:>9}" for name in columns))
    for kind in kinds:
        print(f"{kind:28}" + "".join(f"{counts[kind, name]:9}" for name in columns))
    print(f"other series and levels: {dict(n_levels)}")


@pytest.mark.slow
def test_every_file_of_the_corpus(corpus: Path, meter: Meter, bucket: str) -> None:
    with (corpus / "index.csv").open(newline="") as file:
        rows = {row["path"]: row for row in csv.DictReader(file)}
    cases = []
    for name in rows:
        meter.put(bucket, name, (corpus / "files" / name).read_bytes())
        url = f"s3://{bucket}/{name}"
        cases.append(Case(corpus / "files" / name, url, meter.storage_options))
    counts: Counter[tuple[str, str]] = Counter()
    n_levels: Counter[str] = Counter()
    lines = []
    for outcome in each_apart(examine, cases):
        name = str(outcome.item.path.relative_to(corpus / "files"))
        first, *others = verdicts_of(outcome)
        counts.update((first.partition(":")[0], column) for column in classes(rows[name]))
        n_levels.update(other.partition(":")[0] for other in others)
        lines += [f"{name}: {text}" for text in (first, *others) if text != "equal to both"]
    print_table(counts, n_levels)
    listed = [line for line in lines if "failed in all" not in line]
    print("\n".join(sorted(listed, key=lambda line: line.partition(": ")[2])))
    assert sum(counts[kind, "all"] for kind, column in counts if column == "all") == len(rows)
    assert not [line for line in lines if line.partition(": ")[2].startswith(BAD)]
    assert counts["equal to both", "all"] > 500
