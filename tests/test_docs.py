"""Every code block of the documentation runs as it stands, and its tables agree with the code.

The blocks of a page run in the order of the page: Python in one process and namespace, commands of
the shell between them. A block of text is the output of the block before it, or a picture that is
compared with the code.
"""

from __future__ import annotations

import inspect
import io
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import requests
import tifffile
import yaml

import cloudimg
from cloudimg import errors
from cloudimg.cli import exit_codes
from cloudimg.settings import Settings
from tests.conftest import REPOSITORY
from tests.support import seed, staged
from tests.support.fargate import account, cloud, fargate
from tests.support.metering import Meter

USER_PAGES = (
    "README.md",
    *(f"docs/{path.name}" for path in sorted((REPOSITORY / "docs").glob("*.md"))),
)
PAGES = (*USER_PAGES, "CONTRIBUTING.md", "benchmarks/README.md")
"""Pages whose blocks run."""
LINKING = (*PAGES, "CHANGELOG.md", "DESIGN.md", "terraform/README.md")
"""Pages whose links are followed."""
LONGEST_README = 118
"""Lines that somebody reads in five minutes."""
LONGEST_PAGE_S = 280
ON_CLUSTER = "docs/clusters.md"
TESTED_ALONE = ("docs/recipes.md",)
"""Pages whose blocks `tests/test_recipes.py` runs."""
BIN = Path(sys.executable).parent
BLOCK = re.compile(
    r"^(?:<!-- command: (?P<name>\w+) -->\n)?```(?P<language>\w*)\n(?P<code>.*?)\n```$",
    re.DOTALL | re.MULTILINE,
)
LINK = re.compile(r"\]\(([^)\s]+)\)")

RUN_ELSEWHERE = {
    "cloudimg demo": "tests/test_readme.py::test_the_demo_command_in_a_fresh_copy",
    "--only files --runs 1": "tests/test_readme.py::test_the_benchmark_command",
    "--cluster cluster.json --workers 4": (
        "tests/cluster/test_ecs.py::test_a_migration_on_a_cluster_of_its_own"
    ),
    ".venv/bin/pytest tests/reading/": "tests/test_docs.py::test_one_module_can_be_tested_alone",
    "python benchmarks/read.py --help": "tests/test_docs.py::test_options_of_benchmarks_exist",
    ".venv/bin/pre-commit run": "tests/test_docs.py::test_the_hooks_are_the_checks_of_ci",
    "pip install -e '.[test]'": ".ci/run",
    "npm install --prefix .azurite azurite": ".ci/run",
    "beside-seaweedfs": "tests/support/test_servers.py::test_a_command_runs_beside_seaweedfs",
    "pytest -n 2 --dist loadfile": ".ci/run",
    "bash .ci/run": ".github/workflows/ci.yml",
    "sbatch --parsable": "tests/cli/test_array_jobs.py::test_the_commands_of_the_page",
    "aws batch submit-job": "tests/cli/test_array_jobs.py::test_the_commands_of_the_page",
}
"""Shell blocks by a text in them, and what runs them instead of `test_page`."""
COMPARED_ELSEWHERE = {
    "CloudimgError\n": "tests/test_docs.py::test_the_tree_of_errors_is_that_of_the_code",
    "cli  ": "tests/test_docs.py::test_the_layers_are_those_that_are_checked",
    "2026-11-30T01:00:00": (
        "tests/cli/test_scripts.py::test_the_log_tells_what_happened_without_secrets"
    ),
}
"""Text blocks that are no output, by their beginning, and what compares them with the code."""


@dataclass(frozen=True, slots=True)
class Block:
    page: str
    line: int
    """Number of lines before the code."""
    language: str
    code: str
    name: str
    """The name in the comment before the block; mostly empty."""

    @property
    def runs_elsewhere(self) -> bool:
        return any(text in self.code for text in RUN_ELSEWHERE)

    @property
    def is_compared_elsewhere(self) -> bool:
        return self.language == "text" and self.code.startswith(tuple(COMPARED_ELSEWHERE))


def read(page: str) -> str:
    return (REPOSITORY / page).read_text(encoding="utf-8")


def blocks(page: str) -> list[Block]:
    text = read(page)
    return [
        Block(
            page,
            text[: found.start("code")].count("\n"),
            found["language"],
            found["code"],
            found["name"] or "",
        )
        for found in BLOCK.finditer(text)
    ]


