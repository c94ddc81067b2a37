"""OME-XML of copies: made for exactly their images, and that of the source beside it, unchanged."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import tifffile
import zarr

import cloudimg
from cloudimg.migration.journal.layout import END_MARK
from tests.support import seed

NAMESPACE = "{http://www.openmicroscopy.org/Schemas/OME/2016-06}"
METADATA = "OME/METADATA.ome.xml"
BOTH = pytest.mark.parametrize("zarr_format", [3, 2])

# https://www.openmicroscopy.org/Schemas/OME/2016-06/ome.xsd: the elements in their order, and
# attributes with their types; the required ones are marked.
CHILDREN = {
    "OME": ("Plate", "Image"),
    "Plate": ("Well", "PlateAcquisition"),
    "Well": ("WellSample",),
    "WellSample": ("ImageRef",),
    "PlateAcquisition": ("WellSampleRef",),
    "Image": ("AcquisitionDate", "Pixels"),
    "Pixels": ("Channel", "MetadataOnly", "Plane"),
}
COUNT, INDEX, FLOAT, NAME = r"[1-9]\d*", r"\d+", r"-?\d+(\.\d+)?(e-?\d+)?", r"[^\x00-\x08]*"
LENGTH, TIME = "Å|pm|nm|µm|mm|cm|m|km|in|ft", "ns|µs|ms|s|min|h|d"
TYPES = "bit|u?int(8|16|32)|float|double|complex|double-complex"
ATTRIBUTES: dict[str, dict[str, str]] = {
    "OME": {"Creator": NAME},
    "Plate": {"ID*": r"Plate:\S+", "Name": NAME, "ColumnNamingConvention": "letter|number",
              "RowNamingConvention": "letter|number"},
    "Well": {"ID*": r"Well:\S+", "Row*": INDEX, "Column*": INDEX},
    "WellSample": {"ID*": r"WellSample:\S+", "Index*": INDEX},
    "ImageRef": {"ID*": r"Image:\S+"},
    "PlateAcquisition": {"ID*": r"PlateAcquisition:\S+", "MaximumFieldCount": COUNT},
    "WellSampleRef": {"ID*": r"WellSample:\S+"},
    "Image": {"ID*": r"Image:\S+", "Name": NAME},
    "AcquisitionDate": {},
    "Pixels": {"ID*": r"Pixels:\S+", "DimensionOrder*": "XYZCT", "Type*": TYPES,
               "SignificantBits": COUNT, "BigEndian": "true|false",
               **{f"Size{letter}*": COUNT for letter in "XYZCT"},
               **{f"PhysicalSize{letter}": FLOAT for letter in "XYZ"},
               **{f"PhysicalSize{letter}Unit": LENGTH for letter in "XYZ"},
               "TimeIncrement": FLOAT, "TimeIncrementUnit": TIME},
    "Channel": {"ID*": r"Channel:\S+", "Name": NAME, "Color": r"-?\d+", "SamplesPerPixel": COUNT},
    "MetadataOnly": {},
    "Plane": {"TheZ*": INDEX, "TheT*": INDEX, "TheC*": INDEX,
              **{f"Position{letter}": FLOAT for letter in "XYZ"},
              **{f"Position{letter}Unit": LENGTH for letter in "XYZ"}},
}  # fmt: skip


def described(out: Path) -> Any:
    """Root of the OME-XML of a copy, which has the structure of the schema."""
    root = ElementTree.fromstring((out / METADATA).read_bytes())
    assert all(each.tag.startswith(NAMESPACE) for each in root.iter())
    for each in root.iter():
        each.tag = each.tag.removeprefix(NAMESPACE)
    for element in root.iter():
        names = [child.tag for child in element]
        order = CHILDREN.get(element.tag, ())
        assert names == sorted(names, key=order.index)
        known = ATTRIBUTES[element.tag]
        required = {name[:-1] for name in known if name.endswith("*")}
        assert required <= element.attrib.keys() <= {name.rstrip("*") for name in known}
        for name, value in element.attrib.items():
            pattern = known.get(name) or known[f"{name}*"]
            assert re.fullmatch(pattern, value), (element.tag, name, value)
    assert all([e.tag for e in pixels].count("MetadataOnly") == 1 for pixels in root.iter("Pixels"))
    assert_agrees(root, out)
    return root


def ome_of(group: Any, zarr_format: int) -> Any:
    attributes = dict(group.attrs)
    return attributes.get("ome", {}) if zarr_format == 3 else attributes


def assert_agrees(root: Any, out: Path) -> None:
    """The OME-XML says of each image what the image's own metadata says."""
    group = zarr.open_group(str(out), mode="r")
    version = group.metadata.zarr_format
    paths = ome_of(group["OME"], version).get("series", [""])
    assert [image.get("ID") for image in root.iter("Image")] == [
        f"Image:{i}" for i in range(len(paths))
    ]
    for path, image in zip(paths, root.iter("Image"), strict=True):
        own: Any = group[path] if path else group
        ome = ome_of(own, version)
        (multiscale,) = ome["multiscales"]
        assert image.get("Name") == multiscale["name"]
        (pixels,) = image.iter("Pixels")
        sizes = dict(zip((a["name"] for a in multiscale["axes"]), own["0"].shape, strict=True))
        assert {dim: int(pixels.get(f"Size{dim.upper()}")) for dim in "tczyx"} == {
            dim: sizes.get(dim, 1) for dim in "tczyx"
        }
        channels = list(pixels.iter("Channel"))
        assert len(channels) == int(pixels.get("SizeC"))
        for shown, channel in zip(ome["omero"]["channels"], channels, strict=True):
            assert channel.get("Name") == shown["label"]
            assert int(channel.get("Color")) % 2**32 == int(shown["color"] + "FF", 16)
        for axis, scale in zip(
            multiscale["axes"],
            multiscale["datasets"][0]["coordinateTransformations"][0]["scale"],
            strict=True,
        ):
            if axis["type"] == "space" and axis.get("unit") == "micrometer":
                assert pixels.get(f"PhysicalSize{axis['name'].upper()}Unit") == "µm"
                assert float(pixels.get(f"PhysicalSize{axis['name'].upper()}")) == scale


