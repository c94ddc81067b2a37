"""Make the OME-XML that describes the images of a copy, from the metadata beside it. Pure.

It follows the schema 2016-06, https://www.openmicroscopy.org/Schemas/OME/2016-06/ome.xsd, with
``MetadataOnly`` in the place of pixels, as https://ngff.openmicroscopy.org/0.5/#bf2raw requires.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import reduce
from typing import Any
from xml.etree.ElementTree import Element, SubElement, indent, tostring
from xml.sax.saxutils import quoteattr

import numpy as np

from cloudimg.migration.metadata.facts import ImageFacts
from cloudimg.migration.metadata.units import is_length, symbol_of
from cloudimg.migration.plan.plan import Plan
from cloudimg.migration.plan.plate import Plate, in_order
from cloudimg.tiff.colours.channels import WHITE

_NAMESPACE = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
_PIXEL_TYPES = {
    "b1": "bit", "i1": "int8", "i2": "int16", "i4": "int32", "u1": "uint8", "u2": "uint16",
    "u4": "uint32", "f4": "float", "f8": "double", "c8": "complex", "c16": "double-complex",
}  # fmt: skip
"""By NumPy type,
https://www.openmicroscopy.org/Schemas/Documentation/Generated/OME-2016-06/ome_xsd.html#PixelType"""
_DIMS = ("t", "c", "z", "y", "x")
_NOT_IN_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML lacks, https://www.w3.org/TR/xml/#charsets."""
_DATE_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)?")


def pixel_type(dtype: np.dtype[Any]) -> str | None:
    """Type of pixels in OME-XML; None if it has none, as for integers of 64 bits and float16."""
    return _PIXEL_TYPES.get(dtype.str[1:])


def ome_document(facts: ImageFacts, images: Iterable[bytes], plate: bytes = b"") -> bytes:
    """OME-XML of all images of a copy.

    Parameters
    ----------
    facts : ImageFacts
    images : iterable of bytes
        What `image_element` returns for each image, in the order of the collection.
    plate : bytes, optional
        What `plate_element` returns, if the images are those of a plate.
    """
    creator = _clean(f"cloudimg {facts.provenance.get('cloudimg', '')}".strip())
    head = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<OME xmlns="{_NAMESPACE}" Creator={quoteattr(creator)}>\n'
    )
    return b"".join([head.encode(), plate, *images, b"</OME>\n"])


def image_element(
    plan: Plan, facts: ImageFacts, number: int, attributes: Mapping[str, Any]
) -> bytes:
    """Element of OME-XML that describes one image.

    Parameters
    ----------
    plan : Plan
        With a type of pixels that OME-XML has.
    facts : ImageFacts
    number : int
        Position of the image in the collection.
    attributes : mapping
        Attributes of the image in OME-Zarr: ``multiscales``, and ``omero`` unless it is labels.
    """
    multiscale = attributes["multiscales"][0]
    image = Element("Image", {"ID": f"Image:{number}", "Name": _clean(multiscale["name"])})
    acquired = facts.attrs.get("acquired")
    if isinstance(acquired, str) and _DATE_TIME.fullmatch(acquired):
        SubElement(image, "AcquisitionDate").text = acquired
    sizes = _sizes(plan)
    pixels = SubElement(
        image,
        "Pixels",
        {
            "ID": f"Pixels:{number}",
            # The dims t, c, z, y, x in C order, the fastest one first.
            "DimensionOrder": "XYZCT",
            "Type": _PIXEL_TYPES[np.dtype(plan.dtype).str[1:]],
            **_significant_bits(plan, facts),
            "BigEndian": "false",
            **{f"Size{letter}": str(sizes[letter]) for letter in "XYZCT"},
            **_distances(plan, facts),
        },
    )
    shown = attributes.get("omero", {}).get("channels", ())
    for channel, name in enumerate(_channel_names(plan, facts, sizes["C"], shown)):
        identity = {"ID": f"Channel:{number}:{channel}", "Name": _clean(name)}
        colour = str(_rgba(shown[channel]["color"] if channel < len(shown) else WHITE))
        SubElement(pixels, "Channel", {**identity, "SamplesPerPixel": "1", "Color": colour})
    SubElement(pixels, "MetadataOnly")
    position = _position(facts, multiscale)
    if position:
        SubElement(pixels, "Plane", {"TheZ": "0", "TheT": "0", "TheC": "0", **position})
    return _indented(image)


