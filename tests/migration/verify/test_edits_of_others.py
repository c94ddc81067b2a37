"""What others edit and add: `verify` names it and is content, `migrate` undoes nothing of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr

import cloudimg
from cloudimg.cli.main import main
from cloudimg.errors import DamagedCopyError
from tests.support import copies, seed
from tests.support.faulty_store import unconditional
from tests.support.metering import Meter

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::zarr.errors.ZarrUserWarning")]

LEVELS = ("0", "1")
BOTH = pytest.mark.parametrize("zarr_format", [3, 2], ids=["zarr 3", "zarr 2"])


def write_source(folder: Path) -> str:
    rng = np.random.default_rng(8)
    folder.mkdir(exist_ok=True)
    for c in range(2):
        pixels = rng.integers(1, 2**16, (96, 128), np.uint16)
        tifffile.imwrite(folder / f"a_{c}.tif", pixels, photometric="minisblack")
    return f"{folder}/a_{{c}}.tif"


class Copy:
    """A finished copy of two channels."""

    def __init__(self, folder: Path, zarr_format: Any) -> None:
        self.source = write_source(folder / "source")
        self.out = folder / "copy.zarr"
        self.zarr_format = zarr_format
        self.root = self.out / ("zarr.json" if zarr_format == 3 else ".zattrs")
        self.migrate()

    def migrate(self, **more: Any) -> cloudimg.Migration:
        return cloudimg.migrate(
            self.source, self.out, zarr_format=self.zarr_format, chunks=32, levels=2, **more
        )

    def array(self, level: str) -> Path:
        return self.out / level / ("zarr.json" if self.zarr_format == 3 else ".zarray")

    def objects(self) -> dict[str, bytes]:
        return copies.image_of(copies.objects(str(self.out), {}))

    def change(self, change: Callable[[Any], None]) -> None:
        """Change the attributes of OME-Zarr in place, as somebody with an editor."""
        content = json.loads(self.root.read_text())
        change(content["attributes"]["ome"] if self.zarr_format == 3 else content)
        self.root.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")

    def check(self, *expected: str) -> None:
        """All of `expected` is named, the copy is verified, and nothing is undone."""
        proof = cloudimg.verify(self.out, against_source=True)
        assert proof, str(proof)
        assert proof.is_verified
        assert [str(edit) for edit in proof.edits] == list(expected)
        assert proof.n_edits == len(expected)
        assert str(proof).splitlines()[1:] == list(expected)
        before = self.objects()
        done = self.migrate()
        assert "nothing left to do" in str(done)
        assert str(done).splitlines()[1:] == list(expected) or not expected
        assert [str(edit) for edit in done.edits] == list(expected)
        assert self.objects() == before


@pytest.fixture(params=[3, 2], ids=["zarr 3", "zarr 2"])
def copy(request: pytest.FixtureRequest, tmp_path: Path) -> Copy:
    return Copy(tmp_path, request.param)


def rename(ome: Any) -> None:
    ome["omero"]["channels"][0]["label"] = "DAPI (405 nm)"


# -------------------------------------------------------------------------------- attributes


def test_a_copy_that_nobody_edited(copy: Copy) -> None:
    copy.check()


def test_names_and_colours_of_channels(copy: Copy) -> None:
    copy.change(rename)
    copy.check(f"edited: {copy.root.name} (omero.channels[0].label)")

    def recolour(ome: Any) -> None:
        ome["omero"]["channels"][1]["color"] = "123456"
        ome["omero"]["channels"][1]["window"]["end"] = 7
        ome["omero"]["name"] = "mine"
        del ome["omero"]["rdefs"]

    copy.change(recolour)
    proof = cloudimg.verify(copy.out)
    (edit,) = proof.edits
    assert (edit.kind, edit.key) == ("edited", copy.root.name)
    first = "omero.channels[0].label, omero.channels[1].color, omero.channels[1].window.end"
    assert edit.what == f"{first} and 2 more"
    assert proof.is_verified


def test_an_edit_of_the_same_size_is_found_by_verify_and_not_undone(copy: Copy) -> None:
    text = copy.root.read_text()
    copy.root.write_text(text.replace("FF00FF", "ABCDEF"))
    assert copy.root.read_text() != text
    proof = cloudimg.verify(copy.out)
    assert [str(e) for e in proof.edits] == [f"edited: {copy.root.name} (omero.channels[1].color)"]
    assert proof
    copy.migrate()
    assert "ABCDEF" in copy.root.read_text()


def test_attributes_that_zarr_python_edits(copy: Copy) -> None:
    """It writes the whole document anew, of an array also the metadata that decides pixels."""
    group: Any = zarr.open_group(copy.out, mode="r+")
    group.attrs["stain"] = {"a name": [1, None, True]}
    for level in LEVELS:
        array = group[level]
        array.attrs["mine"] = 3
    if copy.zarr_format == 3:
        copy.check("edited: 0/zarr.json (mine)", "edited: 1/zarr.json (mine)",
                   "edited: zarr.json (stain)")  # fmt: skip
    else:
        copy.check("edited: 0/.zattrs (mine)", "edited: 1/.zattrs (mine)",
                   "edited: .zattrs (stain)")  # fmt: skip
    assert group["0"][:].sum() > 0


@pytest.mark.long
@pytest.mark.slow  # all of them together
@BOTH
@pytest.mark.parametrize("dtype", ["bool", "i1", "u1", "i2", "u4", "f4", "f8", "c8", "c16"])
@pytest.mark.parametrize("codec", ["blosc", "zstd", "none"])
def test_documents_of_all_types_that_zarr_python_wrote_anew(
    tmp_path: Path, zarr_format: Any, dtype: str, codec: str
) -> None:
    """It leaves out defaults and adds others: the pixels decode as before."""
    pixels = (np.arange(64 * 64).reshape(64, 64) % 120).astype(dtype)
    out = tmp_path / "copy.zarr"
    cloudimg.to_zarr(pixels, out, zarr_format=zarr_format, codec=codec, chunks=32, levels=2)
    group: Any = zarr.open_group(out, mode="r+")
    for level in LEVELS:
        group[level].attrs["mine"] = 1
    zarr.consolidate_metadata(out)
    proof = cloudimg.verify(out)
    assert proof, str(proof)
    assert proof.n_edits == 3
    edited: Any = zarr.open_group(out, mode="r")
    np.testing.assert_array_equal(edited["0"][:], pixels)


def test_consolidated_metadata(copy: Copy) -> None:
    zarr.consolidate_metadata(copy.out)
    expected = {
        3: ["edited: zarr.json (consolidated metadata)"],
        2: ["added: .zmetadata (consolidated metadata)"],
    }
    copy.check(*expected[copy.zarr_format])


def test_scales_axes_and_levels(copy: Copy) -> None:
    def rescale(ome: Any) -> None:
        multiscale = ome["multiscales"][0]
        multiscale["datasets"][0]["coordinateTransformations"][0]["scale"][1] = 0.65
        multiscale["axes"][1]["unit"] = "micrometer"
        multiscale["datasets"].append({**multiscale["datasets"][1], "path": "mine"})
        multiscale["name"] = "renamed"

    copy.change(rescale)
    (edit,) = cloudimg.verify(copy.out).edits
    copy.check(str(edit))
    assert edit.what.count("multiscales[0].") == 3


@BOTH
def test_ome_xml(tmp_path: Path, zarr_format: Any) -> None:
    source, out = tmp_path / "a.ome.tif", tmp_path / "copy.zarr"
    tifffile.imwrite(source, np.ones((2, 64, 64), np.uint8), metadata={"axes": "CYX"})
    cloudimg.migrate(source, out, zarr_format=zarr_format, levels=1)
    (path,) = (out / "OME").glob("*.ome.xml")
    key = f"OME/{path.name}"
    whole = path.read_text()
    path.write_text(whole.replace('Name="Image0"', 'Name="mine"'))
    assert path.read_text() != whole
    edits = [f"edited: {key} (OME-XML)"]
    proof = cloudimg.verify(out)
    assert proof, str(proof)
    assert [str(edit) for edit in proof.edits] == edits
    done = cloudimg.migrate(source, out, zarr_format=zarr_format, levels=1)
    assert [str(edit) for edit in done.edits] == edits
    for content in (whole[:-9], "", "<a/>", f"<!DOCTYPE OME>{whole}"):
        path.write_text(content)
        (problem,) = cloudimg.verify(out).problems
        assert problem.url == f"{out}/{key}"
        assert problem.what.startswith("is not the metadata that was written: not ")


# ----------------------------------------------------------------------------- added objects


def add_labels(copy: Copy) -> None:
    """As ome-zarr-py lays labels out, https://ngff.openmicroscopy.org/0.5/#labels-md."""
    labels = zarr.open_group(copy.out, mode="r+").create_group("labels")
    listed: Any = {"labels": ["cells"]}
    labels.attrs.update({"ome": listed} if copy.zarr_format == 3 else listed)
    cells = labels.create_group("cells")
    for level, size in (("0", (96, 128)), ("1", (48, 64))):
        array = cells.create_array(level, shape=size, chunks=(32, 32), dtype="u4")
        array[:] = 7


