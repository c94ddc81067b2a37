"""OME-XML: schemas 2008-02 to 2016-06 of the Open Microscopy Environment."""

from __future__ import annotations

import numpy as np

from cloudimg.tiff.flavours.facts import (
    MICROMETRE,
    HeaderFacts,
    MetadataSource,
    is_monotone,
    iso_time,
    number,
    positive,
    seconds,
    unit_name,
)
from cloudimg.tiff.flavours.ome_planes import NO_LENGTH, depths, plane_columns
from cloudimg.tiff.flavours.planes import Column
from cloudimg.tiff.markup import Element, child, children, descendants, text_of
from cloudimg.tiff.ome_xml import labels_of, read_ome_xml

_MAX_LABELS = 2**20


def read_ome(source: MetadataSource) -> HeaderFacts:
    """Read an Image element: Pixels, Channel, Plane, ObjectiveSettings and modulo annotation.

    Default units are those of schema 2016-06: micrometres, seconds, and "reference frame" for
    positions.
    """
    facts = HeaderFacts()
    xml = source.tiff.ome_metadata or source.first.description
    root = read_ome_xml(xml, tiff_data=False).root
    image, is_whole = _image_of(root, source)
    pixels = child(image, "Pixels")
    if image is None or pixels is None:
        return facts
    for dim in "xyz":
        size = pixels.get(f"PhysicalSize{dim.upper()}")
        unit = pixels.get(f"PhysicalSize{dim.upper()}Unit", MICROMETRE)
        if unit != NO_LENGTH:
            facts.put_size(dim, size, unit)
    step = seconds(pixels.get("TimeIncrement"), pixels.get("TimeIncrementUnit", "s"))
    facts.put("time_step_s", positive(step))
    facts.put("acquired", iso_time(_acquisition_date(image)))
    _objective(root, image, facts)
    if is_whole:
        channels = children(pixels, "Channel")
        facts.put_channels(
            [channel.get("Name") for channel in channels],
            [_color(channel.get("Color")) for channel in channels],
        )
        _planes(pixels, facts)
        _modulo(root, image, source, facts)
    return facts


def _image_of(root: Element, source: MetadataSource) -> tuple[Element | None, bool]:
    """The Image element of a series, and whether the series is the whole of that image.

    tifffile leaves out images without pixels, so the number of the series does not always identify
    the element. A file of a multi-file dataset that is read alone has only a part of an image.
    """
    images = [image for image in children(root, "Image") if child(image, "Pixels") is not None]
    if source.series.kind == "ome":
        if len(images) == len(source.tiff.series):
            return images[source.index], True
        images = [image for image in images if image.get("Name") == source.series.name]
    elif not source.is_main:
        return None, False
    is_whole = len(images) == 1 and source.series.kind in ("ome", "mmstack")
    return (images[0], is_whole) if len(images) == 1 or _same_sizes(images) else (None, False)


def _same_sizes(images: list[Element]) -> bool:
    """Whether all images, for example the positions of an acquisition, have the same pixel size."""
    sizes = set()
    for image in images:
        pixels = child(image, "Pixels")
        attrs = pixels.attrib.items() if pixels is not None else ()
        sizes.add(tuple(sorted(pair for pair in attrs if pair[0].startswith("Physical"))))
    return len(sizes) == 1


def _color(text: str | None) -> int | None:
    """A colour as a signed 32-bit integer, which some programs write as unsigned."""
    value = number(text)
    if value is None or not -(2**31) <= value < 2**32:
        return None
    return int(value) - 2**32 if value >= 2**31 else int(value)


def _acquisition_date(image: Element) -> str:
    # Schemas before 2012-06 call it CreationDate.
    return text_of(child(image, "AcquisitionDate")) or text_of(child(image, "CreationDate"))


