"""Read an XML document piece by piece, whoever wrote it, within limits.

It has no document type and therefore no entities; depth, names, and what lies between two tags are
limited, so that it cannot fill the memory. The limits are far above what instruments write.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from xml.parsers import expat

from cloudimg.tiff.markup import XML_PADDING, no_document_type

Attributes = dict[str, str]
_STEP_BYTES = 2**18
_MOST_BYTES_OPEN = 2**20
"""Most bytes of one tag or comment, or of text before a tag."""
_MOST_DEPTH = 100
_MOST_NAMES = 100_000
"""Most distinct names of elements and attributes."""
_PADDING = XML_PADDING.encode()


def stream_xml(
    pieces: Iterable[bytes],
    start: Callable[[str, Attributes], None],
    end: Callable[[str, str], None],
) -> None:
    """Call functions for the elements of a document, by their names without prefixes.

    Parameters
    ----------
    pieces : iterable of bytes
    start : callable
        Called with the name and the attributes of an element, whose names have no prefixes either.
    end : callable
        Called with the name, and the text after the last tag inside it.

    Raises
    ------
    ValueError
        The document has a document type, is not well-formed, or exceeds a limit.
    """
    names: dict[str, str] = {}
    plain = _WithoutPrefix()
    parser = expat.ParserCreate(intern=names)
    parser.StartDoctypeDeclHandler = no_document_type
    parser.buffer_text = True
    text: list[str] = []
    depth = 0

    def on_start(name: str, attrs: Attributes) -> None:
        nonlocal depth
        depth += 1
        if depth > _MOST_DEPTH:
            raise ValueError(f"its elements are nested more than {_MOST_DEPTH} deep")
        text.clear()
        start(plain[name], {plain[key]: value for key, value in attrs.items()} if attrs else attrs)

    def on_end(name: str) -> None:
        nonlocal depth
        depth -= 1
        end(plain[name], "".join(text))
        text.clear()

    parser.StartElementHandler, parser.EndElementHandler = on_start, on_end
    parser.CharacterDataHandler = text.append
    n_fed = 0
    try:
        for step in _steps(pieces):
            parser.Parse(step, False)
            n_fed += len(step)
            n_open = max(n_fed - parser.CurrentByteIndex, sum(map(len, text)))
            if n_open > _MOST_BYTES_OPEN + _STEP_BYTES or len(names) > _MOST_NAMES:
                raise ValueError("it has a tag, a text, or names longer than those of index files")
        parser.Parse(b"", True)
    except expat.ExpatError as exc:
        raise ValueError(f"it is not well-formed XML: {exc}") from exc
    except LookupError as exc:  # Python looks for encodings that expat does not know
        raise ValueError(f"it is in an {exc}") from exc


class _WithoutPrefix(dict[str, str]):
    """Names without prefixes; there are few, and millions of elements."""

    def __missing__(self, name: str) -> str:
        self[name] = name.rpartition(":")[2]
        return self[name]


def _steps(pieces: Iterable[bytes]) -> Iterable[bytes]:
    """Short parts of the pieces, without what writers leave around a document."""
    is_first = True
    for piece in pieces:
        content = piece.lstrip(_PADDING) if is_first else piece
        is_first = is_first and not content
        for at in range(0, len(content), _STEP_BYTES):
            yield content[at : at + _STEP_BYTES]