def sources_of(out: Path) -> dict[str, bytes]:
    """By name of a source's file, the OME-XML that the copy keeps of it."""
    group = zarr.open_group(str(out), mode="r")["OME"]
    index: Any = group.attrs["cloudimg"]
    names = {path.name for path in (out / "OME/source").iterdir()}
    assert names == set(index["source"])
    return {
        key.rpartition("/")[2]: (out / "OME/source" / name).read_bytes()
        for name, keys in index["source"].items()
        for key in keys
    }


def text_of(path: Path) -> bytes:
    """The first ImageDescription of a TIFF, as it is stored."""
    with tifffile.TiffFile(path) as tiff:
        tag = tiff.pages.first.tags["ImageDescription"]
        tiff.filehandle.seek(tag.valueoffset)
        return bytes(tiff.filehandle.read(tag.valuebytecount)).rstrip(b"\0")


def write(folder: Path, *names: str, **more: Any) -> Path:
    """OME-TIFFs of two channels, each with another UUID and position."""
    folder.mkdir()
    for i, name in enumerate(names):
        plane = {"PositionX": [100.0 * i] * 2, "PositionY": [-7.5] * 2}
        units = {"PositionXUnit": ["µm"] * 2, "PositionYUnit": ["mm"] * 2}
        metadata = {
            "axes": "CYX", "PhysicalSizeX": 0.5, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": 0.5,
            "PhysicalSizeYUnit": "µm", "Channel": {"Name": ["DAPI", "G & <F>P"]},
            "Plane": {**plane, **units}, **more,
        }  # fmt: skip
        pixels = np.full((2, 24, 32), i, np.uint16)
        (folder / name).write_bytes(seed.encode(pixels, ome=True, metadata=metadata))
    return folder


