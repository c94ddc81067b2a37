"""Compare the metadata of a copy with what was written: what others edited, and damage. Pure.

The metadata has parts. How pixels decode (shape, chunks, data type, codecs, fill value, names of
dimensions) and which arrays the image consists of are the copy's: a document that says otherwise,
or cannot be read, has a flaw. Names, colours, scales and all other attributes are the users': where
they differ, that is an edit.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal
from xml.etree.ElementTree import ParseError

from cloudimg.migration.plan.places import COMPANIONS, SOURCE_XML
from cloudimg.tiff.markup import parse_xml

_MOST = 1000
_SHOWN = 3
_LONGEST = 60
"""Greatest length of a name that is shown."""
_PLAIN = re.compile(r"[\w.-]+")
_CONSOLIDATED = "consolidated metadata"
_ONE_BYTE = ("bool", "int8", "uint8")


@dataclass(frozen=True, slots=True)
class Edit:
    """What others edited or added; it is no problem of a copy."""

    kind: Literal["edited", "added"]
    key: str
    """Object, or folder of objects, relative to the copy."""
    what: str = ""
    """What was edited, or how many objects were added."""

    def below(self, folder: str) -> Edit:
        """The edit, of an image in a folder of a collection."""
        return replace(self, key=f"{folder}/{self.key}")

    def __str__(self) -> str:
        return f"{self.kind}: {self.key} ({self.what})" if self.what else f"{self.kind}: {self.key}"


class Edits:
    """Edits of a copy: the first thousand, and the number of all. Thread-safe."""

    def __init__(self) -> None:
        self.first: list[Edit] = []
        self.n = 0
        self._lock = threading.Lock()

    def add(self, edit: Edit) -> None:
        """Add an edit."""
        with self._lock:
            self.n += 1
            if len(self.first) < _MOST:
                self.first.append(edit)


def lines_of(edits: Sequence[Edit], n_edits: int) -> list[str]:
    """Edits as the lines of a report."""
    more = n_edits - len(edits)
    return [*map(str, edits), *([f"and {more} more edits"] if more else [])]


@dataclass(frozen=True, slots=True)
class Flaw:
    """A problem of one object."""

    key: str
    what: str


Difference = Edit | Flaw


def compare_document(key: str, expected: bytes, found: bytes) -> list[Difference]:
    """How the content of a document differs from what was written: by a flaw or an edit, if at all.

    Parameters
    ----------
    key : str
        Key of the document, which says what it is.
    expected : bytes
        The document as it was written.
    found : bytes
        The document as it is now.
    """
    if found == expected:
        return []
    if key.startswith(f"{SOURCE_XML}/"):
        return [Flaw(key, "is not the OME-XML of the source as it was")]
    if key.startswith(f"{COMPANIONS}/"):
        return [Flaw(key, "is not the file of the source as it was")]
    if key.endswith(".xml"):
        return [_compare_xml(key, found)]
    if not is_json(key):
        return [Flaw(key, "is not what was written")]
    content = parsed(found)
    if content is None:
        return [Flaw(key, "is not the metadata that was written: not a JSON object")]
    wrong, edited = _compare(key, json.loads(expected), content)
    if wrong:
        return [Flaw(key, f"is not the metadata that was written: {'; '.join(wrong)}")]
    return [Edit("edited", key, _shown(edited))] if edited else []


def compare_consolidated(
    key: str, found: bytes, documents: Mapping[str, bytes]
) -> list[Difference]:
    """How consolidated metadata contradicts documents of the copy, which readers take from it.

    Parameters
    ----------
    key : str
        Key of a document, or of consolidated metadata of Zarr 2.
    found : bytes
        The object as it is now.
    documents : mapping
        All documents of the copy as they were written.
    """
    content = parsed(found)
    if content is None:
        return [Flaw(key, "is not a JSON object")]
    folder, _, name = key.rpartition("/")
    if name == "zarr.json":
        consolidated = content.get("consolidated_metadata")
        if consolidated is None:
            return []
    else:
        consolidated = content
    members = consolidated.get("metadata") if isinstance(consolidated, dict) else None
    if not isinstance(members, dict):
        return [Flaw(key, f"its {_CONSOLIDATED} is not that of a group")]
    flaws: list[Difference] = []
    for path, member in members.items():
        parts = [folder, path, "zarr.json"] if name == "zarr.json" else [folder, path]
        own = "/".join(part for part in parts if part)
        if own not in documents:
            continue
        if not isinstance(member, dict):
            wrong = ["not a JSON object"]
        else:
            wrong, _ = _compare(own, json.loads(documents[own]), member)
        if wrong:
            flaws.append(Flaw(key, f"its {_CONSOLIDATED} of {own} is wrong: {'; '.join(wrong)}"))
    return flaws


def is_of_another(expected: bytes, found: bytes) -> bool:
    """Whether a document states that it is of a copy of another source."""
    ours, theirs = (_provenance(each) for each in (expected, found))
    return None not in (ours, theirs) and ours != theirs


def _provenance(data: bytes) -> Any:
    content = parsed(data) or {}
    attributes = content["attributes"] if isinstance(content.get("attributes"), dict) else content
    own = attributes.get("cloudimg")
    return own.get("provenance") if isinstance(own, dict) else None


def is_json(key: str) -> bool:
    """Whether a document is one of Zarr; others are OME-XML and the pixels of an overview."""
    return key.rpartition("/")[2] in ("zarr.json", ".zarray", ".zgroup", ".zattrs", ".zmetadata")


def parsed(data: bytes) -> dict[str, Any] | None:
    """A JSON object; None if it is anything else."""
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def _compare_xml(key: str, found: bytes) -> Difference:
    try:
        root = parse_xml(found)
    except (ValueError, ParseError):
        return Flaw(key, "is not the metadata that was written: not valid XML")
    if root.tag.rpartition("}")[2] != "OME":
        return Flaw(key, "is not the metadata that was written: not OME-XML")
    return Edit("edited", key, "OME-XML")


# --------------------------------------------------------------------------------- JSON documents


def _compare(
    key: str, expected: dict[str, Any], found: dict[str, Any]
) -> tuple[list[str], list[str]]:
    """What is wrong in a document, and what was edited."""
    try:
        return _compare_unless_deep(key, expected, found)
    except RecursionError:
        return ["nested too deeply"], []


def _compare_unless_deep(
    key: str, expected: dict[str, Any], found: dict[str, Any]
) -> tuple[list[str], list[str]]:
    name = key.rpartition("/")[2]
    if name == ".zattrs":
        return _pointing(expected, found), list(_changed(expected, found, ""))
    if name != "zarr.json":
        wrong = _differing(expected, _normal_2(found))
        return wrong, [_name(each) for each in found if each not in expected]
    attributes = found.get("attributes", {})
    if not isinstance(attributes, dict):
        return ["attributes"], []
    rest = {each: value for each, value in expected.items() if each != "attributes"}
    others = {each: value for each, value in found.items() if each not in ("attributes", *rest)}
    wrong, edited = _differing(_normal_3(rest), _normal_3({**found, "attributes": {}})), []
    if others.pop("consolidated_metadata", None) is not None:
        edited.append(_CONSOLIDATED)
    if others.get("storage_transformers") == []:
        del others["storage_transformers"]
    for each, value in others.items():
        # https://zarr-specs.readthedocs.io/en/latest/v3/core/index.html#extension-definition
        is_optional = isinstance(value, dict) and value.get("must_understand") is False
        (edited if is_optional else wrong).append(_name(each))
    before = expected["attributes"]
    wrong += _pointing(before.get("ome", {}), _ome(attributes))
    return wrong, [*_changed(before, attributes, ""), *edited]


def _ome(attributes: dict[str, Any]) -> dict[str, Any]:
    ome = attributes.get("ome")
    return ome if isinstance(ome, dict) else {}


def _differing(expected: dict[str, Any], found: dict[str, Any]) -> list[str]:
    return [
        each
        for each, value in expected.items()
        if each not in found or any(_changed(value, found[each], each))
    ]


def _normal_2(content: dict[str, Any]) -> dict[str, Any]:
    return {**content, "filters": None} if content.get("filters") == [] else content


def _normal_3(content: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(content.get("codecs"), list):
        return content
    is_one_byte = content.get("data_type") in _ONE_BYTE
    codecs = [_normal_codec(each, is_one_byte) for each in content["codecs"]]
    return {**content, "codecs": codecs}


def _normal_codec(codec: Any, is_one_byte: bool) -> Any:
    """A codec in one of the ways in which it may be written.

    The byte order of single bytes may be left out:
    https://zarr-specs.readthedocs.io/en/latest/v3/codecs/bytes/index.html.
    """
    if isinstance(codec, str):
        codec = {"name": codec}
    if not isinstance(codec, dict):
        return codec
    configuration = codec.get("configuration") or {}
    if not isinstance(configuration, dict):
        return codec
    configuration = dict(configuration)
    if codec.get("name") == "bytes" and is_one_byte:
        configuration.pop("endian", None)
    if codec.get("name") == "sharding_indexed":
        for name, is_single in (("codecs", is_one_byte), ("index_codecs", False)):
            if isinstance(configuration.get(name), list):
                configuration[name] = [_normal_codec(c, is_single) for c in configuration[name]]
    return {**codec, "configuration": configuration}


def _pointing(expected: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """Whether attributes no longer lead readers to the copy's arrays or images."""
    wrong = []
    if "multiscales" in expected:
        before = expected["multiscales"][0]
        try:
            now = found["multiscales"][0]
            paths, n_axes = [each["path"] for each in now["datasets"]], len(now["axes"])
        except (KeyError, IndexError, TypeError):
            paths, n_axes = [], len(before["axes"])
        own = [each["path"] for each in before["datasets"]]
        if [path for path in paths if path in own] != own:
            wrong.append(f"multiscales[0] does not name the arrays {', '.join(own)}")
        if n_axes != len(before["axes"]):
            wrong.append(f"multiscales[0] has {n_axes} axes instead of {len(before['axes'])}")
    for what, members in (("series", "images"), ("plate", "wells"), ("well", "images")):
        if not _paths(expected, what) <= _paths(found, what):
            wrong.append(f"{what} does not name all {members}")
    layout = "bioformats2raw.layout"
    if found.get(layout) != expected.get(layout):
        wrong.append(layout)
    return wrong