def _objective(root: Element, image: Element, facts: HeaderFacts) -> None:
    """Read the objective that the image refers to, or the only one in the file."""
    objectives = list(descendants(root, "Objective"))
    settings = child(image, "ObjectiveSettings")
    if settings is None:
        settings = child(image, "ObjectiveRef")  # before schema 2008-09
    if settings is not None:
        objectives = [each for each in objectives if each.get("ID") == settings.get("ID")]
    if len(objectives) == 1:
        nominal = objectives[0].get("NominalMagnification")
        calibrated = objectives[0].get("CalibratedMagnification")
        facts.put("magnification", positive(nominal or calibrated))
        facts.put("objective", objectives[0].get("Model", "").strip())


def _planes(pixels: Element, facts: HeaderFacts) -> None:
    """Where and when planes were taken; times and depths if each step has exactly one."""
    planes = children(pixels, "Plane")
    if not planes:
        return
    names = [channel.get("Name") or "" for channel in children(pixels, "Channel")]
    facts.planes = found = plane_columns(planes, names if all(names) else [])
    _stage(planes[0], facts)
    elapsed, exposures = found.columns["elapsed_s"], found.columns["exposure_s"]
    facts.put("elapsed_s", number(elapsed[0]))
    if (exposures == exposures[0]).all():
        facts.put("exposure_s", float(exposures[0]))
    for dim in "xyz":
        if len({plane.get(f"Position{dim.upper()}") for plane in planes} - {None}) > 1:
            facts.moving.add(dim)
    depth_unit = facts.sizes["z"][1] if "z" in facts.sizes else MICROMETRE
    facts.put_coord("t", _in_order(found.at["T"], elapsed, pixels.get("SizeT")))
    facts.put_coord("z", _in_order(found.at["Z"], depths(planes, depth_unit), pixels.get("SizeZ")))


def _stage(plane: Element, facts: HeaderFacts) -> None:
    """Read the stage position of a plane."""
    x_unit, y_unit, z_unit = (plane.get(f"Position{dim}Unit", NO_LENGTH) for dim in "XYZ")
    facts.put_stage(plane.get("PositionX"), plane.get("PositionY"), x_unit)
    if "y" in facts.stage:
        facts.stage["y"] = (facts.stage["y"][0], unit_name(y_unit) or y_unit)
    facts.put_stage_z(plane.get("PositionZ"), z_unit)


def _in_order(steps: Column, values: Column, length: str | None) -> list[float]:
    """The value of each step along an axis; empty if any step has none or several.

    Positions of a stage that did not move are equal for all planes and are not coordinates.
    """
    size = int(length or 0)
    if not 0 < size <= len(steps):
        return []
    of_step = np.full(size, np.nan)
    is_inside = (steps >= 0) & (steps < size)
    of_step[steps[is_inside]] = values[is_inside]
    # NaN equals nothing, so a plane without a value leaves its step without one.
    is_same = (of_step[steps[is_inside]] == values[is_inside]).all()
    found: list[float] = of_step.tolist()
    return found if is_same and not np.isnan(of_step).any() and is_monotone(found) else []


def _modulo(root: Element, image: Element, source: MetadataSource, facts: HeaderFacts) -> None:
    """Coordinates of an axis that is folded into z, c or t ("6D, 7D and 8D storage")."""
    import tifffile

    linked = {reference.get("ID") for reference in children(image, "AnnotationRef")}
    for annotation in descendants(root, "XMLAnnotation"):
        if annotation.get("ID") not in linked:
            continue
        for along in annotation.iter():
            if along.tag[:-1] == "ModuloAlong":
                letter = tifffile.TIFF.AXES_CODES.get(along.get("Type", "other"))
                facts.put_coord(source.dim(letter) if letter else None, _steps(along))


def _steps(along: Element) -> list[float | str]:
    start, stop = number(along.get("Start")), number(along.get("End"))
    step = number(along.get("Step", "1"))
    if start is not None and stop is not None and step:
        count = round((stop - start) / step) + 1
        return [start + i * step for i in range(count)] if 0 < count <= _MAX_LABELS else []
    return list(labels_of(along))
