"""Plates and other collections of images as one image, or one of their images."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr

import cloudimg
from cloudimg.errors import (
    ArgumentError,
    CloudimgError,
    CorruptFileError,
    FolderError,
    MissingFilesError,
)

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(11)


def plate_of_ome_zarr(url: str, pixels: Array) -> None:
    """A plate by ome-zarr-py: rows A and B, columns 1 and 2, two fields; B/2 has only one."""
    writer = pytest.importorskip("ome_zarr.writer", reason="no ome-zarr")
    root = zarr.open_group(url, mode="w", zarr_format=3)
    writer.write_plate_metadata(root, ["A", "B"], ["1", "2"], ["A/1", "A/2", "B/1", "B/2"])
    for number, (row, column) in enumerate([("A", "1"), ("A", "2"), ("B", "1"), ("B", "2")]):
        well = root.require_group(row).require_group(column)
        fields = ["0", "1"] if number < 3 else ["0"]
        writer.write_well_metadata(well, fields)
        for field in fields:
            image = well.require_group(field)
            writer.write_image(pixels[number, int(field)], image, axes="cyx", scaler=None)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:ome_zarr")
def test_a_plate_of_another_program(tmp_path: Path) -> None:
    pixels = RNG.integers(0, 255, (4, 2, 2, 24, 32), dtype=np.uint8)
    plate_of_ome_zarr(str(tmp_path / "plate.zarr"), pixels)
    pixels[3, 1] = 0  # a field that does not exist
    with pytest.raises(MissingFilesError, match="row=B, col=2, field=1"):
        cloudimg.open(tmp_path / "plate.zarr")
    plate = cloudimg.open(tmp_path / "plate.zarr", missing="fill")
    assert plate.dims == ("row", "col", "field", "c", "y", "x")
    assert plate.shape == (2, 2, 2, 2, 24, 32)
    assert plate.coords["row"].tolist() == ["A", "B"]
    np.testing.assert_array_equal(plate.read().reshape(pixels.shape), pixels)
    np.testing.assert_array_equal(plate.sel(row="B", col="1", field=1).read(), pixels[2, 1])
    well = cloudimg.open(tmp_path / "plate.zarr" / "A" / "2")
    np.testing.assert_array_equal(well.read(), pixels[1])
    field = cloudimg.open(tmp_path / "plate.zarr/A/2/1")
    np.testing.assert_array_equal(field.read(), pixels[1, 1])
    # An image that the metadata list need not exist, either.
    (tmp_path / "plate.zarr/A/1/0").rename(tmp_path / "lost")
    with pytest.raises(CloudimgError, match="no such file"):
        cloudimg.open(tmp_path / "plate.zarr" / "A" / "1")
    filled = cloudimg.open(tmp_path / "plate.zarr", missing="fill", validate="all")
    assert (filled.n_missing, filled.n_files) == (2, 6)
    assert not filled.read()[0, 0, 0].any()
    np.testing.assert_array_equal(filled.read().reshape(pixels.shape)[1:], pixels[1:])
    (tmp_path / "lost").rename(tmp_path / "plate.zarr/A/1/0")
    # Nor need a well: its column is there, and missing.
    for row in "AB":
        shutil.move(tmp_path / "plate.zarr" / row / "2", tmp_path / f"lost{row}")
    with pytest.raises(MissingFilesError, match="row=A, col=2, field=0"):
        cloudimg.open(tmp_path / "plate.zarr")
    filled = cloudimg.open(tmp_path / "plate.zarr", missing="fill")
    assert (filled.shape[:3], filled.n_missing) == ((2, 2, 2), 4)
    np.testing.assert_array_equal(filled.read()[:, 0], pixels.reshape(filled.shape)[:, 0])
    for row in "AB":
        shutil.move(tmp_path / f"lost{row}", tmp_path / "plate.zarr" / row / "2")
    # The wells that are there are a part without gaps, and a copy of it is a plate again.
    part = {"row": ["A"]}
    cloudimg.migrate(
        tmp_path / "plate.zarr", tmp_path / "copy.zarr", missing="fill", select=part, plate=True
    )
    assert cloudimg.verify(tmp_path / "copy.zarr", against_source=True)


def write_tiffs(folder: Path) -> Array:
    """Wells A1, A3 and B2 with two fields each, as files."""
    pixels = RNG.integers(0, 4000, (3, 2, 2, 40, 48), dtype=np.uint16)
    folder.mkdir()
    for w, well in enumerate(("A01", "A03", "B02")):
        for f in range(2):
            for c in range(2):
                tifffile.imwrite(
                    folder / f"{well}_f{f + 3}_c{c}.tif",
                    pixels[w, f, c],
                    resolution=(2, 2),
                    imagej=True,
                    metadata={"unit": "um"},
                )
    return pixels


@pytest.mark.parametrize("zarr_format", [3, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("is_plate", [True, False])
def test_collections_of_ours_open_at_their_root(
    zarr_format: Any, is_plate: bool, tmp_path: Path
) -> None:
    pixels = write_tiffs(tmp_path / "tiffs")
    source = str(tmp_path / "tiffs" / "{well:s}_f{field}_c{c}.tif")
    copied = {"zarr_format": zarr_format, "plate": is_plate, "chunks": 16}
    cloudimg.migrate(source, tmp_path / "copy.zarr", **copied)
    image = cloudimg.open(tmp_path / "copy.zarr")
    assert image.dims == ("well", "field", "c", "y", "x")
    assert image.coords["well"].tolist() == ["A01", "A03", "B02"]
    assert image.coords["field"].tolist() == [3, 4]
    assert image.attrs["pixel_size"] == cloudimg.open(source).attrs["pixel_size"]
    np.testing.assert_array_equal(image.read(), pixels)
    np.testing.assert_array_equal(image.sel(well="A03", field=4).read(), pixels[1, 1])
    one = cloudimg.open(tmp_path / "copy.zarr" / ("B/02/1" if is_plate else "5"))
    np.testing.assert_array_equal(one.read(), pixels[2, 1])
    # Images that are listed and do not exist are missing.
    lost = tmp_path / "copy.zarr" / ("A/03/1" if is_plate else "3")
    lost.rename(tmp_path / "lost")
    with pytest.raises(CloudimgError):
        cloudimg.open(tmp_path / "copy.zarr").read()
    filled = cloudimg.open(tmp_path / "copy.zarr", missing="fill").read()
    assert not filled[1, 1].any()
    np.testing.assert_array_equal(filled[2], pixels[2])
    (tmp_path / "lost").rename(lost)
    # Where all images of a label are lost, nothing says what it was.
    for number, field in ((4, "B/02/0"), (5, "B/02/1")):
        found = tmp_path / "copy.zarr" / (field if is_plate else str(number))
        found.rename(tmp_path / f"lost{number}")
    with pytest.raises(CorruptFileError, match="2 do not exist"):
        cloudimg.open(tmp_path / "copy.zarr", missing="fill")
    for number, field in ((4, "B/02/0"), (5, "B/02/1")):
        found = tmp_path / "copy.zarr" / (field if is_plate else str(number))
        (tmp_path / f"lost{number}").rename(found)
    # A copy of the copy has the same objects, by name and byte.
    cloudimg.migrate(tmp_path / "copy.zarr", tmp_path / "again.zarr", **copied)
    assert cloudimg.verify(tmp_path / "again.zarr", against_source=True)
    assert shards(tmp_path / "again.zarr") == shards(tmp_path / "copy.zarr")
    assert names(tmp_path / "again.zarr") == names(tmp_path / "copy.zarr")
    if not is_plate:
        third = cloudimg.open(tmp_path / "copy.zarr", series=3)
        np.testing.assert_array_equal(third.read(), pixels[1, 1])


def names(folder: Path) -> list[str]:
    """Names of a plate, and of all images."""
    documents = sorted([*folder.rglob(".zattrs"), *folder.rglob("zarr.json")])
    contents = [json.loads(path.read_text()) for path in documents]
    attributes = [each.get("attributes", each) for each in contents]
    omes = [each.get("ome", each) for each in attributes]
    found = [ome["plate"] for ome in omes if "plate" in ome]
    found += [image for ome in omes for image in ome.get("multiscales", ())]
    return [each["name"] for each in found]


def shards(folder: Path) -> dict[str, bytes]:
    """Everything with pixels in a copy."""
    skipped = (".cloudimg", "originals", "OME")
    found = {
        str(path.relative_to(folder)): path
        for path in folder.rglob("*")
        if path.is_file() and path.name[0] != "." and path.name != "zarr.json"
    }
    return {name: path.read_bytes() for name, path in found.items() if not name.startswith(skipped)}


def test_a_group_of_several_images_names_them(tmp_path: Path) -> None:
    root = tmp_path / "many.zarr"
    content = {"bioformats2raw.layout": 3}
    root.mkdir()
    (root / ".zgroup").write_text('{"zarr_format": 2}')
    (root / ".zattrs").write_text(json.dumps(content))
    planes = RNG.integers(0, 255, (2, 20, 30), dtype=np.uint8)
    for number, plane in enumerate(planes):
        group = zarr.open_group(str(root / str(number)), mode="w", zarr_format=2)
        array = group.create_array("0", shape=plane.shape, chunks=(8, 8), dtype="u1")
        array[:] = plane
        axes = [{"name": name, "type": "space"} for name in "yx"]
        group.attrs["multiscales"] = [{"axes": axes, "datasets": [{"path": "0"}]}]
    with pytest.raises(ArgumentError, match=r"has 2 images: pass series=N .*0: 0, 1: 1"):
        cloudimg.open(root)
    np.testing.assert_array_equal(cloudimg.open(root, series=1).read(), planes[1])
    # A copy of one is found again by the URL of that image.
    cloudimg.migrate(root, tmp_path / "copy.zarr", series=1)
    assert cloudimg.verify(tmp_path / "copy.zarr", against_source=True)
    with pytest.raises(ArgumentError, match="has 2 images"):
        cloudimg.open(root, series=2)
    empty = zarr.open_group(str(tmp_path / "empty.zarr"), mode="w")
    empty.create_array("some", shape=(8, 8), chunks=(4, 4), dtype="u1")
    with pytest.raises(FolderError, match="what it has is some"):
        cloudimg.open(tmp_path / "empty.zarr")