def runnable(page: str) -> list[Block]:
    return [
        block
        for block in blocks(page)
        if block.language in ("sh", "python") and not block.runs_elsewhere
    ]


def first_column(page: str, heading: str) -> list[str]:
    """First cells of the table below a heading, without its head."""
    found = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#|\Z)", read(page), re.M | re.S)
    assert found, heading
    rows = re.findall(r"^\| *(.*?) *\|", found[1], re.MULTILINE)
    return [row.strip("`") for row in rows[2:]]


# --------------------------------------------------------------------------- what the pages read

PIXELS = """
import numpy as np
from tests.support import seed

image = seed.expected()
pyramid = np.arange(64 * 96, dtype=np.uint16).reshape(64, 96)
colormap = np.arange(3 * 256, dtype=np.uint16).reshape(3, 256)
indices = np.arange(6, dtype=np.uint8).reshape(2, 3)
frame = np.arange(16 * 24, dtype=np.uint16).reshape(16, 24)
"""


def pixels() -> dict[str, Any]:
    made: dict[str, Any] = {}
    exec(PIXELS, made)
    return made


def pyramid_file(pyramid: Any) -> bytes:
    file = io.BytesIO()
    with tifffile.TiffWriter(file, ome=True) as writer:
        sizes = {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
        writer.write(pyramid, subifds=1, tile=(16, 16), metadata=sizes)
        writer.write(pyramid[::2, ::2], subfiletype=1, tile=(16, 16))
    return file.getvalue()


def several_images(*images: Any) -> bytes:
    file = io.BytesIO()
    with tifffile.TiffWriter(file, ome=True) as writer:
        for number, pixels in enumerate(images):
            writer.write(pixels, metadata={"Name": f"scan {number}"})
    return file.getvalue()


def small_files() -> Iterator[tuple[str, bytes]]:
    """Keys and contents of the bucket ``lab``, apart from the acquisition in ``exp/``."""
    made = pixels()
    frame = made["frame"]
    yield "slides/slide.ome.tif", pyramid_file(made["pyramid"])
    yield "scans/case.ome.tif", several_images(made["pyramid"], frame)
    palette = {"photometric": "palette", "colormap": made["colormap"]}
    yield "slides/labels.tif", seed.encode(made["indices"], **palette)
    for t in range(3):
        yield f"raw/frame_{t}.raw", (frame + t).tobytes()
        file = io.BytesIO()
        np.savez(file, frame=frame + t)
        yield f"raw/frame_{t}.npz", file.getvalue()
    for t in range(2):
        yield f"times/20260301T12{t}000.tif", seed.encode(frame + t)
        yield f"pages/t{t}.tif", seed.encode(np.stack([frame, frame + 1, frame + 2]))
    for c, field in itertools.product(range(2), range(2)):
        data = staged.encode(frame + c + 2 * field, 5.0 * field, 10.0 * field)
        yield f"fields/c{c}_f{field}.ome.tif", data
    for well, field, c in itertools.product(("B03", "C11"), range(2), range(2)):
        yield f"screen/{well}_f{field}_w{c}.tif", seed.encode(frame + c)
    for t, z in ((0, 0), (0, 1), (1, 0)):
        yield f"holes/t{t}_z{z}.tif", seed.encode(frame + z)
    for t, z in itertools.product(range(16), range(3)):
        if (t, z) != (4, 1):
            pixels_of_kind = {(10, 1): frame.astype("u1")}.get((t, z), frame)
            yield f"odd/t{t}_z{z}.tif", seed.encode(pixels_of_kind) if (t, z) != (10, 2) else b""
    yield from maps(frame)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for z in range(2):
            archive.writestr(f"plane_{z}.tif", seed.encode(frame + z))
    yield "planes.zip", file.getvalue()


def maps(frame: Any) -> Iterator[tuple[str, bytes]]:
    """Two tiles at two dates in four bands, and two scenes that are 6 pixels apart."""
    bands = itertools.product(range(2), ("20260301", "20260311"), ("02", "03", "04", "08"))
    for number, (tile, date, band) in enumerate(bands):
        pixels = 2000 + 10 * number + frame
        pixels[0, 0] = 0
        data = geotiff(pixels, 24 * tile, scale=1e-4, offset=-0.1)
        yield f"maps/T{tile}_{date}_B{band}.tif", data
    for number, date in enumerate(("20260301", "20260311")):
        yield f"scenes/{date}.tif", geotiff(frame + 1, 6 * number)


def geotiff(
    pixels: Any, column: int, *, scale: float | None = None, offset: float | None = None
) -> bytes:
    """A GeoTIFF of which 0 is nodata, some columns to the right of the place of all of them."""
    transform = rasterio.Affine(10, 0, 600000 + 10 * column, 0, -10, 5300000)
    with rasterio.MemoryFile() as file:
        with file.open(
            driver="GTiff", count=1, height=pixels.shape[0], width=pixels.shape[1],
            dtype=pixels.dtype, crs="EPSG:32633", transform=transform, nodata=0,
        ) as written:  # fmt: skip
            written.write(pixels, 1)
            if scale is not None and offset is not None:
                written.scales, written.offsets = (scale,), (offset,)
        return bytes(file.getbuffer())


def s3_objects() -> Iterator[tuple[str, str, bytes]]:
    """Buckets, keys and contents."""
    acquisition: dict[str, bytes] = {}
    seed.write(acquisition.__setitem__)
    for bucket in ("lab", "public"):
        yield from ((bucket, f"exp/{name}", data) for name, data in acquisition.items())
    yield from (("lab", key, data) for key, data in small_files())


def fill_gcs(endpoint: str) -> None:
    frame = pixels()["frame"]
    with requests.Session() as session:
        session.post(f"{endpoint}/storage/v1/b", json={"name": "lab"}).raise_for_status()
        for well, f, z in itertools.product(("B03", "C11"), (1, 2), (0, 1, 2)):
            session.post(
                f"{endpoint}/upload/storage/v1/b/lab/o",
                params={
                    "uploadType": "media",
                    "name": f"plate/plate_{well}_F{f:03d}_Z{z}.tif",
                },
                data=seed.encode(frame + z),
                headers={"Content-Type": "image/tiff"},
            ).raise_for_status()


@dataclass(frozen=True, slots=True)
class Stores:
    meter: Meter
    environment: Mapping[str, str]


@pytest.fixture(scope="module")
def gcs_of_pages(gcs: str) -> str:
    fill_gcs(gcs)
    return gcs


@pytest.fixture
def stores(meter: Meter, gcs_of_pages: str) -> Iterator[Stores]:
    """What the pages read, without what other pages have written."""
    for bucket in ("lab", "public"):
        meter.create(bucket)
    for bucket, key, data in s3_objects():
        meter.put(bucket, key, data)
    yield Stores(
        meter,
        {
            "AWS_ENDPOINT_URL": meter.endpoint,
            "AWS_ACCESS_KEY_ID": "docs",
            "AWS_SECRET_ACCESS_KEY": "docs",
            "AWS_DEFAULT_REGION": "us-east-1",
            "STORAGE_EMULATOR_HOST": gcs_of_pages,
        },
    )
    for bucket in ("lab", "public"):
        meter.drop(bucket)


# ------------------------------------------------------------------------------- running a page

CHECKS: Mapping[str, str] = {
    "docs/copies.md": """
assert (copy.read() == image).all()
assert copy.coords["x_label"].tolist() == [0] * 24 + [1] * 24 + [2] * 24
assert tree["level1"]["image"].sizes["y"] == level.sizes["y"] == 24
assert "compressed blosc" in output("cloudimg info")
old, one = cloudimg.open("old.ome.zarr"), cloudimg.open("one.ome.zarr")
assert (old.read() == image).all()
assert (one.read() == image[0, 1]).all()
assert one.attrs["compression"] == "zstd"
assert "one.ome.zarr is verified: " in output("cloudimg verify")
""",
    "README.md": """
assert a.shape == (2, 2, 10, 48, 72), a
assert (a[0, 1, 4].compute() == image[0, 1, 4]).all()
assert (a.compute() == image).all()
assert "mydata_ch{c}_{t}t_{x}x_{y}y_{z}z.tif" in output("cloudimg info")
assert "s3://lab/exp.ome.zarr: 1 cell," in output("cloudimg migrate")
assert "s3://lab/exp.ome.zarr is verified: " in output("cloudimg verify")
client.close()
""",
    "docs/open.md": """
import pathlib
assert a.shape == (2, 2, 10, 48, 72), a
assert (a[0, 1, 4].compute() == image[0, 1, 4]).all()
assert (a.compute() == image).all()
assert planes.dims == two.dims == ("file", "y", "x")
assert (planes.read() == image[0, 0, :, :16, :24]).all()
assert (two.read() == [frame, frame + 1]).all()
assert same.dims == ("t", "y", "x")
assert (zipped.compute() == [frame, frame + 1]).all()
assert list(times.astype("datetime64[s]").astype(str)) == [
    "2026-03-01T12:00:00", "2026-03-01T12:10:00"
]
assert pages.dims == ("t", "z", "y", "x")
assert (pages.read() == [[frame, frame + 1, frame + 2]] * 2).all()
assert tiles.dims == ("tile_x", "tile_y", "t", "c", "z", "y", "x")
assert (tiles.read()[2, 1] == image[..., 16:32, 48:72]).all()
assert whole.dims == blended.dims == ("c", "y", "x")
assert whole.shape == (2, 26, 44)
assert (whole.read()[1, 10:, 20:] == frame + 3).all()
assert (blended.read()[0, 10:16, 20:24] == (frame[10:, 20:] + frame[:6, :4] + 3) // 2).all()
assert apart.coords["stage_y"].tolist() == [0, 5]
assert img.dims == ("well", "f", "z", "y", "x")
assert list(img.coords["well"]) == ["B03", "C11"]
assert (window == (frame + np.arange(3)[:, None, None].astype("u2"))).all()
assert array.chunksize == (2, 2, 1, 16, 24)
assert labelled.dims == ("f", "z", "y", "x")
assert holes.missing == ({"t": 1, "z": 1},)
assert (holes.read()[1, 1] == 7).all()
assert (holes.read()[0, 1] == frame + 1).all()
assert (public.compute() == image).all()
assert pathlib.Path("exp.png").read_bytes().startswith(b"\\x89PNG")
""",
    "docs/xarray.md": """
import zarr
assert (part.read() == seed.expected()[:, 1, 2:5]).all()
assert (same.read() == seed.expected()[:, 1, 2:5]).all()
assert "z      2  0 9" in output("--select z=0,z=9"), output("--select z=0,z=9")
copied = zarr.open_group("part.ome.zarr", mode="r")["0"][:]
assert (copied == seed.expected()[:, 1, 2:5, :, :24]).all()
assert xarray.open_dataarray("slide.zarr", engine="zarr", consolidated=False).equals(array)
assert (dataset.image == seed.expected()[:, [1]]).all()
""",
    "docs/geo.md": """
import pathlib
values = [(2000 + 10 * n + frame) * np.float32(1e-4) + np.float32(-0.1) for n in (3, 2)]
expected = (values[0] - values[1]) / (values[0] + values[1])
assert np.isnan(ndvi.values[0, 0, [0, 24]]).all()
np.testing.assert_allclose(ndvi.values[0, 1:, :24], expected[1:], rtol=1e-6)
assert (scenes.read()[1, :, 6:] == frame + 1).all()
assert (scenes.read()[0, :, 24:] == 0).all()
assert (common.read() == [frame[:, 6:] + 1, frame[:, :-6] + 1]).all()
assert pathlib.Path("map.png").read_bytes().startswith(b"\\x89PNG")
""",
    "docs/tables.md": """
assert (corner.read() == image[..., :16, :24]).all()
assert (first.read() == image[:1, :, :5]).all()
assert (indexed.read() == image).all()
assert "files.parquet: 360 files, " in output("cloudimg index")
""",
    "docs/files.md": """
assert (overview == pyramid[::2, ::2]).all()
assert slide.levels[-1].downsampling == (2.0, 2.0)
assert slide.attrs["pixel_size"] == {"x": 0.5, "y": 0.5}
assert slide.attrs["pixel_size_unit"] == {"x": "µm", "y": "µm"}
assert (colours.compute() == colormap.T[indices]).all()
assert (raw[2].compute() == frame + 2).all()
assert (frames.compute() == [frame, frame + 1, frame + 2]).all()
""",
    "docs/migrate.md": """
import pathlib, tifffile, zarr
def level_0(url):
    store = zarr.storage.FsspecStore.from_url(url, read_only=True)
    return zarr.open_group(store, mode="r")["0"][...]
assert "s3://lab/exp.ome.zarr is verified: " in output("verify s3://lab/exp.ome.zarr")
assert "s3://lab/case.ome.zarr is verified: " in output("verify s3://lab/case.ome.zarr")
assert (level_0("s3://lab/exp.ome.zarr") == image).all()
assert (level_0("s3://lab/cells.ome.zarr") == image).all()
assert (level_0("s3://lab/half.ome.zarr") == image // 2).all()
assert (level_0("s3://lab/public.ome.zarr") == image).all()
again = cloudimg.imread("s3://lab/files-again/mydata_ch{c}_{t}t_{x}x_{y}y_{z}z.tif")
assert (again.compute() == image).all()
(path,) = pathlib.Path("tiffs").glob("*.tif")
assert (tifffile.imread(path).reshape(image.shape) == image).all()
""",
    "docs/retire.md": """
assert "s3://lab/exp.ome.zarr is verified: " in output("cloudimg verify")
assert "360 of 360 files" in output("--move-to s3://lab/retired/exp --execute")
assert "a dry run, nothing was changed" in output("print(planned)")
assert planned and back and back.n_done == 360, (str(planned), str(back))
again = cloudimg.imread("s3://lab/exp/mydata_ch{c}_{t}t_{x}x_{y}y_{z}z.tif")
assert (again.compute() == image).all()
""",
    "docs/scripts.md": """
import json, pathlib
assert output("code=0") == ""
assert json.loads(pathlib.Path("nights.jsonl").read_text())["n_objects"] > 0
assert " end      exit code 0 after " in pathlib.Path("nights.log").read_text()
""",
    "docs/errors-and-settings.md": """
printed = output("mydatum")
assert printed.startswith("nothing matches s3://lab/exp/mydatum_{z}.tif"), printed
assert "; the nearest names there: s3://lab/exp/mydata_" in printed
""",
    ON_CLUSTER: """
import re
assert (means == image.mean(axis=(3, 4))).all()
copied = cloudimg.verify("s3://lab/by-client.ome.zarr", against_source=True)
assert copied, str(copied)
assert output("ome.zarr --cluster cluster.json --workers 2").startswith("s3://lab/exp.ome.zarr: 1")
assert brightest == image.max()
lines = output("cloudimg cluster up").splitlines()
assert lines[0].startswith("main is running"), lines
n_running, n_starting = re.findall(r"workers: (\\d) running, (\\d) starting", str(lines))[0]
assert int(n_running) + int(n_starting) == 2, lines
assert lines[-2].startswith("s3://lab/exp.ome.zarr is verified: "), lines
assert lines[-1] == "main is stopped", lines
""",
}
"""Python that runs after the blocks of a page; ``output(text)`` is what the block that contains a
text has printed."""

RUNNER = """
import contextlib, io, json, subprocess, sys, time

def run(blocks):
    namespace, outputs = {"__name__": "__main__"}, []
    for page, line, language, code in blocks:
        print(f"{time.strftime('%H:%M:%S')} {page}, line {line}", file=sys.stderr, flush=True)
        if language == "python":
            with contextlib.redirect_stdout(io.StringIO()) as out:
                exec(compile("\\n" * line + code, page, "exec"), namespace)
            outputs.append(out.getvalue())
        else:
            done = subprocess.run(["bash", "-euc", code], stdout=subprocess.PIPE, text=True)
            assert done.returncode == 0, f"{page}, line {line}: {code}\\n{done.stdout}"
            outputs.append(done.stdout)
    return namespace, outputs

if __name__ == "__main__":
    with open("page.json") as file:
        given = json.load(file)
    namespace, outputs = run(given["blocks"])
    codes = [code for *_, code in given["blocks"]]
    def output(text):
        (found,) = (out for code, out in zip(codes, outputs) if text in code)
        return found
    exec(compile(given["checks"], "checks", "exec"), {**namespace, "output": output})
    with open("outputs.json", "w") as file:
        json.dump(outputs, file)
"""


def run_page(page: str, environment: Mapping[str, str], folder: Path) -> None:
    """Run the blocks of a page in a folder, check the results, and compare the outputs shown."""
    steps = [(each.page, each.line, each.language, each.code) for each in runnable(page)]
    given = {"blocks": steps, "checks": PIXELS + CHECKS[page]}
    (folder / "page.json").write_text(json.dumps(given))
    (folder / "run_page.py").write_text(RUNNER)
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "run_page.py"],
            cwd=folder,
            stdout=log,
            stderr=log,
            env={
                **os.environ,
                **environment,
                "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
                "PYTHONPATH": str(REPOSITORY),
            },
            start_new_session=True,
        )
        try:
            code: int | None = process.wait(timeout=LONGEST_PAGE_S)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            with suppress(ProcessLookupError):  # with the workers that it has started
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    assert code == 0, (folder / "log").read_text()
    outputs = iter(json.loads((folder / "outputs.json").read_text()))
    printed = ""
    for block in blocks(page):
        if block in runnable(page):
            printed = next(outputs)
        elif block.language == "text" and not block.is_compared_elsewhere:
            assert anywhere(printed) == anywhere(block.code + "\n"), f"{page}, line {block.line}"


