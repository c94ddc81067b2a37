"""Zarrs of other programs as sources: right axes, scales, channels and pixels."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import dask.array as da
import ngff_zarr
import numpy as np
import pytest
import tensorstore
import zarr

import cloudimg
from cloudimg.errors import UnsupportedFormatError

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(7)
PIXELS = RNG.integers(0, 4000, (2, 3, 5, 40, 60), dtype=np.uint16)
DIMS = ("t", "c", "z", "y", "x")


def written_by_ngff_zarr(url: str, version: str, **options: Any) -> None:
    image = ngff_zarr.to_ngff_image(
        PIXELS,
        dims=DIMS,
        scale={"t": 2.0, "z": 1.5, "y": 0.25, "x": 0.25},
        translation={"t": 0.0, "z": 10.0, "y": 20.0, "x": -30.0},
        name="cells",
        axes_units={"t": "second", "z": "micrometer", "y": "micrometer", "x": "micrometer"},
    )
    levels = ngff_zarr.to_multiscales(image, scale_factors=[2], chunks=16)
    channels = [
        ngff_zarr.OmeroChannel(
            color=colour,
            label=label,
            window=ngff_zarr.OmeroWindow(min=0, max=4095, start=5, end=4000),
        )
        for colour, label in (("0000FF", "DAPI"), ("00FF00", "GFP"), ("FF0000", "RFP"))
    ]
    levels.metadata.omero = ngff_zarr.Omero(channels=channels)
    ngff_zarr.to_ngff_zarr(url, levels, version=version, **options)


@pytest.mark.parametrize(
    ("version", "options"), [("0.4", {}), ("0.5", {}), ("0.5", {"chunks_per_shard": 2})]
)
def test_images_of_ngff_zarr(version: str, options: dict[str, Any], tmp_path: Path) -> None:
    url = str(tmp_path / "image.zarr")
    written_by_ngff_zarr(url, version, **options)
    image = cloudimg.open(url)
    assert (image.dims, image.shape, image.dtype) == (DIMS, PIXELS.shape, PIXELS.dtype)
    np.testing.assert_array_equal(image.read(), PIXELS)
    part = {"t": 1, "c": slice(0, 3, 2), "y": slice(3, 35, 4), "x": slice(17, 59)}
    np.testing.assert_array_equal(image.read(part), PIXELS[1, ::2, :, 3:35:4, 17:59])
    small = np.asarray(zarr.open_group(url, mode="r")["scale1/cells"])
    np.testing.assert_array_equal(image.read(level=1), small)
    assert image.attrs["pixel_size"] == {"z": 1.5, "y": 0.25, "x": 0.25}
    assert set(image.attrs["pixel_size_unit"].values()) == {"µm"}
    assert image.attrs["time_step_s"] == 2.0
    assert image.attrs["channel_names"] == ["DAPI", "GFP", "RFP"]
    assert [f"{each & 0xFFFFFFFF:08X}" for each in image.attrs["channel_colors"]] == [
        "0000FFFF", "00FF00FF", "FF0000FF",
    ]  # fmt: skip
    assert image.attrs["display_ranges"] == [[5, 4000]] * 3
    assert [float(image.coords[f"stage_{dim}"]) for dim in "xyz"] == [-30, 20, 10]
    np.testing.assert_array_equal(image.sel(c="GFP", t=1).read(), PIXELS[1, 1])
    lazy = image.to_dask({"z": 2})
    assert isinstance(lazy, da.Array)
    np.testing.assert_array_equal(lazy[0, :, ::2].compute(), PIXELS[0, :, ::2])
    # A copy of it has the same places and channels.
    cloudimg.migrate(url, tmp_path / "copy.zarr", select={"t": 1})
    (of_copy,) = json.loads((tmp_path / "copy.zarr/zarr.json").read_text())["attributes"]["ome"][
        "multiscales"
    ]
    first = of_copy["datasets"][0]["coordinateTransformations"]
    assert [each[first[0]["type"]] for each in first[:1]] == [[1.0, 1.5, 0.25, 0.25]]
    assert first[1]["translation"] == [0.0, 10.0, 20.0, -30.0]
    copy = cloudimg.open(tmp_path / "copy.zarr")
    assert copy.attrs["channel_names"] == ["DAPI", "GFP", "RFP"]
    np.testing.assert_array_equal(copy.read(), PIXELS[1])


@pytest.mark.slow
@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_images_with_labels_of_ome_zarr(version: str, tmp_path: Path) -> None:
    ome_zarr = pytest.importorskip("ome_zarr.writer", reason="no ome-zarr")
    from ome_zarr.format import FormatV04, FormatV05

    fmt = FormatV04() if version == "0.4" else FormatV05()
    url = tmp_path / "image.ome.zarr"
    root = zarr.open_group(str(url), mode="w", zarr_format=fmt.zarr_format)
    scale = {"z": 2.0, "y": 0.5, "x": 0.5}
    units = dict.fromkeys("zyx", "micrometer")
    planes = PIXELS[0, 0]
    ome_zarr.write_multiscale([planes], root, axes="zyx", scale=scale, axes_units=units)
    labels = (planes > 2000).astype(np.int32)
    ome_zarr.write_multiscale_labels([labels], root, "nuclei", axes="zyx", scale=scale)
    image = cloudimg.open(url)
    assert image.dims == ("z", "y", "x")
    np.testing.assert_array_equal(image.read(), planes)
    assert image.attrs["pixel_size"] == {"z": 2.0, "y": 0.5, "x": 0.5}
    found = cloudimg.open(f"{url}/labels/nuclei")
    np.testing.assert_array_equal(found.read(), labels)
    assert found.dtype == np.int32


def by_tensorstore(path: Path, pixels: Array, version: int, *, shard: bool = False) -> None:
    if version == 2:
        spec: dict[str, Any] = {
            "driver": "zarr",
            "metadata": {
                "chunks": [8, 16, 16], "compressor": {"id": "zstd", "level": 1},
                "dimension_separator": "/",
            },
        }  # fmt: skip
    else:
        codecs: list[Any] = [{"name": "bytes", "configuration": {"endian": "big"}}, "gzip"]
        codecs = [codecs[0], {"name": "gzip", "configuration": {"level": 1}}]
        shape = [8, 16, 16]
        if shard:
            inner = {"chunk_shape": [8, 16, 16], "codecs": codecs}
            codecs, shape = [{"name": "sharding_indexed", "configuration": inner}], [8, 32, 64]
        grid = {"name": "regular", "configuration": {"chunk_shape": shape}}
        spec = {"driver": "zarr3", "metadata": {"chunk_grid": grid, "codecs": codecs}}
    spec["kvstore"] = {"driver": "file", "path": str(path)}
    spec["metadata"] |= {"shape": list(pixels.shape)}
    store = tensorstore.open(spec, create=True, dtype=pixels.dtype.name).result()
    store.write(pixels).result()


@pytest.mark.parametrize(("version", "shard"), [(2, False), (3, False), (3, True)])
def test_images_and_arrays_of_tensorstore(version: int, shard: bool, tmp_path: Path) -> None:
    pixels = PIXELS[0, 0]
    by_tensorstore(tmp_path / "image.zarr/full", pixels, version, shard=shard)
    multiscale = {
        "axes": [
            {"name": "z", "type": "space", "unit": "nanometer"},
            {"name": "y", "type": "space", "unit": "nanometer"},
            {"name": "x", "type": "space", "unit": "nanometer"},
        ],
        "datasets": [
            {
                "path": "full",
                "coordinateTransformations": [{"type": "scale", "scale": [300, 65, 65]}],
            }
        ],
    }
    root = tmp_path / "image.zarr"
    if version == 2:
        (root / ".zgroup").write_text('{"zarr_format": 2}')
        (root / ".zattrs").write_text(json.dumps({"multiscales": [multiscale]}))
    else:
        attributes = {"ome": {"version": "0.5", "multiscales": [multiscale]}}
        content = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
        (root / "zarr.json").write_text(json.dumps(content))
    image = cloudimg.open(root)
    np.testing.assert_array_equal(image.read(), pixels)
    np.testing.assert_array_equal(image.read({"z": 2, "y": slice(5, 37, 3)}), pixels[2, 5:37:3])
    assert image.dtype == np.uint16
    assert image.attrs["pixel_size"] == {"z": 300, "y": 65, "x": 65}
    assert image.attrs["pixel_size_unit"]["x"] == "nm"
    assert image.attrs["compression"] == ("zstd" if version == 2 else "gzip")
    array = cloudimg.open(root / "full")
    assert (array.dims, array.shape) == (("z", "y", "x"), pixels.shape)
    np.testing.assert_array_equal(array.read(), pixels)


def test_a_plain_array_of_zarr_python(tmp_path: Path) -> None:
    names = ("Z", "Y", "X")
    array = zarr.create_array(
        str(tmp_path / "plain"),
        shape=(5, 40, 60),
        chunks=(2, 16, 16),
        dtype="f4",
        fill_value=np.nan,
        dimension_names=names,
    )
    array[:, :16] = PIXELS[0, 0, :, :16]  # the other chunks are not stored
    expected = np.full((5, 40, 60), np.nan, "f4")
    expected[:, :16] = PIXELS[0, 0, :, :16]
    image = cloudimg.open(tmp_path / "plain")
    assert (image.dims, image.dtype) == (("z", "y", "x"), np.float32)
    np.testing.assert_array_equal(image.read(), expected)
    facts = cloudimg.info(tmp_path / "plain")
    assert (facts["kind"], facts["shape"], facts["compression"]) == ("image", [5, 40, 60], "zstd")
    cloudimg.preview(str(tmp_path / "plain"), tmp_path / "plain.png", index={"z": 0})
    assert (tmp_path / "plain.png").stat().st_size > 0
    np.testing.assert_array_equal(cloudimg.imread(tmp_path / "plain").compute(), expected)
    cloudimg.migrate(tmp_path / "plain", tmp_path / "copy.zarr", pixel_size="2 um")
    np.testing.assert_array_equal(cloudimg.open(tmp_path / "copy.zarr").read(), expected)
    old = zarr.create_array(
        str(tmp_path / "old.zarr"), shape=(3, 20, 30), chunks=(1, 8, 8), dtype=">i2", zarr_format=2
    )
    old[:] = PIXELS[0, 0, :3, :20, :30]
    image = cloudimg.open(tmp_path / "old.zarr", axes={"z": "t"})
    assert (image.dims, image.dtype) == (("t", "y", "x"), np.dtype("i2"))
    np.testing.assert_array_equal(image.read(), PIXELS[0, 0, :3, :20, :30])


def test_varieties_of_arrays(tmp_path: Path) -> None:
    """zarr-python reads the same: types, orders, fill values, keys, and places of the index."""
    from zarr.codecs import ShardingCodec, TransposeCodec

    turned = TransposeCodec(order=(1, 0))
    at_start = ShardingCodec(chunk_shape=(4, 8), index_location="start")
    varieties: list[dict[str, Any]] = [
        {"filters": [turned]},
        {"serializer": at_start, "compressors": []},
        {"serializer": ShardingCodec(chunk_shape=(4, 8)), "compressors": [], "filters": [turned]},
        {"fill_value": 7},
        {"dtype": "f4", "fill_value": np.inf},
        {"dtype": "c8"},
        {"dtype": "bool"},
        {"zarr_format": 2, "order": "F", "fill_value": 3},
        {"zarr_format": 2, "chunk_key_encoding": {"name": "v2", "separator": "/"}},
    ]
    for number, variety in enumerate(varieties):
        options = {"dtype": "u2", **variety}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that shards are only read whole
            url = str(tmp_path / f"{number}.zarr")
            array = zarr.create_array(url, shape=(20, 30), chunks=(8, 16), **options)
            array[:16] = PIXELS[0, 0, 0, :16, :30]
            expected = array[:]
            image = cloudimg.open(url)
        np.testing.assert_array_equal(image.read(), expected, err_msg=str(variety))
        assert image.read().tobytes() == expected.astype(image.dtype).tobytes(), variety
        window = (slice(3, 18, 5), slice(11, 29, 3))
        np.testing.assert_array_equal(image.read(window), expected[window], err_msg=str(variety))


def test_names_of_axes(tmp_path: Path) -> None:
    """Letters may be large; axes of versions whose metadata are others are not guessed."""
    url = tmp_path / "image.zarr"
    ngff_zarr.to_ngff_zarr(
        str(url),
        ngff_zarr.to_multiscales(
            ngff_zarr.to_ngff_image(PIXELS[0, :, 0], dims=("c", "y", "x")), scale_factors=[]
        ),
        version="0.5",
    )
    document = url / "zarr.json"
    content = json.loads(document.read_text())
    (image,) = content["attributes"]["ome"]["multiscales"]
    image["axes"] = [{**each, "name": each["name"].upper()} for each in image["axes"]]
    document.write_text(json.dumps(content))
    assert cloudimg.open(url).dims == ("c", "y", "x")
    image["coordinateSystems"] = [{"name": "physical", "axes": image.pop("axes")}]
    document.write_text(json.dumps(content))
    with pytest.raises(UnsupportedFormatError, match=r"0\.6"):  # not z, y and x
        cloudimg.open(url)
