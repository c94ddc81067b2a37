"""Metadata of any TIFF: tags of TIFF 6.0, baseline and extensions."""

from __future__ import annotations

from cloudimg.tiff.flavours.facts import MICROMETRE, HeaderFacts, MetadataSource, iso_time

DATETIME, ORIENTATION, X_RESOLUTION = 306, 274, 282
_Y_RESOLUTION, _RESOLUTION_UNIT = 283, 296
# TIFF 6.0, section 8: ResolutionUnit 2 is inch, 3 is centimetre; 1 has no absolute unit.
_UNIT_UM = {2: 25400.0, 3: 10000.0}
_MAX_TEXT = 4096


def read_resolution(source: MetadataSource) -> HeaderFacts:
    """Read the pixel size from the resolution in pixels per inch or centimetre.

    Programs that do not know the size write one pixel per inch or centimetre, which is ignored.
    """
    facts = HeaderFacts()
    page = source.keyframe
    unit = _UNIT_UM.get(int(page.resolutionunit)) if _RESOLUTION_UNIT in page.tags else None
    if unit is None or _Y_RESOLUTION not in page.tags:
        return facts
    across, down = page.resolution
    if across > 0 and down > 0 and (across, down) != (1.0, 1.0):
        facts.put_size("x", unit / across, MICROMETRE)
        facts.put_size("y", unit / down, MICROMETRE)
    return facts


def read_datetime(source: MetadataSource) -> HeaderFacts:
    """Read the time when the file was written, which counts if no flavour gives a better one."""
    facts = HeaderFacts()
    facts.put("acquired", iso_time(source.tag(DATETIME)))
    return facts


def read_orientation(source: MetadataSource) -> HeaderFacts:
    """Read the orientation, 2 to 8, of pixels that are not stored upright; they stay as stored."""
    facts = HeaderFacts()
    orientation = int(source.tag(ORIENTATION))
    if 2 <= orientation <= 8:
        facts.put("orientation", orientation)
    return facts


def read_description(source: MetadataSource) -> HeaderFacts:
    """Read the description if it is a short text for people."""
    facts = HeaderFacts()
    text = source.keyframe.description
    if isinstance(text, str) and len(text) <= _MAX_TEXT and not text.startswith(("<", "{")):
        facts.put("description", text.partition("\0")[0].strip())
    return facts
