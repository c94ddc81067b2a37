"""Every code block of the README runs as it stands."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

import cloudimg
from cloudimg.settings import Settings
from tests.conftest import REPOSITORY

BLOCK = re.compile(r"(?:<!-- command: (\w+) -->\s*)?```(\w+)\n(.*?)\n```", re.DOTALL)
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
BLOCKS = BLOCK.findall(README)


def python_blocks() -> str:
    return "\n".join(code for _, language, code in BLOCKS if language == "python")


def test_every_block_is_covered() -> None:
    assert {language for _, language, _ in BLOCKS} == {"sh", "python"}
    shell = [(name, code) for name, language, code in BLOCKS if language == "sh"]
    assert [name for name, _ in shell] == ["demo", "", "", "", "", "benchmark", "test"]
    assert "FIGURES" not in README
    assert shell[1][1] == "cloudimg info s3://lab/exp/"


SETUP = """
import boto3, fsspec, io, os, tifffile
import numpy as np
from tests.support import seed

s3 = boto3.client("s3")
for bucket in ("lab", "public"):
    s3.create_bucket(Bucket=bucket)
    acl = {"public": "public-read", "lab": "private"}[bucket]
    image = seed.write(lambda k, d: s3.put_object(Bucket=bucket, Key=f"exp/{k}", Body=d, ACL=acl))
def put(key, data):
    s3.put_object(Bucket="lab", Key=key, Body=data)

