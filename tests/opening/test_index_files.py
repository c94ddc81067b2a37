"""Index files beside images: channels, sizes, positions and times without reading headers."""

from __future__ import annotations

import csv
import itertools
import json
import pickle
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pyarrow.parquet as pq
import pytest
import tifffile

import cloudimg
from cloudimg.cli.main import main
from cloudimg.errors import MissingFilesError
from tests.conftest import Place
from tests.support import index_files as made
from tests.support.metering import Meter

CV8000 = "CV8000-Minimal-DataSet-2C-3W-4S-FP2-stack"
BTS = "{http://www.yokogawa.co.jp/BTS/BTSSchema/1.0}"


@pytest.fixture
def cv8000(tmp_path: Path, corpus: Path, acquisitions: Path) -> Path:
    """The plate with its index files beside the images, as on the instrument."""
    folder = tmp_path / "cv8000"
    folder.mkdir()
    for path in [*(acquisitions / "cv8000").iterdir(), *(corpus / "index_files/cv8000").iterdir()]:
        (folder / path.name).symlink_to(path)
    return folder


def kinds(image: Any) -> list[str]:
    return [note.kind for note in image.notes]


def note(image: Any, kind: str) -> str:
    (found,) = (each for each in image.notes if each.kind == kind)
    return str(found)


# Real plates


@pytest.mark.parametrize("by", ["folder", "pattern"])
def test_cv8000_says_what_its_mlf_mrf_and_mes_say(cv8000: Path, by: str) -> None:
    pattern = (
        rf"{cv8000}/{CV8000}_{{well:[A-P]\d{{2}}}}"
        "_T0001F{field:03d}L01A{c:02d}Z{z:02d}C{c:02d}.tif"
    )
    image = cloudimg.open(f"{cv8000}/" if by == "folder" else pattern)
    assert image.dims == ("well", "field", "c", "z", "y", "x")
    assert image.shape == (3, 4, 2, 4, 2000, 2000)
    records = {
        record.text: record.attrib
        for record in ElementTree.parse(cv8000 / "MeasurementData.mlf").getroot()
    }
    assert len(records) == image.n_files == 96
    coords = {name: np.asarray(values) for name, values in image.coords.items()}
    dims = image.coord_dims
    seen = 0
    for file in image.files:
        record = records[Path(file.url).name]
        at = {dim: list(coords[dim]).index(label) for dim, label in file.labels.items()}
        value = {
            name: coords[name][tuple(at[dim] for dim in dims[name])]
            for name in ("stage_x", "stage_y", "stage_z", "acquired", "channel")
        }
        for name, letter in (("stage_x", "X"), ("stage_y", "Y"), ("stage_z", "Z")):
            assert value[name] == float(record[f"{BTS}{letter}"])
        zone = np.timedelta64(2, "h")
        written = np.datetime64(record[f"{BTS}Time"].removesuffix("+02:00"))
        assert value["acquired"] == written - zone
        assert value["channel"] == {"1": "405", "2": "488"}[record[f"{BTS}Ch"]]
        seen += 1
    assert seen == 96
    detail = ElementTree.parse(cv8000 / "MeasurementDetail.mrf").getroot()
    sizes = {
        each.attrib[f"{BTS}HorizontalPixelDimension"]
        for each in detail.iter(f"{BTS}MeasurementChannel")
    }
    assert sizes == {"0.325"}
    assert image.attrs["pixel_size"] == {"x": 0.325, "y": 0.325, "z": 3.0}
    assert image.attrs["pixel_size_unit"] == {"x": "µm", "y": "µm", "z": "µm"}
    settings = ElementTree.parse(cv8000 / "Minimal-3C3W2S-FP2-stack.mes").getroot()
    names = [each.attrib[f"{BTS}Target"] for each in settings.iter(f"{BTS}Channel")]
    assert image.attrs["channel_names"] == names[:2] == ["405", "488"]
    # #FF002FFF and #FF00FFA1 of the settings, as RGBA.
    assert [value & 0xFFFFFFFF for value in image.attrs["channel_colors"]] == [
        0x002FFFFF,
        0x00FFA1FF,
    ]
    assert (image.attrs["objective"], image.attrs["magnification"]) == ("20x v2", 20)
    assert coords["exposure_s"] == 0.1
    assert dims["stage_x"] == ("field",)
    assert dims["stage_z"] == ("z",)
    assert dims["channel"] == ("c",)
    assert not [kind for kind in kinds(image) if kind.startswith("index-file")]


