"""`repair` on copies that were damaged on purpose: the same copy as before, from what was broken.

One list of mutations is made of copies in Zarr 3 and in Zarr 2. Requests are counted on a server.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import fsspec
import numpy as np
import pytest
import tifffile

import cloudimg
from cloudimg.errors import CorruptFileError
from cloudimg.migration.journal.layout import END_MARK, PLAN, PLAN_COPY
from cloudimg.migration.journal.sealing import seal, unsealed
from cloudimg.migration.journal.state_from_json import identity_of
from tests.support import copies
from tests.support.metering import Meter

Objects = dict[str, bytes]
Change = Callable[[Objects, Objects], object]
"""Changes the objects of a copy. The second ones are those of a copy of another archive."""

ARGUMENTS: dict[str, Any] = {"chunks": 32, "levels": 3, "name": "cells"}
SHARDS = {"z": 1, "y": 64, "x": 64}
"""Twelve cells of two files, and one in a second stage."""
ROOT = {3: "zarr.json", 2: ".zattrs"}
ARRAY = {3: "zarr.json", 2: ".zarray"}


@dataclass(frozen=True, slots=True)
class Archive:
    """A copy in a bucket, its objects as they were, and those of a copy of another archive."""

    url: str
    source: str
    options: dict[str, Any] = field(repr=False)
    meter: Meter
    whole: Objects
    other: Objects
    zarr_format: int

    def put(self, found: Objects) -> None:
        """Make the objects those that are given."""
        fs, root = fsspec.core.url_to_fs(self.url, **self.options)
        now = copies.objects(self.url, self.options)
        for key, data in found.items():
            if now.get(key) != data:
                fs.pipe_file(f"{root}/{key}", data)
        for key in now.keys() - found.keys():
            fs.rm_file(f"{root}/{key}")

    def repair(self, **arguments: Any) -> cloudimg.Repair:
        return cloudimg.repair(self.url, storage_options=self.options, **arguments)

    def verify(self) -> cloudimg.Verification:
        return cloudimg.verify(self.url, storage_options=self.options)

    def now(self) -> Objects:
        return copies.objects(self.url, self.options)


@pytest.fixture(scope="module", params=[3, 2], ids=["zarr 3", "zarr 2"])
def archive(request: pytest.FixtureRequest, meter_server: Meter) -> Iterator[Archive]:
    meter, bucket = meter_server, f"repair-{request.param}"
    meter.create(bucket)
    options = meter.storage_options
    fs = fsspec.filesystem("s3", **options)
    shards = SHARDS if request.param == 3 else None
    found = []
    for number, name in enumerate(("copy", "other")):
        rng = np.random.default_rng(number)
        source = f"s3://{bucket}/{name}-in/a_{{z}}.tif"
        for z in range(2):
            pixels = rng.integers(1, 2**16, (96, 160), np.uint16)
            pixels[:32, :32] = 0  # an empty chunk
            file = io.BytesIO()
            tifffile.imwrite(file, pixels, photometric="minisblack")
            fs.pipe_file(source.format(z=z), file.getvalue())
        url = f"s3://{bucket}/{name}.zarr"
        both = {"source_options": options, "target_options": options}
        cloudimg.migrate(source, url, zarr_format=request.param, shards=shards, **both, **ARGUMENTS)
        found.append(copies.objects(url, options))
    url, source = f"s3://{bucket}/copy.zarr", f"s3://{bucket}/copy-in/a_{{z}}.tif"
    yield Archive(url, source, options, meter, found[0], found[1], request.param)
    meter.drop(bucket)


@pytest.fixture
def copy(archive: Archive) -> Iterator[Archive]:
    """A copy to damage, which is whole again afterwards."""
    yield archive
    archive.put(archive.whole)


# ------------------------------------------------------------------------------------ mutations


def chunks(found: Objects, level: int) -> list[str]:
    pattern = re.compile(rf"{level}/(c/)?\d+([./]\d+)*")
    return sorted(key for key in found if pattern.fullmatch(key))


def flip(found: Objects, key: str, at: float = 0.5) -> None:
    data = bytearray(found[key])
    data[int(at * (len(data) - 1))] ^= 0x10
    found[key] = bytes(data)


def reseal(found: Objects, key: str, change: Callable[[Any], object]) -> None:
    content = unsealed(found[key])
    assert content is not None
    change(content)
    found[key] = seal(content)


def rewrite(found: Objects, key: str, change: Callable[[Any], object]) -> None:
    content = json.loads(found[key])
    change(content)
    found[key] = json.dumps(content).encode()


def record(stage: int, number: int) -> str:
    return f".cloudimg/cells/{stage}/{number:09d}.json"


def last_record(found: Objects) -> str:
    """The record of the second cell, if there is one."""
    return record(0, 1) if record(0, 1) in found else record(0, 0)


def other_record(found: Objects) -> bytes:
    """The record of another cell than the first."""
    if record(0, 1) in found:
        return found[record(0, 1)]
    content = unsealed(found[record(0, 0)])
    assert content is not None
    return seal({**content, "number": 1})


def table(found: Objects) -> str:
    return next(key for key in found if key.startswith(".cloudimg/files/"))


def root(found: Objects) -> str:
    return ROOT[3] if ROOT[3] in found else ROOT[2]


def array(found: Objects, level: int) -> str:
    return f"{level}/{ARRAY[3]}" if f"{level}/{ARRAY[3]}" in found else f"{level}/{ARRAY[2]}"


def at_level(level: int, change: Callable[[Objects, str], object], which: int = 1) -> Change:
    return lambda found, other: change(
        found, chunks(found, level)[which % len(chunks(found, level))]
    )


def truncate(found: Objects, key: str) -> None:
    found[key] = found[key][:-1]


def append(found: Objects, key: str) -> None:
    found[key] += b"\0"


def empty(found: Objects, key: str) -> None:
    found[key] = b""


def delete(found: Objects, key: str) -> None:
    del found[key]


def swap(found: Objects, first: str, second: str) -> None:
    found[first], found[second] = found[second], found[first]


def set_codec(content: Any) -> None:
    if "codecs" in content:
        content["codecs"][0]["configuration"]["chunk_shape"] = [1, 16, 16]
    else:
        content["compressor"] = {"id": "zlib", "level": 1}


def set_fill(content: Any) -> None:
    content["fill_value"] = 7


def set_shape(content: Any) -> None:
    content["shape"] = [2, 96, 161]


def lose_dataset(content: Any) -> None:
    ome = content["attributes"]["ome"] if "attributes" in content else content
    ome["multiscales"][0]["datasets"].pop()


def lying(found: Objects) -> None:
    """Consolidated metadata that says of an array what is not so."""
    member = {**json.loads(found[array(found, 0)]), "shape": [1, 1, 1]}
    if root(found) == "zarr.json":
        metadata = {"kind": "inline", "must_understand": False, "metadata": {"0": member}}
        rewrite(found, "zarr.json", lambda content: content.update(consolidated_metadata=metadata))
    else:
        content = {"zarr_consolidated_format": 1, "metadata": {"0/.zarray": member}}
        found[".zmetadata"] = json.dumps(content).encode()


def retell(found: Objects, what: str) -> None:
    """Change the plan in a way that keeps its identity, and seal it."""
    assert what == "urls"
    reseal(found, PLAN, lambda plan: plan["source"].update(urls=["s3://elsewhere/a_{z}.tif"]))


def replan(plan: Any) -> None:
    plan["request"]["name"] = "other"
    plan["facts"]["name"] = "other"
    plan["id"] = identity_of(plan["plan"], plan["request"], plan["source"])


def with_pixels_of(found: Objects, other: Objects, number: int) -> None:
    """A cell of another copy, whose record says that it is of this one."""
    plan_id = (unsealed(found[PLAN]) or {})["id"]
    key = record(0, number)
    content = unsealed(other[key])
    assert content is not None
    for level in content["levels"]:
        for stored in level["objects"]:
            found[stored[0]] = other[stored[0]]
    found[key] = seal({**content, "plan": plan_id})


def set_digest(content: Any) -> None:
    content["levels"][0]["pixels_sha256"] = "0" * 64


def set_sha(content: Any) -> None:
    content["levels"][0]["objects"][0][2] = "0" * 64


def lose_object(content: Any) -> None:
    content["levels"][0]["objects"].pop()


def set_histogram(other: Objects) -> Callable[[Any], object]:
    histograms = (unsealed(other[record(0, 0)]) or {})["histograms"]
    return lambda content: content.update(histograms=histograms)


def set_files(content: Any) -> None:
    content["files"]["versions"] = content["files"]["versions"][::-1].replace("=", "") + "="


def set_notes(content: Any) -> None:
    content["n_missing"] = 0
    content["filled"] = [["a_0.tif", "corrupt", "made up"]]


def parts(found: Objects) -> list[str]:
    return sorted(key for key in found if key.startswith("originals/"))


FROM_COPY: dict[str, Change] = {
    "a byte of level 1": at_level(1, flip),
    "a byte of level 2": at_level(2, flip),
    "a byte at the end of level 1": at_level(1, lambda found, key: flip(found, key, 1)),
    "level 1 is truncated": at_level(1, truncate),
    "level 2 is truncated": at_level(2, truncate),
    "level 1 is longer": at_level(1, append),
    "level 2 is longer": at_level(2, append),
    "level 1 is empty": at_level(1, empty),
    "level 2 is empty": at_level(2, empty),
    "an object of level 1 is missing": at_level(1, delete),
    "an object of level 2 is missing": at_level(2, delete),
    "two objects of level 1 are swapped": lambda f, o: swap(f, *chunks(f, 1)[1:3]),
    "level 2 is that of another copy": lambda f, o: f.update({k: o[k] for k in chunks(f, 2)}),
    "level 1 is that of another copy": lambda f, o: f.update({k: o[k] for k in chunks(f, 1)}),
    "no level 1": lambda f, o: [f.pop(key) for key in chunks(f, 1)],
    "no record of the last stage": lambda f, o: f.pop(record(1, 0)),
    "the record of the last stage is damaged": lambda f, o: flip(f, record(1, 0)),
    "the record of the last stage has another digest": lambda f, o: reseal(
        f, record(1, 0), set_digest
    ),
    "the record of the last stage lists too little": lambda f, o: reseal(
        f, record(1, 0), lose_object
    ),
    "a record has another histogram": lambda f, o: reseal(f, record(0, 0), set_histogram(o)),
    "no root metadata": lambda f, o: f.pop(root(f)),
    "root metadata is empty": lambda f, o: empty(f, root(f)),
    "root metadata is not JSON": lambda f, o: flip(f, root(f), 0),
    "root metadata does not name a level": lambda f, o: rewrite(f, root(f), lose_dataset),
    "no metadata of an array": lambda f, o: f.pop(array(f, 0)),
    "metadata of an array is damaged": lambda f, o: flip(f, array(f, 1), 0),
    "an array has another codec": lambda f, o: rewrite(f, array(f, 0), set_codec),
    "an array has another fill value": lambda f, o: rewrite(f, array(f, 1), set_fill),
    "an array has another shape": lambda f, o: rewrite(f, array(f, 2), set_shape),
    "consolidated metadata lies": lambda f, o: lying(f),
    "no plan": lambda f, o: f.pop(PLAN),
    "the plan is damaged": lambda f, o: flip(f, PLAN),
    "the plan is empty": lambda f, o: empty(f, PLAN),
    "the plan is that of another copy": lambda f, o: f.update({PLAN: o[PLAN]}),
    "the plan names another source": lambda f, o: retell(f, "urls"),
    "the plan has another identity": lambda f, o: reseal(f, PLAN, replan),
    "no second plan": lambda f, o: f.pop(PLAN_COPY),
    "the second plan is damaged": lambda f, o: flip(f, PLAN_COPY),
    "the second plan is that of another copy": lambda f, o: f.update({PLAN_COPY: o[PLAN_COPY]}),
    "no end mark": lambda f, o: f.pop(END_MARK),
    "the end mark is damaged": lambda f, o: flip(f, END_MARK),
    "the end mark is empty": lambda f, o: empty(f, END_MARK),
    "the end mark is that of another copy": lambda f, o: f.update({END_MARK: o[END_MARK]}),
    "a stray chunk": lambda f, o: f.update(
        {chunks(f, 0)[-1].replace("1", "9"): f[chunks(f, 0)[-1]]}
    ),
    "a stray part of the originals": lambda f, o: f.update(
        {"originals/part-000000099.parquet": f[parts(f)[0]]}
    ),
    "a stray object in the journal": lambda f, o: f.update({".cloudimg/notes.txt": b"x"}),
    "a stray record": lambda f, o: f.update({record(0, 999): f[record(0, 0)]}),
    "metadata of the other Zarr format": lambda f, o: f.update(
        {"0/.zgroup" if root(f) == "zarr.json" else "0/zarr.json": b"{}"}
    ),
}
"""Damage that is mended without the source."""
FROM_SOURCE: dict[str, tuple[Change, str]] = {
    "a byte of level 0": (at_level(0, flip), "0"),
    "a byte at the start of level 0": (at_level(0, lambda f, k: flip(f, k, 0)), "0"),
    "a byte at the end of level 0": (at_level(0, lambda f, k: flip(f, k, 1), -1), "1"),
    "level 0 is truncated": (at_level(0, truncate), "0"),
    "level 0 is longer": (at_level(0, append), "0"),
    "level 0 is empty": (at_level(0, empty, -1), "1"),
    "an object of level 0 is missing": (at_level(0, delete), "0"),
    "two objects of level 0 are swapped": (lambda f, o: swap(f, *chunks(f, 0)[1:3]), "0"),
    "two objects of two files are swapped": (
        lambda f, o: swap(f, chunks(f, 0)[1], chunks(f, 0)[-1]),
        "01",
    ),
    "an object of level 0 is that of another copy": (
        lambda f, o: f.update({chunks(f, 0)[1]: o[chunks(f, 0)[1]]}),
        "0",
    ),
    "no record": (lambda f, o: f.pop(record(0, 0)), "0"),
    "a record is damaged": (lambda f, o: flip(f, record(0, 0)), "0"),
    "a record is that of another cell": (
        lambda f, o: f.update({record(0, 0): other_record(f)}),
        "0",
    ),
    "a record is that of another copy": (
        lambda f, o: f.update({record(0, 0): o[record(0, 0)]}),
        "0",
    ),
    "a record has another digest": (lambda f, o: reseal(f, last_record(f), set_digest), "0"),
    "a record has another checksum": (lambda f, o: reseal(f, last_record(f), set_sha), "0"),
    "a record lists too little": (lambda f, o: reseal(f, last_record(f), lose_object), "0"),
    "a cell is that of another copy": (lambda f, o: with_pixels_of(f, o, 0), "0"),
    "a record has other versions of files": (
        lambda f, o: reseal(f, last_record(f), set_files),
        "01",
    ),
    "a record tells of bad files": (lambda f, o: reseal(f, last_record(f), set_notes), "01"),
    "no part of the originals": (lambda f, o: f.pop(parts(f)[0]), "0"),
    "a part of the originals is damaged": (lambda f, o: flip(f, parts(f)[0]), "0"),
    "a part of the originals is another's": (
        lambda f, o: f.update({parts(f)[0]: o[parts(f)[0]]}),
        "0",
    ),
    "no table of files": (lambda f, o: f.pop(table(f)), ""),
    "the table of files is damaged": (lambda f, o: flip(f, table(f)), ""),
    "no level 0": (lambda f, o: [f.pop(key) for key in chunks(f, 0)], "01"),
    "no records": (
        lambda f, o: [f.pop(k) for k in list(f) if k.startswith(".cloudimg/cells/")],
        "01",
    ),
    "no record, and no plan": (lambda f, o: (f.pop(record(0, 0)), f.pop(PLAN)), "0"),
    "no record, and no end mark": (lambda f, o: (f.pop(record(0, 0)), f.pop(END_MARK)), "0"),
    "no record, and no table of files": (
        lambda f, o: (f.pop(record(0, 0)), f.pop(table(f))),
        "0",
    ),
}
"""Damage that is mended from the source, and which of its two files are read for that."""


def damage(copy: Archive, change: Change) -> Objects:
    """Change a copy; returns its objects then."""
    found = dict(copy.whole)
    change(found, copy.other)
    assert found != copy.whole
    copy.put(found)
    return found


def problems_of(copy: Archive) -> list[str]:
    """What `verify` says, or why it cannot be done."""
    try:
        return [str(problem) for problem in copy.verify().problems]
    except CorruptFileError as error:
        return [error.message]


def assert_noticed(copy: Archive, damaged: Objects) -> None:
    """`verify` names what was changed, or the end mark, with which the records no longer agree."""
    problems = problems_of(copy)
    whole = copy.whole
    changed = {key for key in {*damaged, *whole} if damaged.get(key) != whole.get(key)}
    named = {key for key in {*changed, END_MARK} if any(key in each for each in problems)}
    assert named, problems


def assert_mended(copy: Archive, done: cloudimg.Repair) -> None:
    assert done, str(done)
    assert done.n_found > 0
    proof = copy.verify()
    assert proof, str(proof)
    assert proof.n_edits == 0
    now = copy.now()
    wrong = {key for key in {*now, *copy.whole} if now.get(key) != copy.whole.get(key)}
    assert {key for key in wrong if not key.startswith(".cloudimg/lease/")} == set()


def test_there_are_enough_mutations() -> None:
    assert len(FROM_COPY) + len(FROM_SOURCE) >= 60


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("name", FROM_COPY)
def test_mended_from_the_copy(copy: Archive, name: str) -> None:
    """No request goes to the source, although it could be asked."""
    if "last stage" in name and copy.zarr_format == 2:
        pytest.skip("has one stage")
    assert_noticed(copy, damage(copy, FROM_COPY[name]))
    with copy.meter.measure() as traffic:
        done = copy.repair(remove_orphans=True)
    assert [each.key for each in traffic.requests if each.key.startswith("copy-in/")] == []
    assert_mended(copy, done)


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("name", FROM_SOURCE)
def test_mended_from_the_source(copy: Archive, name: str) -> None:
    """Of the source, only the files of the cells in question are read.

    The first file is read in any case, for the header that opening needs.
    """
    change, files = FROM_SOURCE[name]
    if copy.zarr_format == 2 and files:
        files = "01"  # its only cell has both
    assert_noticed(copy, damage(copy, change))
    with copy.meter.measure() as traffic:
        done = copy.repair()
    read = {each.key for each in traffic.requests if each.key.startswith("copy-in/")}
    assert read == {f"copy-in/a_{each}.tif" for each in {*files, "0"}}
    assert_mended(copy, done)
