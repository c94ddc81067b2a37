"""Slide scanners. Label and macro images of a file do not get the sizes of the slide."""

from __future__ import annotations

import re

from cloudimg.tiff.flavours.facts import (
    MICROMETRE,
    HeaderFacts,
    MetadataSource,
    iso_time,
    magnification_in,
    number,
    positive,
    rgba,
    time_of,
)
from cloudimg.tiff.markup import (
    Element,
    child,
    children,
    descendants,
    parse_xml,
    text_of,
)

_HEX_COLOR = re.compile(r"#?([0-9a-fA-F]{2})([0-9a-fA-F]{2})([0-9a-fA-F]{2})")
_XMP_TAG = 700


def read_svs(source: MetadataSource) -> HeaderFacts:
    """Read Aperio: items separated by bars; MPP is micrometres per pixel, dates are American."""
    facts = HeaderFacts()
    if not source.is_main:
        return facts
    items = (item.partition("=") for item in source.first.description.split("|"))
    metadata = {name.strip(): value.strip() for name, _, value in items}
    for dim in "xy":
        facts.put_size(dim, metadata.get("MPP"), MICROMETRE)
    facts.put("magnification", positive(metadata.get("AppMag")))
    when = f"{metadata.get('Date', '')} {metadata.get('Time', '')}"
    facts.put("acquired", time_of(when, "%m/%d/%y %H:%M:%S", "%m/%d/%Y %H:%M:%S"))
    return facts


def read_scn(source: MetadataSource) -> HeaderFacts:
    """Read Leica SCN (namespace .../scn/2010/10/01)."""
    facts = HeaderFacts()
    root = parse_xml(source.first.description)
    # tifffile makes a series of each pixels element with dimensions, in document order.
    images = [
        (image, pixels)
        for image in descendants(root, "image")
        for pixels in children(image, "pixels")
        if children(pixels, "dimension")
    ]
    if source.series.kind != "scn" or source.index >= len(images):
        return facts
    image, pixels = images[source.index]
    view = child(image, "view")
    if view is not None:
        _view(view, pixels, facts)
    objective = next(descendants(image, "objective"), None)
    facts.put("magnification", positive(text_of(objective)))
    facts.put("acquired", iso_time(text_of(child(image, "creationDate"))))
    channels = [
        c for each in descendants(image, "channelSettings") for c in children(each, "channel")
    ]
    _channels(channels, facts)
    return facts


def _view(view: Element, pixels: Element, facts: HeaderFacts) -> None:
    """Read the extent and the position of an image, which are in nanometres."""
    for dim in "xy":
        extent, count = (positive(element.get(f"size{dim.upper()}")) for element in (view, pixels))
        if extent and count:
            facts.put_size(dim, extent / count, MICROMETRE, factor=1e-3)
    facts.put_size("z", view.get("spacingZ"), MICROMETRE, factor=1e-3)
    facts.put_stage(view.get("offsetX"), view.get("offsetY"), MICROMETRE, factor=1e-3)


def _channels(channels: list[Element], facts: HeaderFacts) -> None:
    facts.put_channels(
        [channel.get("name") for channel in channels],
        [_hex_color(channel.get("rgb")) for channel in channels],
    )


def _hex_color(text: str | None) -> int | None:
    match = _HEX_COLOR.fullmatch(text or "")
    return rgba(*(int(part, 16) for part in match.groups())) if match else None


def read_ndpi(source: MetadataSource) -> HeaderFacts:
    """Read Hamamatsu NDPI (tags as in tifffile's NDPI_TAGS): magnification and position of a page.

    A magnification of -1 is the macro image, -2 the map. The position is the offset from the centre
    of the slide in nanometres. The pixel size is in the resolution tags.
    """
    facts = HeaderFacts()
    facts.put("magnification", positive(source.tag(65421)))
    facts.put_stage(source.tag(65422), source.tag(65423), MICROMETRE, factor=1e-3)
    return facts