# ----------------------------------------------------------------------------- collections


@BOTH
def test_all_images_of_a_collection(tmp_path: Path, zarr_format: Any) -> None:
    names = [f"b{b}_{s}_z{z}.ome.tif" for b in range(2) for s in "uv" for z in range(2)]
    folder, out = write(tmp_path / "in", *names), tmp_path / "copy.zarr"
    pattern = f"{folder}/b{{batch}}_{{sample:s}}_z{{z}}.ome.tif"
    done = cloudimg.migrate(pattern, out, zarr_format=zarr_format, levels=1, validate="all")
    assert not done.notes
    root = described(out)
    images = list(root.iter("Image"))
    assert ["batch=1, sample=u" in image.get("Name") for image in images] == [0, 0, 1, 0]
    assert [pixels.get("SizeZ") for pixels in root.iter("Pixels")] == ["2"] * 4
    planes = [plane.attrib for plane in root.iter("Plane")]
    assert [plane["PositionX"] for plane in planes] == ["0.0", "200.0", "400.0", "600.0"]
    assert {(plane["PositionY"], plane["PositionYUnit"]) for plane in planes} == {("-7500.0", "µm")}
    assert sources_of(out) == {name: text_of(folder / name) for name in names}
    assert cloudimg.verify(out, against_source=True)
    again = cloudimg.migrate(pattern, out, zarr_format=zarr_format, levels=1, validate="all")
    assert (again.n_objects, again.edits) == (0, ())

    # From the commit records, with the bytes that they had.
    before = {path: path.read_bytes() for path in (out / "OME").rglob("*") if path.is_file()}
    for path in before:
        path.unlink()
    assert len(cloudimg.verify(out).problems) == len(before)
    assert cloudimg.repair(out)
    assert {path: path.read_bytes() for path in before} == before


def test_the_wells_of_a_plate(tmp_path: Path) -> None:
    wells, out = ("C03", "B11", "AA1"), tmp_path / "copy.zarr"
    names = [f"{w}_f{f}_r{r}.ome.tif" for w in wells for f in range(2) for r in range(2)]
    folder = write(tmp_path / "in", *names)
    cloudimg.migrate(f"{folder}/{{well:s}}_f{{field}}_r{{round}}.ome.tif", out, levels=1)
    root = described(out)
    name_of = {image.get("ID"): image.get("Name") for image in root.iter("Image")}
    found = {
        (well.get("Row"), well.get("Column")): [name_of[r.get("ID")] for r in well.iter("ImageRef")]
        for well in root.iter("Well")
    }
    places = {("2", "2"): "C03", ("1", "10"): "B11", ("26", "0"): "AA1"}
    assert found.keys() == places.keys()
    for place, well in places.items():
        assert [f"well={well}," in name for name in found[place]] == [True] * 4
    runs = [[ref.get("ID") for ref in run] for run in root.iter("PlateAcquisition")]
    samples = {sample.get("ID"): name_of[sample[0].get("ID")] for sample in root.iter("WellSample")}
    assert [{samples[each][-1] for each in run} for run in runs] == [{"0"}, {"1"}]
    assert cloudimg.verify(out)


@pytest.mark.parametrize(("dtype", "has_type"), [("?", True), ("i8", False), ("f2", False)])
def test_pixels_of_types_that_ome_xml_lacks(tmp_path: Path, dtype: str, has_type: bool) -> None:
    out = tmp_path / "copy.zarr"
    cloudimg.to_zarr(np.zeros((2, 2, 24, 32), dtype), out, dims=("a", "b", "y", "x"))
    assert (out / METADATA).exists() == has_type
    assert zarr.open_group(str(out), mode="r")["OME"].attrs["ome"]["series"] == list("0123")
    if has_type:
        assert {pixels.get("Type") for pixels in described(out).iter("Pixels")} == {"bit"}
    assert cloudimg.verify(out)


# ----------------------------------------------------------------------------- single images


