"""Copies that were written with an older format of the journal: read, but not changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr

import cloudimg
from cloudimg.errors import ArgumentError, CloudimgError, DamagedCopyError
from cloudimg.migration.journal import sealing
from cloudimg.migration.journal.inventory import RecordsDigest
from cloudimg.migration.journal.layout import END_MARK, PLAN, PLAN_COPY
from cloudimg.migration.journal.records import CommitRecord
from cloudimg.migration.journal.sealing import seal
from cloudimg.migration.journal.state_from_json import identity_of
from cloudimg.migration.plan.plan import Plan

SHAPE = (4, 64, 64)
PARTS: dict[str, Any] = {"chunks": 32, "shards": {"z": 1, "y": 64, "x": 64}, "levels": 2}


def pixels() -> Any:
    found = np.random.default_rng(1).integers(1, 255, SHAPE, np.uint8)
    found[2] = 0  # a plane of the fill value
    return found


def migrate(folder: Path, zarr_format: int, **more: Any) -> cloudimg.Migration:
    parts = PARTS if zarr_format == 3 else {**PARTS, "shards": None}
    source, out = f"{folder}/in/a_{{z}}.tif", folder / "copy.zarr"
    return cloudimg.migrate(source, out, zarr_format=zarr_format, **parts, **more)


def unsealed(path: Path) -> Any:
    return sealing.unsealed(path.read_bytes())


def in_format_2(out: Path) -> None:
    """Write the journal as format 2 had it, without the objects that it did not store."""
    content = unsealed(out / PLAN)
    content["format"] = 2
    del content["files"]
    (out / PLAN).write_bytes(seal(content))
    (out / PLAN_COPY).unlink()
    plan = Plan.from_json(content["plan"])
    records = RecordsDigest(plan)
    n_empty = 0
    for path in sorted((out / ".cloudimg/cells").rglob("*.json")):
        record = unsealed(path)
        record["sources"] = {}
        record.pop("files", None)
        for level in record["levels"]:
            kept = []
            for key, size, digest, _ in level["objects"]:
                if key.split("/")[1 + (plan.zarr_format == 3)] == "2":  # of the empty plane
                    (out / key).unlink()
                    n_empty += 1
                else:
                    kept.append([key, size, digest])
            level["objects"] = kept
        if record["originals"]:
            del record["originals"][3]
        path.write_bytes(seal(record))
        records.add(CommitRecord.from_json(record))
    assert n_empty >= 2
    documents = [
        (str(path.relative_to(out)), path.read_bytes())
        for path in out.rglob("*")
        if path.name in ("zarr.json", ".zarray", ".zattrs", ".zgroup")
    ]
    made = records.end_mark(content["id"], documents, (), plan_sha256="")
    (out / END_MARK).write_bytes(seal(made.to_json()))


@pytest.fixture(params=[3, 2], ids=["zarr 3", "zarr 2"])
def old(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, int]:
    (tmp_path / "in").mkdir()
    for z, plane in enumerate(pixels()):
        tifffile.imwrite(tmp_path / f"in/a_{z}.tif", plane, photometric="minisblack")
    migrate(tmp_path, request.param)
    in_format_2(tmp_path / "copy.zarr")
    return tmp_path, request.param


def test_a_finished_copy_is_verified_and_exported(old: tuple[Path, int]) -> None:
    folder, zarr_format = old
    out = folder / "copy.zarr"
    proof = cloudimg.verify(out)
    assert proof, str(proof)
    assert cloudimg.verify(out, against_source=cloudimg.open(f"{folder}/in/a_{{z}}.tif"))
    cloudimg.export(out, folder / "exported")
    found = [tifffile.imread(path) for path in sorted((folder / "exported").rglob("*.tif"))]
    np.testing.assert_array_equal(np.stack(found), pixels())
    before = sorted(out.rglob("*"))
    assert "nothing left to do" in str(migrate(folder, zarr_format))
    kept = [path for path in sorted(out.rglob("*")) if "lease" not in str(path)]
    assert kept == [path for path in before if "lease" not in str(path)]


REFUSED = r"journal format 2, this version has format 3: continue with that version, or start over"


DAMAGED = (
    r"is damaged: 1 problem \(\S*/0/\S*: missing\). Nothing was written. It was written by .*"
    r" format 2, this version has format 3. .* let that version complete the copy, or pass"
)


@pytest.mark.parametrize("lost", [END_MARK, "0/c/1/0/0"])
def test_nothing_is_added_to_one_that_is_unfinished_or_damaged(
    old: tuple[Path, int], lost: str
) -> None:
    folder, zarr_format = old
    out = folder / "copy.zarr"
    key = lost.replace("/c/", "/") if zarr_format == 2 else lost
    (out / key).unlink()
    kind: type[CloudimgError] = ArgumentError if lost == END_MARK else DamagedCopyError
    with pytest.raises(kind, match=REFUSED if lost == END_MARK else DAMAGED):
        migrate(folder, zarr_format)
    assert not (out / key).exists()
    migrate(folder, zarr_format, overwrite=True)
    assert cloudimg.verify(out, against_source=True)
    assert unsealed(out / PLAN)["format"] == 3


def test_an_unfinished_one_is_refused_by_all_readers(old: tuple[Path, int]) -> None:
    out = old[0] / "copy.zarr"
    (out / END_MARK).unlink()
    for read in (cloudimg.verify, lambda url: cloudimg.export(url, old[0] / "exported")):
        with pytest.raises(ArgumentError, match=REFUSED):
            read(out)


# ----------------------------------------------------- plans from before `place`, in this format

NEWER = ("place", "blend", "flip", "align", "mask", "select")
"""Options of `open` that plans did not have then."""


@pytest.fixture(params=[True, False], ids=["mosaic", "stack"])
def tiles(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    """A copy of tiles that is not finished, and the arguments of its migration."""
    (tmp_path / "in").mkdir()
    for x in range(3):
        plane = np.random.default_rng(x).integers(1, 255, (32, 32), np.uint8)
        tifffile.imwrite(tmp_path / f"in/{x}.tif", plane, photometric="minisblack")
    out = tmp_path / "copy.zarr"
    shards = {"y": 32, "x": 32} if request.param else {"tile_x": 1, "y": 32, "x": 32}
    arguments = {
        "source": f"{tmp_path}/in/{{x}}.tif",
        "url": out,
        "place": "index" if request.param else "stack",
        "chunks": 32,
        "shards": shards,
        "levels": 1,
    }
    cloudimg.migrate(**arguments)
    content = unsealed(out / PLAN)
    options = content["source"]["open"]
    assert options["place"] == arguments["place"]
    content["source"]["open"] = {
        **{name: value for name, value in options.items() if name not in NEWER},
        "mosaic": request.param,
    }
    content["id"] = identity_of(content["plan"], content["request"], content["source"])
    for name in (PLAN, PLAN_COPY):
        (out / name).write_bytes(seal(content))
    records = sorted((out / ".cloudimg/cells").rglob("*.json"))
    for path in records:
        path.write_bytes(seal({**unsealed(path), "plan": content["id"]}))
    assert len(records) == 3
    (out / END_MARK).unlink()
    records[1].unlink()
    return out, arguments


def test_mosaic_is_read_as_place(tiles: tuple[Path, dict[str, Any]]) -> None:
    """By the same call it is finished, verified against its source, and mended from it."""
    out, arguments = tiles
    pixels = cloudimg.open(arguments["source"], place=arguments["place"]).read()
    other = "stack" if arguments["place"] == "index" else "index"
    with pytest.raises(ArgumentError, match="with other arguments"):
        cloudimg.migrate(**{**arguments, "place": other, "shards": None})
    migration = cloudimg.migrate(**arguments)
    assert migration.n_done_before == 2
    assert "mosaic" in unsealed(out / PLAN)["source"]["open"]
    proof = cloudimg.verify(out, against_source=True)
    assert proof, str(proof)
    damaged = next(
        path for path in sorted((out / "0").rglob("*")) if path.is_file() and path.name.isdigit()
    )
    damaged.write_bytes(b"x" * damaged.stat().st_size)
    assert not cloudimg.verify(out)
    assert cloudimg.repair(out, from_source=True)
    assert cloudimg.verify(out, against_source=True)
    np.testing.assert_array_equal(zarr.open(str(out))["0"][:].reshape(pixels.shape), pixels)


def test_it_goes_on_after_a_file_was_replaced(tiles: tuple[Path, dict[str, Any]]) -> None:
    """Which it does only with the same options of `open`."""
    out, arguments = tiles
    plane = np.full((32, 32), 7, np.uint8)
    tifffile.imwrite(out.parent / "in/0.tif", plane, photometric="minisblack")
    assert cloudimg.migrate(**arguments).n_done_before == 1
    assert cloudimg.verify(out, against_source=True)


def test_the_files_of_a_finished_copy_have_other_digests_now(tmp_path: Path) -> None:
    """Whether they changed is then told from the table of files alone."""
    (tmp_path / "in").mkdir()
    for z, plane in enumerate(pixels()):
        tifffile.imwrite(tmp_path / f"in/a_{z}.tif", plane, photometric="minisblack")
    migrate(tmp_path, 3)
    out = tmp_path / "copy.zarr"
    content = unsealed(out / PLAN)
    content["source"]["fingerprint"] = "47235b6e29dca1f9cf77f9913632bbdd"
    content["id"] = identity_of(content["plan"], content["request"], content["source"])
    for name in (PLAN, PLAN_COPY):
        (out / name).write_bytes(seal(content))
    records = RecordsDigest(Plan.from_json(content["plan"]))
    for path in sorted((out / ".cloudimg/cells").rglob("*.json")):
        record = {**unsealed(path), "plan": content["id"]}
        path.write_bytes(seal(record))
        records.add(CommitRecord.from_json(record))
    documents = [(str(path.relative_to(out)), path.read_bytes()) for path in out.rglob("zarr.json")]
    plan_sha256 = json.loads((out / PLAN).read_bytes())["sha256"]
    made = records.end_mark(content["id"], documents, (), plan_sha256=plan_sha256)
    (out / END_MARK).write_bytes(seal(made.to_json()))
    proof = cloudimg.verify(out, against_source=True)
    assert proof, str(proof)
    assert "nothing left to do" in str(migrate(tmp_path, 3))
    tifffile.imwrite(tmp_path / "in/a_1.tif", pixels()[0], photometric="minisblack")
    with pytest.raises(ArgumentError, match="1 file replaced"):
        migrate(tmp_path, 3)