def test_metaxpress_names_channels_and_what_has_no_files(acquisitions: Path) -> None:
    image = cloudimg.open(f"{acquisitions}/metaxpress/")
    assert image.dims == ("well", "field", "c", "z", "y", "x")
    assert image.shape == (2, 2, 3, 2, 256, 256)
    with (acquisitions / "metaxpress/9987.HTD").open(encoding="latin-1", newline="") as lines:
        said = {row[0]: row[1:] for row in csv.reader(lines, skipinitialspace=True)}
    names = [said[f"WaveName{i}"][0] for i in (1, 2, 3, 4)]
    assert image.attrs["channel_names"] == names[:3] == ["DAPI", "FITC", "Texas Red"]
    assert list(image.coords["channel"]) == names[:3]
    assert image.coord_dims["channel"] == ("c",)
    with tifffile.TiffFile(next(iter(image.files)).url) as tiff:
        plane = (tiff.metaseries_metadata or {})["PlaneInfo"]
    size = plane["spatial-calibration-x"]
    assert image.attrs["pixel_size"] == {"x": size, "y": size}
    text = note(image, "index-file")
    assert "9987.HTD: it plans more than the files have: channel 4 (Cy5)" in text
    assert "1 plane along z of 3" in text


def test_positions_of_metaxpress_come_from_headers_and_its_channels_agree(
    acquisitions: Path,
) -> None:
    image = cloudimg.open(f"{acquisitions}/metaxpress/", validate="all")
    coords, dims = image.coords, image.coord_dims
    for file in image.files:
        with tifffile.TiffFile(file.url) as tiff:
            plane = (tiff.metaseries_metadata or {})["PlaneInfo"]
        at = {dim: list(coords[dim]).index(label) for dim, label in file.labels.items()}

        def value(name: str, at: Any = at) -> Any:
            return coords[name][tuple(at[dim] for dim in dims[name])]

        assert value("stage_x") == plane["stage-position-x"]
        assert value("stage_y") == plane["stage-position-y"]
        assert value("stage_z") == plane["z-position"]
        assert value("acquired") == np.datetime64(plane["acquisition-time-local"])
        assert value("channel") == plane["_IllumSetting_"]
    # What the .HTD says of channels is what the headers say.
    assert not [kind for kind in kinds(image) if kind.startswith("said-otherwise")]


# What is requested


def upload(meter: Meter, bucket: str, folder: Path) -> None:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            meter.put(bucket, f"exp/{path.relative_to(folder)}", path.read_bytes())


def test_reading_the_index_of_cv8000_takes_three_requests_and_one_header(
    meter: Meter, bucket: str, cv8000: Path
) -> None:
    upload(meter, bucket, cv8000)
    folder = f"s3://{bucket}/exp"
    name = f"{CV8000}_{{well:s}}_T0001F{{field:03d}}L01A{{c:02d}}Z{{z:02d}}C{{c:02d}}.tif"
    for url, n_listings in ((f"{folder}/{name}", 2), (f"{folder}/", 4)):
        with meter.measure() as traffic:
            image = cloudimg.open(url, storage_options=meter.storage_options)
            assert image.coords["stage_x"].shape == (4,)
        read = sorted(r.key.removeprefix("exp/") for r in traffic.requests if r.kind == "get")
        assert read == [
            f"{CV8000}_D08_T0001F001L01A01Z01C01.tif",
            "MeasurementData.mlf",
            "MeasurementDetail.mrf",
            "Minimal-3C3W2S-FP2-stack.mes",
        ]
        assert traffic.lists == n_listings


