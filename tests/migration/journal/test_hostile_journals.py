"""Journals that somebody wrote to do harm: each is refused, with our error, in little memory.

All of them carry a valid checksum, as they would if their author had read this package.
"""

from __future__ import annotations

import base64
import copy
import gzip
import hashlib
import io
import json
import os
import resource
import shutil
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import google_crc32c
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

import cloudimg
from cloudimg.errors import CloudimgError, CorruptFileError
from cloudimg.migration.encode.codecs import make_codec
from cloudimg.migration.journal import sealing
from cloudimg.migration.journal.layout import END_MARK, PLAN
from cloudimg.migration.journal.records import CommitRecord
from cloudimg.migration.journal.sealing import seal, unsealed
from cloudimg.migration.journal.state import State
from cloudimg.migration.journal.state_from_json import identity_of
from tests.support.shares import share_of

N_FILES = 4
RECORD = ".cloudimg/cells/0/000000000.json"
PART = "originals/part-000000000.parquet"
MOST_BYTES = 200 * 2**20
MOST_VIRTUAL = 3 * 2**30
"""Address space beyond that of an intact copy: threads reserve some, without using it."""
ARGUMENTS: dict[str, Any] = {"chunks": 32, "shards": {"z": 1, "y": 64, "x": 64}, "levels": 2}

Change = Callable[[Any], object]


def make(folder: Path) -> Path:
    """A small copy, beside its source."""
    (folder / "in").mkdir(parents=True)
    rng = np.random.default_rng(1)
    for z in range(N_FILES):
        pixels = rng.integers(1, 255, (64, 64), np.uint8)
        tifffile.imwrite(folder / f"in/a_{z}.tif", pixels, photometric="minisblack")
    migrate(folder)
    return folder / "copy.zarr"


def migrate(folder: Path) -> cloudimg.Migration:
    return cloudimg.migrate(f"{folder}/in/a_{{z}}.tif", folder / "copy.zarr", **ARGUMENTS)


def read(path: Path) -> Any:
    content = unsealed(path.read_bytes())
    assert content is not None
    return content


def with_identity(plan: Any) -> None:
    """Give a plan the identity of its content."""
    plan["id"] = identity_of(plan["plan"], plan["request"], plan["source"])


def put(content: Any, path: str, value: Any) -> None:
    """Set a value at a path such as ``plan.levels.0.1``."""
    *folders, name = path.split(".")
    for each in folders:
        content = content[int(each) if isinstance(content, list) else each]
    content[int(name) if isinstance(content, list) else name] = value


def nested(depth: int) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return value


def selected(**changes: Any) -> dict[str, Any]:
    """What a plan records of a selection along one axis."""
    part = dict.fromkeys(("grid_axis", "labels", "bounds", "positions"))
    return {"axis": "z", "drops": False, **part, **changes}


def packed(data: bytes) -> str:
    return base64.b64encode(zlib.compress(data, 9)).decode()


def older_histogram(counts: str) -> dict[str, Any]:
    return {"kind": "u1", "counts": counts, "range": [0, 255]}


