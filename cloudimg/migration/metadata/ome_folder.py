"""The documents of a copy in the folder ``OME``, apart from those of its group. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from cloudimg.migration.metadata.facts import ImageFacts
from cloudimg.migration.metadata.ome_xml import (
    image_element,
    ome_document,
    pixel_type,
    plate_element,
)
from cloudimg.migration.metadata.source_xml import SourceXml, files_by_name, merged, named_texts
from cloudimg.migration.plan.places import SOURCE_XML
from cloudimg.migration.plan.plan import Plan

METADATA = "OME/METADATA.ome.xml"
"""Key of the OME-XML that describes all images."""
_IMAGE_ELEMENT = re.compile(r"<(?:\w+:)?Image[\s>]")


class OmeFolder:
    """OME-XML of the copy, made from its other metadata, and that of the source's files.

    A collection should have a document that describes exactly its images
    (https://ngff.openmicroscopy.org/0.5/#bf2raw); a single image has one if its source has. There
    is none for pixels of a type that OME-XML lacks.

    Parameters
    ----------
    plan : Plan
    facts : ImageFacts
    sources : sequence of SourceXml
        OME-XML of the files of the source.
    """

    def __init__(self, plan: Plan, facts: ImageFacts, sources: Sequence[SourceXml]) -> None:
        self._plan = plan
        self._facts = facts
        self._sources = () if facts.is_of_older else merged([*_companion(facts), *sources])
        has_type = pixel_type(np.dtype(plan.dtype)) is not None
        is_described = bool(plan.lead_dims or self._sources) and not facts.is_of_older
        self._images: list[bytes] | None = [] if has_type and is_described else None

    def add(self, attributes: Mapping[str, Any]) -> None:
        """Describe the next image.

        Parameters
        ----------
        attributes : mapping
            Attributes of its group.
        """
        if self._images is not None:
            ome = attributes.get("ome", attributes)
            number = len(self._images)
            self._images.append(image_element(self._plan, self._facts, number, ome))

    def documents(self) -> Iterator[tuple[str, bytes]]:
        """Keys and bytes of the documents, once all images are described."""
        if self._facts.is_of_older:
            yield from _of_older(self._plan, self._facts)
            return
        for name, text in named_texts(self._sources):
            yield f"{SOURCE_XML}/{name}", text
        if self._images is not None:
            plate = self._plan.plate
            wells = b"" if plate is None else plate_element(self._plan, plate, self._facts)
            yield METADATA, ome_document(self._facts, self._images, wells)

    def attributes(self) -> dict[str, Any]:
        """Attributes of the group: which files of the source have which OME-XML."""
        return {"cloudimg": {"source": files_by_name(self._sources)}} if self._sources else {}


def _companion(facts: ImageFacts) -> Iterator[SourceXml]:
    """OME-XML that describes the source and is in none of the files with its pixels."""
    if facts.ome_xml is not None:
        files = () if facts.companion is None else ((-1, facts.companion),)
        yield SourceXml(facts.ome_xml.encode("utf-8", "backslashreplace"), files)


def _of_older(plan: Plan, facts: ImageFacts) -> Iterator[tuple[str, bytes]]:
    """The document of copies that were made with plans of older versions: that of the source.

    OME-XML of other images, as that of one file among many, has another name.
    """
    text = facts.ome_xml
    if text is not None:
        is_of_all = not plan.lead_dims or len(_IMAGE_ELEMENT.findall(text)) == plan.n_images
        key = METADATA if is_of_all else "OME/source.ome.xml"
        yield key, text.encode("utf-8", "backslashreplace")