def anywhere(text: str) -> str:
    """A text without what depends on the machine, and on the versions of compressors."""
    text = re.sub(r"about [\d.]+ \w+ after it", "about N after it", text)
    return re.sub(r"\d+ cells at once", "N cells at once", text)


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in CHECKS if page != ON_CLUSTER])
def test_page(page: str, stores: Stores, tmp_path: Path) -> None:
    """In one process, one block after the other, with the stores found in the environment."""
    run_page(page, stores.environment, tmp_path)


def test_a_plane_is_read_by_its_nine_tiles(stores: Stores) -> None:
    """What a comment in the README says."""
    url = "s3://lab/exp/mydata_ch{c}_{t}t_{x}x_{y}y_{z}z.tif"
    a = cloudimg.imread(url, storage_options=stores.meter.storage_options)
    with stores.meter.measure() as traffic:
        a[0, 1, 4].compute()
    read = sorted(request.key for request in traffic.requests)
    assert read == [f"exp/mydata_ch1_0t_{x}x_{y}y_4z.tif" for x in range(3) for y in range(3)]


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_clusters(stores: Stores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On an account of AWS whose tasks run as processes on this machine."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", stores.meter.endpoint)  # for the tasks as well
    logs = tmp_path / "logs"
    logs.mkdir()
    with cloud(tmp_path / "recording") as endpoint, account(endpoint) as aws:
        (tmp_path / "cluster.json").write_text(json.dumps(aws.description))
        with fargate(aws, logs) as tasks:
            try:
                run_page(ON_CLUSTER, aws.environment, tmp_path)
            except AssertionError:
                print(tasks.logs())
                raise
            assert aws.tasks() == []
            assert aws.parameters() == []