def read_philips(source: MetadataSource) -> HeaderFacts:
    """Read Philips DP: DICOM attributes in XML; PixelSpacing (0028,0030) is in mm, rows first."""
    facts = HeaderFacts()
    if not source.is_main:
        return facts
    root = parse_xml(source.first.description)
    slides = [image for image in _objects(root, "DPScannedImage") if _is_slide(image)]
    levels = list(_objects(root, "PixelDataRepresentation"))
    for element in (*slides, *levels[:1]):
        spacing = _attribute(element, "DICOM_PIXEL_SPACING").replace('"', " ").split()
        if len(spacing) == 2:
            facts.put_size("y", spacing[0], MICROMETRE, factor=1e3)
            facts.put_size("x", spacing[1], MICROMETRE, factor=1e3)
    when = _attribute(root, "DICOM_ACQUISITION_DATETIME")
    facts.put("acquired", time_of(when, "%Y%m%d%H%M%S.%f", "%Y%m%d%H%M%S"))
    return facts


def _objects(root: Element, kind: str) -> list[Element]:
    return [each for each in descendants(root, "DataObject") if each.get("ObjectType") == kind]


def _is_slide(image: Element) -> bool:
    return _attribute(image, "PIM_DP_IMAGE_TYPE") == "WSI"


def _attribute(element: Element, name: str) -> str:
    """Attribute of a DataObject itself, not of the objects inside it."""
    attributes = children(element, "Attribute")
    return next((text_of(each) for each in attributes if each.get("Name") == name), "")


def read_bif(source: MetadataSource) -> HeaderFacts:
    """Read Roche Ventana BIF: ScanRes of the iScan element in XMP is micrometres per pixel."""
    facts = HeaderFacts()
    if not source.is_main:
        return facts
    for page in (source.first, source.keyframe):
        text = source.tag(_XMP_TAG, page)
        data = text.encode() if isinstance(text, str) else bytes(text or b"")
        scan = next(descendants(parse_xml(data), "iScan"), None) if b"<iScan" in data else None
        if scan is not None:
            for dim in "xy":
                facts.put_size(dim, scan.get("ScanRes"), MICROMETRE)
            facts.put_size("z", scan.get("Z-spacing"), MICROMETRE)
            facts.put("magnification", positive(scan.get("Magnification")))
            break
    return facts


def read_qpi(source: MetadataSource) -> HeaderFacts:
    """Read PerkinElmer and Akoya QPTIFF: each page of the image has XML about its channel.

    tifffile has already read the pages to find the image. The pixel size is also in the resolution
    tags of the page, and only there in component data.
    """
    facts = HeaderFacts()
    roots = [
        parse_xml(page.description) for page in source.series.pages if page and not page.is_frame
    ]
    if not roots:
        return facts
    if source.is_main:
        scale = next(descendants(roots[0], "PixelSizeMicrons"), None)
        for dim in "xy":
            facts.put_size(dim, text_of(scale), MICROMETRE)
    lens = text_of(next(descendants(roots[0], "Objective"), None))
    zoom = text_of(next(descendants(roots[0], "Magnification"), None))
    facts.put("magnification", magnification_in(lens) or positive(zoom))
    facts.put("objective", lens.strip())
    if len(roots) == len(source.series):
        names = [text_of(child(root, "Name")) for root in roots]
        stains = [text_of(child(root, "Biomarker")) for root in roots]
        # The biomarker is what the channel shows, the name is that of the dye.
        facts.put_channels(
            stains if all(stains) else names,
            [_triple(text_of(child(root, "Color"))) for root in roots],
        )
    return facts


def _triple(text: str) -> int | None:
    """Convert a colour from three numbers up to 255."""
    parts = [number(part) for part in text.split(",")]
    levels = [int(part) for part in parts if part is not None and 0 <= part <= 255]
    return rgba(*levels) if len(parts) == len(levels) == 3 else None


def read_indica(source: MetadataSource) -> HeaderFacts:
    """Read Indica Labs: names of channels in XML; pixel sizes are in the resolution tags."""
    facts = HeaderFacts()
    _channels(list(descendants(parse_xml(source.first.description), "channel")), facts)
    return facts
