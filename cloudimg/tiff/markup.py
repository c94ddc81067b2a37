"""XML from untrusted files: parsing without document types, and access to elements by name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NoReturn
from xml.etree import ElementTree

Element = ElementTree.Element

XML_PADDING = " \t\r\n\0\ufeff"
"""Characters that writers leave around an XML document and that no parser accepts there."""


def parse_xml(text: str | bytes) -> Element:
    """Root of an XML document.

    Raises
    ------
    ValueError
        It has a document type.
    xml.etree.ElementTree.ParseError
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    refuse_document_type(text)
    return ElementTree.fromstring(text.strip(XML_PADDING))


def has_document_type(text: str) -> bool:
    """Whether an XML document has a document type (DTD) or defines entities."""
    return "<!DOCTYPE" in text or "<!ENTITY" in text


def refuse_document_type(text: str) -> None:
    """Raise ValueError if an XML document has a document type (DTD).

    Neither OME-XML nor the XML of any vendor has one. The entities that it may define can make a
    short text fill the memory ("billion laughs").
    """
    if has_document_type(text):
        no_document_type()


def no_document_type(*_: object) -> NoReturn:
    """Refuse an XML document: a handler of expat for the beginning of a document type."""
    raise ValueError("XML with a document type (DTD) is not read")


def local_name(element: Element) -> str:
    """Name of an element without its namespace, which differs between versions of a schema."""
    return element.tag.rpartition("}")[2]


def children(element: Element | None, name: str) -> list[Element]:
    """Children with a name, in any namespace."""
    return [] if element is None else [child for child in element if local_name(child) == name]


def child(element: Element | None, name: str) -> Element | None:
    """First child with a name, in any namespace."""
    matches = children(element, name)
    return matches[0] if matches else None


def descendants(element: Element, name: str) -> Iterator[Element]:
    """All elements with a name: the element itself and those below it."""
    return (below for below in element.iter() if local_name(below) == name)


def text_of(element: Element | None) -> str:
    """Text of an element without surrounding blanks; empty if there is none."""
    return (element.text or "").strip() if element is not None else ""
