"""Check the values that a user passed to `cloudimg.open`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cloudimg.errors import ArgumentError
from cloudimg.opening.selection import Selection
from cloudimg.reading.file_facts import SHARED_FACTS


def check_options(given: Mapping[str, Any]) -> None:
    """Refuse wrong types, impossible values, and arguments that mean nothing together.

    Arguments without an entry in `_CHECKS` are checked where they are used.

    Raises
    ------
    ArgumentError
    """
    for name, value in given.items():
        if name in _CHECKS:
            _CHECKS[name](name, value)
    _check_placing(given)


def _check_placing(given: Mapping[str, Any]) -> None:
    """Refuse arguments about places that mean nothing together."""
    if given.get("place") == "stage":
        if given.get("align") is not None:
            raise ArgumentError(
                'place="stage" places files where the stage was, and align= by their transforms:'
                " pass one of them"
            )
    elif given.get("flip") is not None or given.get("blend", "last") != "last":
        raise ArgumentError('blend= and flip= are for fields that place="stage" places: pass it')


def _check_axes(name: str, value: Any) -> None:
    if value is not None and not (
        isinstance(value, Mapping)
        and all(isinstance(text, str) for pair in value.items() for text in pair)
    ):
        raise ArgumentError(f"{name}={value!r} must map names of axes to new names")


def _check_dims(name: str, value: Any) -> None:
    if value is not None and not (
        isinstance(value, Sequence) and all(isinstance(text, str) for text in value)
    ):
        raise ArgumentError(f"{name}={value!r} must be a sequence of names of axes")


def _check_differences(name: str, value: Any) -> None:
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, Sequence) or not set(names) <= set(SHARED_FACTS):
        raise ArgumentError(f"{name}={value!r} must be some of {', '.join(SHARED_FACTS)}")


def check_flag(name: str, value: Any) -> None:
    """Refuse what is not a bool.

    Raises
    ------
    ArgumentError
    """
    if not isinstance(value, bool):
        raise ArgumentError(f"{name}={value!r} must be True or False")


def _check_exclude(name: str, value: Any) -> None:
    globs = [value] if isinstance(value, str) else value
    if globs is not None and not (
        isinstance(globs, Sequence) and all(isinstance(glob, str) and glob for glob in globs)
    ):
        raise ArgumentError(f"{name}={value!r} must be a glob such as '*_thumb.tif', or a list")


def _check_series(name: str, value: Any) -> None:
    if value is None:
        return
    if value == "all":
        raise ArgumentError(
            'series="all" is for cloudimg.migrate and its dry run, which copy all images of a'
            " file: pass the number of one image"
        )
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ArgumentError(f"{name}={value!r} must be 0 or a positive integer")


def _check_imread(name: str, value: Any) -> None:
    if value is not None and not callable(value):
        raise ArgumentError(
            f"{name}={value!r} must be a function that takes a binary file and its URL and returns"
            " pixels"
        )


def _check_progress(name: str, value: Any) -> None:
    if value is not None and not callable(value):
        raise ArgumentError(
            f"{name}={value!r} must be a function that takes what is counted, such as 'names"
            " listed', and a number"
        )


def _one_of(*choices: str | None) -> Callable[[str, Any], None]:
    def check(name: str, value: Any) -> None:
        if value not in choices:
            raise ArgumentError(f"{name}={value!r} must be one of {', '.join(map(repr, choices))}")

    return check


def _check_pattern(name: str, value: Any) -> None:
    if value is not None and not isinstance(value, str):
        raise ArgumentError(f"{name}={value!r} must be a pattern, such as 't{{t}}_z{{z}}.tif'")


def _check_select(name: str, value: Any) -> None:
    if value is not None and not isinstance(value, Mapping | Selection):
        raise ArgumentError(
            f"{name}={value!r} must map names of axes to labels or positions, such as"
            ' {"c": "DAPI", "z": slice(0, 10)}'
        )


def _check_column(name: str, value: Any) -> None:
    if value is not None and not (isinstance(value, str) and value):
        raise ArgumentError(f"{name}={value!r} must be a column of a table, or a path in one")


_CHECKS: Mapping[str, Callable[[str, Any], None]] = {
    "pattern": _check_pattern,
    "url_column": _check_column,
    "axes": _check_axes,
    "dims": _check_dims,
    "place": _one_of("index", "stage", "stack"),
    "blend": _one_of("last", "mean"),
    "flip": _one_of(None, "x", "y", "xy", "none"),
    "align": _one_of(None, "outer", "inner"),
    "series": _check_series,
    "listing": _one_of("full", "probe"),
    "missing": _one_of("raise", "fill"),
    "bad": _one_of("raise", "fill"),
    "exclude": _check_exclude,
    "validate": _one_of("first", "all"),
    "allow_differences": _check_differences,
    "palette": _one_of("index", "rgb"),
    "rgb": check_flag,
    "imread": _check_imread,
    "progress": _check_progress,
    "index_files": check_flag,
    "select": _check_select,
}