def test_the_index_is_read_beside_the_header(meter: Meter, bucket: str) -> None:
    small_plate(lambda key, data: meter.put(bucket, key, data))
    meter.latency(200)
    with meter.measure() as traffic:
        image = cloudimg.open(
            f"s3://{bucket}/plate_{{well:s}}_T0001F{{field:03d}}L01A{{c:02d}}Z{{z:02d}}C{{c:02d}}.tif",
            storage_options=meter.storage_options,
        )
        assert "stage_x" in image.coords
    # The listing; then the index with the header; then what was not there.
    assert traffic.round_trips <= 3
    assert traffic.gets == 3  # the .mrf, which is not there, among them


def small_plate(put: made.Put, **options: Any) -> list[dict[str, Any]]:
    records = made.yokogawa_records(["B02", "C03"], 2, 2, 2, **options)
    for record in records:
        put(record["name"], made.PLANE)
    put("MeasurementData.mlf", made.mlf(records))
    return records


@pytest.mark.parametrize("index_files", [True, False])
def test_no_request_is_made_for_an_index_that_the_listing_would_have_shown(
    meter: Meter, bucket: str, index_files: bool
) -> None:
    """A folder that is opened was listed; names of no known layout have no index file."""
    for name in ("plate_B02_T0001F001L01A01Z01C01.tif", "plate_B02_T0001F002L01A01Z01C01.tif"):
        meter.put(bucket, f"exp/{name}", made.PLANE)
    for z in range(3):
        meter.put(bucket, f"other/x_{z}.tif", made.PLANE)
    for url in (f"s3://{bucket}/exp/", f"s3://{bucket}/other/x_{{z}}.tif"):
        with meter.measure() as traffic:
            cloudimg.open(url, storage_options=meter.storage_options, index_files=index_files)
        assert traffic.gets == 1
        assert all(r.key.endswith(".tif") for r in traffic.requests if r.kind == "get")


def test_where_nobody_has_looked_an_index_is_asked_for_once(meter: Meter, bucket: str) -> None:
    for field in (1, 2):
        meter.put(bucket, f"exp/plate_B02_T0001F00{field}L01A01Z01C01.tif", made.PLANE)
    pattern = f"s3://{bucket}/exp/plate_B02_T0001F{{field}}L01A01Z01C01.tif"
    with meter.measure() as traffic:
        image = cloudimg.open(pattern, storage_options=meter.storage_options)
    assert [r.key.rpartition("/")[2] for r in traffic.requests if r.status == 404] == [
        "MeasurementData.mlf"
    ]
    assert traffic.gets == 2
    assert not image.notes


def test_without_index_files_nothing_of_them_is_read(meter: Meter, bucket: str) -> None:
    small_plate(lambda key, data: meter.put(bucket, f"exp/{key}", data))
    with meter.measure() as traffic:
        image = cloudimg.open(
            f"s3://{bucket}/exp/", storage_options=meter.storage_options, index_files=False
        )
    assert [r.key for r in traffic.requests if r.kind == "get"] == [
        "exp/plate_B02_T0001F001L01A01Z01C01.tif"
    ]
    assert "stage_x" not in image.coords
    assert "channel_names" not in image.attrs


