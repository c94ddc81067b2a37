"""Broken and malicious files: correct pixels or a `CloudimgError`, in limited steps and memory.

The normal run takes a fixed set of mutations of good files and every bomb. For longer runs:

- CLOUDIMG_FUZZ_SECONDS=600 generates mutations for that long;
- CLOUDIMG_FUZZ_SEED=123456 is the seed of the first mutation;
- CLOUDIMG_FUZZ_KEEP=folder: failing files are written there, and `test_kept` reads all files in
  the folder again.

`pytest -rP` prints the outcomes.
"""

from __future__ import annotations

import io
import os
import time
import traceback
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

import fsspec
import numpy as np
import pytest

import cloudimg
from tests.support.bombs import bombs
from tests.support.counting import steps_of_this_process
from tests.support.isolation import Outcome, PeakMemory, Step, each_apart
from tests.support.metering import Meter
from tests.support.mutations import mutated, written
from tests.support.peers import Array, difference, read_series

N_MUTATIONS = 400
SECONDS = float(os.environ.get("CLOUDIMG_FUZZ_SECONDS", "0"))
SEED = int(os.environ.get("CLOUDIMG_FUZZ_SEED", "0"))
KEEP = os.environ.get("CLOUDIMG_FUZZ_KEEP", "")
HUNG_S = 120
"""Nothing takes nearly as long, even where much else is running: what does has no end."""
MOST_STEPS = 50_000_000
"""See `tests.support.counting`; ten seconds or so of Python, if nobody counts."""
MOST_MEMORY_BYTES = 700 * 10**6
LARGEST_BYTES = 64 * 2**20
"""Larger images are not read whole."""
LARGEST_SOURCE_BYTES = 200_000
CORNER = 64


@dataclass(frozen=True, slots=True)
class Verdict:
    outcome: str
    """Category under which the file is counted."""
    findings: tuple[str, ...] = ()
    """Failures; the first line of each is a summary."""


# In the child


@dataclass(frozen=True)
class Examine:
    """Reads hostile files; an item is a seed or the name of a bomb, and the URL to read."""

    make: Callable[[int | str], bytes]
    options: dict[str, Any] | None = None

    def __call__(self, item: tuple[int | str, str]) -> Generator[Step, None, Verdict]:
        what, url = item
        yield Step("making", HUNG_S)
        data = self.make(what)
        if not url:
            url = "memory://fuzz/file.ome.tif" if b"<OME" in data else "memory://fuzz/file.tif"
            fsspec.filesystem("memory").pipe_file(url.removeprefix("memory:/"), data)
        yield Step("cloudimg", HUNG_S)
        memory, steps = PeakMemory(), steps_of_this_process()
        begin = steps.so_far()
        reading = Reading(url, self.options, Random(str(what)))
        with steps.counting():
            reading.run()
        n_steps = steps.so_far() - begin
        if n_steps > MOST_STEPS:
            reading.findings.append(f"work: {n_steps / 10**6:.0f} million steps")
        if memory.bytes() > MOST_MEMORY_BYTES:
            reading.findings.append(f"memory: {memory.bytes() / 10**6:.0f} MB")
        ours = Verdict(reading.outcome, tuple(reading.findings))
        if reading.image is None:
            return ours
        yield Step("tifffile", HUNG_S, so_far=ours)
        name = url.rpartition("/")[2]
        file = io.BytesIO(data)
        theirs = read_series(file, LARGEST_BYTES, CORNER, name=name, _multifile=False)
        return reading.compared(theirs[0] if theirs and not isinstance(theirs, str) else None)


