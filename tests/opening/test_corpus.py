"""Every file of the corpus through S3: pixels equal to tifffile's, or a `CloudimgError`.

Every series and every level is read, in child processes, to detect crashes, hangs and the memory
that each file takes. If tifffile fails, GDAL decides. `pytest -rP` prints a table of outcomes.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import cloudimg
from cloudimg.errors import ArgumentError, CloudimgError
from tests.support.counting import steps_of_this_process
from tests.support.isolation import Outcome, PeakMemory, Step, each_apart
from tests.support.metering import Meter
from tests.support.peers import Array, difference, difference_from_gdal, read_by_gdal, read_series

LARGEST_BYTES = 10**9
"""Of larger images, only a corner is read."""
CORNER = 64
MOST_MEMORY_BYTES = 10**9
HUNG_S = 120
"""Nothing takes nearly as long, even where much else is running: what does has no end."""
MOST_STEPS = 50_000_000
"""See `tests.support.counting`; ten seconds or so of Python, if nobody counts."""
BAD = ("WRONG", "FAILED", "READ BY CLOUDIMG ONLY", "BROKE", "MEMORY", "WORK")
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


# In the child


def examine(case: Case) -> Generator[Step, None, list[str]]:
    """One verdict per level, the first level of the first series first."""
    yield Step("cloudimg", HUNG_S)
    memory, steps = PeakMemory(), steps_of_this_process()
    begin = steps.so_far()
    with steps.counting():
        ours = dict(read_all(case))
    n_steps = steps.so_far() - begin
    verdicts = [f"MEMORY: {memory.bytes()} bytes"] if memory.bytes() > MOST_MEMORY_BYTES else []
    verdicts += [f"WORK: {n_steps} steps"] if n_steps > MOST_STEPS else []
    yield Step("tifffile", HUNG_S)
    theirs: dict[tuple[int, int], tuple[str, Any]] = {(0, 0): ("", "")}
    all_series = read_series(case.path, LARGEST_BYTES, CORNER)
    for i, (axes, levels) in enumerate(all_series if isinstance(all_series, list) else []):
        theirs |= {(i, j): (axes, pixels) for j, pixels in enumerate(levels)}
    yield Step("GDAL", HUNG_S)
    for target in sorted(theirs.keys() | ours.keys()):
        read = ours.get(target, Read())
        axes, pixels = theirs.get(target, ("", "none"))
        if isinstance(pixels, str) and target == (0, 0):
            verdicts.append(verdict_by_gdal(case.path, read))
        else:
            verdicts.append(verdict(read, pixels, axes))
            if target == (0, 0) and verdicts[-1].startswith("WRONG"):
                verdicts[-1] = arbitrated(case.path, read, verdicts[-1])
    return verdicts


def arbitrated(path: Path, read: Read, by_tifffile: str) -> str:
    """The verdict if tifffile disagrees: libtiff may agree with cloudimg."""
    by_gdal = verdict_by_gdal(path, read)
    return f"{by_gdal}, not to tifffile" if by_gdal == "equal to GDAL" else by_tifffile


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


def verdict(read: Read, theirs: Array | str, axes: str) -> str:
    """Compare a level with tifffile's pixels or error."""
    if isinstance(theirs, str):
        if read.pixels is None:
            return f"failed in both: {read.error}"
        return f"READ BY CLOUDIMG ONLY: {read.pixels.shape}, tifffile raises {theirs}"
    if read.pixels is None:
        return f"FAILED: {read.error}"
    differs = difference(read.pixels, theirs, axes)
    return f"WRONG: {differs}" if differs else "equal"


def verdict_by_gdal(path: Path, read: Read) -> str:
    """Compare the first level of the first series with GDAL, if tifffile cannot read it."""
    theirs = read_by_gdal(path, CORNER if read.is_corner else None)
    if read.pixels is None:
        which = "failed in both" if isinstance(theirs, str) else "failed, but GDAL reads it"
        return f"{which}: {read.error}"
    if isinstance(theirs, str):
        return f"READ BY CLOUDIMG ONLY: {read.pixels.shape}, GDAL raises {theirs}"
    differs = difference_from_gdal(read.pixels, read.dims, theirs)
    return f"WRONG against GDAL: {differs}" if differs else "equal to GDAL"


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
        lines += [f"{name}: {text}" for text in (first, *others) if text != "equal"]
    print_table(counts, n_levels)
    listed = [line for line in lines if "failed in both" not in line]
    print("\n".join(sorted(listed, key=lambda line: line.partition(": ")[2])))
    assert sum(counts[kind, "all"] for kind, column in counts if column == "all") == len(rows)
    assert not [line for line in lines if line.partition(": ")[2].startswith(BAD)]
    assert counts["equal", "all"] > 500