HUGE = 2**62
PLAN_VALUES: list[tuple[str, Any]] = [
    ("plan.levels.0.0.1", HUGE),
    ("plan.levels.0.0.1", -64),
    ("plan.levels.0.0.1", True),
    ("plan.levels.0.0.1", 64.0),
    ("plan.levels.0.0.1", 65),
    ("plan.levels.0.1", [0, 64, 64]),
    ("plan.levels.0.1", [2**20, 2**20, 2**20]),
    ("plan.levels.0.2", [1, 2, 1]),
    ("plan.levels.1.2", [1, 0, 2]),
    ("plan.levels", [[[1, 1, 1], [1, 1, 1], [1, 1, 1]]] * 1_000_000),
    ("plan.levels", []),
    ("plan.levels.1.0", [4, 32]),
    ("plan.chunk", [1, 0, 32]),
    ("plan.chunk", [1, 32, 48]),
    ("plan.chunk", "32"),
    ("plan.stages.0.4", [HUGE, 1, 1]),
    ("plan.stages.0.3", [1, 1, 1]),
    ("plan.stages.0.0", 0),
    ("plan.stages.0.2", 9),
    ("plan.stages", []),
    ("plan.zarr_format", 4),
    ("plan.zarr_format", 3.0),
    ("plan.dims", ["z", "y", "y"]),
    ("plan.dims", ["../../etc", "y", "x"]),
    ("plan.lead_dims", ["../../etc"]),
    ("plan.lead_shape", [10**9]),
    ("plan.dtype", "<f8"),
    ("plan.dtype", "(1000000,1000000)f8"),
    ("plan.dtype", "|O"),
    ("plan.fill_value", 256),
    ("plan.fill_value", [1, 2, 3]),
    ("plan.fill_value", {"a": 1}),
    ("plan.method", "eval"),
    ("plan.codec", {"chain": [{"name": "os.system", "configuration": {}}]}),
    ("plan.codec", {"chain": [{"name": "zstd", "configuration": {"level": 10**9}}]}),
    ("plan.codec", {"chain": [{"name": [], "configuration": 1}]}),
    ("plan.codec", {"chain": "zstd"}),
    (
        "plan.codec",
        {
            "chain": [
                {
                    "name": "lzma",
                    "configuration": {"filters": [{"id": 33, "dict_size": 2**30}], "format": 3},
                }
            ]
        },
    ),
    ("source.dims", ["z", "y"]),
    ("source.shape", [2**40, 64, 64]),
    ("source.shape", [4, 64, "64"]),
    ("source.dtype", "|S1000000000"),
    ("source.kind", "reader"),
    ("source.urls", []),
    ("source.urls", [{"url": "http://169.254.169.254/"}]),
    ("source.urls", "s3://another/a_{z}.tif"),
    ("source.open", nested(500)),
    ("source.open", {"axes": nested(400)}),
    ("source.open", {"series": 0}),
    ("source.open.fill_value", "x"),
    ("source.open.fill_value", [1, 2, 3]),
    ("source.open.series", -1),
    ("source.open.dims", "x" * 2_000_000),
    ("source.open.exclude", "x" * 2_000_000),
    ("source.open.mosaic", 1),
    ("source.open.place", "elsewhere"),
    ("source.open.place", 1),
    ("source.open.allow_differences", [1]),
    ("source.open.select", {"c": "DAPI"}),
    ("source.open.select", [{"axis": "z"}]),
    ("source.open.select", [selected(axis="z" * 1000)]),
    ("source.open.select", [selected(labels=[nested(400)])]),
    ("source.open.select", [selected(labels=[{"time": "yesterday"}])]),
    ("source.open.select", [selected(bounds=[1])]),
    ("source.open.select", [selected(positions=[])]),
    ("source.open.select", [selected(positions=[[0, 10**12, 1, 1]])]),
    ("source.open.select", [selected(positions=[[4, 8, 1], [2, 3, 1]])]),
    ("source.open.select", [selected(positions=[[4, 2, 1]])]),
    ("source.unknown", 1),
    ("request.levels", -1),
    ("request.codec", nested(400)),
    ("request.codec", "x" * 2_000_000),
    ("request.shards", {"z": "x" * 2_000_000}),
    ("request.shards", {"z": 0}),
    ("request.factors", [[1, 2, HUGE**2]]),
    ("request.more", 1),
    ("request.pixel_size", {"z": 1}),
    ("request.pixel_size", {"z": "1" * 2_000_000}),
    ("request.translation", {"z": "1"}),
    ("request.channel_names", "ab"),
    ("facts.coords", {"z": {"start": 5, "step": 0, "count": 10**12}}),
    ("facts.scales", {"z": ["nan", None]}),
    ("facts.scales", {"z": 1}),
    ("facts.image_origins", {"z": [1, "0"]}),
    ("facts.image_origins", [1]),
    ("facts.stated", "scale z"),
    ("facts.attrs", {"a": nested(400)}),
    ("facts.channel_names", [1, 2]),
    ("facts.channel_colors", ["url(javascript:1)"]),
    ("facts.source_notes", [{"kind": 1}]),
    ("facts.notes", "x"),
    ("facts.provenance", [1]),
    ("id", "../../../x"),
    ("id", "a" * 50_000_000),
    ("files", "../../../etc/passwd"),
    ("fence", True),
    ("began_as", {"fingerprint": "x"}),
    ("began_as", None),
    ("format", True),
    ("format", "3"),
    ("state", ["planned"]),
]
"""Values of the plan that are refused although its identity is that of its content."""
OTHER_CONTENT: list[tuple[str, Any]] = [
    ("source.urls", ["s3://another/a_{z}.tif"]),
    ("source.fingerprint", "0" * 32),
    ("request.name", "another"),
    ("plan.method", "nearest"),
    ("plan.fill_value", 7),
    ("plan.codec", {"chain": []}),
    ("id", "0" * 32),
]
"""Values that a plan may have, but not under the identity of this one."""
OBJECTS = "levels.0.objects"
RECORD_VALUES: list[tuple[str, Any]] = [
    ("plan", "0" * 32),
    ("plan", 7),
    ("stage", -1),
    ("number", 10**30),
    ("number", False),
    ("places", [[0, 1, 2, 3]]),
    ("places", [[0, "1", 2, 3, "um"]]),
    ("levels", {}),
    ("levels", []),
    ("levels.0.level", 10**9),
    ("levels.0.pixels_sha256", "x" * 64),
    ("levels.0.empty", "\0" * 10),
    ("levels.0.empty", "A" * 40_000_000),
    (OBJECTS, []),
    (f"{OBJECTS}.0.0", "../../../../etc/passwd"),
    (f"{OBJECTS}.0.0", "/etc/passwd"),
    (f"{OBJECTS}.0.0", "s3://another/0/c/0/0/0"),
    (f"{OBJECTS}.0.0", "0/c/1/0/0"),
    (f"{OBJECTS}.0.0", "zarr.json"),
    (f"{OBJECTS}.0.1", -1),
    (f"{OBJECTS}.0.1", 2**70),
    (f"{OBJECTS}.0.2", 5),
    (f"{OBJECTS}.0", ["a"]),
    ("originals", ["originals/../../../etc/passwd", 1, "0" * 64]),
    ("originals", ["originals/part-000000001.parquet", 1, "0" * 64]),
    ("originals", {}),
    ("histograms.0", older_histogram(packed(b"\0" * 2**30))),
    ("histograms.0", older_histogram(packed(np.array([[5, 3], [1, 1]], "<i8").tobytes()))),
    ("histograms.0", older_histogram(packed(np.array([[1, 2], [2**62] * 2], "<i8").tobytes()))),
    ("histograms.0", older_histogram("!")),
    ("histograms.0.counts", packed(np.array([[5], [1]], "<i8").tobytes())),
    ("histograms.0.steps", "/" * 2**20),
    ("histograms.0.steps", " ".join(["/"] * 11)),
    ("histograms.0.steps", "\x80"),
    ("histograms.0.frequencies", "A B"),
    ("histograms.0.range", [1, 10**40]),
    ("histograms.0.kind", "O8"),
    ("histograms", [1] * 1000),
    ("first_channel", -5),
    ("files", {"rows": "0-9000000000000000000", "versions": "AAAAAAAAAAA="}),
    ("files", {"rows": f"{10**30}", "versions": "AAAAAAAAAAA="}),
    ("files", {"rows": "0," * 1_000_000 + "0", "versions": "AAAAAAAAAAA="}),
    ("notes", [{"kind": "a", "text": "b", "n_files": "c", "urls": []}]),
    ("notes", [{"kind": "a", "text": "b", "n_files": 1, "urls": {"x": 1}}]),
    ("filled", [["url", "../", "text"]]),
    ("n_missing", 1.5),
    ("ome_xml", [{"text": packed(b"<OME/>"), "files": []}]),
    ("ome_xml", [{"text": packed(b"<OME/>"), "files": [[2**40, "a.tif"]]}]),
    ("ome_xml", [{"text": packed(b"\0" * 2**26), "files": [[2, "a.tif"]]}]),
    ("ome_xml", [{"text": "!", "files": [[0, "a.tif"]]}]),
    ("sources", {"a": []}),
    ("more", 1),
]
END_VALUES: list[tuple[str, Any]] = [
    ("plan", []),
    ("n_cells", 10**12),
    ("n_cells", True),
    ("receipts", 5),
    ("inventory", {}),
    ("notes", [5]),
    ("plan_sha256", "../"),
    ("more", nested(300)),
]