def test_labels_and_tables(copy: Copy) -> None:
    add_labels(copy)
    for name in ("tables/cells/part.parquet", "tables/cells/more/a", "README.txt", "other/a"):
        (copy.out / name).parent.mkdir(parents=True, exist_ok=True)
        (copy.out / name).write_bytes(b"1")
    n_labels = sum(1 for path in (copy.out / "labels/cells").rglob("*") if path.is_file())
    names = ["zarr.json"] if copy.zarr_format == 3 else [".zattrs", ".zgroup"]
    expected = {
        f"added: labels/cells ({n_labels} objects)",
        *(f"added: labels/{name}" for name in names),
        "added: tables/cells (2 objects)",
        "added: README.txt",
        "added: other (1 object)",
    }
    found = [str(edit) for edit in cloudimg.verify(copy.out).edits]
    assert set(found) == expected
    assert len(found) == len(expected)
    assert {str(edit) for edit in copy.migrate().edits} == expected
    edited: Any = zarr.open_group(copy.out, mode="r")
    np.testing.assert_array_equal(edited["labels/cells/0"][:], 7)


def test_labels_by_another_library(copy: Copy) -> None:
    ngff_zarr = pytest.importorskip("ngff_zarr")
    image = ngff_zarr.to_ngff_image(np.full((96, 128), 3, np.uint8), dims=("y", "x"))
    version = "0.5" if copy.zarr_format == 3 else "0.4"
    labels = ngff_zarr.to_multiscales(image, scale_factors=[])
    ngff_zarr.to_ngff_zarr(str(copy.out / "labels/nuclei"), labels, version=version)
    proof = cloudimg.verify(copy.out)
    assert proof, str(proof)
    assert {edit.key for edit in proof.edits} == {"labels/nuclei"}
    before = copy.objects()
    assert copy.migrate().n_edits == 1
    assert copy.objects() == before