pyramid = np.arange(64 * 96, dtype=np.uint16).reshape(64, 96)
file = io.BytesIO()
with tifffile.TiffWriter(file, ome=True) as writer:
    sizes = {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
    writer.write(pyramid, subifds=1, tile=(16, 16), metadata=sizes)
    writer.write(pyramid[::2, ::2], subfiletype=1, tile=(16, 16))
put("slides/slide.ome.tif", file.getvalue())
colormap = np.arange(3 * 256, dtype=np.uint16).reshape(3, 256)
indices = np.arange(6, dtype=np.uint8).reshape(2, 3)
put("slides/labels.tif", seed.encode(indices, photometric="palette", colormap=colormap))
frame = np.arange(16 * 24, dtype=np.uint16).reshape(16, 24)
for t in range(3):
    put(f"raw/frame_{t}.raw", (frame + t).tobytes())
s3.close()
gs = fsspec.filesystem("gs", token="anon", endpoint_url=os.environ["STORAGE_EMULATOR_HOST"])
gs.mkdir("lab")
tile = np.arange(16 * 24, dtype=np.uint16).reshape(16, 24)
for well in ("B03", "C11"):
    for f in (1, 2):
        for z in (0, 1, 2):
            gs.pipe_file(f"lab/plate/plate_{well}_F{f:03d}_Z{z}.tif", seed.encode(tile + z))
"""
CHECKS = """
assert a.shape == (2, 2, 10, 48, 72), a
assert (a[0, 1, 4].compute() == image[0, 1, 4]).all()
assert img.dims == ("well", "f", "z", "y", "x")
assert list(img.coords["well"]) == ["B03", "C11"]
assert (window == (tile + np.arange(3)[:, None, None].astype("u2"))).all()
assert array.chunksize == (2, 2, 1, 16, 24)
assert (overview == pyramid[::2, ::2]).all()
assert slide.attrs["pixel_size"] == {"x": 0.5, "y": 0.5}
assert (colours.compute() == colormap.T[indices]).all()
assert (raw[2].compute() == frame + 2).all()
assert labelled.dims == ("f", "z", "y", "x")
import zarr
half = zarr.storage.FsspecStore.from_url("s3://lab/half.ome.zarr", read_only=True)
assert (zarr.open_group(half, mode="r")["0"][...] == image // 2).all()
again = cloudimg.imread("s3://lab/files-again/mydata_ch{c}_{t}t_{x}x_{y}y_{z}z.tif")
assert (again.compute() == image).all()
client.close()
client.cluster.close()
print("all blocks ran")
"""


def test_the_python_blocks(moto: str, gcs: str, tmp_path: Path) -> None:
    """In one process, one after the other, with the stores found in the environment."""
    script = tmp_path / "readme.py"
    body = "\n".join(f"    {line}" for line in (SETUP + python_blocks() + CHECKS).splitlines())
    script.write_text(f'if __name__ == "__main__":\n{body}\n')
    environment = {
        **os.environ,
        "AWS_ENDPOINT_URL": moto,
        "AWS_ACCESS_KEY_ID": "readme",
        "AWS_SECRET_ACCESS_KEY": "readme",
        "AWS_DEFAULT_REGION": "us-east-1",
        "STORAGE_EMULATOR_HOST": gcs,
        "PYTHONPATH": str(REPOSITORY),
    }
    answer = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=240,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    assert "all blocks ran" in answer.stdout
    info = subprocess.run(
        [str(Path(sys.executable).parent / "cloudimg"), "info", "s3://lab/exp/"],
        capture_output=True,
        text=True,
        env=environment,
        timeout=120,
        check=False,
    )
    assert info.returncode == 0, info.stderr
    assert "mydata_ch{c}_{t}t_{x}x_{y}y_{z}z.tif" in info.stdout
    words = shlex.split(next(code for _, _, code in BLOCKS if code.startswith("cloudimg preview")))
    preview = subprocess.run(
        [str(Path(sys.executable).parent / words[0]), *words[1:]],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=environment,
        timeout=120,
        check=False,
    )
    assert preview.returncode == 0, preview.stderr
    assert preview.stdout.startswith("exp.png: 72 x 48 pixels from level 0 (72 x 48) at t=0 c=0-1")
    assert (tmp_path / "exp.png").read_bytes().startswith(b"\x89PNG")
    # The one on a cluster of its own is run by test_cluster_aws.
    migrations = [code for _, _, code in BLOCKS if code.startswith("cloudimg migrate")]
    (migrate,) = (code for code in migrations if "--cluster" not in code)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    copied = subprocess.run(
        ["bash", "-euc", migrate],
        capture_output=True,
        text=True,
        env={**environment, "PATH": path},
        timeout=120,
        check=False,
    )
    assert copied.returncode == 0, copied.stderr
    assert "s3://lab/exp.ome.zarr is verified: " in copied.stdout


@pytest.mark.slow
@pytest.mark.timeout(1200)  # a package index may be slow
def test_the_demo_command_in_a_fresh_copy(tmp_path: Path) -> None:
    """As a newcomer runs it: only the files under version control, no environment yet."""
    copy = tmp_path / "clone"
    files = subprocess.run(
        ["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout.split("\0")
    for name in filter(None, files):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, copy / name)
    command = next(code for name, _, code in BLOCKS if name == "demo")
    answer = subprocess.run(
        ["bash", "-c", command], cwd=copy, capture_output=True, text=True, timeout=1100, check=False
    )
    assert answer.returncode == 0, answer.stderr
    assert (copy / "cloudimg-demo.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_the_benchmark_command() -> None:
    """With this environment's Python in place of the one that the README makes."""
    command = next(code for name, _, code in BLOCKS if name == "benchmark").split(" && ")[1]
    words = shlex.split(command.replace(".venv/bin/python", sys.executable))
    answer = subprocess.run(
        words, cwd=REPOSITORY, capture_output=True, text=True, timeout=280, check=False
    )
    assert answer.returncode == 0, answer.stderr
    assert re.search(r"cloudimg .*\n.*fsspec\+dask", answer.stdout)
    assert "WRONG" not in answer.stdout


def test_the_picture_is_what_the_demo_makes() -> None:
    import imagecodecs

    from cloudimg.cli import demo, sample

    shown = imagecodecs.png_decode((REPOSITORY / "docs" / "demo.png").read_bytes())
    made = demo.paint(sample.acquire().max(axis=2))
    np.testing.assert_array_equal(shown, made)


def test_limits_named_in_the_readme_are_those_of_the_code() -> None:
    named = set(re.findall(r"`(CLOUDIMG_(?!TEST)\w+)`", README))
    assert named == {f"CLOUDIMG_{each.name.upper()}" for each in fields(Settings)}
    package = REPOSITORY / "cloudimg"
    # The variables of the machines of a cluster are not settings, and no user sets them.
    paths = [path for path in package.rglob("*.py") if path.parent.name != "cluster"]
    code = "".join(path.read_text() for path in paths)
    assert set(re.findall(r"\bCLOUDIMG_[A-Z_]+[A-Z]\b", code)) <= named


def test_importing_is_light() -> None:
    """Heavy packages are imported where they are first used."""
    code = (
        "import sys, cloudimg\n"
        "heavy = {'dask', 'distributed', 'fsspec', 's3fs', 'gcsfs', 'tifffile', 'imagecodecs',"
        " 'obstore', 'botocore', 'aiohttp', 'xarray', 'moto'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "[]"


def test_version() -> None:
    import importlib.metadata

    assert cloudimg.__version__ == importlib.metadata.version("cloudimg-dask")
