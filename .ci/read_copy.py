"""What a program of others reads of copies. Runs in that program's environment, without cloudimg.

Usage: ``python read_copy.py PROGRAM FOLDER ...`` prints what each folder gives: images, or the
error. Of each image it gives what the program tells by its own means: axes, scale, units, name,
channels and a digest of the pixels; what it does not tell is absent.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

Told = dict[str, Any]


def digest(pixels: Any) -> str:
    values = np.ascontiguousarray(pixels)
    return hashlib.sha256(values.astype(values.dtype.newbyteorder("<")).tobytes()).hexdigest()


def of_zarr(path: str) -> Iterator[Told]:
    """The attributes are the caller's to understand; the names of Zarr 3's dimensions are not."""
    import zarr

    group = zarr.open_group(path, mode="r")
    attributes = dict(group.attrs)
    multiscale = attributes.get("ome", attributes)["multiscales"][0]
    array = group[multiscale["datasets"][0]["path"]]
    names = getattr(array.metadata, "dimension_names", None) or array.attrs["_ARRAY_DIMENSIONS"]
    yield {"axes": list(names), "pixels": digest(array[...])}


def of_tensorstore(path: str) -> Iterator[Told]:
    import tensorstore

    driver = "zarr3" if Path(path, "zarr.json").exists() else "zarr"
    store = {"driver": "file", "path": f"{path}/0"}
    array = tensorstore.open({"driver": driver, "kvstore": store}).result()
    told = {"pixels": digest(array.read().result())}
    yield told | ({"axes": list(array.domain.labels)} if any(array.domain.labels) else {})


def of_ngff_zarr(path: str) -> Iterator[Told]:
    import ngff_zarr

    multiscales = ngff_zarr.from_ngff_zarr(path)
    image = multiscales.images[0]
    yield {
        "axes": list(image.dims),
        "scale": [image.scale[dim] for dim in image.dims],
        "units": [image.axes_units[dim] for dim in image.dims],
        "name": multiscales.metadata.name,
        "channels": [each.label for each in multiscales.metadata.omero.channels],
        "pixels": digest(image.data.compute()),
    }


def of_ome_zarr(path: str) -> Iterator[Told]:
    from ome_zarr.io import parse_url
    from ome_zarr.reader import Reader

    for node in Reader(parse_url(path))():
        axes, (scale, *_) = node.metadata["axes"], node.metadata["coordinateTransformations"][0]
        yield {
            "axes": [axis["name"] for axis in axes],
            "scale": scale["scale"],
            "units": [axis.get("unit") for axis in axes],
            "name": node.metadata["name"],
            "channels": node.metadata["channel_names"],
            "pixels": digest(node.data[0].compute()),
        }


def of_bioio_ome_zarr(path: str) -> Iterator[Told]:
    from bioio_ome_zarr import Reader

    image = Reader(path)
    dims = list(image.dims.order)
    units = [getattr(image.dimension_properties, dim).unit for dim in dims]
    yield {
        "axes": [dim.lower() for dim in dims],
        "scale": [getattr(image.scale, dim) for dim in dims],
        "units": [None if str(unit) == "dimensionless" else str(unit) for unit in units],
        "name": image.current_scene,
        "channels": image.channel_names,
        "pixels": digest(image.dask_data.compute()),
    }


def of_napari_ome_zarr(path: str) -> Iterator[Told]:
    """Every channel is a layer, named "image: channel", without scale or unit for the channels."""
    from napari_ome_zarr import napari_get_reader

    layers = napari_get_reader(path)(path)
    for name, group in itertools.groupby(layers, lambda layer: layer[1]["name"].split(": ")[0]):
        of_image = list(group)
        settings = of_image[0][1]
        yield {
            "axes": ["c", *settings["axis_labels"]],
            "scale": [1.0, *map(float, settings["scale"])],
            "units": [None, *map(str, settings["units"])],
            "name": name,
            "channels": [layer[1]["name"].split(": ")[1] for layer in of_image],
            "pixels": digest(np.stack([layer[0][0].compute() for layer in of_image])),
        }


def of_rioxarray(path: str) -> Iterator[Told]:
    """GDAL makes bands of all axes before y and x, whose names stand in its metadata."""
    import rioxarray

    array = rioxarray.open_rasterio(f"{path}/0")
    bands = [each.split("_")[1] for each in sorted(array.attrs) if each.startswith("DIM_")]
    yield {"axes": [*bands, *array.dims[1:]], "pixels": digest(array.values)}


KNOW_NO_OME = {"zarr", "tensorstore", "rioxarray"}
"""Programs that read arrays and know neither images nor collections of OME-Zarr."""
PROGRAMS: dict[str, Callable[[str], Iterator[Told]]] = {
    "zarr": of_zarr,
    "tensorstore": of_tensorstore,
    "ngff-zarr": of_ngff_zarr,
    "ome-zarr": of_ome_zarr,
    "bioio-ome-zarr": of_bioio_ome_zarr,
    "napari-ome-zarr": of_napari_ome_zarr,
    "rioxarray": of_rioxarray,
}


def main(program: str, *folders: str) -> None:
    warnings.simplefilter("ignore")
    printed, sys.stdout = sys.stdout, sys.stderr  # some programs print
    found: list[dict[str, Any]] = []
    for folder in folders:
        try:
            found.append({"images": list(PROGRAMS[program](folder))})
        except Exception as error:  # noqa: BLE001, whatever it does not read
            found.append({"error": f"{type(error).__name__}: {error}"})
    json.dump(found, printed)


if __name__ == "__main__":
    main(*sys.argv[1:])
