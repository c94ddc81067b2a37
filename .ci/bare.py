"""What must work with none of the extras: open, read, migrate, verify, export."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import tifffile

import cloudimg

with tempfile.TemporaryDirectory() as name:
    folder = Path(name)
    pixels = np.arange(3 * 64 * 96, dtype=np.uint16).reshape(3, 64, 96)
    for z, plane in enumerate(pixels):
        tifffile.imwrite(folder / f"z{z}.tif", plane, compression="zlib")
    pattern = f"{folder}/z{{z}}.tif"
    np.testing.assert_array_equal(cloudimg.imread(pattern).compute(), pixels)
    cloudimg.migrate(pattern, folder / "copy.ome.zarr")
    assert cloudimg.verify(folder / "copy.ome.zarr", against_source=True)
    assert cloudimg.export(folder / "copy.ome.zarr", folder / "again").n_files == 3
    assert cloudimg.info(pattern)["shape"] == [3, 64, 96]
    assert cloudimg.preview(pattern, str(folder / "p.png")).width == 96
print("without extras: open, read, migrate, verify, export, info and preview work")
