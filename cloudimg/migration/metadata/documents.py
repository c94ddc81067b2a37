"""Make every metadata object of a copy, as bytes. Pure; depends only on the plan and the facts.

Copies follow OME-Zarr 0.5 on Zarr 3 (https://ngff.openmicroscopy.org/0.5/) or 0.4 on Zarr 2
(https://ngff.openmicroscopy.org/0.4/). Several images form a collection with the layout
bioformats2raw.layout 3: groups "0", "1", ... and "OME", which lists them in order. The fields of a
plate lie in groups of rows and wells.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from cloudimg.migration.encode.histogram import Histogram
from cloudimg.migration.metadata.companions import documents_of_companions
from cloudimg.migration.metadata.facts import ImageFacts
from cloudimg.migration.metadata.image_attributes import (
    Histograms,
    image_attributes,
    own_attributes,
)
from cloudimg.migration.metadata.ome_folder import METADATA, OmeFolder
from cloudimg.migration.metadata.ome_xml import image_element, ome_document, pixel_type
from cloudimg.migration.metadata.plate_groups import plate_attributes, well_attributes
from cloudimg.migration.metadata.source_xml import SourceXml
from cloudimg.migration.metadata.zarr_nodes import (
    VERSIONS,
    array_2,
    array_3,
    array_nodes,
    as_document,
    group_nodes,
    ome_attributes,
)
from cloudimg.migration.plan.overview import PATH, Overview
from cloudimg.migration.plan.plan import Plan
from cloudimg.migration.plan.plate import Plate, in_order


def documents(
    plan: Plan, facts: ImageFacts, histograms: Histograms, sources: Sequence[SourceXml] = ()
) -> list[tuple[str, bytes]]:
    """Keys below the destination and their bytes, in the order in which they must be written.

    The document of the root is last, so that an unfinished copy does not look like a finished one.
    """
    return [
        (key, content if isinstance(content, bytes) else as_document(content))
        for key, content in _documents(plan, facts, histograms, sources)
    ]


def _documents(
    plan: Plan, facts: ImageFacts, histograms: Histograms, sources: Sequence[SourceXml]
) -> Iterator[tuple[str, Any]]:
    # All images have the same array metadata.
    arrays = [
        [(key, as_document(each)) for key, each in array_nodes(plan, facts, level)]
        for level in range(len(plan.levels))
    ]
    for image in range(plan.n_images):
        for level, found in enumerate(arrays):
            for key, data in found:
                yield f"{plan.array_path(image, level)}/{key}", data
    folder, root = OmeFolder(plan, facts, sources), dict[str, Any]()
    for image in range(plan.n_images):
        attributes = image_attributes(plan, facts, image, histograms)
        root = root or attributes
        if plan.is_listed(image):
            folder.add(attributes)
        if plan.lead_dims:
            yield from group_nodes(plan, plan.image_path(image), attributes)
    of_folder = list(folder.documents())
    yield from of_folder
    yield from documents_of_companions(facts.companions)
    if plan.lead_dims:
        listed = filter(plan.is_listed, range(plan.n_images))
        series = ome_attributes(plan, {"series": [plan.image_path(image) for image in listed]})
        yield from group_nodes(plan, "OME", {**series, **folder.attributes()})
        yield from _collection(plan, facts, root)
    else:
        if of_folder:
            yield from group_nodes(plan, "OME", folder.attributes())
        yield from group_nodes(plan, "", root)


def _collection(
    plan: Plan, facts: ImageFacts, first: Mapping[str, Any]
) -> Iterator[tuple[str, Any]]:
    """Groups above those of images, given the attributes of the first image."""
    if plan.plate is None:
        ome = _layout(plan.image_path(0), {} if facts.is_of_older else first)
    else:
        version = VERSIONS[plan.zarr_format]
        ome = plate_attributes(plan.plate, facts, version)
        yield from _wells(
            plan, plan.plate, ome_attributes(plan, well_attributes(plan.plate, version))
        )
    yield from group_nodes(
        plan, "", {**ome_attributes(plan, ome), "cloudimg": own_attributes(plan, facts, None)}
    )


def _layout(path: str, attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes of OME-Zarr of the root of a collection.

    They have the first image, too, since programs that do not know the layout otherwise open
    nothing.

    Parameters
    ----------
    path : str
        Path of the first image.
    attributes : mapping
        Attributes of its group; none in copies of older versions.
    """
    ome = attributes.get("ome", attributes)
    shown = {name: ome[name] for name in ("multiscales", "omero") if name in ome}
    if "multiscales" in shown:
        (image,) = shown["multiscales"]
        datasets = [{**each, "path": f"{path}/{each['path']}"} for each in image["datasets"]]
        shown["multiscales"] = [{**image, "datasets": datasets}]
    return {"bioformats2raw.layout": 3, **shown}


