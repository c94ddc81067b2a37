"""The arguments of `cloudimg.open`: types for users and default values.

A new argument needs a key in `FileOptions` or `OpenOptions`, a field with its default value in
`OpenArguments` and, where a value can be wrong, a check in `opening/check_options.py`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self, TypedDict

from cloudimg.discovery.listing import Tabled
from cloudimg.errors import ArgumentError
from cloudimg.opening.check_options import check_flag, check_options
from cloudimg.opening.selection import Selection

if TYPE_CHECKING:
    from cloudimg.discovery.index_names import IndexNames
    from cloudimg.discovery.table import FileTable
    from cloudimg.distributed.run import Client
    from cloudimg.formats import ReadFunction
    from cloudimg.pattern import Label


class ArrowTable(Protocol):
    """Columns in memory: a DataFrame of pandas or polars, a table of pyarrow, and others."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """See https://arrow.apache.org/docs/format/CDataInterface/PyCapsuleInterface.html."""


URL = str | os.PathLike[str]
URLs = URL | Sequence[URL] | ArrowTable | Tabled
Number = int | float | complex
CountCallback = Callable[[str, int], object]
"""Called with the kind of item counted (such as ``"names listed"``) and the count so far."""
StorageOptions = Mapping[str, Any]
"""fsspec's options of a store, by name."""


class FileOptions(TypedDict, total=False):
    """Keyword arguments that determine how files form an image; see `cloudimg.open`."""

    pattern: str | None
    url_column: str | None
    axes: Mapping[str, str] | None
    dims: Sequence[str] | None
    place: Literal["index", "stage", "stack"]
    blend: Literal["last", "mean"]
    flip: Literal["x", "y", "xy", "none"] | None
    align: Literal["outer", "inner"] | None
    series: int | Literal["all"] | None
    missing: Literal["raise", "fill"]
    bad: Literal["raise", "fill"]
    exclude: str | Sequence[str] | None
    fill_value: Number | None
    select: Mapping[str, Any] | None
    validate: Literal["first", "all"]
    allow_differences: str | Sequence[str]
    palette: Literal["index", "rgb"]
    rgb: bool
    imread: ReadFunction | None
    index_files: bool


class OpenOptions(FileOptions, total=False):
    """Keyword arguments of `cloudimg.open`; see there."""

    listing: Literal["full", "probe"]
    storage_options: StorageOptions | None
    progress: CountCallback | None
    client: Client | None


class OpenTableOptions(OpenOptions, total=False):
    """Keyword arguments of functions whose own arguments leave the name ``url`` free."""

    url: str | None


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
    lists_again: bool = True
    """Whether they are listed again; otherwise `files` says all, where it has the names."""
    fill_value: Number | None = None
    """The fill value of an earlier migration that goes on, if it recorded one."""
    lists_odd: bool = False
    """Whether files that say something else of the whole image than the first one are among the
    bad ones, instead of an error."""
    keeps_facts: bool = False
    """Whether to keep what the metadata of a multi-file dataset say of each plane."""
    index_names: IndexNames | None = None
    """Index files that a listing of the whole folder has shown; None without one."""
    grow: str | None = None
    """Field of the pattern along which a copy of the image may grow, the first axis of its grid."""
    grow_labels: frozenset[Label] | None = None
    """Labels of that field whose files are taken; None: all."""

    @classmethod
    def copying(cls, *, allow_unmatched: bool, grow: str | None = None) -> Self:
        """The purpose of opening the source of a copy.

        Raises
        ------
        ArgumentError
            If the argument is not a bool.
        """
        check_flag("allow_unmatched", allow_unmatched)
        return cls(
            whole_folder=True,
            allow_unmatched=allow_unmatched,
            defers_bad=True,
            keeps_facts=True,
            grow=grow,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenArguments:
    """Checked arguments of `cloudimg.open`."""

    pattern: str | None = None
    url_column: str | None = None
    axes: Mapping[str, str] | None = None
    dims: Sequence[str] | None = None
    place: str = "index"
    blend: str = "last"
    flip: str | None = None
    align: str | None = None
    series: int | None = None
    """None opens the first image, but a copy of a file with several needs a choice."""
    missing: str = "raise"
    bad: str = "raise"
    exclude: str | Sequence[str] | None = None
    fill_value: Number | None = None
    """None: the nodata value of the files, or else 0."""
    select: Mapping[str, Any] | Selection | None = None
    """By axis as the user gave it, or, of an image that is open, all that was selected."""
    validate: str = "first"
    allow_differences: str | Sequence[str] = ()
    """Facts that must be the same in all files, see `SHARED_FACTS`, and may differ here."""
    palette: str = "index"
    rgb: bool = False
    imread: ReadFunction | None = None
    index_files: bool = True
    listing: str = "full"
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
        check_options(given)
        return cls(**given)

    @property
    def tolerates_bad(self) -> bool:
        """Whether bad files do not keep the image from being opened."""
        return self.bad == "fill" or self.purpose.defers_bad

    @property
    def fills_missing(self) -> bool:
        """Whether files that turn out to be missing when they are read are filled."""
        return self.listing == "probe" and self.missing == "fill"

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

    @property
    def converted_colours(self) -> str:
        """Which colours are converted, see `cloudimg.tiff.request.ParseRequest.palette`."""
        return "all" if self.rgb else self.palette

    @property
    def chosen_fill(self) -> Number | None:
        """The fill value, if one was given, now or when the migration that goes on began."""
        return self.purpose.fill_value if self.fill_value is None else self.fill_value

    def value(self, name: str) -> Any:
        """The value of an argument as it is stored with a copy: with the number of the image."""
        if name == "allow_differences":
            return self.allowed_differences
        if name == "select":
            return self.select.to_json() if isinstance(self.select, Selection) else None
        return self.series_number if name == "series" else getattr(self, name)


ALL = "all"
"""The value of `series` with which `migrate` copies all images of a file; `open` refuses it."""
PIXEL_OPTIONS = (
    "pattern",
    "url_column",
    "axes",
    "dims",
    "place",
    "blend",
    "flip",
    "align",
    "index_files",
    "series",
    "missing",
    "bad",
    "exclude",
    "fill_value",
    "select",
    "palette",
    "rgb",
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
    if isinstance(urls, Tabled):
        return [urls.recorded]
    several = [urls] if isinstance(urls, str | os.PathLike) else urls
    if not isinstance(several, Sequence) or isinstance(several, bytes):
        shown = f"a {type(urls).__name__}" if hasattr(urls, "__arrow_c_stream__") else repr(urls)
        raise ArgumentError(f"expected a URL, a path or a sequence of them, not {shown}")
    texts = [os.fspath(url) if isinstance(url, os.PathLike) else url for url in several]
    for text in texts:
        if not isinstance(text, str):
            raise ArgumentError(f"expected a URL or a path, not {text!r}")
    return texts
