"""Files with one thing removed or added: the same pixels, or a word about what is missing.

For each case, everything is read (every image of the file, every level), and the default image is
migrated and verified against its source. What may come of it:

- the planes of the whole file, all of them;
- an error of ours that names the URL;
- other planes, and a note that is not there for the whole file. The planes are those of the whole
  file, or what GDAL and tifffile both read of the changed one, or planes of the whole file of which
  a part is fill or cut off. A note excuses missing pixels, never wrong ones, and a note about
  further images excuses no loss.

Anything else is a failure, with two exceptions, where the file contradicts nothing that it says and
nobody can tell what it was before.

- `Fault.is_padding`: ImageLength (or the width of tiles) is smaller, but the page still has as many
  segments, which are compressed or tiles. Rows in the last ones that are not part of the image are
  ordinary there. The planes have to be those of the whole file without these rows, and as many.
- `is_leftover`: a link of the chain is 0 or skips pages, no description counts the pages, and what
  is left in the file of the others is less than 512 bytes or than half of the smallest page. Of
  669 files of the corpus 36 have 512 bytes or more that are in no page, most of them hostile.

Of 3000 cases (seeds 0 to 2999) these are 8 and 3.

The normal run takes a hundred seeds. For longer runs:

- CLOUDIMG_FAULTS=1000 is the number of cases;
- CLOUDIMG_FUZZ_SEED=123456 is the seed of the first case;
- CLOUDIMG_FUZZ_KEEP=folder: failing files are written there.

`pytest -rP` prints the outcomes. A failure names its seed, and `faults.case(seed)` makes it again.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import tempfile
import traceback
from collections import Counter
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cloudimg
from cloudimg.errors import ArgumentError, CloudimgError
from tests.support.faults import FAULTS, Case, added, case
from tests.support.flavours import Array
from tests.support.isolation import Step, each_apart
from tests.support.originals import originals
from tests.support.peers import read_pages_by_gdal, stored_pages

N_CASES = int(os.environ.get("CLOUDIMG_FAULTS", "100"))
SEED = int(os.environ.get("CLOUDIMG_FUZZ_SEED", "0"))
KEEP = os.environ.get("CLOUDIMG_FUZZ_KEEP", "")
HUNG_S = 60
"""Nothing takes nearly as long, even where much else is running: what does has no end."""
LARGEST_BYTES = 32 * 2**20
"""No image of any case has nearly as many pixels."""
SMALL_BYTES = 512
"""So many bytes that are in no page are ordinary: gaps, and metadata of vendors."""
DELIVERED = {"further-images", "thumbnail", "label", "macro", "map", "mask", "empty"}
"""Kinds of notes about what other images of the file hold. They excuse no loss."""

Planes = Counter[bytes]


@dataclass
class Account:
    """What came of a file."""

    main: list[bytes] = field(default_factory=list)
    """Level 0 of the default image, by plane."""
    planes: dict[bytes, Array] = field(default_factory=dict)
    counts: Planes = field(default_factory=Counter)
    """Planes of all levels of all images."""
    notes: tuple[Any, ...] = ()
    error: CloudimgError | None = None
    """What opening the default image or reading it said."""
    further_error: CloudimgError | None = None
    """What one of the further images said."""

    def add(self, pixels: Array, n_dims: int) -> list[bytes]:
        marks = []
        for plane in pixels.reshape(-1, *pixels.shape[-n_dims:]):
            marks.append(mark(plane))
            self.planes[marks[-1]] = plane
        self.counts.update(marks)
        return marks


def mark(plane: Array) -> bytes:
    """The same for equal planes; GDAL has no bits, which are bytes there."""
    plain = plane.astype(np.uint8) if plane.dtype == np.bool_ else plane
    digest = blake2b(np.ascontiguousarray(plain), digest_size=16)
    digest.update(f"{plain.dtype.name}{plain.shape}".encode())
    return digest.digest()


@dataclass(frozen=True, slots=True)
class Verdict:
    outcome: str
    recipe: str
    findings: tuple[str, ...] = ()
    """Failures; the first line of each is a summary."""


# In the child


def examine(seed: int) -> Generator[Step, None, Verdict]:
    yield Step("making", HUNG_S)
    one, with_logging = case(seed), bool(seed % 2)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / one.original.file_name
        path.write_bytes(one.fault.data)
        yield Step("reading", HUNG_S, Verdict("failed", one.recipe))
        findings: list[str] = []
        account, outcome = Account(), "failed"
        with no_foreign_words(findings, with_logging=with_logging), ours_alone(findings):
            account = read_everything(path)
        if account.planes or account.error is not None:
            outcome = judged(one, account, path, findings)
            yield Step("migrating", HUNG_S, Verdict("failed", one.recipe, tuple(findings)))
            with no_foreign_words(findings, with_logging=with_logging), ours_alone(findings):
                check_copy(path, account, findings)
    return Verdict("failed" if findings else outcome, one.recipe, tuple(findings))


@contextlib.contextmanager
def ours_alone(findings: list[str]) -> Iterator[None]:
    """No exception of others comes through."""
    try:
        yield
    except Exception as exc:  # noqa: BLE001
        kind = f"FOREIGN: raised {type(exc).__name__}: {exc}"
        findings.append(f"{kind}\n{traceback.format_exc(limit=-6)}")


@contextlib.contextmanager
def no_foreign_words(findings: list[str], *, with_logging: bool) -> Iterator[None]:
    """No log record of tifffile is printed, which names no file.

    Nothing may depend on logging, which an application may have disabled.
    """
    said: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: said.append(f"{record.name}: {record.getMessage()}")  # type: ignore[method-assign]
    logging.getLogger().addHandler(handler)
    before = logging.root.manager.disable
    logging.disable(logging.NOTSET if with_logging else logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)
        logging.getLogger().removeHandler(handler)
    findings += [f"PRINTED: {text}" for text in dict.fromkeys(said) if "tiff" in text]


def read_everything(path: Path) -> Account:
    account = Account()
    try:
        image = cloudimg.open(path)
        account.notes = image.notes
        _read_levels(image, account)
        # Some things are noticed when pixels are read.
        account.notes = image.notes
        str(image), image.coords
    except CloudimgError as exc:
        account.error = exc
        return account
    for series in range(1, 50):
        try:
            _read_levels(cloudimg.open(path, series=series), account)
        except ArgumentError:
            break  # there are no more
        except CloudimgError as exc:
            account.further_error = exc
    return account


def _read_levels(image: cloudimg.Image, account: Account) -> None:
    n_dims = 3 if image.dims[-1] == "s" else 2
    is_first = not account.main
    for level, info in enumerate(image.levels):
        assert np.prod(info.shape) * image.dtype.itemsize < LARGEST_BYTES, f"{info.shape} claimed"
        marks = account.add(image.read(level=level), n_dims)
        account.main = marks if is_first and level == 0 else account.main


def judged(one: Case, account: Account, path: Path, findings: list[str]) -> str:
    """The outcome of reading; what is wrong with it is added to the findings."""
    for error in filter(None, (account.error, account.further_error)):
        if str(path) not in str(error):
            findings.append(f"NAMELESS: {type(error).__name__}: {error}")
    if account.error is not None:
        return f"error: {type(account.error).__name__}"
    expected = whole(one.original.name)
    missing, extra = expected.counts - account.counts, account.counts - expected.counts
    if one.fault.what == "pages added":
        new = Counter(map(mark, added()))
        missing += new_planes(one) - account.counts
        extra -= new
    usual = usual_notes(one.original.name)
    new_kinds = {note.kind for note in account.notes if note.text not in usual}
    is_told = bool(new_kinds) or account.further_error is not None
    agreed = agreed_upon(path, one) if extra else set()
    strangers = [one for one in extra if one not in agreed]
    if is_told or one.fault.is_padding:
        strangers = [one for one in strangers if not is_part(account.planes[one], expected)]
    n, n_before = len(account.main), len(expected.main)
    what = f"{missing.total()} planes missing, {extra.total()} others"
    if strangers:
        findings.append(f"WRONG PIXELS: {what}, {len(strangers)} of them nobody else reads")
    if not missing and not extra and account.main == expected.main:
        return "same"
    if one.fault.what == "pages added" and not missing and account.main[:n_before] == expected.main:
        return "the new pages are in the image"
    if is_told:
        if new_kinds <= DELIVERED and missing.total() > extra.total() and not account.further_error:
            findings.append(f"SILENT: {what}; told only of other images, by {sorted(new_kinds)}")
        return f"told: {', '.join(sorted(new_kinds)) or 'another image fails'}"
    if one.fault.is_padding and missing.total() == extra.total() and not strangers:
        return "padding"
    if not extra and one.fault.what.startswith("link") and is_leftover(one, missing):
        return "too little is left to tell"
    if not missing and not extra and sorted(account.main) == sorted(expected.main):
        findings.append("SILENT: the planes are in another order")
    else:
        findings.append(f"SILENT: {what}; the image has {n} for {n_before} planes")
    return "failed"


def is_leftover(one: Case, missing: Planes) -> bool:
    """Whether what no directory leads to any more is as little as many writers leave."""
    lost = sum(size for plane, size in stored_pages(one.original.data) if mark(plane) in missing)
    sizes = [size for _, size in stored_pages(one.fault.data)]
    return lost < max(SMALL_BYTES, min(sizes) // 2)


def new_planes(one: Case) -> Planes:
    """The planes that a fault has added."""
    return Counter(m for m in map(mark, added()) if m in pages_of(one))


def pages_of(one: Case) -> set[bytes]:
    return {mark(page) for page, _ in stored_pages(one.fault.data)}


def is_part(plane: Array, expected: Account) -> bool:
    """Whether a plane is the upper left of one of the whole file's, or has zeros for a part."""
    if plane.ndim < 2:
        return False
    height, width = plane.shape[:2]
    for whole_plane in expected.planes.values():
        known = whole_plane[:height, :width]
        is_alike = known.shape == plane.shape and known.dtype == plane.dtype
        if is_alike and np.array_equal(np.where(plane == 0, known, plane), known):
            return True
    return False


