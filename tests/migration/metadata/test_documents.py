"""Metadata of copies: valid, readable by other libraries, deterministic, without credentials."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import ngff_zarr
import numpy as np
import ome_zarr_models.v04 as models_04
import ome_zarr_models.v05 as models_05
import pytest
import tensorstore
import tifffile
import xarray
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from ome_zarr_models.v04.bioformats2raw import BioFormats2Raw as Collection04
from ome_zarr_models.v05.bioformats2raw import BioFormats2Raw as Collection05

import cloudimg
from cloudimg.errors import BadFilesError
from cloudimg.migration.encode.codecs import make_codec
from cloudimg.migration.encode.histogram import Histogram, measure
from cloudimg.migration.metadata.documents import documents
from cloudimg.migration.metadata.facts import ImageFacts, facts_of_image
from cloudimg.migration.metadata.facts_of_array import facts_of_array
from cloudimg.migration.plain_json import to_plain
from cloudimg.migration.plan.axes_mapping import AxesMapping
from cloudimg.migration.plan.make_plan import make_plan
from cloudimg.migration.plan.plan import Plan
from cloudimg.migration.plan.request import WriteRequest
from cloudimg.migration.run.source_files import shown_urls

FORMATS = (3, 2)
DTYPES = (
    *("|b1", "|u1", "<u2", "<u4", "<u8", "|i1", "<i2", "<i4", "<i8"),
    *("<f2", "<f4", "<f8", "<c8", "<c16"),
)
OME_XML = '<?xml version="1.0"?><OME xmlns="ome"><Image ID="Image:0"/></OME>'


def plan_of(
    dims: str | Sequence[str] = "yx",
    shape: Sequence[int] = (100, 90),
    dtype: str = "<u2",
    *,
    lead: dict[str, int] | None = None,
    fill_value: Any = 0,
    zarr_format: int = 3,
    **asked: Any,
) -> Plan:
    """A plan with small chunks, so that a small image has levels."""
    lead = lead or {}
    request = WriteRequest(
        zarr_format=zarr_format, **{"chunks": {"y": 32, "x": 32}, "levels": 3, **asked}
    )
    return make_plan(
        tuple(dims),
        shape,
        dtype,
        request=request,
        codec=make_codec(None, dtype, zarr_format).spec,
        lead_dims=tuple(lead),
        lead_shape=tuple(lead.values()),
        fill_value=fill_value,
    )


def image_facts(
    dims: str | Sequence[str],
    shape: Sequence[int],
    attrs: dict[str, Any] | None = None,
    coords: dict[str, Any] | None = None,
    **others: Any,
) -> ImageFacts:
    given_ = {
        "name": None,
        "ome_xml": None,
        "provenance": {},
        "origins": {},
        "dtype": np.dtype("u2"),
        **others,
    }
    return facts_of_image(AxesMapping(tuple(dims), shape), coords or {}, attrs or {}, **given_)


def stored(folder: Path, plan: Plan, facts: ImageFacts, contrast: Any = None) -> Path:
    for key, data in documents(plan, facts, contrast or {}):
        path = folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def histograms(*pixels: np.ndarray) -> dict[tuple[int, int], Histogram]:
    """Those of the channels of the first image."""
    return {(0, i): measure(each.astype("u2"), None)[0] for i, each in enumerate(pixels)}


def attributes(
    plan: Plan, facts: ImageFacts, path: str = "", contrast: Any = None
) -> dict[str, Any]:
    """Attributes of a group, with those of OME-Zarr at the top level in both versions."""
    found = dict(documents(plan, facts, contrast or {}))
    before = f"{path}/" if path else ""
    if plan.zarr_format == 2:
        return json.loads(found[f"{before}.zattrs"])
    own = json.loads(found[f"{before}zarr.json"])["attributes"]
    return {**own, **own.pop("ome", {})}


def multiscale(plan: Plan, facts: ImageFacts, path: str = "") -> dict[str, Any]:
    (found,) = attributes(plan, facts, path)["multiscales"]
    return found


def transforms(plan: Plan, facts: ImageFacts) -> list[tuple[list[float], list[float]]]:
    """Scale and translation of each level."""
    found = []
    for dataset in multiscale(plan, facts)["datasets"]:
        scale, *rest = dataset["coordinateTransformations"]
        zeros = [0.0] * len(plan.dims)
        found.append((scale["scale"], rest[0]["translation"] if rest else zeros))
    return found


def units(plan: Plan, facts: ImageFacts) -> dict[str, str | None]:
    return {axis["name"]: axis.get("unit") for axis in multiscale(plan, facts)["axes"]}


def opened(path: Path, zarr_format: int) -> Any:
    driver = "zarr3" if zarr_format == 3 else "zarr"
    spec = {"driver": driver, "kvstore": {"driver": "file", "path": f"{path}/"}, "open": True}
    return tensorstore.open(spec).result()


def validate(group: zarr.Group) -> None:
    models = models_05 if group.metadata.zarr_format == 3 else models_04
    models.Image.from_zarr(group)


# ----------------------------------------------------------------------------- other libraries


@pytest.mark.parametrize("zarr_format", FORMATS)
def test_an_image_is_valid_and_all_libraries_agree(tmp_path: Path, zarr_format: int) -> None:
    shape = (3, 2, 10, 200, 90)
    plan = plan_of("tczyx", shape, zarr_format=zarr_format)
    facts = image_facts(
        "tczyx",
        shape,
        {
            "pixel_size": {"x": 0.5, "y": 0.5, "z": 2.0},
            "pixel_size_unit": {"x": "µm", "y": "µm", "z": "µm"},
            "time_step_s": 30.0,
            "channel_names": ["DAPI", "GFP"],
            "channel_colors": [65535, -16776961],
        },
        name="embryo",
        ome_xml=OME_XML,
    )
    folder = stored(tmp_path, plan, facts, histograms(np.arange(10), np.arange(9)))

    group = zarr.open_group(folder, mode="r")
    validate(group)
    read = ngff_zarr.from_ngff_zarr(str(folder), validate=True)

    assert group.metadata.zarr_format == zarr_format
    assert [image.data.shape for image in read.images] == [level.shape for level in plan.levels]
    assert read.images[0].name == "embryo"
    assert read.images[0].axes_units == {
        "t": "second",
        "c": None,
        "z": "micrometer",
        "y": "micrometer",
        "x": "micrometer",
    }
    assert read.images[0].scale == {"t": 30, "c": 1, "z": 2, "y": 0.5, "x": 0.5}
    assert read.images[2].scale == {"t": 30, "c": 1, "z": 2, "y": 2, "x": 2}
    assert read.images[2].translation == {"t": 0, "c": 0, "z": 0, "y": 0.75, "x": 0.75}
    channels = read.metadata.omero.channels
    assert [channel.label for channel in channels] == ["DAPI", "GFP"]
    assert [channel.color for channel in channels] == ["0000FF", "FF0000"]
    assert [channel.window.end for channel in channels] == [9, 8]
    for number, level in enumerate(plan.levels):
        array = group[str(number)]
        assert isinstance(array, zarr.Array)
        assert array.shape == level.shape
        other = opened(folder / str(number), zarr_format)
        assert other.shape == level.shape
        if zarr_format == 3:
            assert array.metadata.dimension_names == plan.dims
            assert other.domain.labels == plan.dims
            assert (array.shards, array.chunks) == (level.shard, plan.chunk)
        else:
            assert array.chunks == plan.chunk


@pytest.mark.parametrize("dims", ["yx", "zyx", "cyx", "tyx", "tzyx", ("page", "y", "x")])
@pytest.mark.parametrize("zarr_format", FORMATS)
def test_all_axes_are_valid(tmp_path: Path, dims: Sequence[str], zarr_format: int) -> None:
    shape = (*range(2, len(dims)), 70, 80)
    plan = plan_of(dims, shape, zarr_format=zarr_format)
    folder = stored(tmp_path, plan, ImageFacts())
    validate(zarr.open_group(folder, mode="r"))
    # Some viewers require a type for each axis.
    types = {axis["name"]: axis["type"] for axis in multiscale(plan, ImageFacts())["axes"]}
    known = {"t": "time", "c": "channel", "z": "space", "y": "space", "x": "space"}
    assert types == {dim: known.get(dim, types[dim]) for dim in dims}
    assert types.get("page") not in known.values()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("zarr_format", FORMATS)
def test_every_dtype_is_read_with_its_fill_value(
    tmp_path: Path, dtype: str, zarr_format: int
) -> None:
    kind = np.dtype(dtype).kind
    values: dict[str, list[Any]] = {
        "b": [True],
        "u": [0, np.iinfo(dtype).max if kind == "u" else 0],
        "i": [-1, np.iinfo(dtype).min if kind == "i" else 0],
        "f": [0.5, float("nan"), float("inf"), float("-inf")],
        "c": [1.5 - 2j, complex("nan")],
    }
    for number, fill in enumerate(values[kind]):
        plan = plan_of("yx", (40, 50), dtype, fill_value=fill, zarr_format=zarr_format, levels=1)
        folder = stored(tmp_path / str(number), plan, ImageFacts())
        group = zarr.open_group(folder, mode="r")
        validate(group)
        array, other = group["0"], opened(folder / "0", zarr_format)
        assert array.dtype == np.dtype(dtype)
        assert other.dtype.numpy_dtype == np.dtype(dtype)
        # No chunk is stored, so every pixel has the fill value.
        np.testing.assert_array_equal(array[:2, :2], np.full((2, 2), fill, dtype))
        np.testing.assert_array_equal(other[:2, :2].read().result(), np.full((2, 2), fill, dtype))


# ----------------------------------------------------------------------------- collections


@pytest.mark.parametrize("zarr_format", FORMATS)
def test_lead_axes_make_a_collection(tmp_path: Path, zarr_format: int) -> None:
    dims, shape = ("well", "f", "y", "x"), (2, 3, 60, 70)
    plan = plan_of("yx", (60, 70), lead={"well": 2, "f": 3}, zarr_format=zarr_format)
    facts = image_facts(
        dims, shape, {}, {"well": np.array(["B03", "C04"]), "f": np.arange(3)}, name="plate"
    )
    found = {(i, 0): each[0, 0] for i in range(6) for each in [histograms(np.arange(i, 9))]}
    folder = stored(tmp_path, plan, facts, found)
    group = zarr.open_group(folder, mode="r")

    (Collection05 if zarr_format == 3 else Collection04).from_zarr(group)
    order = group["OME"].attrs
    assert (order["ome"] if zarr_format == 3 else order)["series"] == list("012345")
    for number in range(6):
        validate(group[str(number)])
        read = ngff_zarr.from_ngff_zarr(str(folder / str(number)), validate=True)
        assert read.metadata.omero.channels[0].window.start == number
        assert opened(folder / f"{number}/1", zarr_format).shape == plan.levels[1].shape
    name = multiscale(plan, facts, "5")["name"]
    assert "plate" in name
    assert "well=C04, f=2" in name
    assert "'C04'" in str(attributes(plan, facts, "5")["cloudimg"])


def test_positions_without_labels_are_numbered() -> None:
    plan = plan_of("yx", (60, 70), lead={"a": 2, "b": 2})
    assert "a=1, b=0" in multiscale(plan, ImageFacts(), "2")["name"]


@pytest.mark.parametrize("zarr_format", FORMATS)
@pytest.mark.parametrize("lead", [{}, {"well": 2, "f": 2}])
def test_the_root_comes_last_and_arrays_first(zarr_format: int, lead: dict[str, int]) -> None:
    plan = plan_of("yx", (60, 70), lead=lead, zarr_format=zarr_format)
    keys = [key for key, _ in documents(plan, ImageFacts(ome_xml=OME_XML), {})]
    group = "zarr.json" if zarr_format == 3 else ".zgroup"
    assert keys[-1] == group
    assert len(set(keys)) == len(keys)
    if lead:
        for image in range(4):
            at = keys.index(f"{image}/{group}")
            arrays = [i for i, key in enumerate(keys) if key.startswith(f"{image}/{0}/")]
            assert max(arrays) < at < keys.index(f"OME/{group}")


def test_images_share_the_documents_of_their_arrays() -> None:
    plan = plan_of("yx", (60, 70), lead={"well": 1000})
    facts = ImageFacts(coords={"well": [f"W{i}" for i in range(1000)]})
    found = documents(plan, facts, {})
    assert len(found) == 3 * 1000 + 1000 + 1 + 1
    arrays = {id(data) for key, data in found if key.count("/") == 2}
    assert len(arrays) == 3  # the documents of a level are the same object in memory


# ----------------------------------------------------------------------------- OME-XML


@pytest.mark.parametrize("zarr_format", FORMATS)
def test_ome_xml_is_kept_unchanged(tmp_path: Path, zarr_format: int) -> None:
    text = OME_XML.replace("Image:0", "Bild:µ")
    plan = plan_of(zarr_format=zarr_format)
    folder = stored(tmp_path, plan, ImageFacts(ome_xml=text))
    assert (folder / "OME/METADATA.ome.xml").read_text("utf-8") == text
    group = zarr.open_group(folder, mode="r")
    validate(group)
    assert isinstance(group["OME"], zarr.Group)


def test_ome_xml_of_other_images_gets_another_name() -> None:
    plan = plan_of("yx", (60, 70), lead={"a": 2, "b": 1})
    two = OME_XML.replace('<Image ID="Image:0"/>', '<Image ID="a"/><Image ID="b"/>')
    assert "OME/METADATA.ome.xml" in dict(documents(plan, ImageFacts(ome_xml=two), {}))
    found = dict(documents(plan, ImageFacts(ome_xml=OME_XML), {}))
    assert "OME/METADATA.ome.xml" not in found
    assert OME_XML.encode() in found.values()


# ----------------------------------------------------------------------------- scales


@pytest.mark.parametrize(
    ("unit", "word"),
    [
        ("µm", "micrometer"),
        ("\u03bcm", "micrometer"),
        ("um", "micrometer"),
        ("nm", "nanometer"),
        ("mm", "millimeter"),
        ("cm", "centimeter"),
        ("m", "meter"),
        ("inch", "inch"),
        ("Å", "angstrom"),
        ("micrometer", "micrometer"),
        ("", None),
        ("pixel", None),
        ("furlong", None),
    ],
)
def test_units_are_names_of_udunits(unit: str, word: str | None) -> None:
    attrs = {"pixel_size": {"x": 0.25, "y": 0.5}, "pixel_size_unit": {"x": unit, "y": unit}}
    facts = image_facts("yx", (100, 90), attrs)
    assert units(plan_of(), facts) == {"y": word, "x": word}
    assert transforms(plan_of(), facts)[0][0] == [0.5, 0.25]


@pytest.mark.parametrize("size", [0.0, -1.0, float("nan"), float("inf"), None, "1"])
def test_impossible_pixel_sizes_are_left_out(size: Any) -> None:
    attrs = {"pixel_size": {"x": size}, "pixel_size_unit": {"x": "µm"}, "time_step_s": size}
    facts = image_facts("tyx", (2, 100, 90), attrs)
    plan = plan_of("tyx", (2, 100, 90))
    assert transforms(plan, facts)[0][0] == [1, 1, 1]
    assert units(plan, facts) == {"t": None, "y": None, "x": None}


def test_unknown_scales_and_units_are_left_out() -> None:
    facts = image_facts("yx", (100, 90))
    assert units(plan_of(), facts) == {"y": None, "x": None}
    assert [scale for scale, _ in transforms(plan_of(), facts)] == [[1, 1], [2, 2], [4, 4]]
    assert multiscale(plan_of(), facts)["name"]


@settings(max_examples=60, deadline=None)
@given(
    factors=st.lists(st.integers(2, 5), min_size=1, max_size=3),
    method=st.sampled_from(["mean", "nearest", "mode"]),
    size=st.floats(0.01, 10),
)
def test_translations_are_where_pixels_come_from(
    factors: list[int], method: str, size: float
) -> None:
    n = 700
    plan = plan_of(
        "yx", (n, n), factors=[{"y": f, "x": 1} for f in factors], downsampling=method, levels=None
    )
    facts = ImageFacts(scales={"y": (size, "micrometer")}, origins={"y": 7.0})
    # Position of each pixel of a level, in pixels of level 0.
    places = np.arange(n, dtype=float)
    for (scale, translation), factor in zip(transforms(plan, facts), [1, *factors], strict=True):
        whole = places[: len(places) // factor * factor].reshape(-1, factor)
        places = whole[:, (factor - 1) // 2] if method == "nearest" else whole.mean(axis=1)
        positions = translation[0] + scale[0] * np.arange(len(places))
        np.testing.assert_allclose(positions, 7.0 + size * places, rtol=1e-9)
        assert translation[1] == 0


def test_the_downsampling_method_is_documented() -> None:
    for method in ("mean", "nearest", "mode"):
        found = multiscale(plan_of(downsampling=method), ImageFacts())
        assert found["type"] == method
        assert found["metadata"]["description"]


# ----------------------------------------------------------------------------- coordinates


def test_regular_positions_become_scale_and_origin() -> None:
    coords = {"z": [10.0, 12.5, 15.0], "t": [3.0, 5.0]}
    attrs = {"pixel_size": {"z": 2.4}, "pixel_size_unit": {"z": "µm"}}
    facts = image_facts("tzyx", (2, 3, 100, 90), attrs, coords)
    plan = plan_of("tzyx", (2, 3, 100, 90))
    assert transforms(plan, facts)[0] == ([2, 2.5, 1, 1], [3, 10, 0, 0])
    assert units(plan, facts) == {"t": "second", "z": "micrometer", "y": None, "x": None}


def test_regular_times_from_file_names_become_a_step() -> None:
    start = np.datetime64("2024-05-01T12:00:00", "us")
    times = start + np.arange(3) * np.timedelta64(90, "s")
    facts = image_facts("tyx", (3, 100, 90), {}, {"t": times})
    plan = plan_of("tyx", (3, 100, 90))
    assert transforms(plan, facts)[0] == ([90, 1, 1], [0, 0, 0])
    assert units(plan, facts)["t"] == "second"
    assert "2024-05-01T12:01:30" in str(attributes(plan, facts)["cloudimg"])


def test_irregular_coordinates_are_kept_without_a_scale() -> None:
    coords = {"z": [0.0, 1.0, 5.0], "z_label": np.array(["a", "a", "b"])}
    facts = image_facts("zyx", (3, 100, 90), {}, coords)
    plan = plan_of("zyx", (3, 100, 90))
    assert transforms(plan, facts)[0] == ([1, 1, 1], [0, 0, 0])
    kept = attributes(plan, facts)["cloudimg"]["coordinates"]
    assert kept["z"] == [0.0, 1.0, 5.0]
    assert kept["z_label"] == ["a", "a", "b"]


def test_decreasing_positions_have_a_scale_and_no_origin() -> None:
    coords = {"z": [9.0, 6.0, 3.0]}
    facts = image_facts("zyx", (3, 100, 90), {}, coords)
    plan = plan_of("zyx", (3, 100, 90))
    (scale, translation), *_ = transforms(plan, facts)
    # An origin and a scale describe increasing positions only.
    assert (scale[0], translation[0]) == (3, 0)
    own = attributes(plan, facts)["cloudimg"]
    assert own["coordinates"]["z"] == coords["z"]
    assert own["coordinate_attributes"]["z"] == {"units": units(plan, facts)["z"]}


def test_positions_2_76_218_are_kept() -> None:
    facts = image_facts(("pos", "y", "x"), (3, 100, 90), {}, {"pos": np.array([2, 76, 218])})
    plan = plan_of(("pos", "y", "x"), (3, 100, 90))
    assert attributes(plan, facts)["cloudimg"]["coordinates"]["pos"] == [2, 76, 218]


@pytest.mark.parametrize("values", [[9, 7, 5], [5, 10, 15, 20]])
@pytest.mark.parametrize("dtype", ["i8", "u1", "u8"])
def test_whole_numbers_at_equal_steps_are_kept_short(values: list[int], dtype: str) -> None:
    facts = image_facts(("pos", "y", "x"), (3, 9, 9), {}, {"pos": np.array(values, dtype)})
    kept = facts.coords["pos"]
    if not isinstance(kept, list):
        kept = list(
            range(kept["start"], kept["start"] + kept["step"] * kept["count"], kept["step"])
        )
    assert kept == values


def test_equal_whole_numbers_are_kept_as_labels() -> None:
    facts = image_facts(("a", "b", "y", "x"), (3, 2, 60, 70), {}, {"a": np.array([7, 7, 7])})
    plan = plan_of("yx", (60, 70), lead={"a": 3, "b": 2})
    assert list(facts.coordinates("a")) == [7, 7, 7]
    assert "a=7, b=1" in multiscale(plan, facts, "5")["name"]


def test_coordinates_of_an_xarray_are_used() -> None:
    array = xarray.DataArray(
        np.zeros((2, 2, 100, 90), "u2"),
        dims=("t", "c", "y", "x"),
        coords={
            "t": [datetime(2024, 1, 1), datetime(2024, 1, 1) + timedelta(seconds=5)],
            "c": ["DAPI", "GFP"],
            "y": ("y", 100 + 0.5 * np.arange(100), {"units": "um"}),
            "x": ("x", 200 + 0.5 * np.arange(90), {"units": "um"}),
        },
        attrs={"operator": "x", "when": datetime(2024, 1, 1), "broken": float("nan")},
        name="well",
    )
    facts = facts_of_array(
        AxesMapping(array.dims, array.shape),
        dtype=array.dtype,
        name=None,
        provenance={},
        xarray=array,
    )
    plan = plan_of("tcyx", array.shape)
    assert transforms(plan, facts)[0] == ([5, 1, 0.5, 0.5], [0, 0, 100, 200])
    assert units(plan, facts) == {
        "t": "second",
        "c": None,
        "y": "micrometer",
        "x": "micrometer",
    }
    found = attributes(plan, facts)
    assert [channel["label"] for channel in found["omero"]["channels"]] == ["DAPI", "GFP"]
    assert found["multiscales"][0]["name"] == "well"
    kept = found["cloudimg"]["attributes"]
    assert kept == {"operator": "x", "when": "2024-01-01T00:00:00", "broken": "nan"}


# ----------------------------------------------------------------------------- channels


def channels_of(plan: Plan, facts: ImageFacts, contrast: Any = None) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = attributes(plan, facts, "", contrast)["omero"]["channels"]
    return found


def test_channels_without_names_in_headers_are_labelled_by_coordinates() -> None:
    plan = plan_of("cyx", (2, 100, 90))
    facts = image_facts("cyx", (2, 100, 90), {}, {"c": np.array(["DAPI", "GFP"])})
    assert [c["label"] for c in channels_of(plan, facts)] == ["DAPI", "GFP"]
    facts = image_facts("cyx", (2, 100, 90), {}, {"c": np.array([405, 488])})
    assert [c["label"].split()[-1] for c in channels_of(plan, facts)] == ["405", "488"]


def test_names_for_another_number_of_channels_are_ignored() -> None:
    plan = plan_of("cyx", (3, 100, 90))
    facts = image_facts("cyx", (3, 100, 90), {"channel_names": ["only"], "channel_colors": [-1]})
    found = channels_of(plan, facts)
    assert len(found) == 3
    assert "only" not in [channel["label"] for channel in found]
    assert len({channel["color"] for channel in found}) == 3


def test_samples_are_red_green_and_blue() -> None:
    plan = plan_of("cyx", (6, 100, 90))
    facts = image_facts("cyxs", (2, 100, 90, 3), {"channel_names": ["a", "b"]})
    found = channels_of(plan, facts)
    assert [c["label"] for c in found][3:] == ["b red", "b green", "b blue"]
    assert [c["color"] for c in found] == ["FF0000", "00FF00", "0000FF"] * 2
    assert [c["active"] for c in found] == [True] * 3 + [False] * 3


def test_contrast_limits_default_to_the_range_of_the_dtype() -> None:
    for dtype, expected in (("|u1", (0, 255)), ("<i2", (-(2**15), 2**15 - 1)), ("<f4", (0, 1))):
        (channel,) = channels_of(plan_of(dtype=dtype), ImageFacts())
        assert (channel["window"]["start"], channel["window"]["end"]) == expected


def test_contrast_of_a_constant_image_is_kept(tmp_path: Path) -> None:
    plan = plan_of()
    contrast = histograms(np.full((4, 5), 7))
    (channel,) = channels_of(plan, ImageFacts(), contrast)
    assert channel["window"] == {"start": 7, "end": 8, "min": 7, "max": 8}
    validate(zarr.open_group(stored(tmp_path, plan, ImageFacts(), contrast), mode="r"))


# ----------------------------------------------------------------------------- bytes


@pytest.mark.parametrize("zarr_format", FORMATS)
def test_facts_restored_from_the_journal_give_the_same_bytes(zarr_format: int) -> None:
    shape = (2, 3, 100, 90)
    facts = image_facts(
        "tcyx",
        shape,
        {"colormap": np.zeros((3, 4), "u2"), "pixel_size": {"x": 1}, "channel_names": list("abc")},
        {"t": np.array([5, 7]), "c": np.array(list("abc"))},
        name="n",
        ome_xml=OME_XML,
        provenance={"source": ["a_{c}.tif"], "options": {"fill_value": float("nan")}},
    )
    plan = plan_of("tcyx", shape, zarr_format=zarr_format)
    before = documents(plan, facts, {})
    again = ImageFacts.from_json(json.loads(json.dumps(facts.to_json(), allow_nan=False)))
    assert again == facts
    assert documents(Plan.from_json(json.loads(json.dumps(plan.to_json()))), again, {}) == before


@pytest.mark.parametrize("lead", [{}, {"a": 2, "b": 2}])
@pytest.mark.parametrize("zarr_format", FORMATS)
def test_no_document_has_credentials(lead: dict[str, int], zarr_format: int) -> None:
    url = "https://user:hunter2@host/a_{c}.tif?X-Amz-Signature=hunter2&token=hunter2"
    facts = image_facts(
        (*lead, "y", "x"),
        (*lead.values(), 100, 90),
        provenance={"source": shown_urls([url])},
    )
    plan = plan_of("yx", (100, 90), lead=lead, zarr_format=zarr_format)
    found = documents(plan, facts, {})
    assert not [key for key, data in found if b"hunter2" in data]
    assert any(b"host/a_{c}.tif" in data for _, data in found)


def test_attributes_of_headers_are_json_for_strict_readers(tmp_path: Path) -> None:
    attrs = {
        "description": "half \ud800 a pair",
        "bytes": b"\xff\x00",
        "number": np.float32("inf"),
        "nested": {"when": np.datetime64("2024-01-01T00:00"), "set": (1, np.uint8(2))},
    }
    plan = plan_of()
    folder = stored(tmp_path, plan, image_facts("yx", (100, 90), attrs, name="\ud800"))

    def refuse(name: str) -> None:
        raise AssertionError(name)

    found = json.loads((folder / "zarr.json").read_text("utf-8"), parse_constant=refuse)
    json.dumps(found, ensure_ascii=False).encode("utf-8")  # it contains no unpaired surrogates
    kept = found["attributes"]["cloudimg"]["attributes"]
    assert kept["nested"] == {"when": "2024-01-01T00:00", "set": [1, 2]}
    validate(zarr.open_group(folder, mode="r"))


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()
    | st.complex_numbers() | st.datetimes() | st.timedeltas(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=8,
)  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(value=json_like)
def test_plain_json_is_stable(value: Any) -> None:
    once = to_plain(value)
    assert to_plain(json.loads(json.dumps(once, allow_nan=False))) == once


# ----------------------------------------------------------------------------- xarray


def xarray_facts(
    array: xarray.DataArray, dims: str | Sequence[str] | None = None
) -> tuple[Plan, ImageFacts]:
    """Plan and facts of a copy of an array whose axes are renamed."""
    names = tuple(dims) if dims is not None else tuple(str(dim) for dim in array.dims)
    axes_mapping = AxesMapping(names, array.shape)
    facts = facts_of_array(
        axes_mapping, dtype=array.dtype, name=None, provenance={}, xarray=array, dims=names
    )
    plan = plan_of(
        axes_mapping.dims,
        axes_mapping.shape,
        lead=dict(zip(axes_mapping.lead_dims, axes_mapping.lead_shape, strict=True)),
    )
    return plan, ImageFacts.from_json(json.loads(json.dumps(facts.to_json(), allow_nan=False)))


def own_of(plan: Plan, facts: ImageFacts) -> dict[str, Any]:
    found: dict[str, Any] = attributes(plan, facts)["cloudimg"]
    return found


def test_renamed_axes_keep_their_own_coordinates() -> None:
    array = xarray.DataArray(
        np.zeros((40, 50), "u2"),
        dims=("y", "x"),
        coords={
            "y": ("y", 0.25 * np.arange(40), {"units": "um"}),
            "x": ("x", 7 + 2.0 * np.arange(50), {"units": "mm"}),
        },
    )
    plan, facts = xarray_facts(array, ("x", "y"))
    assert plan.dims == ("y", "x")
    assert transforms(plan, facts)[0] == ([2000, 0.25], [7000, 0])
    assert units(plan, facts) == {"y": "micrometer", "x": "micrometer"}
    own = own_of(plan, facts)
    assert own["coordinates"]["x"] == list(0.25 * np.arange(40))
    assert own["coordinate_attributes"] == {"x": {"units": "um"}, "y": {"units": "mm"}}


def test_axes_of_other_names_give_scale_and_unit(tmp_path: Path) -> None:
    array = xarray.DataArray(
        np.zeros((3, 40, 50), "u2"),
        dims=("depth", "lat", "lon"),
        coords={
            "depth": ("depth", [0.0, 5.0, 10.0], {"units": "metres"}),
            "lat": ("lat", 50 + 0.5 * np.arange(40), {"units": "km"}),
            "lon": ("lon", 8 + 0.25 * np.arange(50), {"units": "degrees_east"}),
            "z": 4,
            "x": 5,
            "station": ("depth", ["a", "b", "c"]),
        },
    )
    plan, facts = xarray_facts(array, "zyx")
    assert transforms(plan, facts)[0] == ([0.005, 0.5, 0.25], [0, 50, 8])
    assert units(plan, facts) == {"z": "kilometer", "y": "kilometer", "x": None}
    own = own_of(plan, facts)
    assert own["coordinate_attributes"]["x"] == {"units": "degrees_east"}
    assert own["coordinate_attributes"]["station"] == {"dims": ["z"]}
    # Coordinates that have the new name of an axis are renamed.
    assert own["coordinates"]["z"] == [0.0, 5.0, 10.0]
    assert (own["coordinates"]["z_"], own["coordinates"]["x_"]) == (4, 5)
    cloudimg.to_zarr(array, tmp_path / "copy.zarr", dims="zyx")
    (found,) = zarr.open_group(tmp_path / "copy.zarr", mode="r").attrs["ome"]["multiscales"]
    first = found["datasets"][0]["coordinateTransformations"]
    assert [each[each["type"]] for each in first] == [[0.005, 0.5, 0.25], [0, 50, 8]]
    assert cloudimg.verify(tmp_path / "copy.zarr", against_source=array)


@pytest.mark.parametrize(
    ("values", "scale", "origin"),
    [
        ([9.0, 7.5, 6.0], 1.5, 0),  # decreasing
        ([10.0, 12.1, 13.9], 1.95, 10),  # nearly equidistant: jitter of a stage or a clock
        ([0.0, 1.0, 5.0], 1, 0),
        ([0.0, 5.0, 0.0], 1, 0),
    ],
)
def test_units_are_kept_whatever_the_coordinates(
    values: list[float], scale: float, origin: float
) -> None:
    coords = {"z": ("z", values, {"units": "um", "axis": "Z"})}
    array = xarray.DataArray(np.zeros((3, 40, 50), "u2"), dims=("z", "y", "x"), coords=coords)
    plan, facts = xarray_facts(array)
    (scales, translation), *_ = transforms(plan, facts)
    assert scales == pytest.approx([scale, 1, 1])
    assert translation == [origin, 0, 0]
    own = own_of(plan, facts)
    assert own["coordinates"]["z"] == values
    assert own["coordinate_attributes"]["z"] == {"units": "um", "axis": "Z"}
    # On the axis it would be the unit of an unknown distance.
    assert units(plan, facts)["z"] == (None if scale == 1 else "micrometer")


def test_units_of_headers_are_kept_beside_irregular_positions() -> None:
    coords = {"z": [0.0, 1.0, 5.0], "t": [0.0, 10.25, 19.75]}
    facts = image_facts("tzyx", (3, 3, 100, 90), {}, coords)
    plan = plan_of("tzyx", (3, 3, 100, 90))
    assert transforms(plan, facts)[0] == ([9.875, 1, 1, 1], [0, 0, 0, 0])
    assert units(plan, facts)["t"] == "second"
    own = own_of(plan, facts)
    assert own["coordinates"] == {name: list(values) for name, values in coords.items()}
    assert own["coordinate_attributes"] == {"t": {"units": "second"}, "z": {"units": "micrometer"}}


def test_nearly_even_positions_do_not_replace_the_distance_of_the_header() -> None:
    attrs = {"pixel_size": {"z": 2.0}, "pixel_size_unit": {"z": "µm"}, "time_step_s": 10.0}
    coords = {"z": [5.0, 7.1, 9.0], "t": [0.0, 10.25, 19.75]}
    facts = image_facts("tzyx", (3, 3, 100, 90), attrs, coords)
    plan = plan_of("tzyx", (3, 3, 100, 90))
    assert transforms(plan, facts)[0] == ([10, 2, 1, 1], [0, 5, 0, 0])


def test_a_single_position_gives_an_origin_and_no_scale(tmp_path: Path) -> None:
    facts = image_facts("tyx", (1, 100, 90), {}, {"t": [37.5]})
    plan = plan_of("tyx", (1, 100, 90))
    assert transforms(plan, facts)[0] == ([1, 1, 1], [37.5, 0, 0])
    assert units(plan, facts)["t"] == "second"
    assert "t" not in facts.scales  # exports would write it as a time step
    array = xarray.DataArray(
        np.zeros((1, 100, 90), "u2"),
        dims=("t", "y", "x"),
        coords={"t": ("t", [37.5], {"units": "seconds"})},
    )
    plan, facts = xarray_facts(array)
    assert transforms(plan, facts)[0] == ([1, 1, 1], [37.5, 0, 0])
    assert units(plan, facts)["t"] == "second"
    validate(zarr.open_group(stored(tmp_path, plan, facts), mode="r"))


@pytest.mark.parametrize(
    ("unit", "word"),
    [("Seconds", "second"), ("ms", "millisecond"), ("s since 2020-01-01", None), ("MS", None)],
)
def test_units_of_times(unit: str, word: str | None) -> None:
    coords = {"t": ("t", [0.0, 2.0], {"units": unit})}
    array = xarray.DataArray(np.zeros((2, 40, 50), "u2"), dims=("t", "y", "x"), coords=coords)
    plan, facts = xarray_facts(array)
    assert units(plan, facts)["t"] == word
    assert own_of(plan, facts)["coordinate_attributes"]["t"] == {"units": unit}


def test_durations_have_an_origin_and_decreasing_times_have_none() -> None:
    later = np.array([30, 35, 40], "m8[s]").astype("m8[ns]")
    start = np.datetime64("2024-01-01", "ns")
    for times, origin in ((later, 30), (start + later, 0), (start - later, 0)):
        array = xarray.DataArray(
            np.zeros((3, 40, 50), "u2"), dims=("t", "y", "x"), coords={"t": times}
        )
        plan, facts = xarray_facts(array)
        assert transforms(plan, facts)[0] == ([5, 1, 1], [origin, 0, 0])
        assert units(plan, facts)["t"] == "second"


def test_coordinates_along_several_axes_are_kept_or_noted(tmp_path: Path) -> None:
    times = np.array([["2024-01-01", "2024-01-02"]], "M8[ns]")
    array = xarray.DataArray(
        np.zeros((1, 2, 300, 400), "u2"),
        dims=("time", "c", "y", "x"),
        coords={
            "stage": (("time", "c"), [[1.5, 2.5]], {"units": "mm"}),
            "when": (("time", "c"), times),
            "lat": (("y", "x"), np.zeros((300, 400))),
            "noise": (("y", "c"), np.random.default_rng(0).random((300, 20))[:, :2] * 1e-9),
            "wide": (("x", "y"), np.zeros((400, 300), "?")),
        },
        attrs={"huge": "a" * 2**16, "small": 1},
    )
    plan, facts = xarray_facts(array, "tcyx")
    own = own_of(plan, facts)
    assert own["coordinates"]["stage"] == [[1.5, 2.5]]
    assert own["coordinate_attributes"]["stage"] == {"dims": ["t", "c"], "units": "mm"}
    assert [each[:10] for each in own["coordinates"]["when"][0]] == ["2024-01-01", "2024-01-02"]
    assert len(own["coordinates"]["noise"]) == 300
    assert own["attributes"] == {"small": 1}
    assert [note.split(" is not kept")[0] for note in own["notes"][:2]] == [
        "the coordinate lat (y 300, x 400)",
        "the coordinate wide (x 400, y 300)",
    ]
    assert own["notes"][2].endswith("attributes larger than 64 KiB are not kept: huge")
    notes: list[str] = []
    done = cloudimg.to_zarr(
        array,
        tmp_path / "copy.zarr",
        dims="tcyx",
        progress=lambda advance: notes.append(advance.note),
    )
    assert done.notes == facts.notes
    assert [note for note in notes if note] == [f"note: {note}" for note in facts.notes]
    assert str(done).splitlines()[1:] == [f"note: {note}" for note in facts.notes]


def test_scalar_coordinates_of_dropped_axes(tmp_path: Path) -> None:
    """``array.isel(t=0, c=0)`` keeps the coordinates of the dropped axes as scalars."""
    array = xarray.DataArray(
        np.zeros((2, 2, 40, 50), "u2"),
        dims=("t", "c", "y", "x"),
        coords={"t": np.array(["2024-01-01", "2024-01-02"], "M8[ns]"), "c": [405, 488]},
    )
    plan, facts = xarray_facts(array.isel(t=0, c=1))
    assert facts.coords["t"].startswith("2024-01-01")
    assert [c["label"] for c in channels_of(plan, facts)] == ["channel 488"]
    named = array.assign_coords(c=["DAPI", "GFP"]).isel(c=1)
    plan, facts = xarray_facts(named)
    assert [c["label"] for c in channels_of(plan, facts)] == ["GFP"]


# ----------------------------------------------------------------------------- channels of files


def labels_of(copy: Path) -> list[str]:
    group = zarr.open_group(copy, mode="r")
    return [channel["label"] for channel in group.attrs["ome"]["omero"]["channels"]]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["N0", "N1", "N2"], ["N0", "N1", "N2"]),
        (["N", "N", "M"], ["7 N", "8 N", "9 M"]),
        (["N0", None, "N2"], ["channel 7", "channel 8", "channel 9"]),
    ],
)
def test_channels_are_named_by_the_headers_of_their_files(
    tmp_path: Path, names: list[str | None], expected: list[str]
) -> None:
    for i, name in enumerate(names):
        metadata: dict[str, Any] = {"axes": "ZYX"} | ({"Channel": {"Name": name}} if name else {})
        for t in range(2):
            tifffile.imwrite(
                tmp_path / f"a{t}_{7 + i}.ome.tif", np.zeros((2, 40, 50), "u2"), metadata=metadata
            )
    cloudimg.migrate(f"{tmp_path}/a{{t}}_{{c}}.ome.tif", tmp_path / "copy.zarr")
    assert labels_of(tmp_path / "copy.zarr") == expected


def test_a_broken_header_is_reported_by_its_cell(tmp_path: Path) -> None:
    pixels = np.zeros((40, 50), "u2")
    for c in range(2):
        tifffile.imwrite(tmp_path / f"a{c}.ome.tif", pixels, metadata={"Channel": {"Name": "N"}})
    (tmp_path / "a1.ome.tif").write_bytes(b"II*\0")
    assert cloudimg.dry_run(f"{tmp_path}/a{{c}}.ome.tif").cells == 1
    with pytest.raises(BadFilesError, match=r"1 truncated.*a1\.ome\.tif"):
        cloudimg.migrate(f"{tmp_path}/a{{c}}.ome.tif", tmp_path / "copy.zarr")


@pytest.mark.parametrize(("names", "first"), [([0, 1], "0 red"), (["DAPI", "GFP"], "DAPI red")])
def test_colours_of_several_files_have_distinct_labels(
    tmp_path: Path, names: list[Any], first: str
) -> None:
    for name in names:
        tifffile.imwrite(tmp_path / f"a_{name}.tif", np.zeros((40, 50, 3), "u1"), photometric="rgb")
    field = "{c}" if names == [0, 1] else "{c:s}"
    cloudimg.migrate(f"{tmp_path}/a_{field}.tif", tmp_path / "copy.zarr")
    labels = labels_of(tmp_path / "copy.zarr")
    assert labels[0] == first
    assert len(set(labels)) == 6