def table_with(path: Path, **columns: Any) -> bytes:
    """A Parquet file with some other columns, and the rest of the rows as they were."""
    table = pq.read_table(path)
    for name, values in columns.items():
        found = table.column_names.index(name)
        table = table.set_column(found, name, values)
    out = io.BytesIO()
    pq.write_table(table, out, compression="zstd")
    return out.getvalue()


def many_rows(schema: pa.Schema) -> bytes:
    """Ten million rows that are all equal, in some kilobytes."""
    n = 10_000_000
    table = pa.table([pa.nulls(n, field.type) for field in schema], schema=schema)
    out = io.BytesIO()
    pq.write_table(table, out, compression="zstd", row_group_size=n)
    return out.getvalue()


def long_texts(path: Path, column: str) -> bytes:
    """A gigabyte of text that is a reference to one text of some megabytes."""
    table = pq.read_table(path)
    n = len(table)
    texts = pa.DictionaryArray.from_arrays(
        pa.array(np.zeros(2**9 * n, np.int32)), pa.array(["x" * 2**21])
    )
    table = pa.concat_tables([table] * 2**9).drop_columns([column]).append_column(column, texts)
    out = io.BytesIO()
    pq.write_table(table, out, compression="zstd", use_dictionary=[column])
    return out.getvalue()


