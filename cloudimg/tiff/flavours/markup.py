"""XML from files that nobody vouches for."""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree import ElementTree

Element = ElementTree.Element


def parse_xml(text: str | bytes) -> Element:
    """The root of an XML document.

    Raises
    ------
    ValueError
        It has a document type. No vendor's metadata has one, and the entities that it may define
        can make a short text as large as memory (the "billion laughs").
    xml.etree.ElementTree.ParseError
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    refuse_document_type(text)
    return ElementTree.fromstring(text.strip(" \t\r\n\0\ufeff"))


def refuse_document_type(text: str) -> None:
    """Raise ValueError where an XML document has a document type; see `parse_xml`."""
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise ValueError("XML with a document type is not read")


def local_name(element: Element) -> str:
    """Name of an element without its namespace, which differs between versions of a schema."""
    return element.tag.rpartition("}")[2]


def children(element: Element | None, name: str) -> list[Element]:
    """Children of a name, whatever their namespace."""
    return [] if element is None else [child for child in element if local_name(child) == name]


def child(element: Element | None, name: str) -> Element | None:
    """The first child of a name."""
    found = children(element, name)
    return found[0] if found else None


def descendants(element: Element, name: str) -> Iterator[Element]:
    """All elements of a name below an element, and itself."""
    return (below for below in element.iter() if local_name(below) == name)


def text_of(element: Element | None) -> str:
    """Text of an element without blanks around it; empty where there is none."""
    return (element.text or "").strip() if element is not None else ""
