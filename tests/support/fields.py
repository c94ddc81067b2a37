"""OME-TIFFs that say where and when their planes were taken."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

PLANE = np.arange(12 * 20, dtype=np.uint8).reshape(12, 20)
OME = "http://www.openmicroscopy.org/Schemas/OME/2016-06"


def ome(
    path: Path,
    number: int,
    *,
    date: str = "",
    unit: str = ' PositionXUnit="mm" PositionYUnit="mm" PositionZUnit="nm"',
    **plane: float,
) -> None:
    """An OME-TIFF of one plane, with the attributes of its Plane element."""
    said = "".join(f' {name}="{value}"' for name, value in plane.items())
    date = date or f"2024-05-01T10:00:{number % 60:02d}"
    xml = (
        f'<?xml version="1.0" encoding="UTF-8"?><OME xmlns="{OME}">'
        '<Instrument ID="Instrument:0"><Objective ID="Objective:0" Model="Plan Apo 20x"'
        ' NominalMagnification="20"/></Instrument>'
        f'<Image ID="Image:0" Name="field {number}"><AcquisitionDate>{date}</AcquisitionDate>'
        '<ObjectiveSettings ID="Objective:0"/><Pixels ID="Pixels:0" DimensionOrder="XYCZT"'
        f' Type="uint8" SizeX="{PLANE.shape[1]}" SizeY="{PLANE.shape[0]}" SizeZ="1" SizeC="1"'
        ' SizeT="1"><Channel ID="Channel:0:0" Name="GFP" SamplesPerPixel="1"/>'
        f'<TiffData IFD="0" PlaneCount="1"/><Plane TheZ="0" TheC="0" TheT="0"{said}{unit}/>'
        "</Pixels></Image></OME>"
    )
    tifffile.imwrite(path, PLANE, description=xml.encode(), metadata=None)


def write_dataset(folder: Path, *, still: bool, modulo: bool = False) -> np.ndarray[Any, Any]:
    """An OME-TIFF set of a file for each time, with the first plane's metadata missing."""
    sizes = {"T": 3, "C": 2, "Z": 4}
    channels = "".join(f'<Channel ID="Channel:0:{c}" Name="c{c}"/>' for c in range(2))
    data, planes = "", ""
    for t, c, z in np.ndindex(3, 2, 4):
        name = f"t{t}.ome.tif"
        data += (
            f'<TiffData FirstT="{t}" FirstC="{c}" FirstZ="{z}" IFD="{4 * c + z}" PlaneCount="1">'
            f'<UUID FileName="{name}">urn:uuid:{t:032x}</UUID></TiffData>'
        )
        if (t, c, z) != (0, 0, 1):
            planes += (
                f'<Plane TheT="{t}" TheC="{c}" TheZ="{z}" DeltaT="{10 * t + c}"'
                f' ExposureTime="{0.1 * (c + 1)}" PositionX="{1 if still else t}" PositionY="2"'
                f' PositionZ="{z}" PositionXUnit="µm" PositionYUnit="µm" PositionZUnit="µm"/>'
            )
    annotation = reference = ""
    if modulo:
        reference = '<AnnotationRef ID="Annotation:0"/>'
        annotation = (
            '<StructuredAnnotations><XMLAnnotation ID="Annotation:0"'
            ' Namespace="openmicroscopy.org/omero/dimension/modulo"><Value><Modulo>'
            '<ModuloAlongZ Type="angle" Start="0" End="90" Step="90"/></Modulo></Value>'
            "</XMLAnnotation></StructuredAnnotations>"
        )
    sizes_xml = " ".join(f'Size{letter}="{n}"' for letter, n in sizes.items())
    pixels = np.random.default_rng(3).integers(0, 99, (3, 2, 4, *PLANE.shape), np.uint8)
    for t in range(3):
        xml = (
            f'<?xml version="1.0" encoding="UTF-8"?><OME xmlns="{OME}" UUID="urn:uuid:{t:032x}">'
            '<Image ID="Image:0" Name="run"><AcquisitionDate>2024-05-01T10:00:00</AcquisitionDate>'
            f'{reference}<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8"'
            f' SizeX="{PLANE.shape[1]}" SizeY="{PLANE.shape[0]}" {sizes_xml}>'
            f"{channels}{data}{planes}</Pixels></Image>{annotation}</OME>"
        )
        with tifffile.TiffWriter(folder / f"t{t}.ome.tif") as tiff:
            for i, plane in enumerate(pixels[t].reshape(-1, *PLANE.shape)):
                tiff.write(
                    plane,
                    description=xml.encode() if i == 0 else None,
                    metadata=None,
                    contiguous=False,
                    datetime=f"2024:05:0{t + 1} 11:00:00",
                )
    return pixels


def ome_stack(
    path: Path,
    sizes: Mapping[str, int],
    said: Callable[[Mapping[str, int]], Mapping[str, object] | None],
    *,
    channels: Sequence[str] = (),
    date: str = "2024-05-01T10:00:00",
    pixel_um: float | None = None,
) -> None:
    """An OME-TIFF of several planes.

    Parameters
    ----------
    path : Path
    sizes : mapping
        Lengths along T, C and Z, slowest first.
    said : callable
        Returns the attributes of the Plane element of a plane, by its numbers along the axes; None
        if it has none.
    channels : sequence of str
        Names of the channels.
    date : str
    pixel_um : float, optional
        Size of a pixel.
    """
    planes = ""
    for at in np.ndindex(*sizes.values()):
        of_plane = dict(zip(sizes, at, strict=True))
        if (attrs := said(of_plane)) is not None:
            steps = {f"The{letter}": of_plane.get(letter, 0) for letter in "ZCT"}
            planes += f"<Plane{xml_attributes({**steps, **attrs})}/>"
    named = "".join(
        f"<Channel{xml_attributes({'ID': f'Channel:0:{c}', 'Name': name, 'SamplesPerPixel': 1})}/>"
        for c, name in enumerate(channels)
    )
    lengths: dict[str, object] = {f"Size{letter}": sizes.get(letter, 1) for letter in "ZCT"}
    if pixel_um is not None:
        lengths |= {"PhysicalSizeX": pixel_um, "PhysicalSizeY": pixel_um}
    order = "XY" + "".join(reversed([*(letter for letter in "TCZ" if letter not in sizes), *sizes]))
    xml = (
        f'<?xml version="1.0" encoding="UTF-8"?><OME xmlns="{OME}"><Image ID="Image:0" Name="run">'
        f'<AcquisitionDate>{date}</AcquisitionDate><Pixels ID="Pixels:0" DimensionOrder="{order}"'
        f' Type="uint8" SizeX="{PLANE.shape[1]}" SizeY="{PLANE.shape[0]}"{xml_attributes(lengths)}>'
        f"{named}<TiffData/>{planes}</Pixels></Image></OME>"
    )
    with tifffile.TiffWriter(path) as tiff:
        for number in range(int(np.prod(list(sizes.values()), dtype=int))):
            text = xml.encode() if number == 0 else None
            tiff.write(PLANE, description=text, metadata=None, contiguous=False)


def xml_attributes(attrs: Mapping[str, object]) -> str:
    """The attributes of an element."""
    return "".join(f' {name}="{value}"' for name, value in attrs.items())
