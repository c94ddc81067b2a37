"""OME-XML: schemas 2008-02 to 2016-06 of the Open Microscopy Environment."""

from __future__ import annotations

from collections import defaultdict

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
)
from cloudimg.tiff.flavours.markup import (
    Element,
    child,
    children,
    descendants,
    local_name,
    parse_xml,
    text_of,
)

_NO_LENGTH = "reference frame"
"""The schema's default unit of positions, which has no length."""
_MAX_LABELS = 2**20


def read_ome(source: MetadataSource) -> HeaderFacts:
    """From an Image: Pixels, Channels, Planes, ObjectiveSettings, and its modulo annotation.

    The defaults of units are those of schema 2016-06: micrometres, seconds, and "reference frame"
    for positions.
    """
    facts = HeaderFacts()
    root = parse_xml(source.tiff.ome_metadata or source.first.description)
    image, is_own = _image_of(root, source)
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
    facts.put("magnification", _magnification(root, image))
    if is_own:
        channels = children(pixels, "Channel")
        facts.put_channels(
            [channel.get("Name") for channel in channels],
            [_color(channel.get("Color")) for channel in channels],
        )
        _planes(pixels, facts)
        _modulo(root, image, source, facts)
    return facts


def _image_of(root: Element, source: MetadataSource) -> tuple[Element | None, bool]:
    """The Image that a series is, and whether the series is all of it.

    tifffile leaves out images without pixels, so that the number alone may lead astray. One file
    of a set that is read alone has the pixels of a part of an image.
    """
    images = [image for image in children(root, "Image") if child(image, "Pixels") is not None]
    if source.series.kind == "ome":
        if len(images) == len(source.tiff.series):
            return images[source.index], True
        images = [image for image in images if image.get("Name") == source.series.name]
    elif not source.is_main:
        return None, False
    is_own = len(images) == 1 and source.series.kind in ("ome", "mmstack")
    return (images[0], is_own) if len(images) == 1 or _is_alike(images) else (None, False)


def _is_alike(images: list[Element]) -> bool:
    """Whether images, positions of one acquisition for example, have pixels of the same size."""
    sizes = set()
    for image in images:
        pixels = child(image, "Pixels")
        known = pixels.attrib.items() if pixels is not None else ()
        sizes.add(tuple(sorted(pair for pair in known if pair[0].startswith("Physical"))))
    return len(sizes) == 1


def _color(text: str | None) -> int | None:
    """A signed integer of 32 bits, which some programs write without its sign."""
    value = number(text)
    if value is None or not -(2**31) <= value < 2**32:
        return None
    return int(value) - 2**32 if value >= 2**31 else int(value)


def _acquisition_date(image: Element) -> str:
    # Schemas before 2012-06 call it CreationDate.
    return text_of(child(image, "AcquisitionDate")) or text_of(child(image, "CreationDate"))


def _magnification(root: Element, image: Element) -> float | None:
    """Of the objective that the image names, or of the only one in the file."""
    objectives = list(descendants(root, "Objective"))
    settings = child(image, "ObjectiveSettings")
    if settings is None:
        settings = child(image, "ObjectiveRef")  # before schema 2008-09
    if settings is not None:
        objectives = [each for each in objectives if each.get("ID") == settings.get("ID")]
    if len(objectives) != 1:
        return None
    found = objectives[0].get("NominalMagnification") or objectives[0].get(
        "CalibratedMagnification"
    )
    return positive(found)


def _planes(pixels: Element, facts: HeaderFacts) -> None:
    """Stage position of the first plane; times and depths where each step has exactly one."""
    planes = children(pixels, "Plane")
    if not planes:
        return
    first = planes[0]
    facts.put_stage(
        first.get("PositionX"), first.get("PositionY"), first.get("PositionXUnit", _NO_LENGTH)
    )
    if facts.stage:
        y_unit = HeaderFacts()
        y_unit.put_stage(0, 0, first.get("PositionYUnit", _NO_LENGTH))
        facts.stage["y"] = (facts.stage["y"][0], y_unit.stage["y"][1])
    times, depths = defaultdict(set), defaultdict(set)
    depth_unit = facts.sizes["z"][1] if "z" in facts.sizes else MICROMETRE
    for plane in planes:
        delta = seconds(plane.get("DeltaT"), plane.get("DeltaTUnit", "s"))
        times[plane.get("TheT")].add(delta)
        depths[plane.get("TheZ")].add(_depth(plane, depth_unit))
    facts.put_coord("t", _in_order(times, pixels.get("SizeT")))
    facts.put_coord("z", _in_order(depths, pixels.get("SizeZ")))


def _depth(plane: Element, unit: str) -> float | None:
    """Position along z in the unit of the pixels; without a length as it is written."""
    position = number(plane.get("PositionZ"))
    own_unit = plane.get("PositionZUnit", _NO_LENGTH)
    if position is None or own_unit in (_NO_LENGTH, unit):
        return position
    length, one = micrometres(position, own_unit), micrometres(1.0, unit)
    return length / one if length is not None and one is not None else None


def _in_order(found: dict[str | None, set[float | None]], length: str | None) -> list[float]:
    """The one value of each step along an axis; nothing where a step has none or several.

    A stage that was not moved says the same of every plane, and is no coordinate.
    """
    size = int(length or 0)
    steps = [found.get(str(i), set()) for i in range(size if size <= len(found) else 0)]
    values = [value for step in steps for value in step if value is not None]
    complete = len(values) == len(steps) and all(len(step) == 1 for step in steps)
    return values if complete and is_monotone(values) else []


def _modulo(root: Element, image: Element, source: MetadataSource, facts: HeaderFacts) -> None:
    """Coordinates of a dimension that is folded into z, c or t ("6D, 7D and 8D storage")."""
    import tifffile

    linked = {reference.get("ID") for reference in children(image, "AnnotationRef")}
    for annotation in descendants(root, "XMLAnnotation"):
        name = annotation.get("Namespace", "")
        if annotation.get("ID") not in linked or not name.endswith("modulo"):
            continue
        for along in annotation.iter():
            if local_name(along)[:-1] == "ModuloAlong":
                letter = tifffile.TIFF.AXES_CODES.get(along.get("Type", "other"))
                facts.put_coord(source.dim(letter) if letter else None, _steps(along))


def _steps(along: Element) -> list[float | str]:
    start, stop = number(along.get("Start")), number(along.get("End"))
    step = number(along.get("Step", "1"))
    if start is not None and stop is not None and step:
        count = round((stop - start) / step) + 1
        return [start + i * step for i in range(count)] if 0 < count <= _MAX_LABELS else []
    return [text_of(label) or label.get("Text", "") for label in children(along, "Label")]
