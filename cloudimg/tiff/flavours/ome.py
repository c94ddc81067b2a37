"""OME-XML: schemas 2008-02 to 2016-06 of the Open Microscopy Environment."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping

from cloudimg.tiff.flavours.facts import (
    MICROMETRE,
    HeaderFacts,
    MetadataSource,
    is_monotone,
    iso_time,
    micrometres,
    number,
    positive,
    seconds,
    unit_name,
)
from cloudimg.tiff.markup import Element, child, children, descendants, text_of
from cloudimg.tiff.ome_xml import labels_of, read_ome_xml

_NO_LENGTH = "reference frame"
"""The schema's default unit of positions, which is not a length."""
_MAX_LABELS = 2**20
_POSITIONS = {"x": "PositionX", "y": "PositionY", "z": "PositionZ"}


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
        if unit != _NO_LENGTH:
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


def read_planes(source: MetadataSource) -> Iterator[tuple[dict[str, int], HeaderFacts]]:
    """Yield what is said of each plane of an image, with its number along z, c and t by letter."""
    root = read_ome_xml(source.tiff.ome_metadata, tiff_data=False).root
    image, is_whole = _image_of(root, source)
    pixels = child(image, "Pixels")
    if image is None or pixels is None or not is_whole:
        return
    shared = HeaderFacts()
    shared.put("acquired", iso_time(_acquisition_date(image)))
    _objective(root, image, shared)
    names = [channel.get("Name") for channel in children(pixels, "Channel")]
    for plane in children(pixels, "Plane"):
        at = {letter: int(plane.get(f"The{letter}", -1)) for letter in "ZCT"}
        facts = HeaderFacts(attrs=dict(shared.attrs))
        _stage(plane, facts)
        facts.put("elapsed_s", _elapsed(plane))
        facts.put("exposure_s", _exposure(plane))
        if 0 <= at["C"] < len(names):
            facts.put_channels([names[at["C"]]])
        yield at, facts


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
    """Where and when the first plane was taken; times and depths if each step has exactly one."""
    planes = children(pixels, "Plane")
    if not planes:
        return
    _stage(planes[0], facts)
    facts.put("elapsed_s", _elapsed(planes[0]))
    times, depths = defaultdict(set), defaultdict(set)
    depth_unit = facts.sizes["z"][1] if "z" in facts.sizes else MICROMETRE
    for plane in planes:
        times[plane.get("TheT")].add(_elapsed(plane))
        depths[plane.get("TheZ")].add(_depth(plane, depth_unit))
    if len({(plane.get("ExposureTime"), plane.get("ExposureTimeUnit")) for plane in planes}) == 1:
        facts.put("exposure_s", _exposure(planes[0]))
    for dim, name in _POSITIONS.items():
        if len({plane.get(name) for plane in planes} - {None}) > 1:
            facts.moving.add(dim)
    facts.put_coord("t", _in_order(times, pixels.get("SizeT")))
    facts.put_coord("z", _in_order(depths, pixels.get("SizeZ")))


def _stage(plane: Element, facts: HeaderFacts) -> None:
    """Read the stage position of a plane."""
    x_unit, y_unit, z_unit = (plane.get(f"Position{dim}Unit", _NO_LENGTH) for dim in "XYZ")
    facts.put_stage(plane.get("PositionX"), plane.get("PositionY"), x_unit)
    if "y" in facts.stage:
        facts.stage["y"] = (facts.stage["y"][0], unit_name(y_unit) or y_unit)
    facts.put_stage_z(plane.get("PositionZ"), z_unit)


def _elapsed(plane: Element) -> float | None:
    """Seconds from the start of the acquisition to a plane."""
    return seconds(plane.get("DeltaT"), plane.get("DeltaTUnit", "s"))


def _exposure(plane: Element) -> float | None:
    return positive(seconds(plane.get("ExposureTime"), plane.get("ExposureTimeUnit", "s")))


def _depth(plane: Element, unit: str) -> float | None:
    """Position along z in `unit`; unchanged if its own unit is not a length."""
    position = number(plane.get("PositionZ"))
    own_unit = plane.get("PositionZUnit", _NO_LENGTH)
    if position is None or own_unit in (_NO_LENGTH, unit):
        return position
    length, one = micrometres(position, own_unit), micrometres(1.0, unit)
    return length / one if length is not None and one is not None else None


def _in_order(
    values_by_step: Mapping[str | None, set[float | None]], length: str | None
) -> list[float]:
    """The value of each step along an axis; empty if any step has none or several.

    Positions of a stage that did not move are equal for all planes and are not coordinates.
    """
    size = int(length or 0)
    if size > len(values_by_step):
        return []
    values = []
    for i in range(size):
        step = values_by_step.get(str(i), set())
        value = next(iter(step), None)
        if len(step) != 1 or value is None:
            return []
        values.append(value)
    return values if is_monotone(values) else []


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
