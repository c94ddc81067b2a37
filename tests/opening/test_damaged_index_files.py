"""Index files that are damaged, hostile or lying do not keep an image from being opened."""

from __future__ import annotations

import itertools
import json
import random
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

import cloudimg
from cloudimg.errors import GridError
from tests.conftest import Place
from tests.support import index_files as made
from tests.support.metering import Meter

RECORDS = made.yokogawa_records(["B02"], 2, 1, 2)
WHOLE = made.mlf(RECORDS)
NAMES = [record["name"] for record in RECORDS]


def plate(folder: Path, index: bytes | None = WHOLE, name: str = "MeasurementData.mlf") -> str:
    for each in NAMES:
        (folder / each).write_bytes(made.PLANE)
    if index is not None:
        (folder / name).write_bytes(index)
    return f"{folder}/"


def with_htd(folder: Path, index: bytes) -> cloudimg.Image:
    """Two wells of two wavelengths beside an index file of MetaXpress."""
    for well, w in itertools.product(("A01", "A02"), (1, 2)):
        (folder / f"p_{well}_w{w}.TIF").write_bytes(made.PLANE)
    (folder / "p.HTD").write_bytes(index)
    return cloudimg.open(f"{folder}/")


def with_metadata_txt(folder: Path, index: bytes) -> cloudimg.Image:
    """Three planes beside an index file of Micro-Manager."""
    for t in range(3):
        (folder / f"img_{t:09d}_DAPI_000.tif").write_bytes(made.PLANE)
    (folder / "metadata.txt").write_bytes(index)
    return cloudimg.open(f"{folder}/")


def notes(image: Any, kind: str) -> list[str]:
    return [str(note) for note in image.notes if note.kind == kind]


def reason(url: str, **options: Any) -> str:
    """Why the index is not used; the image is as it would be without it."""
    image = cloudimg.open(url, **options)
    assert image.n_files == 4
    assert image.read((0, 0, 0, 0)) == 0
    assert "stage_x" not in image.coords
    assert "channel_names" not in image.attrs
    (text,) = notes(image, "index-file-unused")
    assert "this index file of the instrument is not used: " in text
    assert text.endswith("; index_files=False leaves index files unread")
    return text.partition("is not used: ")[2]


LAUGHS = (
    '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">'
    + "".join(f'<!ENTITY {chr(98 + i)} "{f"&{chr(97 + i)};" * 10}">' for i in range(1, 10))
    + "]>"
)


def with_laughs(encoding: str) -> bytes:
    text = f'<?xml version="1.0" encoding="{encoding}"?>{LAUGHS}<MeasurementData>&k;'
    return f"{text}</MeasurementData>".encode(encoding)