def write_as_ome_zarr(group: Any, name: str, key: str | None, pixels: Any) -> None:
    """An image or labels, with the names and documents of ome-zarr-py 0.18."""
    zarr_format = group.metadata.zarr_format
    added = group.create_group(name)
    datasets = []
    for level in range(3):
        part = pixels[:, :: 2**level, :: 2**level]
        added.create_array(f"s{level}", data=part, chunks=part.shape, dimension_names=None)
        shift = (2**level - 1) / 2
        transforms = [
            {"type": "scale", "scale": [1.0, 2.0**level, 2.0**level]},
            {"type": "translation", "translation": [0.0, shift, shift]},
        ]
        datasets.append({"path": f"s{level}", "coordinateTransformations": transforms})
    axes = [{"name": "c", "type": "channel"}, *({"name": n, "type": "space"} for n in "yx")]
    version = {"version": "0.5" if zarr_format == 3 else "0.4"}
    ome: dict[str, Any] = {"multiscales": [{"axes": axes, "datasets": datasets, "name": name}]}
    if key is not None:
        ome[key] = {**version, "properties": [{"label-value": 1, "area": 9}]}
    added.attrs.update({"ome": {**version, **ome}} if zarr_format == 3 else ome)


def test_all_that_ome_zarr_py_and_napari_write(copy: Copy) -> None:
    """Labels, an image, channels, and multiscales written anew; layers that napari saves as files.

    napari itself and its plugin for OME-Zarr write no Zarr.
    """
    pixels = np.ones((2, 96, 128), np.uint8)
    group: Any = zarr.open_group(copy.out, mode="r+")
    labels = group.create_group("labels")
    labels.attrs["ome" if copy.zarr_format == 3 else "labels"] = (
        {"labels": ["cells"]} if copy.zarr_format == 3 else ["cells"]
    )
    write_as_ome_zarr(labels, "cells", "image-label", pixels)
    write_as_ome_zarr(group, "extra", None, pixels)
    scales = ([1, 0.5, 0.5], [1, 1.0, 1.0])
    window = {"start": 0, "end": 9, "min": 0, "max": 99}
    written = {
        "multiscales": [
            {
                "datasets": [
                    {
                        "path": str(level),
                        "coordinateTransformations": [{"type": "scale", "scale": scale}],
                    }
                    for level, scale in enumerate(scales)
                ],
                "name": "renamed",
                "axes": [
                    {"name": "c", "type": "channel"},
                    *({"name": n, "type": "space", "unit": "micrometer"} for n in "yx"),
                ],
                **({} if copy.zarr_format == 3 else {"version": "0.4"}),
            }
        ],
        "omero": {
            "channels": [
                {"label": "GFP", "color": "00FF00", "window": window, "active": True},
                {"label": "b", "color": "FF0000", "window": window, "active": True},
            ]
        },
    }
    group.attrs.update({"ome": {"version": "0.5", **written}} if copy.zarr_format == 3 else written)
    tifffile.imwrite(copy.out / "labels/cells.tif", pixels[0])
    (copy.out / "points.csv").write_text("index,axis-0,axis-1\n0,1.0,2.0\n")
    zarr.consolidate_metadata(copy.out)
    proof = cloudimg.verify(copy.out)
    copy.check(*map(str, proof.edits))
    assert {edit.key for edit in proof.edits} >= {
        copy.root.name, "labels/cells", "extra", "labels/cells.tif", "points.csv",
    }  # fmt: skip
    edited: Any = zarr.open_group(copy.out, mode="r")
    np.testing.assert_array_equal(edited["labels/cells/s0"][:], pixels)