# ---------------------------------------------------------------------------------- every block


def test_every_block_runs_or_is_compared() -> None:
    for page in PAGES:
        found = blocks(page)
        assert read(page).count("```") == 2 * len(found), page
        assert {block.language for block in found} <= {"sh", "python", "text"}, page
        assert not runnable(page) or page in (*CHECKS, *TESTED_ALONE), page
        for before, block in zip([None, *found], found, strict=False):
            if block.language == "text" and not block.is_compared_elsewhere:
                assert before in runnable(page), f"{page}, line {block.line}: output of what?"


def test_what_runs_elsewhere_exists() -> None:
    shown = [block for page in PAGES for block in blocks(page)]
    for text, where in {**RUN_ELSEWHERE, **COMPARED_ELSEWHERE}.items():
        assert any(text in block.code for block in shown), text
        path, _, function = where.partition("::")
        assert f"def {function}(" in read(path) or not function, where


def test_named_commands_are_in_the_readme() -> None:
    named = [(block.page, block.name) for page in PAGES for block in blocks(page) if block.name]
    assert named == [("README.md", name) for name in ("demo", "benchmark", "test")]


@pytest.mark.slow
def test_one_module_can_be_tested_alone() -> None:
    (command,) = (
        block.code
        for block in blocks("CONTRIBUTING.md")
        if block.code.startswith(".venv/bin/pytest tests/reading/")
    )
    answer = subprocess.run(
        ["bash", "-euc", command.replace(".venv/bin", str(BIN))],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert answer.returncode == 0, answer.stdout
    assert " passed" in answer.stdout


def test_commands_of_contributing_are_those_of_the_readme() -> None:
    commands = [block.code for block in blocks("CONTRIBUTING.md")]
    (test,) = (block.code for block in blocks("README.md") if block.name == "test")
    venv, install, everything = test.split(" && ")
    assert f"{venv}\n{install.replace(' -q', '')}" in commands
    assert everything in commands
    assert f'{everything} -m "not slow"' in commands


@pytest.mark.slow
def test_options_of_benchmarks_exist() -> None:
    text = " ".join(read("benchmarks/README.md").replace("\\\n", " ").split())
    used: dict[str, set[str]] = {}
    for script, options in re.findall(r"benchmarks/(\w+)\.py((?: +[^`#|]+)?)", text):
        used.setdefault(script, set()).update(re.findall(r"(?<!\S)--[\w-]+", options))
    assert {"read", "migrate", "cluster"} <= used.keys()
    for script, names in used.items():
        path = REPOSITORY / "benchmarks" / f"{script}.py"
        assert path.exists()
        if names:
            command = [sys.executable, str(path), "--help"]
            shown = subprocess.run(
                command, cwd=REPOSITORY, capture_output=True, text=True, check=True
            ).stdout
            assert names <= set(re.findall(r"--[\w-]+", shown)), script


# ----------------------------------------------------------------------- what pages say of the code


def heading_anchors(page: str) -> set[str]:
    """Anchors of headings, as GitHub makes them."""
    text = BLOCK.sub("", read(page))
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}


