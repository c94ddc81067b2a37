"""Names that look like patterns: a URL with brackets is looked up as a name first."""

from __future__ import annotations

import contextlib
from pathlib import Path

from cloudimg.discovery.scope import Scope
from cloudimg.errors import NotFoundError, PatternError
from cloudimg.pattern import Pattern, compile_pattern, escape, escape_brackets
from cloudimg.storage import Store


def as_pattern(store: Store, text: str) -> Pattern:
    """Compile the text of a URL, in which brackets and braces may belong to the name.

    A name with brackets, or one that is not a valid pattern, is looked up, which takes a request; a
    name such as ``img_{z}.tif`` is among the names that are listed anyway, if it exists.

    Parameters
    ----------
    store : Store
    text : str
        URL as pattern text.

    Raises
    ------
    PatternError
        If the text is not a valid pattern, and no object has this name.
    StorageError
    """
    try:
        pattern = compile_pattern(text)
    except PatternError:
        literal = _existing(store, text)
        if literal is None:
            raise
        return literal
    has_brackets = escape_brackets(text) != text
    return (_existing(store, text) if has_brackets else None) or pattern


def _existing(store: Store, text: str) -> Pattern | None:
    """Return the text as a name, or else with literal brackets; None if no object matches it."""
    name = compile_pattern(escape(text))
    if _exists(store, name):
        return name
    with contextlib.suppress(PatternError):
        pattern = compile_pattern(escape_brackets(text))
        if not pattern.is_literal and pattern.text != text and _exists(store, pattern):
            return pattern
    return None


def _exists(store: Store, pattern: Pattern) -> bool:
    """Whether a name exists, or a pattern matches some of the first names with its stem."""
    location = store.location
    key = location.key_of(pattern.stem)
    if pattern.is_literal:
        if location.protocol == "file" and Path(key).is_dir():
            return True  # a folder cannot be opened, and the error will say so
        with contextlib.suppress(NotFoundError):
            store.info(key)
            return True
        return False
    scope = Scope.of(store, pattern, whole_folder=False)
    for batch in store.list_objects(scope.folder, key, scope.depth):
        return any(pattern.split(location.pattern_text(entry.key)) is not None for entry in batch)
    return False