def test_what_readers_may_take_for_the_copy_is_a_problem(copy: Copy) -> None:
    is_third = copy.zarr_format == 3
    for key in (
        "0/c/9/9/9" if is_third else "0/9/9/9",
        "0/c/README.txt" if is_third else "0/9.9.9",
        "1/.zarray" if is_third else "1/zarr.json",
        ".zgroup" if is_third else "zarr.json",
        "originals/part-9.parquet",
    ):
        path = copy.out / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"{}")
        (problem,) = cloudimg.verify(copy.out).problems
        assert problem.url == f"{copy.out}/{key}"
        assert problem.what.startswith("does not belong to the image")
        with pytest.raises(DamagedCopyError, match="does not belong to the image"):
            copy.migrate()
        path.unlink()
    copy.check()


# ---------------------------------------------------------------------- what remains a problem


def _no_multiscales(ome: Any) -> None:
    del ome["multiscales"]


def _other_path(ome: Any) -> None:
    ome["multiscales"][0]["datasets"][1]["path"] = "mine"


def _other_order(ome: Any) -> None:
    ome["multiscales"][0]["datasets"].reverse()


def _one_axis_less(ome: Any) -> None:
    ome["multiscales"][0]["axes"].pop()


def _texts(ome: Any) -> None:
    ome["multiscales"] = "none"


@pytest.mark.parametrize(
    "change", [_no_multiscales, _other_path, _other_order, _one_axis_less, _texts]
)
def test_attributes_that_no_longer_lead_to_the_arrays(
    copy: Copy, change: Callable[[Any], None]
) -> None:
    copy.change(rename)
    copy.change(change)
    proof = cloudimg.verify(copy.out)
    (problem,) = proof.problems
    assert problem.url == f"{copy.root}"
    assert "multiscales[0]" in problem.what
    with pytest.raises(DamagedCopyError, match=r"multiscales\[0\]"):
        copy.migrate()