def _paths(attributes: dict[str, Any], what: str) -> set[str]:
    """Paths of the images of a collection or a well, or of the wells of a plate."""
    listed = attributes.get(what)
    if isinstance(listed, dict):
        listed = listed.get({"plate": "wells", "well": "images"}.get(what))
    paths = (
        each.get("path") if isinstance(each, dict) else each
        for each in (listed if isinstance(listed, list) else ())
    )
    return {path for path in paths if isinstance(path, str)}


# ---------------------------------------------------------------------------------------- paths


def _changed(expected: Any, found: Any, path: str) -> Iterator[str]:
    """Paths of all values that differ."""
    if isinstance(expected, dict) and isinstance(found, dict):
        for name in {**expected, **found}:
            inner = f"{path}.{_name(name)}" if path else _name(name)
            if name not in expected or name not in found:
                yield _short(inner)
            else:
                yield from _changed(expected[name], found[name], inner)
    elif isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        for i, (each, other) in enumerate(zip(expected, found, strict=True)):
            yield from _changed(each, other, f"{path}[{i}]")
    elif expected != found or isinstance(expected, bool) is not isinstance(found, bool):
        yield _short(path)


def _short(path: str) -> str:
    """A path without the name below which OME-Zarr 0.5 has all of its attributes."""
    return path.removeprefix("ome.")


def _name(name: str) -> str:
    if len(name) > _LONGEST:
        name = f"{name[:_LONGEST]}..."
    return name if _PLAIN.fullmatch(name) else json.dumps(name)


def _shown(paths: list[str]) -> str:
    shown = ", ".join(paths[:_SHOWN])
    return shown + (f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else "")