@pytest.mark.parametrize("page", LINKING)
def test_links_lead_somewhere(page: str) -> None:
    for target in LINK.findall(BLOCK.sub("", read(page))):
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        path = ((REPOSITORY / page).parent / name).resolve() if name else REPOSITORY / page
        assert path.exists(), target
        if anchor:
            assert anchor in heading_anchors(str(path.relative_to(REPOSITORY))), target


def test_the_index_lists_all_pages() -> None:
    listed = LINK.findall(read("docs/README.md"))
    pages = [path.name for path in (REPOSITORY / "docs").glob("*.md") if path.name != "README.md"]
    assert set(pages) <= set(listed)


def test_the_readme_is_short() -> None:
    assert len(read("README.md").splitlines()) <= LONGEST_README


def test_settings_are_those_of_the_code() -> None:
    listed = first_column("docs/errors-and-settings.md", "Settings")
    named = set(re.findall(r"`(CLOUDIMG_(?!TEST)\w+)`", "".join(map(read, USER_PAGES))))
    assert set(listed) == {f"CLOUDIMG_{each.name.upper()}" for each in fields(Settings)}
    assert named == set(listed)
    package = REPOSITORY / "cloudimg"
    # The variables of the machines of a cluster are not settings, and no user sets them.
    paths = [path for path in package.rglob("*.py") if path.parent.name != "cluster"]
    code = "".join(path.read_text() for path in paths)
    assert set(re.findall(r"\bCLOUDIMG_[A-Z_]+[A-Z]\b", code)) <= named