def tags(value: Any) -> Any:
    return pa.array([json.dumps(value)])


INTS = pa.list_(pa.int64())
PARTS: dict[str, Callable[[Path], bytes]] = {
    "many rows": lambda path: many_rows(pq.read_schema(path)),
    "long texts": lambda path: long_texts(path, "description"),
    "long lists": lambda path: table_with(path, ifds=pa.array([np.zeros(2**25, np.int64)], INTS)),
    "not Parquet": lambda _: b"PAR1" * 1000,
    "region outside": lambda path: table_with(path, region_stop=pa.array([[9, 64, 64]], INTS)),
    "negative region": lambda path: table_with(path, region_start=pa.array([[-1, 0, 0]], INTS)),
    "huge file": lambda path: table_with(path, file_shape=pa.array([[2**40, 2**40]], INTS)),
    "other axes": lambda path: table_with(path, file_dims=pa.array([["q", "r"]])),
    "no shape": lambda path: table_with(path, file_shape=pa.array([None], INTS)),
    "other type": lambda path: table_with(path, page=pa.array(["page"])),
    "tags that are no JSON": lambda path: table_with(path, tags=pa.array(["{"])),
    "deep tags": lambda path: table_with(path, tags=pa.array(["[" * 100_000])),
    "tags of other types": lambda path: table_with(path, tags=tags({"a": {"code": "x"}})),
    "tags with bad bytes": lambda path: table_with(
        path, tags=tags({"a": {"code": 270, "type": 2, "count": 5, "raw": "%"}})
    ),
    "a list of tags": lambda path: table_with(path, tags=tags([1])),
}


# --------------------------------------------------------------------- judged in one small process