class Reading:
    """One file read by cloudimg: of each level, a region and the whole."""

    def __init__(self, url: str, options: dict[str, Any] | None, random: Random) -> None:
        self.findings: list[str] = []
        self.outcome = ""
        self.image: cloudimg.Image | None = None
        self._url = url
        self._options = options
        self._random = random
        self._wholes: dict[int, Array] = {}

    def run(self) -> None:
        self.image = self._try(lambda: cloudimg.open(self._url, storage_options=self._options))
        if self.image is None:
            self.outcome = f"not opened: {self.outcome}"
            return
        self._try(lambda: (repr(self.image), self.image.coords, self.image.to_dask().chunks))
        for level, info in enumerate(self.image.levels[:5]):
            self._read_level(self.image, level, info.shape)

    def _read_level(self, image: cloudimg.Image, level: int, shape: tuple[int, ...]) -> None:
        region = tuple(self._some(n) for n in shape)
        part = self._try(lambda: image.read(region, level=level))
        if np.prod([float(n) for n in shape]) * image.dtype.itemsize > LARGEST_BYTES:
            self.outcome = self.outcome or "a region read"
            return
        whole = self._try(lambda: image.read(level=level))
        if whole is None:
            return
        self._wholes[level] = whole
        if part is None:
            self.findings.append(f"a region fails, the whole does not: {self.outcome}")
        elif part.tobytes() != whole[region].tobytes():
            self.findings.append("a region differs from the whole")

    def _some(self, n: int) -> slice:
        """A random slice of an axis, likely to begin at 0."""
        start = 0 if self._random.random() < 0.5 else self._random.randrange(n)
        step = self._random.choice((1, 1, 1, 2, 5))
        return slice(start, min(n, start + step * self._random.randint(1, CORNER)), step)

    def _try(self, call: Callable[[], Any]) -> Any:
        """The result of a call, or None after an error, which is recorded."""
        try:
            return call()
        except cloudimg.CloudimgError as exc:
            self.outcome = type(exc).__name__
            if "MemoryError" in str(exc):
                self.findings.append(f"ran out of memory: {exc}")
        except Exception as exc:  # noqa: BLE001
            self.outcome = "failed"
            kind = f"raised {type(exc).__name__}: {exc}"
            self.findings.append(f"{kind}\n{traceback.format_exc(limit=-6)}")
        return None

    def compared(self, theirs: tuple[str, list[Array | str]] | None) -> Verdict:
        """Compare the levels with those that tifffile reads."""
        axes, levels = theirs or ("", [])
        outcome, findings = self.outcome or "read by cloudimg only", list(self.findings)
        for level, pixels in enumerate(levels):
            if isinstance(pixels, str) or pixels.nbytes > LARGEST_BYTES:
                continue
            if level in self._wholes:
                outcome = "equal" if outcome == "read by cloudimg only" else outcome
                ours = self._wholes[level]
                differs = difference(self._planes_of_axes(ours, pixels), pixels, axes)
                findings += [f"differs from tifffile: {differs}"] if differs else []
            elif outcome == self.outcome and pixels.size > CORNER**2:
                outcome = f"tifffile reads it: {self.outcome}"
        return Verdict("failed" if findings else outcome, tuple(findings))

    def _planes_of_axes(self, ours: Array, theirs: Array) -> Array:
        """Without planes of an ImageJ stack that only ``images=`` counts, not channels and so on.

        ImageJ goes by ``images=``, and so do we, with a note; tifffile reads one plane.
        """
        notes = self.image.notes if self.image is not None else ()
        is_told = any("but channels, slices and frames make 1:" in note for note in notes)
        return ours[0] if is_told and ours.shape[1:] == theirs.shape else ours


@dataclass(frozen=True)
class Mutate:
    """Mutates good files, both written here and real ones, by seed."""

    name: str
    paths: Sequence[Path] = ()

    def __call__(self, seed: int | str) -> bytes:
        if not hasattr(self, "_sources"):
            made = [lambda data=data: data for data in written().values()]
            object.__setattr__(self, "_sources", made + [path.read_bytes for path in self.paths])
        return mutated(int(seed), self._sources)

    def __reduce__(self) -> Any:
        return Mutate, (self.name, self.paths)


def bomb(name: int | str) -> bytes:
    return bombs()[str(name)]()


def kept(path: int | str) -> bytes:
    return Path(path).read_bytes()


# In the test