@BOTH
def test_a_single_image_has_one_if_its_source_has(tmp_path: Path, zarr_format: Any) -> None:
    more = {"AcquisitionDate": "2024-05-01T10:00:00", "SignificantBits": 12}
    folder = write(tmp_path / "in", "a.ome.tif", **more)
    seed_file = tmp_path / "plain.tif"
    seed_file.write_bytes(seed.encode(np.zeros((24, 32), np.uint16)))
    out, plain = tmp_path / "copy.zarr", tmp_path / "plain.zarr"
    planned = cloudimg.dry_run(folder / "a.ome.tif", zarr_format=zarr_format, levels=1)
    cloudimg.migrate(folder / "a.ome.tif", out, zarr_format=zarr_format, levels=1)
    cloudimg.migrate(seed_file, plain, zarr_format=zarr_format, levels=1)
    assert not (plain / "OME").exists()
    (image,) = described(out).iter("Image")
    assert image[0].text == "2024-05-01T10:00:00"
    assert sources_of(out) == {"a.ome.tif": text_of(folder / "a.ome.tif")}
    documents = [p for p in out.rglob("*") if p.suffix == ".xml" or p.name in DOCUMENTS]
    assert len(documents) == planned.metadata_objects


DOCUMENTS = ("zarr.json", ".zarray", ".zattrs", ".zgroup")