def agreed_upon(path: Path, one: Case) -> set[bytes]:
    """What GDAL and tifffile both read of the pages of the changed file.

    Where tifffile fails with pages, what GDAL reads.
    """
    by_gdal = {mark(page) for page in read_pages_by_gdal(path)}
    by_tifffile = stored_pages(one.fault.data)
    if len(by_tifffile) < len(stored_pages(one.original.data)):
        return by_gdal
    return by_gdal & {mark(page) for page, _ in by_tifffile}


@cache
def whole(name: str) -> Account:
    """The account of a whole file, from what was written."""
    account = Account()
    for levels in originals()[name]().images:
        for planes in levels:
            marks = account.add(planes, planes.ndim - 1)
            account.main = account.main or marks
    return account


@cache
def usual_notes(name: str) -> frozenset[str]:
    """What cloudimg notes about the whole file already."""
    original = originals()[name]()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / original.file_name
        path.write_bytes(original.data)
        return frozenset(note.text for note in read_everything(path).notes)


def check_copy(path: Path, account: Account, findings: list[str]) -> None:
    """Migrate and verify: a copy holds what reading gave, and says the same."""
    url = str(path.with_suffix(".zarr"))
    try:
        done = cloudimg.migrate(path, url)
        proof = cloudimg.verify(url, against_source=True)
    except CloudimgError as exc:
        if str(path) not in str(exc):
            findings.append(f"NAMELESS: migrate: {type(exc).__name__}: {exc}")
        return
    if not account.main:
        findings.append(f"SILENT: migrated what cannot be read: {account.error}")
        return
    if not proof:
        findings.append(f"UNVERIFIED: {proof}")
    copied = np.sort(copy_of(url), axis=None)
    read = np.sort(np.stack([account.planes[one] for one in account.main]), axis=None)
    if not np.array_equal(copied, read):
        findings.append("WRONG PIXELS: the copy has others than the image")
    kinds = {note.kind for note in account.notes}
    for step, notes in (("migrate", done.notes), ("verify", proof.notes)):
        unsaid = kinds - {getattr(note, "kind", "") for note in notes}
        if unsaid:
            findings.append(f"SILENT: {step} does not repeat the notes {sorted(unsaid)}")


