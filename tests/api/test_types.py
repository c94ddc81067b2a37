"""Types that a user's type checker sees: ``mypy --strict`` over a user's script."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """\
import cloudimg

image = cloudimg.open("s3://lab/a_{t}_{z}.tif", missing="fill", storage_options={"anon": True})
pixels = image.read({"t": 0, "y": slice(0, 100)})
array = image.to_dask(chunks={"z": 1}, level=0)
migration = cloudimg.migrate("a_{z}.tif", "a.zarr", chunks=256, levels=3, overwrite=True)
verification = cloudimg.verify("a.zarr", against_source=True, sample=0.1)
reveal_type((image, image.shape, image.dims, image.levels))
reveal_type((pixels, image.dtype, array, cloudimg.imread("a_{z}.tif", chunks="auto")))
reveal_type((migration, image.to_zarr("b.zarr", codec="zstd"), migration.n_cells))
reveal_type((verification, verification.problems, cloudimg.export("a.zarr", "out")))
reveal_type((cloudimg.dry_run("a_{z}.tif"), cloudimg.preview("a.tif", "a.png", index={"c": 0})))
"""
REVEALED = [
    "cloudimg.image.image.Image, tuple[int, ...], tuple[str, ...],"
    " tuple[cloudimg.image.parts.LevelInfo, ...]",
    "numpy.ndarray[tuple[Any, ...], numpy.dtype[Any]], numpy.dtype[Any],"
    " dask.array.core.Array, dask.array.core.Array",
    "cloudimg.migration.run.result.Migration, cloudimg.migration.run.result.Migration, int",
    "cloudimg.migration.verify.result.Verification,"
    " tuple[cloudimg.migration.verify.result.Problem, ...],"
    " cloudimg.migration.export.result.ExportResult",
    "cloudimg.migration.run.estimate.Estimate, cloudimg.image.preview.Preview",
]
WRONG = """\
import cloudimg

cloudimg.open("a.tif", mising="fill")
cloudimg.open("a.tif", missing="zero")
cloudimg.migrate("a.tif", "a.zarr", levels="three")
cloudimg.open("a.tif").to_zarr("a.zarr", zarr_format=4)
cloudimg.verify("a.zarr", against_src=True)
cloudimg.export("a.zarr", "out", compression="jpeg")
"""
OF_NUMPY = re.compile(
    r"numpy\.ndarray\[tuple\[Any, \.\.\.\], numpy\.dtype\[Any\]\]|numpy\.dtype\[Any\]"
)


@pytest.mark.slow
@pytest.mark.timeout(600)  # twelve seconds of work, on a machine that may do other things
def test_a_script_of_a_user_is_typed(tmp_path: Path) -> None:
    (tmp_path / "right.py").write_text(SCRIPT)
    (tmp_path / "wrong.py").write_text(WRONG)
    words = ["--strict", "--cache-dir", "cache", "right.py", "wrong.py"]
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", *words],
        cwd=tmp_path,  # without the configuration of this repository
        capture_output=True,
        text=True,
        check=False,
    )
    lines = checked.stdout.splitlines()
    right = [line for line in lines if line.startswith("right.py")]
    assert all(": note: Revealed type is " in line for line in right), checked.stdout
    revealed = re.findall(r'right\.py:\d+: note: Revealed type is "tuple\[(.*)\]"', checked.stdout)
    assert revealed == REVEALED
    assert not any("Any" in OF_NUMPY.sub("", each) for each in revealed)
    wrong = {int(line.split(":")[1]) for line in lines if re.match(r"wrong\.py:\d+: error", line)}
    assert wrong == set(range(3, 9)), checked.stdout
    assert not any(line.split(":")[0] not in ("right.py", "wrong.py") for line in lines[:-1])