def plate_element(plan: Plan, plate: Plate, facts: ImageFacts) -> bytes:
    """Element of OME-XML that says which images are the fields of which wells.

    Parameters
    ----------
    plan : Plan
    plate : Plate
        Of the plan.
    facts : ImageFacts
    """
    samples: dict[int, list[tuple[int, int]]] = {well: [] for well in plate.listed()}
    for image, number in enumerate(filter(plan.is_listed, range(plan.n_images))):
        well, field = plate.place(number)
        samples[well].append((field, image))
    names = {well: plate.wells[well].split("/") for well in samples}
    rows, columns = (_indices(each) for each in zip(*names.values(), strict=True))
    has_letters = any(row.isalpha() for row in rows)
    element = Element(
        "Plate",
        {
            "ID": "Plate:0",
            "Name": _clean(facts.name or "plate"),
            "ColumnNamingConvention": "number",
            "RowNamingConvention": "letter" if has_letters else "number",
        },
    )
    n_fields = plate.n_of_well // plate.n_acquisitions
    of_acquisition: list[list[int]] = [[] for _ in range(plate.n_acquisitions)]
    for well, found in samples.items():
        row, column = names[well]
        place = {"Row": str(rows[row]), "Column": str(columns[column])}
        parent = SubElement(element, "Well", {"ID": f"Well:0:{well}", **place})
        for field, image in sorted(found):
            of_acquisition[field // n_fields].append(image)
            sample = {"ID": f"WellSample:0:{image}", "Index": str(image)}
            SubElement(
                SubElement(parent, "WellSample", sample), "ImageRef", {"ID": f"Image:{image}"}
            )
    if plate.acquisition_dim is not None:
        for number, images in enumerate(of_acquisition):
            run = {"ID": f"PlateAcquisition:0:{number}", "MaximumFieldCount": str(n_fields)}
            parent = SubElement(element, "PlateAcquisition", run)
            for image in images:
                SubElement(parent, "WellSampleRef", {"ID": f"WellSample:0:{image}"})
    return _indented(element)


def _indices(names: Sequence[str]) -> dict[str, int]:
    """Where rows or columns lie on a plate, from zero: 3 and C are the third."""
    if all(name.isdecimal() for name in names):
        first = min(1, *map(int, names))
        return {name: int(name) - first for name in names}
    if all(name.isalpha() for name in names):  # after Z comes AA
        numbers = ((name, [ord(letter) - 64 for letter in name.upper()]) for name in names)
        return {name: reduce(lambda n, m: 26 * n + m, each) - 1 for name, each in numbers}
    return {name: i for i, name in enumerate(in_order(names))}


def _indented(element: Element) -> bytes:
    indent(element, level=1)
    return b"  " + tostring(element, encoding="unicode").strip().encode() + b"\n"


def _sizes(plan: Plan) -> dict[str, int]:
    """Length of each axis of OME-XML; an axis that it lacks takes the place of the channels."""
    sizes = dict.fromkeys("XYZCT", 1)
    for dim, length in zip(plan.dims, plan.levels[0].shape, strict=True):
        sizes[dim.upper() if dim in _DIMS else "C"] = length
    return sizes


def _significant_bits(plan: Plan, facts: ImageFacts) -> dict[str, str]:
    n_bits = None if facts.colours is None else facts.colours.n_bits
    is_integer = np.dtype(plan.dtype).kind in "iu"
    return {"SignificantBits": str(n_bits)} if n_bits and is_integer else {}


def _distances(plan: Plan, facts: ImageFacts) -> dict[str, str]:
    """Distances between pixels, as far as their units are known."""
    found: dict[str, str] = {}
    for dim in ("x", "y", "z", "t"):
        size, unit = facts.scales.get(dim, (0.0, None))
        symbol = symbol_of(unit) if is_length(unit) == (dim != "t") else None
        if dim in plan.dims and symbol is not None and size > 0:
            name = "TimeIncrement" if dim == "t" else f"PhysicalSize{dim.upper()}"
            found |= {name: repr(float(size)), f"{name}Unit": symbol}
    return found


def _position(facts: ImageFacts, multiscale: Mapping[str, Any]) -> dict[str, str]:
    """Position of the first pixel in space, as far as it and its unit are known."""
    transforms = multiscale["datasets"][0]["coordinateTransformations"]
    moved = next((each["translation"] for each in transforms if "translation" in each), ())
    found: dict[str, str] = {}
    for axis, at in zip(multiscale["axes"], moved, strict=False):
        dim, symbol = axis["name"], symbol_of(axis.get("unit"))
        is_known = dim in facts.origins or dim in facts.image_origins
        if is_known and symbol is not None and axis["type"] == "space":
            name = f"Position{dim.upper()}"
            found |= {name: repr(float(at)), f"{name}Unit": symbol}
    return found


def _channel_names(
    plan: Plan, facts: ImageFacts, n_channels: int, shown: Sequence[Mapping[str, Any]]
) -> list[str]:
    """Names of the channels, or of the steps along the axis that takes their place."""
    other = [dim for dim in plan.dims if dim not in _DIMS]
    if other:
        labels = facts.coordinates(other[0])
        steps = labels if len(labels) == n_channels else range(n_channels)
        return [f"{other[0]}={step}" for step in steps]
    names = [str(each["label"]) for each in shown]
    return names if len(names) == n_channels else [f"channel {i}" for i in range(n_channels)]


def _rgba(colour: str) -> int:
    """An opaque colour, RRGGBB, as a signed integer of 32 bits, RGBA."""
    value = int(colour, 16) << 8 | 255
    return value - 2**32 if value >= 2**31 else value


def _clean(text: str) -> str:
    return _NOT_IN_XML.sub("\ufffd", text)