def test_default_settings_are_those_of_the_code() -> None:
    rows = re.findall(
        r"^\| `CLOUDIMG_(\w+)` \| (\S*) ?\|", read("docs/errors-and-settings.md"), re.M
    )
    defaults = Settings()
    assert len(rows) == len(fields(Settings))
    for name, shown in rows:
        expected = (
            "cores" if name == "DECODE_THREADS" else f"{getattr(defaults, name.lower()) or ''}"
        )
        assert shown == expected.removesuffix(".0"), name


def test_the_tree_of_errors_is_that_of_the_code() -> None:
    (tree,) = (
        block.code
        for block in blocks("docs/errors-and-settings.md")
        if block.code.startswith("CloudimgError\n")
    )
    shown: dict[str, str] = {}
    above: list[str] = []
    for line in tree.splitlines():
        found = re.match(r"([│├└─ ]*)(\w+)(?:.*\(also (\w+)\))?", line)
        assert found, line
        depth = len(found[1]) // 4
        above[depth:] = [found[2]]
        shown[found[2]] = " ".join(filter(None, (above[depth - 1] if depth else "", found[3])))
    expected = {
        each.__name__: " ".join(base.__name__ for base in each.__bases__)
        for each in vars(errors).values()
        if isinstance(each, type) and issubclass(each, errors.CloudimgError)
    }
    expected["CloudimgError"] = ""
    assert shown == expected