def test_what_decides_how_pixels_decode(copy: Copy) -> None:
    path = copy.array("1")
    whole = path.read_bytes()
    for name, value in {
        3: {"shape": [2, 48, 65], "data_type": "int16", "fill_value": 1, "codecs": [],
            "dimension_names": ["c", "x", "y"], "unknown": 1},
        2: {"shape": [2, 48, 65], "dtype": "<i2", "fill_value": 1, "compressor": None,
            "order": "F", "dimension_separator": "."},
    }[copy.zarr_format].items():  # fmt: skip
        path.write_text(json.dumps({**json.loads(whole), name: value}))
        (problem,) = cloudimg.verify(copy.out).problems
        assert problem.what == f"is not the metadata that was written: {name}"
    path.write_bytes(b"[" * 100_000)
    assert "not a JSON object" in str(cloudimg.verify(copy.out))
    with pytest.raises(DamagedCopyError, match="not a JSON object"):
        copy.migrate()


def test_consolidated_metadata_that_contradicts_an_array(copy: Copy) -> None:
    zarr.consolidate_metadata(copy.out)
    path = copy.out / ("zarr.json" if copy.zarr_format == 3 else ".zmetadata")
    content = json.loads(path.read_text())
    if copy.zarr_format == 3:
        content["consolidated_metadata"]["metadata"]["1"]["shape"][1] += 1
    else:
        content["metadata"]["1/.zarray"]["shape"][1] += 1
    path.write_text(json.dumps(content))
    (problem,) = cloudimg.verify(copy.out).problems
    assert problem.url == str(path)
    assert problem.what.startswith("its consolidated metadata of 1/")
    assert problem.what.endswith("is wrong: shape")
    with pytest.raises(DamagedCopyError, match="is wrong: shape"):
        copy.migrate()


def test_a_damaged_shard_beside_edits(copy: Copy, capsys: pytest.CaptureFixture[str]) -> None:
    copy.change(rename)
    add_labels(copy)
    key = "0/c/0/0/0" if copy.zarr_format == 3 else "0/0/0/0"
    data = (copy.out / key).read_bytes()
    (copy.out / key).write_bytes(data[:-1])
    proof = cloudimg.verify(copy.out)
    assert not proof
    assert {problem.url for problem in proof.problems} == {f"{copy.out}/{key}"}
    assert proof.n_edits >= 3
    before = copy.objects()
    words = ["migrate", copy.source, str(copy.out), "--chunks", "32", "--levels", "2"]
    assert main([*words, "--zarr-format", str(copy.zarr_format)]) == 10
    said = capsys.readouterr()
    assert "complete" not in said.out
    assert f"{copy.out}/{key}: {len(data) - 1} bytes instead of {len(data)}" in said.err
    assert "--overwrite" in said.err
    assert copy.objects() == before
    copy.migrate(overwrite=True)
    copy.check()


# ------------------------------------------------------------------------------ nothing is undone


def test_an_unfinished_copy_keeps_edits(copy: Copy) -> None:
    """Killed before its end mark: what others edited since is not written again."""
    copy.change(rename)
    group: Any = zarr.open_group(copy.out, mode="r+")
    group["1"].attrs["mine"] = 3
    add_labels(copy)
    (copy.out / ".cloudimg/done.json").unlink()
    before = copy.objects()
    done = copy.migrate()
    array = "1/zarr.json" if copy.zarr_format == 3 else "1/.zattrs"
    assert {edit.key for edit in done.edits} == {copy.root.name, array}
    assert copy.objects() == before
    proof = cloudimg.verify(copy.out, against_source=True)
    assert proof, str(proof)
    copy.check(*(str(edit) for edit in proof.edits))


@pytest.mark.parametrize("content", [b"", b"{}", b'{"zarr_format": 3, "node_type": "group"}'])
def test_an_unfinished_copy_replaces_damaged_metadata(copy: Copy, content: bytes) -> None:
    before = copy.objects()
    for path in (copy.root, copy.array("0")):
        path.write_bytes(content)
    (copy.out / ".cloudimg/done.json").unlink()
    assert copy.migrate().edits == ()
    assert copy.objects() == before
    copy.check()