class Judge:
    """Runs `verify`, `migrate` and `export` on changed copies, and notes what went wrong."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.copy = folder / "copy.zarr"
        self.kept = folder / "kept.zarr"
        shutil.copytree(self.copy, self.kept)
        self.files = {path.name: path.read_bytes() for path in (folder / "in").iterdir()}
        self.wrong: list[str] = []
        self.n_judged = 0
        self.most_bytes = MOST_BYTES
        assert self.verifies() is None
        self.exports()
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_AS, (used + MOST_VIRTUAL, hard))

    def restore(self) -> None:
        shutil.rmtree(self.copy)
        shutil.copytree(self.kept, self.copy)

    def verifies(self) -> str | None:
        proof = cloudimg.verify(self.copy, against_source=True)
        return None if proof else str(proof.problems[0])

    def exports(self) -> None:
        out = self.folder / "out"
        shutil.rmtree(out, ignore_errors=True)
        cloudimg.export(self.copy, out)
        for name, data in self.files.items():
            expected = tifffile.imread(io.BytesIO(data))
            np.testing.assert_array_equal(tifffile.imread(out / name), expected)

    def judge(self, name: str, work: Callable[[], object], *, is_refused: bool) -> None:
        """Note it if work ends with a foreign error, takes too much, or does what it must not."""
        self.n_judged += 1
        Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
        before = memory("VmRSS")
        try:
            result = work()
            if is_refused and result is None:
                self.wrong.append(f"{name}: nothing was noticed")
        except CloudimgError as exc:
            if len(str(exc)) > 2000:
                self.wrong.append(f"{name}: a message of {len(str(exc))} characters")
            if isinstance(exc, CorruptFileError) and str(self.copy) not in str(exc):
                self.wrong.append(f"{name}: {exc} does not say where")
        except BaseException as exc:  # noqa: BLE001 - which one is what is judged
            self.wrong.append(f"{name}: {type(exc).__name__}: {str(exc)[:300]}")
        taken = memory("VmHWM") - before
        if taken > self.most_bytes:
            self.wrong.append(f"{name}: took {taken >> 20} MiB")

    def changes(self, key: str, path: str, change: Change, *, is_plan: bool) -> None:
        """Judge a copy of which one object of the journal was changed and sealed again."""
        name = f"{key} {path}"
        content = read(self.copy / key)
        change(content)
        (self.copy / key).write_bytes(seal(content))
        self.judge(f"{name}, verify", self.verifies, is_refused=True)
        self.judge(f"{name}, export", self.exports, is_refused=is_plan)
        if not is_plan:  # so that the commit records are read
            (self.copy / END_MARK).unlink()
        self.judge(f"{name}, migrate", lambda: migrate(self.folder), is_refused=False)
        if is_plan:
            assert (self.copy / key).read_bytes() == seal(content)
        elif (problem := self.verifies()) is not None:
            self.wrong.append(f"{name}: after a migration: {problem}")
        self.restore()


def memory(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (each for each in lines if each.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024


def setting(path: str, value: Any, *, identity: bool = False) -> Change:
    def change(content: Any) -> None:
        put(content, path, value)
        if identity and path != "id":
            with_identity(content)

    return change


def judge_plans(judge: Judge) -> None:
    for path, value in PLANS:
        judge.changes(PLAN, path, setting(path, value, identity=True), is_plan=True)
    for path, value in OTHER_CONTENT:
        judge.changes(PLAN, path, setting(path, value), is_plan=True)


def judge_records(judge: Judge) -> None:
    for path, value in RECORDS:
        judge.changes(RECORD, path, setting(path, value), is_plan=False)
    for name, data in {
        "bomb": sealing.packed(b" " * 2**26)[:-8] + bytes(8) + b"more",
        "large": gzip.compress(b" " * 2**30, 1),
        "half": sealing.packed(seal(read(judge.copy / RECORD)))[:-9],
    }.items():
        start = sealing.packed(b"")[:10]
        (judge.copy / RECORD).write_bytes(start + data[10:])
        judge.judge(f"compressed, {name}, verify", judge.verifies, is_refused=True)
        judge.restore()
    for path, value in END_VALUES:
        judge.changes(END_MARK, path, setting(path, value), is_plan=False)


def judge_tables(judge: Judge) -> None:
    for name, made in PARTS.items():
        data = made(judge.copy / PART)
        (judge.copy / PART).write_bytes(data)
        record = read(judge.copy / RECORD)
        record["originals"] = [PART, len(data), sha256_of(data)]
        (judge.copy / RECORD).write_bytes(seal(record))
        found = judge.verifies()
        if found is None or "table of originals" not in str(cloudimg.verify(judge.copy)):
            judge.wrong.append(f"{name}: verify found {found}")
        judge.judge(f"{name}, verify", judge.verifies, is_refused=True)
        judge.judge(f"{name}, export", judge.exports, is_refused=True)
        judge.restore()
    (table,) = (judge.copy / ".cloudimg/files").iterdir()
    kept = pq.read_table(table)
    for name, data in {
        "many rows": many_rows(pq.read_schema(table)),
        "not Parquet": b"PAR1" * 1000,
        "shape": with_described(kept, {"axes": ["z"], "shape": [HUGE], "has_own_names": True}),
        "text": with_described(kept, {"axes": "z", "shape": [4], "has_own_names": True}),
        "axes": with_described(kept, {"axes": ["q"], "shape": [4], "has_own_names": True}),
        "twice": with_described(pa.concat_tables([kept, kept]), None),
        "deep": with_described(kept, "[" * 100_000),
    }.items():
        plan = read(judge.copy / PLAN)
        plan["files"] = sha256_of(data)
        (judge.copy / PLAN).write_bytes(seal(plan))
        (judge.copy / f".cloudimg/files/{plan['files'][:16]}.parquet").write_bytes(data)
        judge.judge(f"files: {name}, verify", judge.verifies, is_refused=True)
        judge.judge(f"files: {name}, migrate", lambda: migrate(judge.folder), is_refused=False)
        judge.restore()


def sha256_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def with_described(table: pa.Table, described: Any) -> bytes:
    out = io.BytesIO()
    if described is not None:
        text = described if isinstance(described, str) else json.dumps(described)
        table = table.replace_schema_metadata({b"cloudimg": text.encode()})
    pq.write_table(table, out, compression="zstd")
    return out.getvalue()


BOMB_BYTES = 2**28
CODECS = [
    *("blosc", "zstd", "gzip", "lz4", "zlib", "bz2", "lzma"),
    ["zlib", "zstd"],
    ["crc32", "gzip"],
]


def judge_pixels(judge: Judge) -> None:
    """Chunks that become much larger than chunks are, in shards that the records describe."""
    for codec in CODECS:
        shutil.rmtree(judge.copy)
        source = f"{judge.folder}/in/a_{{z}}.tif"
        cloudimg.migrate(source, judge.copy, codec=codec, **ARGUMENTS)
        bomb = make_codec(codec, "u1", 3).encode(np.zeros(BOMB_BYTES, np.uint8))
        index = np.full((4, 2), 2**64 - 1, "<u8")
        index[0] = 0, len(bomb)
        shard = bomb + index.tobytes() + struct.pack("<I", google_crc32c.value(index.tobytes()))
        record = read(judge.copy / RECORD)
        (stored,) = (each for each in record["levels"][0]["objects"] if each[0] == "0/c/0/0/0")
        stored[1:] = len(shard), sha256_of(shard)
        (judge.copy / "0/c/0/0/0").write_bytes(shard)
        (judge.copy / RECORD).write_bytes(seal(record))
        del bomb
        if "0/c/0/0/0: cannot be decoded" not in str(cloudimg.verify(judge.copy)):
            judge.wrong.append(f"{codec}: {judge.verifies()}")
        judge.judge(f"{codec}, verify", judge.verifies, is_refused=True)
        judge.judge(f"{codec}, export", judge.exports, is_refused=True)
        judge.restore()
    judge.most_bytes = 2**28 + MOST_BYTES  # beside an object of the journal, which may be as large
    for key in ("0/c/0/0/0", PLAN, RECORD, END_MARK):
        os.truncate(judge.copy / key, 2**30)
        judge.judge(f"large {key}, verify", judge.verifies, is_refused=True)
        judge.judge(f"large {key}, export", judge.exports, is_refused=False)
        judge.restore()


JUDGED = {
    "plans": judge_plans,
    "records": judge_records,
    "tables": judge_tables,
    "pixels": judge_pixels,
}
PLANS, RECORDS = share_of(PLAN_VALUES), share_of(RECORD_VALUES)
LEAST = {
    "plans": 3 * len(PLANS),
    "records": 3 * len(RECORDS),
    "tables": 2 * 20,
    "pixels": 2 * len(CODECS) + 8,
}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="measured in /proc")
@pytest.mark.parametrize("which", JUDGED)
def test_each_is_refused_in_little_memory(tmp_path: Path, which: str) -> None:
    make(tmp_path)
    code = (
        "from pathlib import Path\n"
        "from tests.migration.journal import test_hostile_journals as t\n"
        f"judge = t.Judge(Path({str(tmp_path)!r}))\n"
        f"t.JUDGED[{which!r}](judge)\n"
        "print(judge.n_judged, *judge.wrong, sep='\\n')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
        cwd=Path(__file__).parents[3],
    )
    assert done.returncode == 0, done.stderr[-3000:]
    n_judged, *wrong = done.stdout.splitlines()
    assert not wrong, "\n".join(wrong)
    assert int(n_judged) >= LEAST[which]


# ------------------------------------------------------------------------- other copies, and links


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("made")).parent


@pytest.fixture
def hurt(made: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    return shutil.copytree(made / "copy.zarr", tmp_path / "copy.zarr")


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of other files with the same names and shape."""
    folder = tmp_path_factory.mktemp("other")
    (folder / "in").mkdir()
    for z in range(N_FILES):
        pixels = np.full((64, 64), z + 1, np.uint8)
        tifffile.imwrite(folder / f"in/a_{z}.tif", pixels, photometric="minisblack")
    migrate(folder)
    return folder / "copy.zarr"