def copy_of(url: str) -> Array:
    """All pixels of level 0 of a copy, by zarr; of a collection those of all its images."""
    import zarr

    arrays = []
    for found in sorted(Path(url).rglob("0/zarr.json")):
        if json.loads(found.read_bytes())["node_type"] == "array":
            pixels: Array = np.asarray(zarr.open_array(found.parent, mode="r")[...])
            arrays.append(pixels.ravel())
    return np.concatenate(arrays)


# In the test


def report(seeds: Iterable[int]) -> Counter[str]:
    """Count outcomes, print them, keep failing files, and fail if there are any."""
    counts: Counter[str] = Counter()
    bad: dict[str, list[str]] = {}
    for outcome in each_apart(examine, seeds):
        verdict = outcome.result or Verdict("failed", f"seed {outcome.item}")
        findings = verdict.findings
        if outcome.trouble:
            findings = (*findings, f"{outcome.step}: {outcome.trouble}")
        counts["failed" if findings else verdict.outcome] += 1
        for finding in findings:
            bad.setdefault(finding, []).append(verdict.recipe)
        if findings and KEEP:
            Path(KEEP).mkdir(parents=True, exist_ok=True)
            (Path(KEEP) / f"fault-{outcome.item}.tif").write_bytes(case(outcome.item).fault.data)
    print("\n".join(f"{n:6}  {kind}" for kind, n in counts.most_common()))
    assert not bad, "\n".join(
        "\n".join((f"\n{finding}", *(f"  {recipe}" for recipe in recipes)))
        for finding, recipes in sorted(bad.items(), reverse=True)
    )
    return counts