def test_exit_codes_are_those_of_the_command() -> None:
    documented = re.findall(r"^(\d+) ", exit_codes.__doc__ or "", re.MULTILINE)
    assert first_column("docs/errors-and-settings.md", "Exit codes") == documented


def test_extras_are_those_of_the_package() -> None:
    project = tomllib.loads(read("pyproject.toml"))["project"]
    names = ", ".join(first_column("docs/README.md", "Installation")).replace("`", "").split(", ")
    assert sorted(names) == sorted(project["optional-dependencies"])


def test_code_named_for_contributors_exists() -> None:
    text = BLOCK.sub("", read("CONTRIBUTING.md"))
    paths = [REPOSITORY / folder for folder in ("cloudimg", "tests")]
    sources = {path: path.read_text() for folder in paths for path in folder.rglob("*.py")}
    code = "\n".join(text for path, text in sources.items() if path.name != Path(__file__).name)
    for name in re.findall(r"`([\w.]+(?:/[\w.]*)*)`", text):
        if "/" in name:
            assert (REPOSITORY / name).exists(), name
        elif name.endswith(".py"):
            assert any(path.name == name for path in sources), name
        elif not re.fullmatch(r"slow|\.venv|is_\w*|pyproject\.toml|CLOUDIMG_TEST_\w+", name):
            assert re.search(rf"\b{re.escape(name.split('.')[-1])}\b", code), name