@pytest.mark.parametrize("taken", [".cloudimg", ".cloudimg/plan.json", ".cloudimg/cells", "0"])
def test_parts_of_another_copy(hurt: Path, other: Path, taken: str) -> None:
    """Each of the two is complete and correct, and so is what is put in place of a part."""
    if (other / taken).is_dir():
        shutil.rmtree(hurt / taken)
        shutil.copytree(other / taken, hurt / taken)
    else:
        shutil.copy(other / taken, hurt / taken)
    proof = cloudimg.verify(hurt)
    assert not proof


@pytest.mark.parametrize("key", ["0/c/4/0/0", "0/c/0/0/0", "0/c/4", "0/c/0/1"])
def test_pixels_behind_a_link(hurt: Path, other: Path, key: str) -> None:
    """Readers follow links, whether of a file or of a folder."""
    assert cloudimg.verify(hurt)
    link, target = hurt / key, other / "0/c/0/0/0"
    link.parent.mkdir(parents=True, exist_ok=True)
    if link.exists():
        target = link.rename(other.parent / "moved")
    link.symlink_to(target if key.count("/") == 4 else other / "0/c/0")
    problems = [each for each in cloudimg.verify(hurt).problems if each.url == str(link)]
    assert any("symbolic link" in each.what for each in problems)