def report(outcomes: Iterator[Outcome], make: Callable[[int | str], bytes]) -> Counter[str]:
    """Count outcomes, print them, keep failing files, and fail if there are any."""
    counts: Counter[str] = Counter()
    bad: dict[str, list[str]] = {}
    for outcome in outcomes:
        what = outcome.item[0]
        verdict = outcome.result or Verdict("failed")
        findings = verdict.findings
        if outcome.trouble and outcome.step != "tifffile":
            findings = (*findings, f"{outcome.step}: {outcome.trouble}")
        counts["failed" if findings else verdict.outcome] += 1
        for finding in findings:
            bad.setdefault(finding, []).append(str(what))
        if findings and KEEP and make is not kept:
            Path(KEEP).mkdir(parents=True, exist_ok=True)
            name = f"{getattr(make, 'name', 'bomb')} {what}.tif".replace(" ", "-")
            (Path(KEEP) / name).write_bytes(make(what))
    print("\n".join(f"{n:6}  {kind}" for kind, n in counts.most_common()))
    assert not bad, "\n".join(
        f"\n{finding}\n  {len(names)} x: {names[:5]}" for finding, names in bad.items()
    )
    return counts


def seeds(n: int, seconds: float) -> Iterator[tuple[int, str]]:
    """A number of seeds, or as many as the time allows."""
    end = time.monotonic() + seconds
    for i in count(SEED):
        if (time.monotonic() > end) if seconds else (i >= SEED + n):
            return
        yield i, ""


def small_files(corpus: Path) -> list[Path]:
    files = sorted(path for path in (corpus / "files").rglob("*") if path.is_file())
    return [path for path in files if path.stat().st_size < LARGEST_SOURCE_BYTES]


@pytest.mark.slow
@pytest.mark.timeout(300 + SECONDS)
def test_mutations_of_written_files() -> None:
    mutate = Mutate("written")
    counts = report(each_apart(Examine(mutate), seeds(N_MUTATIONS, SECONDS / 4)), mutate)
    assert counts["equal"] > counts.total() // 5  # many files are really compared


@pytest.mark.slow
@pytest.mark.timeout(300 + SECONDS)
def test_mutations_of_real_files(corpus: Path) -> None:
    mutate = Mutate("real", small_files(corpus))
    counts = report(each_apart(Examine(mutate), seeds(N_MUTATIONS, SECONDS * 3 / 4)), mutate)
    assert counts["equal"] > counts.total() // 5  # many files are really compared


@pytest.mark.slow
def test_mutations_through_s3(corpus: Path, meter: Meter, bucket: str) -> None:
    mutate = Mutate("real", small_files(corpus))

    def put() -> Iterator[tuple[int, str]]:
        for seed in range(SEED + 10**6, SEED + 10**6 + N_MUTATIONS // 10):
            meter.put(bucket, f"{seed}.tif", mutate(seed))
            yield seed, f"s3://{bucket}/{seed}.tif"

    counts = report(each_apart(Examine(mutate, meter.storage_options), put()), mutate)
    # A fifth is really compared; half of the mutations are truncations, refused at open.
    assert counts["equal"] >= counts.total() // 5


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_bombs() -> None:
    counts = report(each_apart(Examine(bomb), ((name, "") for name in bombs())), bomb)
    assert counts.total() == len(bombs())


@pytest.mark.skipif(not KEEP, reason="CLOUDIMG_FUZZ_KEEP names no folder of failing files")
@pytest.mark.parametrize("path", sorted(map(str, Path(KEEP).glob("*"))) if KEEP else [])
def test_kept(path: str) -> None:
    assert report(each_apart(Examine(kept), [(path, "")]), kept).total() == 1


def misbehave(how: str) -> Generator[Step, None, float]:
    """Work for the test below."""
    memory = PeakMemory()
    yield Step("asleep", 1 if how == "hang" else HUNG_S, so_far=-1.0)
    if how == "hang":
        time.sleep(600)
    elif how == "crash":
        os.abort()
    elif how == "raise":
        raise ValueError("no luck")
    elif how == "use memory":
        np.ones(2**27, np.uint8)
    return memory.bytes() / 2**27


@pytest.mark.slow
def test_children_are_watched() -> None:
    outcomes = {o.item: o for o in each_apart(misbehave, ["crash", "hang", "raise", "use memory"])}
    assert "no end after 1 s" in outcomes["hang"].trouble
    assert "exit code -6" in outcomes["crash"].trouble
    assert "ValueError: no luck" in outcomes["raise"].trouble
    assert [outcomes[how].result for how in ("hang", "crash", "raise")] == [-1, -1, -1]
    assert not outcomes["use memory"].trouble
    assert 0.9 < outcomes["use memory"].result < 1.5