def test_the_layers_are_those_that_are_checked() -> None:
    (picture,) = (block.code for block in blocks("CONTRIBUTING.md") if block.language == "text")
    shown = [
        [name.strip(" /") for name in line.split("   ")[0].split("|")]
        for line in picture.splitlines()
    ]
    (house, *_) = tomllib.loads(read("pyproject.toml"))["tool"]["importlinter"]["contracts"]
    checked = [
        [name.strip().removeprefix("cloudimg.") for name in layer.split("|")]
        for layer in house["layers"]
    ]
    named = [[name for name in layer if not name.startswith("__")] for layer in checked]
    assert shown == [layer for layer in named if layer]


def test_the_hooks_are_the_checks_of_ci() -> None:
    (checks,) = re.findall(r"^for check in (.*); do$", read(".ci/run"), re.MULTILINE)
    (local,) = yaml.safe_load(read(".pre-commit-config.yaml"))["repos"]
    assert local["repo"] == "local"
    entries = [hook["entry"] for hook in local["hooks"]]
    assert entries == [f".venv/bin/{check}" for check in re.findall(r'"([^"]+)"', checks)]
    assert {hook["language"] for hook in local["hooks"]} == {"system"}


def test_the_workflow_runs_ci_on_supported_versions() -> None:
    (job,) = yaml.safe_load(read(".github/workflows/ci.yml"))["jobs"].values()
    versions = job["strategy"]["matrix"]["python-version"]
    project = tomllib.loads(read("pyproject.toml"))["project"]
    assert project["requires-python"] == f">={versions[0]}"
    assert all(isinstance(version, str) for version in versions)
    assert job["steps"][-1]["run"] == "bash .ci/run"


# ------------------------------------------------------------------------------------- docstrings

EXAMPLES = """
import doctest, importlib, inspect, sys

n_failed = 0
for name in sys.argv[1:]:
    module = importlib.import_module(name)
    failed, tried = doctest.testmod(module)
    assert tried, name
    n_failed += failed
sys.exit(n_failed > 0)
"""


def public_functions() -> Iterator[tuple[str, Any]]:
    """Qualified names and objects: functions of the package, and methods of an image."""
    for name in cloudimg.__all__:
        value = getattr(cloudimg, name)
        if inspect.isfunction(value):
            yield name, value
    for name, value in vars(cloudimg.Image).items():
        if inspect.isfunction(value) and not name.startswith("_"):
            yield f"Image.{name}", value


def test_every_public_function_has_an_example() -> None:
    without = [name for name, value in public_functions() if ">>> " not in (value.__doc__ or "")]
    assert without == ["Image.write_input"]  # for the package's own use


@pytest.mark.slow
def test_examples_of_docstrings_run(stores: Stores, tmp_path: Path) -> None:
    modules = {"cloudimg", *(value.__module__ for _, value in public_functions())}
    package = REPOSITORY / "cloudimg"
    text = "".join(path.read_text() for path in package.rglob("*.py"))
    assert "doctest:" not in text  # no example is left out
    answer = subprocess.run(
        [sys.executable, "-W", "error", "-c", EXAMPLES, *sorted(modules)],
        cwd=tmp_path,
        env={**os.environ, **stores.environment},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
