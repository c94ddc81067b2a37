"""``cloudimg preview``, from outside: the bytes that it requests, its output and its pictures."""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask
import imagecodecs
import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

import cloudimg
from cloudimg.cli.main import main
from cloudimg.image import picture, preview
from tests.conftest import Place
from tests.support import seed
from tests.support.metering import Meter

Array = npt.NDArray[Any]
Preview = Callable[..., Array]
GREEN, MAGENTA, CYAN = (0.0, 1.0, 0.0), (1.0, 0.0, 1.0), (0.0, 1.0, 1.0)


@pytest.fixture
def made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Preview:
    """Run the command on pixels in a file, or on a URL; return the picture that it wrote."""

    def run(what: Array | str, *args: str, **options: Any) -> Array:
        url = what
        if not isinstance(what, str):
            path = tmp_path / "image.tif"
            tifffile.imwrite(path, what, **{"photometric": "minisblack", **options})
            url = str(path)
        out = tmp_path / "picture.png"
        assert main(["preview", str(url), str(out), *args]) == 0, capsys.readouterr().err
        assert capsys.readouterr().out.startswith(f"{out}: ")
        return np.asarray(imagecodecs.png_decode(out.read_bytes()))

    return run


def refused(capsys: pytest.CaptureFixture[str], *args: str, code: int = 2) -> str:
    assert main(["preview", *args]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("cloudimg: error: ")
    return err


def stretched(pixels: Array) -> Array:
    """Light from 0 to 1 as documented for pixels of more than 8 bits."""
    low, high = np.percentile(pixels, [0.1, 99.9])
    return np.minimum(np.maximum((pixels - low) / (high - low), 0), 1)


def assert_shows(shown: Array, light: Array) -> None:
    """Check for equality up to the rounding to 8 bits."""
    assert shown.dtype == np.uint8
    assert shown.shape == light.shape
    assert np.abs(shown - 255.0 * light).max() <= 0.5 + 1e-6


def ramp(*shape: int, dtype: Any = np.uint16) -> Array:
    """Every pixel differs from its neighbours; no two planes are alike."""
    return (np.arange(np.prod(shape)).reshape(shape) * 37 % 40_009).astype(dtype)


def test_paths(tmp_path: Path) -> None:
    """What takes URLs takes paths of the operating system."""
    path, out = tmp_path / "image.tif", tmp_path / "picture.png"
    tifffile.imwrite(path, ramp(6, 9, dtype=np.uint8))
    assert cloudimg.info(path) == cloudimg.info(str(path))
    assert cloudimg.info(path)["url"] == str(path)
    done = cloudimg.preview(path, out)
    assert done.path == str(out)
    assert np.array_equal(imagecodecs.png_decode(out.read_bytes()), ramp(6, 9, dtype=np.uint8))
    assert cloudimg.info(tmp_path)["kind"] == "folder"


# Levels


@pytest.fixture(scope="module")
def levels() -> list[Array]:
    """8192 x 8192 to 512 x 512: a gradient, and enough noise for a large file."""
    noise = np.random.default_rng(3).integers(0, 64, (8192, 8192), np.uint8)
    light = (np.arange(8192) * 96 // 8192).astype(np.uint8)
    found: list[Array] = [noise + light + light[:, np.newaxis]]
    for _ in range(4):
        quads = found[-1].reshape(len(found[-1]) // 2, 2, -1, 2)
        found.append(quads.mean(axis=(1, 3)).astype(np.uint8))
    return found


@pytest.fixture(scope="module", params=["SubIFDs", "reduced images in the chain"])
def pyramid(request: pytest.FixtureRequest, levels: list[Array]) -> bytes:
    file = io.BytesIO()
    options: dict[str, Any] = {"tile": (256, 256), "compression": "zlib", "metadata": None}
    options["photometric"] = "minisblack"
    with tifffile.TiffWriter(file) as writer:
        writer.write(levels[0], subifds=4 if request.param == "SubIFDs" else 0, **options)
        for level in levels[1:]:
            writer.write(level, subfiletype=1, **options)
    return file.getvalue()


@pytest.mark.slow
@pytest.mark.parametrize(("size", "level", "most"), [(512, 4, 0.005), (1024, 3, 0.012)])
def test_a_pyramid_moves_its_level_and_its_ifds(
    meter: Meter,
    bucket: str,
    pyramid: bytes,
    levels: list[Array],
    size: int,
    level: int,
    most: float,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The smallest level takes far less than 1 % of the file, any level little more than itself."""
    meter.put(bucket, "slide.tif", pyramid)
    with tifffile.TiffFile(io.BytesIO(pyramid)) as tiff:
        stored = sum(tiff.series[0].levels[level].keyframe.databytecounts)
    out = tmp_path / "slide.png"
    options = ["--storage-options", json.dumps(meter.storage_options)]
    args = [f"s3://{bucket}/slide.tif", str(out), "--size", str(size)]
    with meter.measure() as traffic:
        assert main(["preview", *args, *options]) == 0
    line = capsys.readouterr().out
    moved = traffic.bytes_sent / len(pyramid)
    print(
        f"level {level} ({stored} bytes) of {len(pyramid)} bytes: {len(traffic.requests)} requests,"
        f" {traffic.bytes_sent} bytes, {moved:.2%}"
    )
    assert moved < most
    assert traffic.bytes_sent - stored < 128 * 2**10
    assert not traffic.lists
    decoded = {512: "256.00 kiB", 1024: "1.00 MiB"}[size]
    assert line == (
        f"{out}: {size} x {size} pixels from level {level} ({size} x {size});"
        f" {decoded} of 64.00 MiB decoded\n"
    )
    np.testing.assert_array_equal(imagecodecs.png_decode(out.read_bytes()), levels[level])


def test_the_smallest_level_that_is_large_enough(
    made: Preview, tmp_path: Path, levels: list[Array]
) -> None:
    path = str(tmp_path / "three.tif")
    small = levels[3:]
    with tifffile.TiffWriter(path) as writer:
        writer.write(small[0], subifds=1, tile=(256, 256), photometric="minisblack")
        writer.write(small[1], subfiletype=1, tile=(256, 256), photometric="minisblack")
    fourths = small[0].reshape(256, 4, 256, 4).mean(axis=(1, 3))
    halves = small[1].reshape(256, 2, 256, 2).mean(axis=(1, 3))
    np.testing.assert_array_equal(made(path, "--size", "512"), small[1])
    assert made(path, "--size", "513").shape == (513, 513)  # from level 0, which is larger
    np.testing.assert_array_equal(made(path, "--size", "1025"), small[0])  # nothing is enlarged
    assert_shows(made(path, "--size", "256"), halves / 255)
    assert_shows(made(path, "--size", "256", "--level", "0"), fourths / 255)
    np.testing.assert_array_equal(made(path, "--level", "-1"), small[1])


@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    size=st.integers(1, 45),
    cut=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    holes=st.booleans(),
)
def test_an_average_is_weighted_by_area(
    height: int, width: int, size: int, cut: tuple[int, int], holes: bool
) -> None:
    """Compared with the matrix of overlaps, for any blocks."""
    pixels = ramp(height, width).astype(float)
    if holes:
        pixels[pixels % 3 == 0] = np.nan
    average = picture.Average(height, width, size)
    for top, left in itertools.product(range(0, height, cut[0]), range(0, width, cut[1])):
        average.add(pixels[top : top + cut[0], left : left + cut[1]], top, left)
    found = average.mean()
    assert max(found.shape) == min(size, max(height, width))
    high, wide = (overlaps(*lengths) for lengths in zip(pixels.shape, found.shape, strict=True))
    area = high @ ~np.isnan(pixels) @ wide.T
    total = high @ np.nan_to_num(pixels) @ wide.T
    nothing = area < 1e-9
    np.testing.assert_array_equal(np.isnan(found), nothing)
    np.testing.assert_allclose(found[~nothing], total[~nothing] / area[~nothing], atol=1e-6)


def overlaps(old: int, new: int) -> Array:
    edges = np.arange(new + 1)[:, np.newaxis] * old / new
    pixels = np.arange(old)
    covered = np.minimum(edges[1:], pixels + 1) - np.maximum(edges[:-1], pixels)
    return np.asarray(covered.clip(0))


# What is shown


def test_eight_bits_as_they_are_unless_nothing_would_be_seen(made: Preview) -> None:
    wide, narrow = ramp(20, 30, dtype=np.uint8), ramp(20, 30, dtype=np.uint8) % 40
    np.testing.assert_array_equal(made(wide), wide)
    np.testing.assert_array_equal(made(wide, photometric="miniswhite"), 255 - wide)
    assert_shows(made(narrow), stretched(narrow))


@pytest.mark.parametrize("dtype", ["uint16", "int16", "uint32", "float32", "float64", "complex64"])
def test_more_bits_between_percentiles(made: Preview, dtype: str) -> None:
    pixels = ramp(20, 30).astype(dtype)
    pixels[3, 3] = 60_000 if dtype != "int16" else 32_000  # a hot pixel must not darken the rest
    assert_shows(made(pixels), stretched(np.abs(pixels)))


def test_bits_nothing_and_plain_planes(made: Preview) -> None:
    bits = ramp(20, 30) % 2 == 1
    np.testing.assert_array_equal(made(bits), 255 * bits)
    plain = np.full((20, 30), 700, np.uint16)
    assert (made(plain) == 255).all()
    assert not made(plain - 700).any()
    np.testing.assert_array_equal(made((plain // 7).astype(np.uint8)), plain // 7)
    spot = plain.copy()
    spot[0, 0] = 900
    assert made(spot)[0, 0] == 255
    holes = ramp(20, 30).astype(np.float32) + 1000
    known = holes[1:].copy()
    holes[0] = np.nan
    shown = made(holes)
    assert not shown[0].any()
    assert_shows(shown[1:], stretched(known))
    assert not made(np.full((20, 30), np.nan, np.float32)).any()


def test_colour_samples_keep_their_colour(made: Preview) -> None:
    rgb = ramp(20, 30, 3, dtype=np.uint8) % 50
    np.testing.assert_array_equal(made(rgb, photometric="rgb"), rgb)
    planar = np.moveaxis(rgb, -1, 0)
    np.testing.assert_array_equal(made(planar, photometric="rgb", planarconfig="separate"), rgb)
    faint = np.concatenate([rgb, np.full((20, 30, 1), 7, np.uint8)], axis=-1)
    np.testing.assert_array_equal(
        made(faint, photometric="rgb", extrasamples=["unassalpha"]), faint
    )
    deep = ramp(20, 30, 3)
    assert_shows(made(deep, photometric="rgb"), deep / 65535)
    # A camera of 12 bits: the smallest range of whole bits that holds all samples.
    assert_shows(made(deep // 16, photometric="rgb"), deep // 16 / 4095)
    inks = ramp(20, 30, 4, dtype=np.uint8)
    light = (1 - inks[..., :3] / 255) * (1 - inks[..., 3:] / 255)
    assert_shows(made(inks, photometric="separated"), light)


def test_palettes(made: Preview, monkeypatch: pytest.MonkeyPatch) -> None:
    """Colours are averaged, not indices."""
    colormap = np.random.default_rng(4).integers(0, 2**16, (3, 256), np.uint16)
    indices = ramp(32, 64, dtype=np.uint8)
    own = cloudimg.Image.attrs.fget
    assert own is not None
    for table in (colormap, colormap >> 8):  # some writers fill 8 bits only
        monkeypatch.setattr(
            cloudimg.Image, "attrs", property(lambda image, t=table: {**own(image), "colormap": t})
        )
        shown = made(indices, "--size", "32", photometric="palette", colormap=colormap)
        colours = np.moveaxis((colormap >> 8)[:, indices], 0, -1)
        means = colours.reshape(16, 2, 32, 2, 3).mean(axis=(1, 3))
        assert_shows(shown, means / 255)


def test_channels_in_colours_of_their_own(made: Preview) -> None:
    pixels = ramp(3, 20, 30)
    ome = {"ome": True, "metadata": {"axes": "CYX"}}
    light = np.stack([stretched(plane) for plane in pixels])

    def mixed(*colours: tuple[float, ...]) -> Array:
        return np.einsum("cyx,cs->yxs", light[: len(colours)], np.array(colours)).clip(0, 1)

    assert_shows(made(pixels, **ome), mixed(GREEN, MAGENTA, CYAN))
    assert_shows(made(pixels[:2], **ome), mixed(GREEN, MAGENTA))
    assert_shows(made(pixels, "--index", "c=1", **ome), light[1])
    ome["metadata"] = {"axes": "CYX", "Channel": {"Color": [-16776961, 16711935, 65535]}}
    assert_shows(made(pixels, **ome), mixed((1, 0, 0), (0, 1, 0), (0, 0, 1)))
    ome["metadata"] = {"axes": "CYX", "Channel": {"Color": [-1, -1, -1]}}  # all white: not believed
    assert_shows(made(pixels, **ome), mixed(GREEN, MAGENTA, CYAN))


def test_six_channels_at_most_and_samples_that_are_not_colours(
    made: Preview, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pixels = ramp(8, 20, 30)
    shown = made(pixels, ome=True, metadata={"axes": "CYX"})
    first = made(pixels[:6], ome=True, metadata={"axes": "CYX"})
    np.testing.assert_array_equal(shown, first)
    samples = made(np.moveaxis(pixels, 0, -1), planarconfig="contig", metadata={"axes": "YXS"})
    np.testing.assert_array_equal(samples, shown)
    one = made(np.moveaxis(pixels, 0, -1), "--index", "s=7", planarconfig="contig")
    assert_shows(one, stretched(pixels[7]))


def test_which_plane_of_a_stack(made: Preview) -> None:
    stack = ramp(3, 7, 20, 30)
    ome = {"ome": True, "metadata": {"axes": "TZYX"}}
    assert_shows(made(stack, **ome), stretched(stack[0, 3]))
    assert_shows(made(stack, "--index", "z=6,t=-1", **ome), stretched(stack[2, 6]))
    shown = made(stack, "--index", "z=0", "--index", "t=1", **ome)
    assert_shows(shown, stretched(stack[1, 0]))
    pages = stack[0]
    assert_shows(made(pages, metadata=None), stretched(pages[3]))
    shown = made(pages, "--axes", "page=z", "--project", "max", metadata=None)
    assert_shows(shown, stretched(pages.max(axis=0)))


@pytest.mark.parametrize("how", ["max", "mean"])
def test_projections(made: Preview, how: str) -> None:
    stack = ramp(2, 7, 20, 30)
    shown = made(stack, "--project", how, ome=True, metadata={"axes": "CZYX"})
    first, second = (stretched(getattr(channel, how)(axis=0)) for channel in stack)
    assert_shows(shown, (first[..., None] * GREEN + second[..., None] * MAGENTA).clip(0, 1))


# Archives


def put_seed(put: Callable[[str, bytes], Any]) -> Array:
    return seed.write(put, metadata=None)


def test_a_mosaic_on_every_store(
    place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = put_seed(place.put)
    place.delete("mydata_ch0_1t_0x_0y_5z.tif")
    image[1, 0, 5, :16, :24] = 0
    out = tmp_path / "exp.png"
    options = ["--storage-options", json.dumps(place.storage_options)]
    args = [f"{place.url}/{seed.PATTERN}", str(out), "--index", "t=1", *options]
    assert main(["preview", *args]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert captured.out == (
        f"{out}: 72 x 48 pixels from level 0 (72 x 48) at t=1 c=0-1 z=5; 13.50 kiB of 270.00 kiB"
        " decoded; files missing: 1\n"
    )
    first, second = (stretched(channel[..., None]) for channel in image[1, :, 5])
    shown = imagecodecs.png_decode(out.read_bytes())
    assert_shows(shown, (first * GREEN + second * MAGENTA).clip(0, 1))


@pytest.mark.parametrize("how", [[], ["--project", "max"], ["--project", "mean"]])
def test_a_plane_larger_than_a_block_is_read_part_by_part(
    meter: Meter, bucket: str, made: Preview, how: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each file is read once, and never more than a block is in memory."""
    put_seed(lambda key, data: meter.put(bucket, key, data))
    args = [f"s3://{bucket}/{seed.PATTERN}", "--size", "31", *how]
    args += ["--storage-options", json.dumps(meter.storage_options)]
    at_once = made(*args)
    monkeypatch.setattr(preview, "_AT_ONCE_BYTES", 1)
    largest = []
    read = cloudimg.Image.read

    def watched(image: cloudimg.Image, *args: Any, **options: Any) -> Array:
        pixels = read(image, *args, **options)
        largest.append(pixels.nbytes)
        return pixels

    monkeypatch.setattr(cloudimg.Image, "read", watched)
    with dask.config.set({"array.chunk-size": "3000B"}), meter.measure() as traffic:
        in_parts = made(*args)
    assert np.abs(in_parts.astype(int) - at_once).max() <= 1  # sums in another order
    keys = [r.key for r in traffic.requests if r.kind == "get"]
    assert len(largest) > 4
    assert max(largest) <= 3000
    # Headers that were read at open are not requested again.
    assert len(keys) <= len(set(keys)) + 2


@pytest.mark.slow
def test_a_view_that_is_too_large_is_refused_before_it_is_read(
    meter: Meter,
    bucket: str,
    pyramid: bytes,
    made: Preview,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    meter.put(bucket, "slide.tif", pyramid)
    url = f"s3://{bucket}/slide.tif"
    options = ["--storage-options", json.dumps(meter.storage_options)]
    limit = ["--level", "0", "--max-bytes", str(2**20), "--size", "64"]
    with meter.measure() as traffic:
        message = refused(capsys, url, str(tmp_path / "x.png"), *limit, *options)
    assert message == (
        "cloudimg: error: at level 0 (8192 x 8192) the picture takes 64.00 MiB decoded, more than"
        " --max-bytes 1048576: --level 3 takes 1.00 MiB, --yes decodes it anyway\n"
    )
    assert traffic.bytes_sent < 200_000
    assert not (tmp_path / "x.png").exists()
    assert made(url, *limit, "--yes", *options).shape == (64, 64)


def test_segments_that_hold_more_than_the_plane_count_in_full(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "channels.tif"
    seed_options: dict[str, Any] = {"planarconfig": "contig", "photometric": "minisblack"}
    tifffile.imwrite(path, ramp(64, 64, 8), tile=(16, 16), compression="zlib", **seed_options)
    args = [str(path), str(tmp_path / "x.png"), "--index", "s=0", "--max-bytes", "65535"]
    assert "takes 64.00 kiB decoded, more than --max-bytes 65535" in refused(capsys, *args)
    for size in ("65.535kB", "6.5535e4", ".065535MB"):
        args[-1] = size
        assert "more than --max-bytes 65535" in refused(capsys, *args)
    assert main(["preview", *args[:-1], "65536"]) == 0


# What cannot work


@pytest.mark.parametrize(
    ("args", "why"),
    [
        (["--level", "2"], "--level 2, but the levels are 0 to 0"),
        (["--level", "-2"], "--level -2, but"),
        (["--index", "z=7"], "--index z=7: positions along z are 0 to 6"),
        (["--index", "z=-8"], "--index z=-8"),
        (["--index", "c=0"], "--index c=0: the axes to choose on are ['z']"),
        (["--index", "x=0"], "--index x=0"),
        (["--index", "z=0", "--project", "max"], "--index fixes z"),
        (["--series", "3"], "--series 3"),
        (["--max-bytes", "9"], "more than --max-bytes 9: --yes"),
    ],
)
def test_what_the_image_does_not_have(
    args: list[str], why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = tmp_path / "stack.tif", tmp_path / "x.png"
    tifffile.imwrite(path, ramp(7, 20, 30), ome=True, metadata={"axes": "ZYX"})
    assert why in refused(capsys, str(path), str(out), *args)
    assert not out.exists()


def test_a_projection_needs_z(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tifffile.imwrite(tmp_path / "pages.tif", ramp(7, 20, 30), metadata=None)
    args = [str(tmp_path / "pages.tif"), str(tmp_path / "x.png"), "--project", "max"]
    assert "--axes page=z" in refused(capsys, *args)


def test_nothing_is_requested_if_the_picture_cannot_be_written(
    meter: Meter, bucket: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "folder.png").mkdir()
    options = ["--storage-options", json.dumps(meter.storage_options)]
    with meter.measure() as traffic:
        for out in ("none/x.png", "folder.png"):
            message = refused(capsys, f"s3://{bucket}/z.tif", str(tmp_path / out), *options)
            assert f"cannot write {tmp_path / out}" in message
    assert not traffic.requests


def test_a_disk_that_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    tifffile.imwrite(tmp_path / "z.tif", ramp(20, 30))
    monkeypatch.setattr(Path, "write_bytes", full)
    message = refused(capsys, str(tmp_path / "z.tif"), str(tmp_path / "x.png"), code=9)
    assert "cannot write" in message
    assert "No space left" in message


def test_a_file_that_is_not_an_image(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "z0.tif").write_bytes(b"no TIFF at all" * 100)
    assert "not a TIFF" in refused(capsys, f"{tmp_path}/z0.tif", str(tmp_path / "x.png"), code=4)
    assert "nothing matches" in refused(
        capsys, f"{tmp_path}/a{{z}}.tif", str(tmp_path / "x.png"), code=3
    )


def test_an_existing_picture_is_replaced(made: Preview, tmp_path: Path) -> None:
    (tmp_path / "picture.png").write_bytes(b"x" * 10_000)
    pixels = ramp(20, 30, dtype=np.uint8)
    np.testing.assert_array_equal(made(pixels), pixels)


@pytest.mark.parametrize(
    "args",
    [
        ["x.tif"],
        ["x.tif", "x.jpg"],
        ["x.tif", "x.png", "--size", "0"],
        ["x.tif", "x.png", "--size", "-5"],
        ["x.tif", "x.png", "--index", "c"],
        ["x.tif", "x.png", "--index", "c=0;t=1"],
        ["x.tif", "x.png", "--project", "min"],
        *(
            ["x.tif", "x.png", "--max-bytes", size]
            for size in ("0", "-5", "0.5", "1.5", "0.0001kB", "1QB", "GB", "much", "")
        ),
    ],
)
def test_wrong_usage(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["preview", *args])
    assert exit_.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "usage: cloudimg preview" in err