def test_a_long_index_is_read_in_pieces(
    meter: Meter, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = small_plate(lambda key, data: meter.put(bucket, f"exp/{key}", data))
    padding = b"<!-- " + b"x" * 2**19 + b" -->"
    long = made.mlf(records).replace(b"\n<bts:", padding * 20 + b"\n<bts:", 1)
    meter.put(bucket, "exp/MeasurementData.mlf", long)
    with meter.measure() as traffic:
        image = cloudimg.open(f"s3://{bucket}/exp/", storage_options=meter.storage_options)
    ranges = [r.range for r in traffic.requests if r.key.endswith(".mlf")]
    assert ranges == [(0, 8 * 2**20), (8 * 2**20, 16 * 2**20)]
    assert list(image.coords["stage_x"]) == [500, 1000]


# Stores and ways to open


def test_every_store_reads_the_index_that_its_folder_has(place: Place) -> None:
    small_plate(place.put)
    image = cloudimg.open(f"{place.url}/", storage_options=place.storage_options)
    assert image.shape[:4] == (2, 2, 2, 2)
    assert list(image.coords["stage_x"]) == [500, 1000]
    assert image.attrs["pixel_size"] == {"z": 1.5}
    restored = pickle.loads(pickle.dumps(image))
    assert list(restored.coords["stage_x"]) == [500, 1000]
    assert restored.attrs == image.attrs


def test_globs_and_parts_of_a_plate_take_what_is_theirs(tmp_path: Path) -> None:
    put = folder_put(tmp_path)
    small_plate(put)
    image = cloudimg.open(f"{tmp_path}/plate_B02_*.tif")
    assert image.shape[0] == 8
    assert sorted(set(image.coords["stage_x"])) == [500, 1000]
    assert "index-file-missing" not in kinds(image)
    image = cloudimg.open(f"{tmp_path}/plate_B02_T0001F{{field}}L01A01Z01C01.tif")
    assert list(image.coords["stage_x"]) == [500, 1000]
    assert "index-file-missing" not in kinds(image)  # other wells are not missing
    image = cloudimg.open(f"{tmp_path}/", exclude="*C02.tif")
    assert "index-file-missing" not in kinds(image)


def test_select_takes_a_part_of_what_the_index_says(tmp_path: Path) -> None:
    small_plate(folder_put(tmp_path))
    whole = cloudimg.open(f"{tmp_path}/")
    for image in (
        cloudimg.open(f"{tmp_path}/", select={"field": 2, "z": [2]}),
        whole.sel(field=2, z=[2]),
    ):
        assert image.coords["stage_x"] == 1000
        assert image.coords["stage_z"].ravel().tolist() == [1.5]
        assert "index-file-missing" not in kinds(image)


def test_select_reads_the_index_once_and_knows_its_channels(
    meter: Meter, bucket: str, cv8000: Path
) -> None:
    upload(meter, bucket, cv8000)
    with meter.measure() as traffic:
        image = cloudimg.open(
            f"s3://{bucket}/exp/", select={"c": [2]}, storage_options=meter.storage_options
        )
    assert image.attrs["channel_names"] == ["488"]
    assert image.coords["channel"] == ["488"]
    assert sum(r.key.endswith(".mlf") for r in traffic.requests if r.kind == "get") == 1


def test_the_command_line_can_leave_them_unread(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put = folder_put(tmp_path)
    for well, w in itertools.product(("A01", "A02"), (1, 2)):
        put(f"p_{well}_w{w}.TIF", made.PLANE)
    put("p.HTD", made.htd(["DAPI", "GFP"], wells=["A01", "A02"]))
    assert main(["info", f"{tmp_path}/"]) == 0
    assert "DAPI GFP" in capsys.readouterr().out
    assert main(["info", f"{tmp_path}/", "--no-index-files"]) == 0
    assert "DAPI" not in capsys.readouterr().out
    put("p.HTD", b"")
    assert main(["info", f"{tmp_path}/"]) == 0
    assert "p.HTD: this index file of the instrument is not used: it is" in capsys.readouterr().out


def folder_put(folder: Path) -> made.Put:
    def put(key: str, data: bytes) -> None:
        path = folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    return put


# The makers


@pytest.mark.parametrize("name", ["Index.idx.xml", "Index.xml"])
@pytest.mark.parametrize("with_maps", [True, False])
@pytest.mark.parametrize("by", ["folder", "pattern"])
def test_harmony(tmp_path: Path, name: str, with_maps: bool, by: str) -> None:
    images = list(itertools.product((2, 3), (3,), (1, 2, 3), (1, 2), (1, 2)))
    put = folder_put(tmp_path)
    for each in images:
        put(f"Images/{made.harmony_name(*each)}", made.PLANE)
    channels = {1: "HOECHST 33342", 2: "Alexa 488"}
    index = made.harmony_index(images, channels=channels, with_maps=with_maps)
    put(f"Images/{name}", index)
    pattern = "Images/r{row}c{col}f{field}p{z}-ch{c}sk1fk1fl1.tiff"
    image = cloudimg.open(f"{tmp_path}/{'' if by == 'folder' else pattern}")
    coords, dims = image.coords, image.coord_dims
    assert image.attrs["channel_names"] == list(channels.values())
    assert image.attrs["pixel_size"] == pytest.approx({"x": 0.29695, "y": 0.29695, "z": 1.0})
    assert image.attrs["magnification"] == 20
    np.testing.assert_allclose(coords["stage_x"], [100, 200, 300])
    np.testing.assert_allclose(coords["stage_y"], [-200, -400, -600])
    np.testing.assert_allclose(coords["stage_z"], [0, 1])
    np.testing.assert_allclose(coords["exposure_s"], [0.1, 0.2])
    assert dims["stage_x"] == ("field",)
    assert dims["stage_z"] == ("z",)
    assert dims["elapsed_s"] == ("field", "c")
    np.testing.assert_allclose(coords["elapsed_s"], [[11, 12], [21, 22], [31, 32]])
    assert coords["acquired"][0] == np.datetime64("2020-02-20T11:00:01.5")
    assert coords["well"].tolist() == ["B03", "C03"]  # there is one column only
    assert dims["well"] == ("row",)
    assert not [kind for kind in kinds(image) if kind.startswith("index-file")]


def test_micromanager_14_has_an_index_for_each_position(tmp_path: Path) -> None:
    put = folder_put(tmp_path)
    planes = list(itertools.product((0, 1), ("DAPI", "Cy5"), (0, 1, 2)))
    for position, (x, y) in enumerate([(10.5, 20.0), (-300.0, 20.0)]):
        for t, c, z in planes:
            put(f"Pos{position}/img_{t:09d}_{c}_{z:03d}.tif", made.PLANE)
        text = made.micromanager_14(planes, channels=["DAPI", "Cy5"], x=x, y=y)
        put(f"Pos{position}/metadata.txt", text)
    image = cloudimg.open(f"{tmp_path}/")
    assert image.shape[:4] == (2, 2, 2, 3)
    coords, dims = image.coords, image.coord_dims
    assert list(coords["stage_x"]) == [10.5, -300]
    assert dims["stage_x"] == ("position",)
    assert list(coords["stage_z"]) == [100, 102, 104]
    assert image.attrs["pixel_size"] == {"x": 0.65, "y": 0.65, "z": 2.0}
    assert image.attrs["time_step_s"] == 5
    assert dims["exposure_s"] == ("c",)
    np.testing.assert_allclose(coords["elapsed_s"], [[0, 0.01, 0.02], [5, 5.01, 5.02]])
    assert dims["elapsed_s"] == ("t", "z")
    assert coords["acquired"].min() == np.datetime64("2012-12-04T19:16:00")
    assert not [kind for kind in kinds(image) if kind.startswith("index-file")]


def test_an_index_in_one_folder_of_several_is_found(tmp_path: Path) -> None:
    put = folder_put(tmp_path)
    planes = list(itertools.product((0, 1), ("DAPI",), (0, 1)))
    for position in range(3):
        for t, c, z in planes:
            put(f"Pos{position}/img_{t:09d}_{c}_{z:03d}.tif", made.PLANE)
    put("Pos1/metadata.txt", made.micromanager_14(planes, channels=["DAPI"], x=10.5, y=20))
    image = cloudimg.open(f"{tmp_path}/")
    np.testing.assert_array_equal(image.coords["stage_x"], [np.nan, 10.5, np.nan])


def test_micromanager_2_names_its_channels(tmp_path: Path) -> None:
    put = folder_put(tmp_path)
    planes = list(itertools.product((0, 1), (0, 1), (0, 1, 2)))
    for position in (0, 1):
        for t, c, z in planes:
            put(
                f"Pos{position}/img_channel{c:03d}_position{position:03d}_time{t:09d}_z{z:03d}.tif",
                made.PLANE,
            )
        text = made.micromanager_2(position, planes, channels=["GFP", "mCherry"])
        put(f"Pos{position}/metadata.txt", text)
    image = cloudimg.open(f"{tmp_path}/")
    assert image.attrs["channel_names"] == ["GFP", "mCherry"]
    assert image.attrs["pixel_size"] == {"x": 0.1625, "y": 0.1625, "z": 0.5}
    assert list(image.coords["stage_x"]) == [0, 1000]
    assert image.coords["acquired"].min() == np.datetime64("2019-05-13T23:31:00.42")


def test_an_acquisition_that_was_stopped_has_the_planes_until_then(tmp_path: Path) -> None:
    put = folder_put(tmp_path)
    planes = list(itertools.product(range(4), ("DAPI",), (0, 1)))
    for t, c, z in planes:
        put(f"Pos0/img_{t:09d}_{c}_{z:03d}.tif", made.PLANE)
    text = made.micromanager_14(planes, channels=["DAPI"], x=1, y=2)
    put("Pos0/metadata.txt", text[: text.index(b'"FrameKey-3-0-0"') + 100])
    image = cloudimg.open(f"{tmp_path}/Pos0/img_{{t}}_DAPI_{{z}}.tif")
    assert image.coords["stage_z"][:3].tolist() == [[100, 102]] * 3
    assert np.isnan(image.coords["stage_z"][3]).all()
    assert "inside the metadata of a plane, after those of 6 planes" in note(image, "index-file")
    assert "does not name 2 of the 8 files" in note(image, "index-file-incomplete")


def test_a_long_metadata_txt_is_read_in_pieces(tmp_path: Path) -> None:
    put = folder_put(tmp_path)
    planes = list(itertools.product(range(4), ("DAPI",), (0, 1)))
    for t, c, z in planes:
        put(f"Pos0/img_{t:09d}_{c}_{z:03d}.tif", made.PLANE)
    content = json.loads(made.micromanager_14(planes, channels=["DAPI"], x=1, y=2))
    for name, value in content.items():
        if name.startswith("FrameKey"):
            value["Core"] = "\u00b5" * (3 * 2**20)
    put("Pos0/metadata.txt", json.dumps(content, ensure_ascii=False).encode())
    assert (tmp_path / "Pos0/metadata.txt").stat().st_size > 40 * 2**20
    image = cloudimg.open(f"{tmp_path}/Pos0/img_{{t}}_DAPI_{{z}}.tif")
    assert list(image.coords["stage_z"]) == [100, 102]
    np.testing.assert_allclose(image.coords["elapsed_s"][3], [15, 15.01])
    assert not image.notes


def test_plates_side_by_side_have_an_index_each(tmp_path: Path) -> None:
    put = folder_put(tmp_path)
    for number, names in ((1, ["DAPI", "GFP"]), (2, ["DAPI", "Cy5"])):
        for well, w in itertools.product(("A01", "A02"), (1, 2)):
            put(f"run{number}/p{number}_{well}_w{w}.TIF", made.PLANE)
        put(f"run{number}/p{number}.HTD", made.htd(names, wells=["A01", "A02"]))
    image = cloudimg.open(f"{tmp_path}/run{{plate}}/p{{plate}}_{{well:s}}_w{{c}}.TIF")
    assert image.coord_dims["channel"] == ("plate", "c")
    assert image.coords["channel"].tolist() == [["DAPI", "GFP"], ["DAPI", "Cy5"]]
    assert "channel_names" not in image.attrs  # they differ


# Channels that have fewer planes than others


def ragged_plate(folder: Path) -> str:
    """Two wells of two sites: the first channel has three planes, the others have one."""
    put = folder_put(folder)
    for z, well, site, w in itertools.product((0, 1, 2, 3), ("B02", "B03"), (1, 2), (1, 2, 3)):
        if w == 1 or z in (0, 1):
            put(f"TimePoint_1/ZStep_{z}/9987_{well}_s{site}_w{w}.TIF", made.PLANE)
    names = ["DAPI", "FITC", "Cy5"]
    put("9987.HTD", made.htd(names, wells=["B02", "B03"], n_sites=2, n_z=3))
    return f"{folder}/"


def test_channels_with_fewer_planes_are_holes_and_the_error_says_which(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = ragged_plate(tmp_path)
    with pytest.raises(MissingFilesError) as caught:
        cloudimg.open(url)
    assert "16 files of the grid are missing" in str(caught.value)
    assert "c=2 and c=3 have only z=1" in str(caught.value)
    assert 'pass missing="fill"' in str(caught.value)
    assert 'select={"c": 1} or select={"z": 1}' in str(caught.value)
    image = cloudimg.open(url, missing="fill", fill_value=9)
    assert image.shape == (2, 2, 3, 3, 64, 48)
    assert image.n_missing == 16
    assert "c=2 and c=3 have only z=1" in note(image, "ragged-axes")
    assert image.attrs["channel_names"] == ["DAPI", "FITC", "Cy5"]
    plane = tifffile.imread(next(iter(image.files)).url)
    for c, z in itertools.product(range(3), range(3)):
        expected = plane if c == 0 or z == 0 else np.full_like(plane, 9)
        np.testing.assert_array_equal(image.read((0, 0, c, z)), expected)
    for select in ({"c": 1}, {"z": 1}):
        assert cloudimg.open(url, select=select).n_missing == 0
    assert main(["info", url]) == 0
    shown = capsys.readouterr().out
    assert "16 files are missing" in shown
    assert "c=2 and c=3 have only z=1" in shown
    assert "DAPI FITC Cy5" in shown
    assert main(["info", url, "--missing", "raise"]) == 4
    assert "--select c=1 or --select z=1" in capsys.readouterr().err


def test_holes_that_two_axes_do_not_explain_are_named_as_they_are(tmp_path: Path) -> None:
    url = ragged_plate(tmp_path)
    (tmp_path / "TimePoint_1/ZStep_2/9987_B02_s1_w1.TIF").unlink()
    with pytest.raises(MissingFilesError) as caught:
        cloudimg.open(url)
    assert "have only" not in str(caught.value)
    assert "(z=2, well=B02, field=1, c=1)" in str(caught.value)
    assert "ragged-axes" not in kinds(cloudimg.open(url, missing="fill"))


# Copies


def test_a_copy_has_channels_sizes_and_positions_of_the_index(tmp_path: Path) -> None:
    put = folder_put(tmp_path / "plate")
    names = list(itertools.product((2, 3), (3,), (1, 2), (1, 2, 3), (1, 2)))
    for each in names:
        put(f"Images/{made.harmony_name(*each)}", made.PLANE)
    put("Images/Index.idx.xml", made.harmony_index(names, channels={1: "DAPI", 2: "GFP"}))
    out = tmp_path / "out.ome.zarr"
    for _ in range(2):  # the second time there is nothing left to do
        cloudimg.migrate(f"{tmp_path}/plate/", out)
    cloudimg.verify(out, against_source=True)
    groups = (json.loads(path.read_text()) for path in out.rglob("zarr.json"))
    image, *others = (
        group["attributes"]["ome"]
        for group in groups
        if "multiscales" in group["attributes"].get("ome", {})
    )
    assert len(others) == 4  # 2 wells of 2 fields, of which the root names the first as well
    assert [each["label"] for each in image["omero"]["channels"]] == ["DAPI", "GFP"]
    axes = [each["name"] for each in image["multiscales"][0]["axes"]]
    transformations = image["multiscales"][0]["datasets"][0]["coordinateTransformations"]
    scale = dict(zip(axes, transformations[0]["scale"], strict=True))
    assert scale["x"] == scale["y"] == pytest.approx(0.29695)
    assert scale["z"] == pytest.approx(1)
    (table,) = (pq.read_table(path) for path in out.glob(".cloudimg/files/*.parquet"))
    rows = {Path(row["key"]).name: row for row in table.to_pylist()}
    assert len(rows) == len(names)
    row = rows[made.harmony_name(3, 3, 2, 3, 1)]
    assert (row["stage_x"], row["stage_y"]) == (pytest.approx(200), pytest.approx(-400))
    assert (row["stage_z"], row["channel"], row["well"]) == (pytest.approx(2), "DAPI", "C03")
