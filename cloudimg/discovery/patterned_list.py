"""Axes for a list of URLs: a pattern is matched with each of them. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cloudimg.discovery.build_grid import GridBuilder, Named
from cloudimg.discovery.grid import FileGrid
from cloudimg.discovery.unmatched import UnmatchedCounter
from cloudimg.errors import GridError, counted
from cloudimg.pattern import compile_pattern


def patterned_grid(
    files: Sequence[Named], pattern: str, display: Callable[[str], str], plain: Callable[[str], str]
) -> FileGrid:
    """Arrange the files of a list along the axes that a pattern names.

    Parameters
    ----------
    files : sequence of Named
    pattern : str
        With fields; matches whole names.
    display : callable
        Returns a name without secrets, for messages.
    plain : callable
        Returns the part of a name to match, without a query such as a signature.

    Raises
    ------
    PatternError, DuplicateIndexError
    GridError
        If a file does not match, or the pattern has no fields.
    """
    compiled = compile_pattern(pattern)
    if not compiled.fields:
        raise GridError(f"pattern={pattern!r} names no axes: write fields such as {{z}}")
    unmatched = UnmatchedCounter(compiled, display)
    builder = GridBuilder(compiled, unmatched, plain)
    builder.add(files)
    beside = unmatched.build("", is_narrow=False)
    if beside.n_objects:
        raise GridError(
            f"{counted(beside.n_objects, 'URL')} of the {len(files)} in the list do not match"
            f" pattern={pattern!r}: {', '.join(beside.examples)}{beside.hint}"
        )
    return builder.build()