def test_metadata_of_a_copy_of_another_source_is_replaced(copy: Copy, tmp_path: Path) -> None:
    """As the request of an earlier migration leaves it that arrives late."""
    (tmp_path / "b").mkdir()
    other = Copy(tmp_path / "b", copy.zarr_format)
    before = copy.objects()
    copy.root.write_bytes(other.root.read_bytes())
    (copy.out / ".cloudimg/done.json").unlink()
    assert copy.migrate().edits == ()
    assert copy.objects() == before


def test_metadata_of_files_that_were_replaced_is_no_edit(copy: Copy, tmp_path: Path) -> None:
    """The source changed before the copy was finished: its metadata describes other pixels."""
    before = copy.root.read_bytes()
    (copy.out / ".cloudimg/done.json").unlink()
    path = tmp_path / "source/a_1.tif"
    path.unlink()
    tifffile.imwrite(path, np.full((96, 128), 9, np.uint16), photometric="minisblack")
    done = copy.migrate()
    assert done.edits == ()
    copy.check()
    stored = copy.root.read_bytes()
    copy.migrate(overwrite=True)
    assert copy.root.read_bytes() == stored != before


def test_only_overwriting_replaces_edits(copy: Copy) -> None:
    before = copy.objects()
    copy.change(rename)
    add_labels(copy)
    copy.migrate(overwrite=True)
    assert copy.objects() == before


def test_export_goes_by_the_plan(copy: Copy, tmp_path: Path) -> None:
    cloudimg.export(copy.out, tmp_path / "before", layout="ome-tiff")

    def edit(ome: Any) -> None:
        rename(ome)
        ome["multiscales"][0]["datasets"][0]["coordinateTransformations"][0]["scale"] = [1, 9, 9]

    copy.change(edit)
    cloudimg.export(copy.out, tmp_path / "after", layout="ome-tiff")
    cloudimg.export(copy.out, tmp_path / "originals")
    first, second = (
        tifffile.imread(tmp_path / name / "image.ome.tif") for name in ("before", "after")
    )
    np.testing.assert_array_equal(first, second)
    for c in range(2):
        exported, original = (
            tifffile.imread(folder / f"a_{c}.tif")
            for folder in (tmp_path / "originals", tmp_path / "source")
        )
        np.testing.assert_array_equal(exported, original)


# --------------------------------------------------------------------------------- collections


def make_collection(folder: Path, zarr_format: Any) -> Path:
    out = folder / "copy.zarr"
    pixels = np.arange(3 * 2 * 2 * 2 * 32 * 32, dtype="u2").reshape(3, 2, 2, 2, 32, 32)
    dims = ("position", "angle", "t", "c", "y", "x")
    cloudimg.to_zarr(pixels, out, dims=dims, zarr_format=zarr_format, chunks=32, levels=2)
    return out


@BOTH
def test_edits_in_a_collection(tmp_path: Path, zarr_format: Any) -> None:
    out = make_collection(tmp_path, zarr_format)
    assert (out / "5/1").exists()
    group: Any = zarr.open_group(out, mode="r+")
    attributes = dict(group["3"].attrs)
    ome = attributes["ome"] if zarr_format == 3 else attributes
    ome["omero"]["channels"][1]["label"] = "GFP"
    group["3"].attrs.put(attributes)
    group["3"].create_group("labels/cells").attrs["a"] = 1
    proof = cloudimg.verify(out)
    assert proof, str(proof)
    document = "3/zarr.json" if zarr_format == 3 else "3/.zattrs"
    found = [str(edit) for edit in proof.edits]
    assert f"edited: {document} (omero.channels[1].label)" in found
    assert any(each.startswith("added: 3/labels/cells (") for each in found)
    assert {edit.key.split("/")[0] for edit in proof.edits} == {"3"}


@BOTH
def test_a_collection_that_no_longer_names_its_images(tmp_path: Path, zarr_format: Any) -> None:
    out = make_collection(tmp_path, zarr_format)
    group: Any = zarr.open_group(out, mode="r+")
    attributes = dict(group["OME"].attrs)
    (attributes["ome"] if zarr_format == 3 else attributes)["series"].pop()
    group["OME"].attrs.put(attributes)
    (problem,) = cloudimg.verify(out).problems
    assert "series does not name all images" in problem.what


# ------------------------------------------------------------------------------------- reports