@pytest.mark.slow
@pytest.mark.timeout(300 + N_CASES)
def test_one_thing_removed_or_added() -> None:
    counts = report(range(SEED, SEED + N_CASES))
    assert counts.total() == N_CASES
    # The cases make a difference, and not every difference is an error.
    assert counts["same"] < N_CASES / 2
    assert sum(n for kind, n in counts.items() if kind.startswith("error")) > N_CASES / 5
    assert sum(n for kind, n in counts.items() if kind.startswith("told")) > N_CASES / 20


@pytest.mark.parametrize("name", originals())
def test_whole(name: str, tmp_path: Path) -> None:
    """Before anything is done to them, the files are read as they were written."""
    original = originals()[name]()
    path = tmp_path / original.file_name
    path.write_bytes(original.data)
    account = read_everything(path)
    assert account.error is None
    assert account.further_error is None
    assert account.main == whole(name).main
    assert account.counts == whole(name).counts


def test_a_case_is_made_again_by_its_seed() -> None:
    seeds = range(0, 1000, 37)
    assert [case(seed).fault.data for seed in seeds] == [case(seed).fault.data for seed in seeds]
    assert all(case(seed).fault.data != case(seed).original.data for seed in seeds)


def test_any_hundred_have_every_kind_of_fault() -> None:
    assert len(FAULTS) < 50
    kinds = {case(seed).fault.what.partition(" ")[0] for seed in range(SEED, SEED + 100)}
    assert len(kinds) >= 12, kinds
