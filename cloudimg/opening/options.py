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
from cloudimg.reading.file_facts import SHARED_FACTS

if TYPE_CHECKING:
    from cloudimg.discovery.table import FileTable
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

    pattern: str | None
    axes: Mapping[str, str] | None
    dims: Sequence[str] | None
    mosaic: bool
    series: int | None
    missing: Literal["raise", "fill"]
    bad: Literal["raise", "fill"]
    exclude: str | Sequence[str] | None
    fill_value: Number
    validate: Literal["first", "all"]
    allow_differences: str | Sequence[str]
    palette: Literal["index", "rgb"]
    imread: ReadFunction | None


class OpenOptions(FileOptions, total=False):
    """Keyword arguments of `cloudimg.open`; see there."""

    storage_options: StorageOptions | None
    progress: CountCallback | None
    client: Client | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OpeningPurpose:
    """What the files are opened for, if not for reading: to be copied, or compared with a copy."""

    whole_folder: bool = False
    """Whether to list the whole folder of a pattern, not only names that begin with its stem."""
    allow_unmatched: bool = True
    """Whether image files that were listed may be left out by the pattern."""
    defers_bad: bool = False
    """Whether a bad file is an error only when its pixels are read, so that others can be copied.
    """
    files: FileTable | None = None
    """Files of an earlier listing, to keep to when they are listed again."""
    keeps_facts: bool = False
    """Whether to keep what the metadata of a multi-file dataset say of each plane."""

    @classmethod
    def copying(cls, *, allow_unmatched: bool) -> Self:
        """The purpose of opening the source of a copy.

        Raises
        ------
        ArgumentError
            If the argument is not a bool.
        """
        _check_flag("allow_unmatched", allow_unmatched)
        return cls(
            whole_folder=True,
            allow_unmatched=allow_unmatched,
            defers_bad=True,
            keeps_facts=True,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenArguments:
    """Checked arguments of `cloudimg.open`."""

    pattern: str | None = None
    axes: Mapping[str, str] | None = None
    dims: Sequence[str] | None = None
    mosaic: bool = True
    series: int | None = None
    """None opens the first image, but a copy of a file with several needs a choice."""
    missing: str = "raise"
    bad: str = "raise"
    exclude: str | Sequence[str] | None = None
    fill_value: Number = 0
    validate: str = "first"
    allow_differences: str | Sequence[str] = ()
    """Facts that must be the same in all files, see `SHARED_FACTS`, and may differ here."""
    palette: str = "index"
    imread: ReadFunction | None = None
    storage_options: StorageOptions | None = None
    progress: CountCallback | None = None
    client: Client | None = None
    purpose: OpeningPurpose = OpeningPurpose()
    """Set by the package itself."""

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

    @property
    def tolerates_bad(self) -> bool:
        """Whether bad files do not keep the image from being opened."""
        return self.bad == "fill" or self.purpose.defers_bad

    @property
    def keeps_facts(self) -> bool:
        """Whether to keep what is known of each file, as far as it is read anyway."""
        return self.validate == "all" or self.purpose.keeps_facts

    @property
    def series_number(self) -> int:
        """Number of the image in each file."""
        return self.series or 0

    @property
    def allowed_differences(self) -> tuple[str, ...]:
        """Names of the facts that may differ from file to file."""
        names = self.allow_differences
        return (names,) if isinstance(names, str) else tuple(names)

    def value(self, name: str) -> Any:
        """The value of an argument as it is stored with a copy: with the number of the image."""
        if name == "allow_differences":
            return self.allowed_differences
        return self.series_number if name == "series" else getattr(self, name)


PIXEL_OPTIONS = (
    "pattern",
    "axes",
    "dims",
    "mosaic",
    "series",
    "missing",
    "bad",
    "exclude",
    "fill_value",
    "palette",
    "allow_differences",
)
"""Arguments that determine which pixels an image has, and what is said of them. A plan records
them, so that `verify` can open the source again."""
FILE_OPTIONS = tuple(FileOptions.__annotations__)
"""Names of the arguments that determine how files form an image."""
OPEN_DEFAULTS = {
    each.name: each.default for each in fields(OpenArguments) if each.name != "purpose"
}
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


def _check_differences(name: str, value: Any) -> None:
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, Sequence) or not set(names) <= set(SHARED_FACTS):
        raise ArgumentError(f"{name}={value!r} must be some of {', '.join(SHARED_FACTS)}")


def _check_flag(name: str, value: Any) -> None:
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


def _check_pattern(name: str, value: Any) -> None:
    if value is not None and not isinstance(value, str):
        raise ArgumentError(f"{name}={value!r} must be a pattern, such as 't{{t}}_z{{z}}.tif'")


_CHECKS: Mapping[str, Callable[[str, Any], None]] = {
    "pattern": _check_pattern,
    "axes": _check_axes,
    "dims": _check_dims,
    "mosaic": _check_flag,
    "series": _check_series,
    "missing": _one_of("raise", "fill"),
    "bad": _one_of("raise", "fill"),
    "exclude": _check_exclude,
    "validate": _one_of("first", "all"),
    "allow_differences": _check_differences,
    "palette": _one_of("index", "rgb"),
    "imread": _check_imread,
}