def test_the_command_line(copy: Copy, capsys: pytest.CaptureFixture[str]) -> None:
    copy.change(rename)
    line = f"edited: {copy.root.name} (omero.channels[0].label)"
    assert main(["verify", str(copy.out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert ", no problems, 1 edit, in " in lines[0]
    assert lines[1:] == [line]
    assert main(["verify", str(copy.out), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["is_verified"] is True
    what = "omero.channels[0].label"
    assert found["edits"] == [{"kind": "edited", "key": copy.root.name, "what": what}]
    assert found["n_edits"] == 1
    words = ["migrate", copy.source, str(copy.out), "--chunks", "32", "--levels", "2"]
    assert main([*words, "--zarr-format", str(copy.zarr_format)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "is complete: nothing left to do" in lines[0]
    assert lines[1:] == [line]


def test_names_that_others_chose_do_not_reach_the_terminal(copy: Copy) -> None:
    def add(ome: Any) -> None:
        ome["\x1b[31m\n"] = 1
        ome["x" * 5000] = 2

    copy.change(add)
    (edit,) = cloudimg.verify(copy.out).edits
    assert edit.what.isprintable()
    assert len(edit.what) < 300


@BOTH
def test_an_edited_copy_in_a_bucket(meter: Meter, bucket: str, zarr_format: Any) -> None:
    """Labels cost one more listing, and no record is read; edits of metadata need the records."""
    options = meter.storage_options
    for c in range(2):
        pixels = np.full((64, 64), c + 1, np.uint16)
        meter.put(bucket, f"src/a_{c}.tif", seed.encode(pixels))
    url = f"s3://{bucket}/copy.zarr"

    def migrate() -> cloudimg.Migration:
        return cloudimg.migrate(
            f"s3://{bucket}/src/a_{{c}}.tif", url, zarr_format=zarr_format, levels=1,
            source_options=options, target_options=options,
        )  # fmt: skip

    migrate()
    meter.put(bucket, "copy.zarr/labels/cells/zarr.json", b"{}")
    with meter.measure() as traffic:
        done = migrate()
    assert [str(edit) for edit in done.edits] == ["added: labels/cells (1 object)"]
    assert not [r for r in traffic.requests if "/cells/0" in r.key]
    assert not [r for r in traffic.requests if r.method == "PUT" and "lease" not in r.key]
    assert cloudimg.verify(url, storage_options=options)
    name = "zarr.json" if zarr_format == 3 else ".zattrs"
    content = json.loads(copies.objects(url, options)[name])
    (content["attributes"] if zarr_format == 3 else content)["mine"] = 1
    meter.put(bucket, f"copy.zarr/{name}", json.dumps(content).encode())
    before = copies.image_of(copies.objects(url, options))
    assert {edit.key for edit in migrate().edits} == {name, "labels/cells"}
    proof = cloudimg.verify(url, storage_options=options)
    assert proof, str(proof)
    assert copies.image_of(copies.objects(url, options)) == before


@pytest.mark.slow
@BOTH
def test_a_store_that_does_not_refuse_what_exists(
    tmp_path: Path, meter: Meter, bucket: str, zarr_format: Any
) -> None:
    """What stands there is looked at before it would be replaced."""
    url, source = f"s3://{bucket}/copy.zarr", write_source(tmp_path)
    options = meter.storage_options

    def migrate() -> cloudimg.Migration:
        return cloudimg.migrate(
            source, url, zarr_format=zarr_format, levels=1, target_options=options,
            progress=lambda _: None,
        )  # fmt: skip

    meter.faults([unconditional()])
    try:
        migrate()
        name = "zarr.json" if zarr_format == 3 else ".zattrs"
        content = json.loads(copies.objects(url, options)[name])
        (content["attributes"] if zarr_format == 3 else content)["mine"] = 1
        edited = json.dumps(content).encode()
        meter.put(bucket, f"copy.zarr/{name}", edited)
        meter.delete(bucket, "copy.zarr/.cloudimg/done.json")
        assert [str(edit) for edit in migrate().edits] == [f"edited: {name} (mine)"]
    finally:
        meter.faults([])
    assert copies.objects(url, options)[name] == edited
    proof = cloudimg.verify(url, storage_options=options)
    assert proof, str(proof)
    assert proof.n_edits == 1