def test_a_plan_with_other_files_keeps_its_identity(made: Path, tmp_path: Path) -> None:
    """Its identity is that of what it began as, which it says."""
    folder = Path(shutil.copytree(made, tmp_path / "moved"))
    shutil.rmtree(folder / "copy.zarr")
    migrate(folder)
    (folder / "copy.zarr" / END_MARK).unlink()
    began = read(folder / "copy.zarr" / PLAN)
    tifffile.imwrite(folder / "in/a_2.tif", np.ones((64, 64), np.uint8), photometric="minisblack")
    migrate(folder)
    plan = read(folder / "copy.zarr" / PLAN)
    assert plan["id"] == began["id"]
    assert plan["source"]["fingerprint"] != began["source"]["fingerprint"]
    assert plan["began_as"]["fingerprint"] == began["source"]["fingerprint"]
    assert cloudimg.verify(folder / "copy.zarr", against_source=True)
    plan["source"]["urls"] = ["s3://another/a_{z}.tif"]
    (folder / "copy.zarr" / PLAN).write_bytes(seal(plan))
    with pytest.raises(CorruptFileError, match="id is not that of its plan, request and source"):
        cloudimg.verify(folder / "copy.zarr")


# ---------------------------------------------------------------------------------- random changes

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.sampled_from(["..", "/", "<f8", "nan", "z", "9" * 50]),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=4), below),
    max_leaves=5,
)