OPEN = b"<MeasurementData>"
DAMAGED = {
    "billion laughs": (with_laughs("utf-8"), "document type (DTD) is not read"),
    "billion laughs in UTF-16": (with_laughs("utf-16"), "document type (DTD) is not read"),
    "external entity": (
        b'<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><MeasurementData>&a;'
        b"</MeasurementData>",
        "document type (DTD) is not read",
    ),
    "truncated": (WHOLE[: len(WHOLE) // 2], "not well-formed XML"),
    "encoding": (b'<?xml version="1.0" encoding="utf-0"?><a/>', "unknown encoding: utf-0"),
    "codec": (b'<?xml version="1.0" encoding="zlib"?><a/>', "zlib"),
    "empty": (b"", "not well-formed XML"),
    "not XML": (b"\0" * 4096, "not well-formed XML"),
    "a page": (b"<html><body>404</body></html>", "its first element is html"),
    "deep": (OPEN + b"<a>" * 10**6, "nested more than 100 deep"),
    "a long tag": (OPEN + b'<a x="' + b"y" * 2**22, "longer than those of index files"),
    "a long text": (OPEN + b"<a>" + b"y" * 2**23 + b"</a>", "longer than those of index files"),
    "many names": (
        OPEN + b"".join(b"<a%d/>" % i for i in range(300_000)),
        "longer than those of index files",
    ),
}


@pytest.mark.parametrize("what", DAMAGED)
def test_what_cannot_be_used_is_a_note_with_the_reason(tmp_path: Path, what: str) -> None:
    index, why = DAMAGED[what]
    url = plate(tmp_path, index)
    cloudimg.open(url, index_files=False)  # what is imported is not measured
    tracemalloc.start()
    try:
        text = reason(url)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert why in text
    assert "MeasurementData.mlf" in str(cloudimg.open(url).notes[0])
    assert peak < 100 * 2**20


def test_a_gigabyte_is_refused_with_both_numbers(tmp_path: Path) -> None:
    url = plate(tmp_path, None)
    with (tmp_path / "MeasurementData.mlf").open("wb") as file:
        file.truncate(2**30)
    tracemalloc.start()
    try:
        text = reason(url)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert "1073741824 bytes" in text
    assert "536870912 bytes" in text
    assert peak < 100 * 2**20


@pytest.mark.slow
def test_a_long_index_takes_no_more_memory_than_its_pieces(tmp_path: Path) -> None:
    """16 MB of records of other wells."""
    other = made.mlf(made.yokogawa_records(["C02"], 300, 60, 4))
    body = other[other.index(b"<bts:MeasurementRecord") : other.index(b"</bts:MeasurementData>")]
    head, tail = WHOLE[: WHOLE.index(b"<bts:MeasurementRecord")], WHOLE[len(WHOLE) - 22 :]
    own = WHOLE[len(head) : WHOLE.index(b"</bts:MeasurementData>")]
    url = plate(tmp_path, head + body + own + tail)
    assert (tmp_path / "MeasurementData.mlf").stat().st_size > 16 * 2**20
    tracemalloc.start()
    try:
        image = cloudimg.open(f"{url}plate_B02_T0001F{{field}}L01A{{c}}Z01C{{c}}.tif")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert list(image.coords["stage_x"]) == [500, 1000]
    assert not image.notes
    assert peak < 48 * 2**20


HARMONY = list(itertools.product((2,), (3,), (1, 2), (1,), (1, 2)))


def harmony(folder: Path, index: bytes, images: Any = HARMONY) -> str:
    for each in images:
        (folder / made.harmony_name(*each)).write_bytes(made.PLANE)
    (folder / "Index.idx.xml").write_bytes(index)
    return f"{folder}/"


def test_files_that_are_named_and_not_there_are_counted(tmp_path: Path) -> None:
    more = list(itertools.product((2,), (3,), (1, 2, 3, 4), (1, 2), (1, 2)))
    index = made.harmony_index(more, channels={1: "a", 2: "b"})
    image = cloudimg.open(harmony(tmp_path, index))
    (text,) = notes(image, "index-file-missing")
    assert "Index.idx.xml names 4 files that are not there" in text
    # Of these fields there is no file of any kind, so that the pattern does not tell them apart.
    assert image.coords["stage_x"].tolist() == [100, 200]


def test_files_that_the_index_does_not_name_have_no_position(tmp_path: Path) -> None:
    index = made.harmony_index(HARMONY[:2], channels={1: "a", 2: "b"})
    image = cloudimg.open(harmony(tmp_path, index))
    (text,) = notes(image, "index-file-incomplete")
    assert "does not name 2 of the 4 files" in text
    np.testing.assert_array_equal(image.coords["stage_x"], [100, np.nan])


@pytest.mark.parametrize("distance_m", [0.0, 1e-8])
def test_positions_at_which_fields_lie_on_each_other_are_not_used(
    tmp_path: Path, distance_m: float
) -> None:
    index = made.harmony_index(
        HARMONY,
        channels={1: "DAPI", 2: "GFP"},
        position=lambda field: (0.001 + field * distance_m, 0.002),
    )
    image = cloudimg.open(harmony(tmp_path, index))
    (text,) = notes(image, "index-file-positions")
    assert "its stage positions are not used: (" in text
    assert "field=1" in text
    assert "field=2" in text
    assert "stage_x" not in image.coords
    assert "stage_y" not in image.coords
    assert image.attrs["channel_names"] == ["DAPI", "GFP"]  # the rest is


def test_placing_fields_by_positions_that_are_not_used_says_why(tmp_path: Path) -> None:
    index = made.harmony_index(
        HARMONY, channels={1: "DAPI", 2: "GFP"}, position=lambda field: (0.001, 0.002)
    )
    url = harmony(tmp_path, index)
    with pytest.raises(GridError) as caught:
        cloudimg.open(url, place="stage")
    assert "needs the position of the stage at each field" in str(caught.value)
    assert "Index.idx.xml: its stage positions are not used: (" in str(caught.value)
    assert cloudimg.open(url, place="stack").shape[:2] == (2, 2)


def test_planes_times_channels_and_wells_may_be_at_one_place(tmp_path: Path) -> None:
    images = list(itertools.product((2, 3), (3, 4), (1,), (1, 2), (1, 2)))
    index = made.harmony_index(images, channels={1: "DAPI", 2: "GFP"})
    image = cloudimg.open(harmony(tmp_path, index, images))
    assert not notes(image, "index-file-positions")
    assert image.coords["stage_x"] == 100


def test_a_file_named_twice_has_what_was_said_last(tmp_path: Path) -> None:
    again = [{**RECORDS[0], "X": 7.0}]
    image = cloudimg.open(plate(tmp_path, made.mlf([*RECORDS, *again])))
    assert image.coords["stage_x"].ravel()[0] == 7.0


@pytest.mark.parametrize(
    "changed",
    [
        {"X": "nan", "Y": "inf", "Z": "1e999", "Time": "yesterday", "Row": "-1", "Column": "x"},
        {"X": "1e400", "Time": "9999-12-31T23:59:59-12:00", "Row": "9" * 5000, "Ch": "\u0661"},
        {"Time": "0001-01-01T00:00:00+14:00", "Row": "1e308", "Column": "0"},
    ],
)
def test_values_that_are_not_values_are_left_out(tmp_path: Path, changed: dict[str, str]) -> None:
    records = [{**record, **changed} for record in RECORDS]
    image = cloudimg.open(plate(tmp_path, made.mlf(records)))
    assert image.n_files == 4
    assert not notes(image, "index-file-unused")
    for name, values in image.coords.items():
        if values.dtype.kind == "f":
            assert np.isfinite(values).all(), name
    assert "well" not in image.coords or image.coords["well"].tolist() in ("B02", ["B02"])


def test_names_that_leave_the_folder_are_of_other_files(tmp_path: Path) -> None:
    names = ["../../etc/passwd", "/etc/passwd", "http://x/y.tif", "", "x" * 10**5]
    records = [{**RECORDS[0], "name": name} for name in names]
    image = cloudimg.open(plate(tmp_path, made.mlf([*RECORDS, *records])))
    assert not image.notes
    assert image.coords["stage_x"].tolist() == [500, 1000]


def test_settings_are_read_from_the_folder_of_the_index_only(meter: Meter, bucket: str) -> None:
    for each in NAMES:
        meter.put(bucket, f"exp/{each}", made.PLANE)
    meter.put(bucket, "exp/MeasurementData.mlf", WHOLE)
    for name in ("../secret.mes", "a/b.mes", "other.txt", ""):
        detail = f'<MeasurementDetail MeasurementSettingFileName="{name}"/>'
        meter.put(bucket, "exp/MeasurementDetail.mrf", detail.encode())
        with meter.measure() as traffic:
            image = cloudimg.open(f"s3://{bucket}/exp/", storage_options=meter.storage_options)
        assert {r.key for r in traffic.requests if r.kind == "get"} == {
            f"exp/{NAMES[0]}",
            "exp/MeasurementData.mlf",
            "exp/MeasurementDetail.mrf",
        }
        assert list(image.coords["stage_x"]) == [500, 1000]


def test_a_damaged_mrf_leaves_positions(tmp_path: Path) -> None:
    url = plate(tmp_path)
    (tmp_path / "MeasurementDetail.mrf").write_bytes(with_laughs("utf-8"))
    image = cloudimg.open(url)
    assert list(image.coords["stage_x"]) == [500, 1000]
    (text,) = notes(image, "index-file")
    assert "MeasurementDetail.mrf, which names channels and sizes, is not used: XML with a" in text


@pytest.mark.parametrize(
    ("index", "why"),
    [
        (b"", "it is empty"),
        (b"<html></html>", 'does not begin with "HTSInfoFile"'),
        (b"\xff" * 5 * 2**20, "more than the 4194304 bytes"),
        (b'"HTSInfoFile", Version 1.0\r\n"x", "' + b"y" * 2**18, "comma-separated"),
    ],
)
def test_a_damaged_htd_is_not_used(tmp_path: Path, index: bytes, why: str) -> None:
    image = with_htd(tmp_path, index)
    (text,) = notes(image, "index-file-unused")
    assert why in text
    assert image.n_files == 4


def test_an_htd_may_say_anything(tmp_path: Path) -> None:
    huge = b'"NWavelengths", 999999999\r\n"TimePoints", 1e9\r\n"ZSeries", TRUE\r\n"ZSteps", -4'
    wells = b'\r\n"WellsSelection99", TRUE\r\n"WellsSelection1", ' + b"TRUE," * 1000
    image = with_htd(tmp_path, b'"HTSInfoFile", Version 1.0\r\n' + huge + wells)
    assert image.n_files == 4
    assert "channel_names" not in image.attrs


@pytest.mark.parametrize(
    ("index", "why"),
    [
        (b"just notes of mine", "it is not a JSON object"),
        (b"[1, 2]", "it is not a JSON object"),
        (b"{}", "neither a Summary nor planes"),
        (b'{"Summary": ' + b"[" * 10**5, "not the JSON of Micro-Manager"),
        (b'{"Summary": ' + b"1" * 10**5, "not the JSON of Micro-Manager"),
        (b'{"Summary"', "not the JSON of Micro-Manager"),
        (b'{"a": 1', "not the JSON of Micro-Manager"),
    ],
)
def test_a_damaged_metadata_txt_is_not_used(tmp_path: Path, index: bytes, why: str) -> None:
    image = with_metadata_txt(tmp_path, index)
    (text,) = notes(image, "index-file-unused")
    assert why in text
    assert image.n_files == 3


def test_a_summary_of_other_types_says_nothing(tmp_path: Path) -> None:
    planes = {
        f"FrameKey-{t}-0-0": {
            "FileName": f"img_{t:09d}_DAPI_000.tif",
            "Channel": [1],
            "XPositionUm": {"a": 1},
            "YPositionUm": True,
            "ZPositionUm": "1e999",
            "PixelSizeUm": -1,
            "Time": 17,
        }
        for t in range(3)
    }
    summary = {"ChNames": 7, "z-step_um": [], "Interval_ms": "x", "PixelSize_um": None}
    image = with_metadata_txt(tmp_path, json.dumps({"Summary": summary, **planes}).encode())
    assert image.n_files == 3
    assert set(image.coords) <= {"t", "stage_unit"}
    assert "pixel_size" not in image.attrs


def test_a_file_that_is_called_metadata_txt_beside_other_images_is_not_read(
    meter: Meter, bucket: str
) -> None:
    for z in range(3):
        meter.put(bucket, f"exp/x_{z}.tif", made.PLANE)
    meter.put(bucket, "exp/metadata.txt", b"my notes")
    with meter.measure() as traffic:
        image = cloudimg.open(f"s3://{bucket}/exp/*.tif", storage_options=meter.storage_options)
    assert [r.key for r in traffic.requests if r.kind == "get"] == ["exp/x_0.tif"]
    assert not image.notes


# Stores that fail


@pytest.mark.parametrize("status", [403, 404, 500])
def test_an_index_that_the_store_does_not_give(
    meter: Meter, bucket: str, status: int, set_variable: Any
) -> None:
    set_variable("CLOUDIMG_ATTEMPTS", "2")
    for each in NAMES:
        meter.put(bucket, f"exp/{each}", made.PLANE)
    meter.put(bucket, "exp/MeasurementData.mlf", WHOLE)
    meter.faults([{"match": r"GET .*\.mlf", "kind": "status", "status": status}])
    options = meter.storage_options
    text = reason(f"s3://{bucket}/exp/", storage_options=options)
    assert "MeasurementData.mlf" in text
    pattern = f"s3://{bucket}/exp/plate_B02_T0001F{{field}}L01A{{c}}Z01C{{c}}.tif"
    image = cloudimg.open(pattern, storage_options=options)
    # Where nobody has seen it, it may just not be there.
    assert len(notes(image, "index-file-unused")) == (status == 500)


def test_an_empty_index_is_a_note_on_every_store(place: Place) -> None:
    if place.name == "gs":
        pytest.skip("the emulator of Google Cloud Storage stores no empty object")
    for each in NAMES:
        place.put(each, made.PLANE)
    place.put("MeasurementData.mlf", b"")
    text = reason(f"{place.url}/", storage_options=place.storage_options)
    assert text.startswith("it is not well-formed XML: no element found")


def test_a_plate_in_very_many_folders_is_opened_without_index_files(tmp_path: Path) -> None:
    for position in range(1001):
        folder = tmp_path / f"Pos{position}"
        folder.mkdir()
        (folder / "img_000000000_DAPI_000.tif").write_bytes(made.PLANE)
        (folder / "metadata.txt").write_bytes(b"{}")
    image = cloudimg.open(f"{tmp_path}/Pos{{position}}/img_{{t:09d}}_DAPI_000.tif")
    (text,) = notes(image, "index-file-unused")
    assert "1001 folders, and index files of at most 1000 are read" in text


# What headers say counts


def test_a_size_in_the_header_counts_and_a_note_says_that_they_differ(tmp_path: Path) -> None:
    index = made.harmony_index(HARMONY, channels={1: "DAPI", 2: "GFP"})
    url = harmony(tmp_path, index)
    for each in HARMONY:
        tifffile.imwrite(
            tmp_path / made.harmony_name(*each),
            np.zeros((64, 48), np.uint16),
            imagej=True,
            resolution=(2, 2),
            metadata={"unit": "um"},
        )
    image = cloudimg.open(url)
    assert image.attrs["pixel_size"] == {"x": 0.5, "y": 0.5}
    (text,) = notes(image, "index-file-differs")
    assert "Index.idx.xml: it says that pixels are 0.29695 µm along x, not 0.5" in text
    assert "r02c03f01p01-ch1sk1fk1fl1.tiff, which is used" in text


# Damage of any kind

INSERTED = (b"1e999", b"-1", b"nan", b'"', b"<", b">", b"&amp;", b"9" * 30, b"null", b"[", b"{",
            b"\xff\xfe", b"../")  # fmt: skip


def damaged(data: bytes, rng: random.Random) -> bytes:
    """The bytes with a few changes of any kind."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 5, 20))):
        at = rng.randrange(len(changed) + 1)
        kind = rng.randrange(6)
        if kind == 0:
            changed[at : at + 1] = bytes([rng.randrange(256)])
        elif kind == 1:
            del changed[at : at + rng.randrange(1, 50)]
        elif kind == 2:
            start = rng.randrange(len(changed) + 1)
            changed[at:at] = changed[start : start + rng.randrange(200)]
        elif kind == 3:
            del changed[at:]
        elif kind == 4:
            changed[at:at] = rng.choice(INSERTED)
        else:
            digits = [i for i, byte in enumerate(changed) if 48 <= byte < 58] or [0]
            at = rng.choice(digits)
            changed[at : at + 1] = rng.choice(b"0123456789eE-.").to_bytes(1)
    return bytes(changed)


def small_mlf(folder: Path) -> tuple[str, bytes]:
    plate(folder, None)
    return "MeasurementData.mlf", WHOLE


def small_harmony(folder: Path) -> tuple[str, bytes]:
    index = made.harmony_index(HARMONY, channels={1: "DAPI", 2: "GFP"})
    harmony(folder, index)
    return "Index.idx.xml", index


def small_htd(folder: Path) -> tuple[str, bytes]:
    for well, w in itertools.product(("A01", "A02"), (1, 2)):
        (folder / f"p_{well}_w{w}.TIF").write_bytes(made.PLANE)
    return "p.HTD", made.htd(["DAPI", "GFP"], wells=["A01", "A02"])


def small_metadata(folder: Path) -> tuple[str, bytes]:
    planes = list(itertools.product((0, 1), ("DAPI", "Cy5"), (0,)))
    for t, c, z in planes:
        (folder / f"img_{t:09d}_{c}_{z:03d}.tif").write_bytes(made.PLANE)
    return "metadata.txt", made.micromanager_14(planes, channels=["DAPI", "Cy5"], x=1, y=2)


@pytest.mark.slow
@pytest.mark.parametrize("make", [small_mlf, small_harmony, small_htd, small_metadata])
def test_an_image_opens_however_its_index_is_damaged(tmp_path: Path, make: Any) -> None:
    name, whole = make(tmp_path)
    rng = random.Random(7)
    n_noted = 0
    for _ in range(100):
        (tmp_path / name).write_bytes(damaged(whole, rng))
        image = cloudimg.open(f"{tmp_path}/")
        assert image.n_files == 4
        assert all(np.size(values) for values in image.coords.values())
        n_noted += bool(image.notes)
    assert n_noted > 5
