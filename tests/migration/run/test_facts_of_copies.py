"""A copy says of the whole image only what all its files say, since copying reads all of them."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

import cloudimg
from cloudimg.cli.main import main
from cloudimg.errors import BadFilesError, MismatchError
from tests.support import copies
from tests.support.clusters import local_client
from tests.support.metering import Meter

SIZE = 64
PARTS: dict[str, Any] = {"chunks": 32, "shards": {"t": 1, "y": 64, "x": 64}, "levels": 1}
"""A cell for each file."""


def write(path: Path, value: int, **changes: Any) -> None:
    """An OME-TIFF of one channel."""
    said: dict[str, Any] = {"size": 0.5, "channel": "GFP", "magnification": 20} | changes
    xml = (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
        '<Instrument ID="Instrument:0"><Objective ID="Objective:0" NominalMagnification='
        f'"{said["magnification"]}"/></Instrument><Image ID="Image:0" Name="time {value}">'
        f"<AcquisitionDate>2024-05-01T10:00:{value:02d}</AcquisitionDate>"
        '<ObjectiveSettings ID="Objective:0"/><Pixels ID="Pixels:0" DimensionOrder="XYCZT"'
        f' Type="uint8" SizeX="{SIZE}" SizeY="{SIZE}" SizeZ="1" SizeC="1" SizeT="1"'
        f' PhysicalSizeX="{said["size"]}" PhysicalSizeY="0.5"><Channel ID="Channel:0:0"'
        f' Name="{said["channel"]}" SamplesPerPixel="1"/><TiffData IFD="0" PlaneCount="1"/>'
        "</Pixels></Image></OME>"
    )
    pixels = np.full((SIZE, SIZE), value, np.uint8)
    tifffile.imwrite(path, pixels, description=xml.encode(), metadata=None)


def write_times(folder: Path, changes: dict[int, dict[str, Any]], n_files: int = 6) -> str:
    """Files of which some differ, and their pattern."""
    for t in range(n_files):
        write(folder / f"a_{t}.ome.tif", t, **changes.get(t, {}))
    return f"{folder}/a_{{t}}.ome.tif"


def cells_done(url: Path) -> int:
    return len(list(url.glob(".cloudimg/cells/*/*.json")))


def said_of(url: Path) -> Any:
    return json.loads((url / "zarr.json").read_bytes())["attributes"]["cloudimg"]["attributes"]


def scales_of(url: Path) -> Any:
    (scales,) = json.loads((url / "zarr.json").read_bytes())["attributes"]["ome"]["multiscales"]
    return scales["datasets"][0]["coordinateTransformations"][0]["scale"]


def test_scenes_300_metres_apart_are_not_copied(corpus: Path, tmp_path: Path) -> None:
    folder, out = corpus / "reports" / "geo-frames", tmp_path / "copy.zarr"
    pattern = f"{folder}/SH_{{t:%Y%m%d}}_B4.TIF"
    with pytest.raises(MismatchError) as caught:
        cloudimg.migrate(pattern, out, allow_unmatched=True)
    for part in (
        f"{folder}/SH_20200908_B4.TIF",
        f"{folder}/SH_20200924_B4.TIF",
        "(500000, 4600000)",
        "(500300, 4600000)",
        'allow_differences=["origin"]',
    ):
        assert part in caught.value.message
    assert not (out / "zarr.json").exists()
    assert cells_done(out) == 0
    same = f"{folder}/LC08_{{t:%Y%m%d}}_B4.TIF"
    cloudimg.migrate(same, tmp_path / "same.zarr", allow_unmatched=True)
    assert cloudimg.verify(tmp_path / "same.zarr", against_source=True)
    assert said_of(tmp_path / "same.zarr")["geo"]["epsg"] == 32633


def test_a_cell_with_a_differing_file_gets_no_record(tmp_path: Path) -> None:
    pattern, out = write_times(tmp_path, {4: {"size": 0.25}}), tmp_path / "copy.zarr"
    assert cloudimg.open(pattern).attrs["pixel_size"] == {"x": 0.5, "y": 0.5}
    with pytest.raises(MismatchError, match=r"a_4\.ome\.tif does not fit.*a_0\.ome\.tif"):
        cloudimg.migrate(pattern, out, **PARTS)
    assert cells_done(out) < 6
    assert not list(out.glob(".cloudimg/cells/*/*4.json"))
    assert not cloudimg.verify(out)
    # The copy goes on with the right file in place, or where the difference is allowed.
    with pytest.raises(MismatchError):
        cloudimg.migrate(pattern, out, **PARTS)
    done = cloudimg.migrate(pattern, out, **PARTS, allow_differences="pixel_size")
    assert [getattr(note, "kind", None) for note in done.notes] == ["facts-differ-pixel-size"]
    assert "a_4.ome.tif" in done.notes[0]
    assert cloudimg.verify(out, against_source=True)
    assert not {"pixel_size", "pixel_size_unit"} & said_of(out).keys()
    assert scales_of(out) == [1, 1, 1]


def test_an_allowed_difference_that_opening_reads(tmp_path: Path) -> None:
    pattern, out = write_times(tmp_path, {4: {"size": 0.25}}), tmp_path / "copy.zarr"
    options = {"validate": "all", "allow_differences": ["pixel_size"]}
    with pytest.raises(MismatchError):
        cloudimg.migrate(pattern, out, validate="all")
    assert not out.exists() or not cells_done(out)
    done = cloudimg.migrate(pattern, out, **PARTS, **options)
    (note,) = done.notes
    assert note.n_files == 1
    proof = cloudimg.verify(out, against_source=True)
    assert proof
    assert proof.notes == (note,)
    assert scales_of(out) == [1, 1, 1]


def test_a_fact_that_may_differ_and_does_not(tmp_path: Path) -> None:
    """A copy states what may differ only where all headers were read first."""
    pattern = write_times(tmp_path, {})
    for validate, scales in (("first", [1, 1, 1]), ("all", [1, 0.5, 0.5])):
        out = tmp_path / f"{validate}.zarr"
        options = {"validate": validate, "allow_differences": ["pixel_size"]}
        assert cloudimg.migrate(pattern, out, **PARTS, **options).notes == ()
        assert ("pixel_size" in said_of(out)) == (validate == "all")
        assert scales_of(out) == scales
        assert cloudimg.verify(out, against_source=True)


def test_without_differences_a_copy_has_what_all_files_say(tmp_path: Path) -> None:
    pattern, out = write_times(tmp_path, {}), tmp_path / "copy.zarr"
    assert cloudimg.migrate(pattern, out, **PARTS).notes == ()
    said = said_of(out)
    assert said["pixel_size"] == {"x": 0.5, "y": 0.5}
    assert said["magnification"] == 20
    assert said["channel_names"] == ["GFP"]
    # Times and names are of one file.
    assert not {"acquired", "name"} & said.keys()
    assert scales_of(out) == [1, 0.5, 0.5]


def test_what_differs_in_files_that_only_cells_open(tmp_path: Path) -> None:
    changes = {3: {"magnification": 60, "channel": "RFP"}, 5: {"magnification": 40}}
    pattern, out = write_times(tmp_path, changes), tmp_path / "copy.zarr"
    assert cloudimg.open(pattern).attrs["magnification"] == 20
    done = cloudimg.migrate(pattern, out, **PARTS)
    found = {note.kind: note.n_files for note in done.notes}  # type: ignore[attr-defined]
    assert found == {"facts-differ-magnification": 2, "facts-differ-channel-names": 1}
    said = said_of(out)
    assert not {"magnification", "channel_names"} & said.keys()
    assert said["pixel_size"] == {"x": 0.5, "y": 0.5}
    assert "RFP" not in (out / "zarr.json").read_text().replace("a_3", "")
    proof = cloudimg.verify(out, against_source=True)
    assert proof
    assert set(proof.notes) == set(done.notes)
    # The same again from the commit records.
    before = copies.image_of(copies.objects(str(out), {}))
    (out / "zarr.json").unlink()
    (out / ".cloudimg/done.json").unlink()
    cloudimg.migrate(pattern, out, **PARTS)
    assert copies.image_of(copies.objects(str(out), {})) == before


def test_bad_files_are_not_compared(tmp_path: Path) -> None:
    """A file of another shape is filled, whatever it says of the whole image."""
    pattern, out = write_times(tmp_path, {}), tmp_path / "copy.zarr"
    tifffile.imwrite(
        tmp_path / "a_2.ome.tif", np.zeros((9, 9), np.uint8), resolution=(5, 5), resolutionunit=3
    )
    done = cloudimg.migrate(pattern, out, **PARTS, bad="fill")
    assert not any("facts-differ" in getattr(note, "kind", "") for note in done.notes)
    assert said_of(out)["pixel_size"] == {"x": 0.5, "y": 0.5}


def test_files_that_differ_are_not_filled(tmp_path: Path) -> None:
    """Their pixels are good."""
    pattern = write_times(tmp_path, {2: {"size": 3}})
    with pytest.raises(MismatchError, match=r"allow_differences=\[\"pixel_size\"\]"):
        cloudimg.migrate(pattern, tmp_path / "copy.zarr", **PARTS, bad="fill")


def test_a_worker_refuses_the_same(tmp_path: Path) -> None:
    pattern, out = write_times(tmp_path, {4: {"size": 0.25}}), tmp_path / "copy.zarr"
    with (
        local_client() as client,
        pytest.raises(MismatchError, match=r"a_4\.ome\.tif does not fit.*a_0\.ome\.tif"),
    ):
        cloudimg.migrate(pattern, out, **PARTS, client=client)
    assert not list(out.glob(".cloudimg/cells/*/*4.json"))


def test_the_command_line_names_its_option(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pattern, out = write_times(tmp_path, {1: {"size": 1}}), tmp_path / "copy.zarr"
    assert main(["migrate", pattern, str(out)]) == 4
    assert "--allow-differences pixel_size to put" in capsys.readouterr().err
    assert main(["migrate", pattern, str(out), "--allow-differences", "pixel_size"]) == 0
    assert "pixel size other than in the first file" in capsys.readouterr().out


def test_comparing_costs_no_request(meter: Meter, bucket: str) -> None:
    """Names of bands that lie beyond the first bytes of a file are not fetched to be compared."""
    name = f'<Item name="DESCRIPTION" sample="0" role="description">red {" " * 40_000}</Item>'
    xml = f"<GDALMetadata>{name}</GDALMetadata>"
    rng = np.random.default_rng(1)
    for t in range(3):
        pixels = rng.integers(0, 255, (2048, 2048), np.uint8)
        meter.put(bucket, f"src/{t}.tif", encoded(pixels, (42112, "s", None, xml, True)))
    options = {"source_options": meter.storage_options, "target_options": meter.storage_options}
    shards = {"t": 1, "y": 512, "x": 512}
    with meter.measure() as traffic:
        cloudimg.migrate(
            f"s3://{bucket}/src/{{t}}.tif", f"s3://{bucket}/copy.zarr", **options, shards=shards,
            chunks=512, levels=1,
        )  # fmt: skip
    gets = [r for r in traffic.requests if r.kind == "get" and r.key in ("src/1.tif", "src/2.tif")]
    # The header, and the tiles of each of 16 cells.
    assert len(gets) == 2 * (1 + 16)


def encoded(pixels: np.ndarray[Any, Any], tag: tuple[Any, ...]) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, tile=(512, 512), extratags=[tag], metadata=None)
    return file.getvalue()


def test_a_first_file_that_is_mended_says_nothing_else_than_was_compared(tmp_path: Path) -> None:
    source = write_times(tmp_path, {})
    first, out = Path(source.replace("{t}", "0")), tmp_path / "copy.zarr"
    first.write_bytes(b"")
    with pytest.raises(BadFilesError, match="1 of 6 cells"):
        cloudimg.migrate(source, out, **PARTS)
    write(first, 0, size=0.25)
    with pytest.raises(MismatchError, match=r"pixel size is x 0\.25 .* and was x 0\.5"):
        cloudimg.migrate(source, out, **PARTS)
    write(first, 0)
    copied = cloudimg.migrate(source, out, **PARTS)
    assert (copied.n_done_before, copied.notes) == (5, ())
    assert scales_of(out)[-1] == 0.5
    assert cloudimg.verify(out, against_source=True)


def test_a_first_file_that_is_mended_may_differ_in_what_may_differ(tmp_path: Path) -> None:
    source = write_times(tmp_path, {})
    first, last = (Path(source.replace("{t}", t)) for t in "05")
    out = tmp_path / "copy.zarr"
    for path in (first, last):
        path.write_bytes(b"")
    for mended, text in ((first, "2 of 6 cells"), (last, "1 of 6 cells")):
        with pytest.raises(BadFilesError, match=text):
            cloudimg.migrate(source, out, **PARTS)
        write(mended, 9, magnification=40)
    copied = cloudimg.migrate(source, out, **PARTS)
    assert copied.n_done_before == 5
    assert any("other than when the first files were compared" in note for note in copied.notes)
    assert "objective" not in str(said_of(out))
    assert cloudimg.verify(out, against_source=True)