def places_in(content: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths of all values."""
    names = content if isinstance(content, dict) else range(len(content))
    found = []
    for name in names:
        found.append((*path, name))
        if isinstance(content[name], dict | list):
            found += places_in(content[name], (*path, name))
    return found


def changed(content: Any, data: st.DataObject) -> Any:
    """A document with some of its values replaced, moved or removed."""
    content = copy.deepcopy(content)
    for _ in range(data.draw(st.integers(1, 3))):
        places = places_in(content)
        if not places:
            return content
        *folders, name = data.draw(st.sampled_from(places))
        folder = content
        for each in folders:
            folder = folder[each]
        if data.draw(st.booleans()):
            folder[name] = data.draw(PLAIN)
        elif isinstance(folder, dict):
            del folder[name]
        else:
            folder.insert(name, folder[name])
    return content


def test_nothing_is_decompressed_twice() -> None:
    """Neither layer may hide more values than are parsed."""
    content = {"a": 1}
    once = sealing.packed(seal(content))
    many = sealing.packed(b"[" + b"0," * (sealing._MOST_VALUES + 1) + b"0]")
    assert unsealed(once) == content
    assert unsealed(sealing.packed(once)) is None
    with mock.patch.object(json, "loads", side_effect=AssertionError):
        assert unsealed(many) is None


@settings(max_examples=200)
@given(data=st.data())
def test_random_plans_are_refused_or_read(made: Path, data: st.DataObject) -> None:
    plan = changed(read(made / "copy.zarr" / PLAN), data)
    try:
        if isinstance(plan.get("plan"), dict) and isinstance(plan.get("source"), dict):
            plan["id"] = identity_of(plan["plan"], plan.get("request"), plan["source"])
        state = State.from_json(plan)
    except ValueError:
        return
    # What is read is a plan that can be followed.
    assert state.plan.total_cells < 2**26
    for stage in range(len(state.plan.stages)):
        cell = state.plan.cell(stage, state.plan.n_cells(stage) - 1)
        assert all(part.stop > part.start for part in cell.region)
    assert State.from_json(json.loads(json.dumps(state.to_json()))) == state


@settings(max_examples=200)
@given(data=st.data())
def test_random_records_are_refused_or_read(made: Path, data: st.DataObject) -> None:
    record = changed(read(made / "copy.zarr" / RECORD), data)
    try:
        found = CommitRecord.from_json(record)
    except ValueError:
        return
    assert all(not {"", ".", ".."} & {*stored.key.split("/")} for stored in found.objects())
    assert len(found.digest()) == 32
    for histogram in found.histograms:
        start, end, least, greatest = histogram.limits()
        assert least <= start < end <= greatest