def test_text_that_is_not_xml_is_kept_as_it_was(tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "copy.zarr"
    folder.mkdir()
    texts = [
        '<?xml version="1.0" encoding="latin-1"?><OME><Image Name="µ"/></OME>'.encode("latin-1"),
        b"<OME xmlns='http://www.openmicroscopy.org/Schemas/OME/2016-06'><Image>cut off",
    ]
    for z, text in enumerate([*texts, texts[0]]):
        data = seed.encode(np.full((24, 32), z, np.uint8), description=text, metadata=None)
        (folder / f"z{z}.tif").write_bytes(data)
    cloudimg.migrate(f"{folder}/z{{z}}.tif", out, levels=1)
    kept = {path.name: path.read_bytes() for path in (out / "OME/source").iterdir()}
    assert kept == {"0.ome.xml": texts[0], "1.ome.xml": texts[1]}  # each once
    assert sources_of(out) == {"z0.tif": texts[0], "z1.tif": texts[1], "z2.tif": texts[0]}
    assert [pixels.get("SizeZ") for pixels in described(out).iter("Pixels")] == ["3"]
    assert cloudimg.verify(out, against_source=True)


def test_a_companion_file(tmp_path: Path) -> None:
    """Its text is in none of the files with pixels."""
    uuid = "urn:uuid:00000000-0000-0000-0000-00000000000"
    start = '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="'
    pointer = f'<BinaryOnly MetadataFile="set.companion.ome" UUID="{uuid}9"/></OME>'
    for z in range(2):
        description = f'{start}{uuid}{z}">{pointer}'
        data = seed.encode(np.full((24, 32), z, np.uint8), description=description, metadata=None)
        (tmp_path / f"z{z}.ome.tif").write_bytes(data)
    planes = "".join(
        f'<TiffData FirstZ="{z}" PlaneCount="1"><UUID FileName="z{z}.ome.tif">{uuid}{z}</UUID>'
        "</TiffData>"
        for z in range(2)
    )
    companion = (
        f'{start}{uuid}9"><Image ID="Image:0" Name="the µ set"><Pixels ID="Pixels:0" Type="uint8"'
        ' DimensionOrder="XYZCT" SizeX="32" SizeY="24" SizeZ="2" SizeC="1" SizeT="1">'
        f'<Channel ID="Channel:0:0" Name="EGFP" SamplesPerPixel="1"/>{planes}</Pixels></Image>'
        "</OME>"
    )
    (tmp_path / "set.companion.ome").write_text(companion, "utf-8")
    out = tmp_path / "copy.zarr"
    cloudimg.migrate(tmp_path / "z0.ome.tif", out, levels=1)
    found = sources_of(out)
    assert found["set.companion.ome"].decode() == companion
    assert (out / "OME/source/0.ome.xml").read_text("utf-8") == companion
    assert found["z1.ome.tif"] == text_of(tmp_path / "z1.ome.tif")
    (channel,) = described(out).iter("Channel")
    assert channel.get("Name") == "EGFP"
    assert cloudimg.verify(out, against_source=True)


# ----------------------------------------------------------------------------- edits, bounds


def test_edits_are_kept_and_originals_are_mended(tmp_path: Path) -> None:
    folder, out = write(tmp_path / "in", "a.ome.tif"), tmp_path / "copy.zarr"
    cloudimg.migrate(folder / "a.ome.tif", out, levels=1)
    made, source = out / METADATA, out / "OME/source/0.ome.xml"
    edited = made.read_text("utf-8").replace("DAPI", "Hoechst")
    original = source.read_bytes()
    made.write_text(edited, "utf-8")
    source.write_bytes(original.replace(b"DAPI", b"Hoechst"))
    (out / "OME/source/notes.txt").write_text("of somebody else")
    proof = cloudimg.verify(out)
    assert [each.url for each in proof.problems] == [str(source)]
    assert "as it was" in proof.problems[0].what
    done = cloudimg.repair(out)
    assert done
    assert source.read_bytes() == original
    assert made.read_text("utf-8") == edited
    kinds = {(each.kind, each.key) for each in done.edits}
    assert kinds == {("edited", METADATA), ("added", "OME")}


def test_beside_what_others_added_nothing_is_taken_for_theirs(tmp_path: Path) -> None:
    folder, out = write(tmp_path / "in", "a.ome.tif"), tmp_path / "copy.zarr"
    cloudimg.migrate(folder / "a.ome.tif", out, levels=1)
    (out / "labels.csv").write_text("1")
    done = cloudimg.migrate(folder / "a.ome.tif", out, levels=1)
    assert [str(edit) for edit in done.edits] == ["added: labels.csv"]


def test_texts_of_files_that_were_replaced_do_not_stay(tmp_path: Path) -> None:
    """As after a process that was killed when it had written the metadata."""
    names = ("z0.ome.tif", "z1.ome.tif")
    folder, out = write(tmp_path / "in", *names), tmp_path / "copy.zarr"
    pattern = f"{folder}/z{{z}}.ome.tif"
    cloudimg.migrate(pattern, out, levels=1)
    (out / END_MARK).unlink()
    other = seed.encode(np.ones((2, 24, 32), np.uint16), metadata={"axes": "CYX"})
    (folder / names[1]).write_bytes(other)
    done = cloudimg.migrate(pattern, out, levels=1)
    assert done.edits == ()
    assert sources_of(out) == {names[0]: text_of(folder / names[0])}
    proof = cloudimg.verify(out, against_source=True)
    assert proof, str(proof)
    assert proof.edits == ()


@pytest.mark.slow
def test_of_thousands_of_files_the_first_thousand_texts_are_kept(tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "copy.zarr"
    folder.mkdir()
    data = seed.encode(np.ones((1, 1), np.uint8), description='<OME UUID="????"/>', metadata=None)
    for t in range(1003):
        (folder / f"t{t:04d}.tif").write_bytes(data.replace(b"????", b"%04d" % t))
    done = cloudimg.migrate(f"{folder}/t{{t:04d}}.tif", out, levels=1)
    found = sources_of(out)
    assert sorted(found) == [f"t{t:04d}.tif" for t in range(1000)]
    assert all(text == f'<OME UUID="{name[1:5]}"/>'.encode() for name, text in found.items())
    (note,) = (each for each in done.notes if "OME-XML" in each)
    assert note.startswith("3 files, for example ")
    assert "OME/source" in note
    root = json.loads((out / "zarr.json").read_bytes())["attributes"]["cloudimg"]
    assert [each["kind"] for each in root["source_notes"]] == ["ome-xml-not-beside"]
