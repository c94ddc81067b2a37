"""The arguments of `cloudimg.open`: types for users, default values and checks.

A new argument needs a key in `FileOptions` or `OpenOptions`, a field with its default value in
`OpenArguments` and, where a value can be wrong, a check in `_CHECKS`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, Self, TypedDict

from cloudimg.errors import ArgumentError

if TYPE_CHECKING:
    from cloudimg.distributed.run import Client
    from cloudimg.formats import ReadFunction

URL = str | os.PathLike[str]
URLs = URL | Sequence[URL]
Number = int | float | complex
CountCallback = Callable[[str, int], object]
"""Called with the kind of item counted (such as ``"names listed"``) and the count so far."""
StorageOptions = Mapping[str, Any]
"""fsspec's options of a store, by name."""


class FileOptions(TypedDict, total=False):
    """Keyword arguments that determine how files form an image; see `cloudimg.open`."""

    axes: Mapping[str, str] | None
    dims: Sequence[str] | None
    mosaic: bool
    series: int
    missing: Literal["raise", "fill"]
    fill_value: Number
    validate: Literal["first", "all"]
    palette: Literal["index", "rgb"]
    imread: ReadFunction | None


class OpenOptions(FileOptions, total=False):
    """Keyword arguments of `cloudimg.open`; see there."""

    storage_options: StorageOptions | None
    progress: CountCallback | None
    client: Client | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenArguments:
    """Checked arguments of `cloudimg.open`."""

    axes: Mapping[str, str] | None = None
    dims: Sequence[str] | None = None
    mosaic: bool = True
    series: int = 0
    missing: str = "raise"
    fill_value: Number = 0
    validate: str = "first"
    palette: str = "index"
    imread: ReadFunction | None = None
    storage_options: StorageOptions | None = None
    progress: CountCallback | None = None
    client: Client | None = None

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Self:
        """Check the arguments that a user passed.

        Raises
        ------
        ArgumentError
            For wrong types and impossible values.
        """
        for name, value in given.items():
            _CHECKS.get(name, _accept)(name, value)
        return cls(**given)


PIXEL_OPTIONS = ("axes", "dims", "mosaic", "series", "missing", "fill_value", "palette")
"""Arguments that determine which pixels an image has. A plan records them, so that `verify` can
open the source again."""
FILE_OPTIONS = tuple(FileOptions.__annotations__)
"""Names of the arguments that determine how files form an image."""
OPEN_DEFAULTS = {each.name: each.default for each in fields(OpenArguments)}
"""Default values of the arguments of `cloudimg.open`."""


def as_texts(urls: URLs) -> list[str]:
    """Return URLs and paths as a list of texts.

    Raises
    ------
    ArgumentError
    """
    several = [urls] if isinstance(urls, str | os.PathLike) else urls
    if not isinstance(several, Sequence) or isinstance(several, bytes):
        raise ArgumentError(f"expected a URL, a path or a sequence of them, not {urls!r}")
    texts = [os.fspath(url) if isinstance(url, os.PathLike) else url for url in several]
    for text in texts:
        if not isinstance(text, str):
            raise ArgumentError(f"expected a URL or a path, not {text!r}")
    return texts


# ----------------------------------------------------------------------------------------- checks


def _accept(name: str, value: Any) -> None:
    """Accept any value of an argument that is checked where it is used."""


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


def _check_flag(name: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise ArgumentError(f"{name}={value!r} must be True or False")


def _check_series(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ArgumentError(f"{name}={value!r} must be 0 or a positive integer")


def _check_imread(name: str, value: Any) -> None:
    if value is not None and not callable(value):
        raise ArgumentError(
            f"{name}={value!r} must be a function that takes a binary file and its URL and returns"
            " pixels"
        )


def _one_of(*choices: str) -> Callable[[str, Any], None]:
    def check(name: str, value: Any) -> None:
        if value not in choices:
            raise ArgumentError(f"{name}={value!r} must be one of {', '.join(map(repr, choices))}")

    return check


_CHECKS: Mapping[str, Callable[[str, Any], None]] = {
    "axes": _check_axes,
    "dims": _check_dims,
    "mosaic": _check_flag,
    "series": _check_series,
    "missing": _one_of("raise", "fill"),
    "validate": _one_of("first", "all"),
    "palette": _one_of("index", "rgb"),
    "imread": _check_imread,
}