def _wells(plan: Plan, plate: Plate, well: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Groups of the wells and rows of a plate."""
    for path in plate.wells:
        yield from group_nodes(plan, path, well)
    for row in in_order(path.partition("/")[0] for path in plate.wells):
        yield from group_nodes(plan, row, {})


def overview_documents(
    plan: Plan, facts: ImageFacts, histograms: Histograms, overview: Overview
) -> list[tuple[str, bytes]]:
    """Documents of the overview, an image of its own in the folder ``overview``."""
    of_all: dict[tuple[int, int], Histogram] = {}
    for (_, channel), each in histograms.items():
        before = of_all.get((0, channel))
        of_all[0, channel] = each if before is None else before.merge(each)
    attributes = image_attributes(plan, facts, 0, of_all)
    ome = attributes.get("ome", attributes)
    (image,) = ome["multiscales"]
    kept = [i for i, dim in enumerate(plan.dims) if dim in overview.dims]
    scale = image["datasets"][-1]["coordinateTransformations"][0]["scale"]
    factors = {"y": overview.factor, "x": overview.factor}
    scales = [scale[i] * factors.get(plan.dims[i], 1) for i in kept]
    transforms = [{"type": "scale", "scale": scales}]
    name = f"{facts.name or 'image'} overview"
    multiscale = {
        **image,
        "name": name,
        "axes": [image["axes"][i] for i in kept],
        "datasets": [{"path": "0", "coordinateTransformations": transforms}],
    }
    omero = ome.get("omero", {})
    rdefs = {**omero.get("rdefs", {}), "defaultZ": 0}
    shown = {"omero": {**omero, "name": name, "rdefs": rdefs}} if omero else {}
    of_group = {
        **ome_attributes(plan, {"multiscales": [multiscale], **shown}),
        "cloudimg": {"tile": list(overview.tile)},
    }
    shape = list(overview.shape)
    if plan.zarr_format == 3:
        key, array = (
            "zarr.json",
            {
                **array_3(plan, 0),
                "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": shape}},
                "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
                "dimension_names": list(overview.dims),
            },
        )
    else:
        plain = {"chunks": shape, "compressor": None, "filters": None}
        key, array = ".zarray", {**array_2(plan, 0), **plain}
    found = [(f"{PATH}/0/{key}", {**array, "shape": shape}), *group_nodes(plan, PATH, of_group)]
    if plan.zarr_format == 2:
        found.insert(0, (f"{PATH}/0/.zattrs", {"_ARRAY_DIMENSIONS": list(overview.dims)}))
    return [(each, as_document(content)) for each, content in found]


def collection_documents(
    images: Sequence[tuple[str, Plan, ImageFacts]], histograms: Histograms
) -> list[tuple[str, bytes]]:
    """Documents of a collection of copies, in the order of `documents`.

    Parameters
    ----------
    images : sequence of tuple
        Folder, plan and facts of each copy; there is at least one, and all have one version of
        Zarr. A copy of several images is several images of the collection.
    histograms : mapping
        Histograms of the first copy.
    """
    plan, series, own = images[0][1], list[str](), list[dict[str, Any]]()
    elements: list[bytes] | None = []
    for folder, each, facts in images:
        own.append({"path": folder, "name": facts.name})
        for image in filter(each.is_listed, range(each.n_images)):
            series.append("/".join(part for part in (folder, each.image_path(image)) if part))
            if elements is not None and pixel_type(np.dtype(each.dtype)) is not None:
                attributes = image_attributes(each, facts, image, {})
                ome = attributes.get("ome", attributes)
                elements.append(image_element(each, facts, len(elements), ome))
            else:  # OME-XML describes all images or none
                elements = None
    found: list[tuple[str, Any]] = [
        *group_nodes(plan, "OME", ome_attributes(plan, {"series": series}))
    ]
    if elements is not None:
        found.insert(0, (METADATA, ome_document(images[0][2], elements)))
    layout = ome_attributes(
        plan, _layout(series[0], image_attributes(plan, images[0][2], 0, histograms))
    )
    found += group_nodes(plan, "", {**layout, "cloudimg": {"images": own}})
    return [(key, each if isinstance(each, bytes) else as_document(each)) for key, each in found]
