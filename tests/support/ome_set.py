"""An OME-TIFF of several files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tests.support import seed


def write_dataset(folder: Path, options: Mapping[int, Mapping[str, Any]] | None = None) -> Any:
    """Write an OME-TIFF of three files with two planes each; return its pixels, dims t z y x.

    Parameters
    ----------
    folder : Path
    options : mapping, optional
        Further arguments of `seed.encode`, by the number of the file.
    """
    folder.mkdir()
    image = np.random.default_rng(0).integers(1, 2**16, (3, 2, 64, 64), np.uint16)
    names = [f"urn:uuid:0000000{t}-0000-0000-0000-000000000000" for t in range(3)]
    planes = "".join(
        f'<TiffData FirstT="{t}" FirstZ="{z}" IFD="{z}" PlaneCount="1">'
        f'<UUID FileName="t{t}.ome.tif">{names[t]}</UUID></TiffData>'
        for t, z in np.ndindex(3, 2)
    )
    for t in range(3):
        xml = (
            '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"'
            f' UUID="{names[t]}"><Image ID="Image:0"><Pixels ID="Pixels:0" Type="uint16"'
            ' DimensionOrder="XYZTC" SizeX="64" SizeY="64" SizeZ="2" SizeT="3" SizeC="1">'
            f'<Channel ID="Channel:0:0"/>{planes}</Pixels></Image></OME>'
        )
        more = (options or {}).get(t, {})
        data = seed.encode(image[t], description=xml, metadata=None, **more)
        (folder / f"t{t}.ome.tif").write_bytes(data)
    return image
