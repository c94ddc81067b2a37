"""The grid of files: which file is at which index of the axes that a pattern names.

Pure: takes batches of names, sizes and ETags, fetches nothing. A grid often has a million files, so
it stores columns (codes, sizes, a bitmap) and never an object per file. Names are stored only where
the pattern cannot make them from the labels.
"""

from __future__ import annotations

import hashlib
import math
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from cloudimg.discovery.names import ANY_NAME, NameColumn, compact
from cloudimg.errors import DuplicateIndexError, GridError
from cloudimg.pattern import Label, Pattern, natural_key

_INDICES_PER_FILE = 100
_FREE_INDICES = 10**6
"""A grid may have 10^6 indices plus a hundred per file; more is a mistake and costs memory."""
_SHOWN = 5


class Named(Protocol):
    """One file of a listing."""

    @property
    def key(self) -> str: ...
    @property
    def size_bytes(self) -> int | None: ...
    @property
    def etag(self) -> str | None: ...


@dataclass(frozen=True)
class Keys:
    """Names of files by index, made from the pattern or looked up.

    Either `pattern` and `texts` or `names` is set. Workers receive this instead of a list of URLs.
    """

    pattern: Pattern | None
    """Pattern that makes the names."""
    texts: tuple[tuple[int, Sequence[str]], ...]
    """Axis and text by index along it, for each occurrence of a field in the pattern."""
    names: NameColumn | None = field(repr=False)
    """Names in the order of the listing."""
    rows: npt.NDArray[np.int32] | None = field(repr=False)
    """Row in `names` by index, -1 where there is no file; None for a single file without axes."""

    def __call__(self, index: tuple[int, ...]) -> str:
        """Return the name of the file at an index of the grid."""
        if self.names is not None:
            row = 0 if self.rows is None else int(self.rows[index])
            return self.names[row]
        assert self.pattern is not None
        return self.pattern.join([texts[index[axis]] for axis, texts in self.texts])


@dataclass(frozen=True, kw_only=True)
class FileGrid:
    """Files arranged along the axes that a pattern names."""

    fields: tuple[str, ...]
    """Names of the axes, in the order of the pattern."""
    labels: tuple[tuple[Label, ...], ...]
    """Labels by axis and index, in increasing order."""
    keys: Keys
    """Names of the files by index."""
    present: npt.NDArray[np.bool_] | None = field(repr=False)
    """Whether each index has a file; None where every index has one."""
    sizes: npt.NDArray[np.int64] = field(repr=False)
    """Sizes in bytes in C order of the grid, -1 where there is no file or its size is unknown."""
    digest: str
    """Digest of names, sizes and ETags; changes when any file does."""
    has_versions: bool
    """Whether every file has an ETag; otherwise `digest` can miss changes."""
    n_files: int
    """Number of files."""

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(len(labels) for labels in self.labels)

    def is_present(self, index: tuple[int, ...]) -> bool:
        """Whether there is a file at an index."""
        return self.present is None or bool(self.present[index])

    def missing(self) -> Iterator[tuple[int, ...]]:
        """Yield the indices without a file."""
        if self.present is not None:
            for flat in np.flatnonzero(~self.present):
                yield tuple(int(i) for i in np.unravel_index(flat, self.shape))

    def labels_at(self, index: tuple[int, ...]) -> dict[str, Label]:
        """Return the labels at an index, by axis."""
        return {
            name: labels[i] for name, labels, i in zip(self.fields, self.labels, index, strict=True)
        }

    def missing_examples(self) -> list[str]:
        """Return the labels of the first few indices without a file, as text."""
        examples = []
        for index in islice(self.missing(), 3):
            labels = self.labels_at(index)
            examples.append("(" + ", ".join(f"{k}={v}" for k, v in labels.items()) + ")")
        return examples

    @property
    def n_missing(self) -> int:
        """Number of indices without a file."""
        return math.prod(self.shape) - self.n_files

    def first(self) -> tuple[int, ...]:
        """Return the index of the first file."""
        return next(self.files())

    def files(self) -> Iterator[tuple[int, ...]]:
        """Yield the indices with a file, in C order."""
        if self.present is None:
            yield from np.ndindex(self.shape)
        else:
            for flat in np.flatnonzero(self.present):
                yield tuple(int(i) for i in np.unravel_index(flat, self.shape))

    def last_along(self, axis: int, index: int) -> tuple[int, ...] | None:
        """Return the index of the first file at `index` of one axis; None where there is none."""
        if self.present is None:
            return tuple(index if a == axis else 0 for a in range(len(self.fields)))
        plane = np.flatnonzero(np.take(self.present, index, axis))
        if plane.size == 0:
            return None
        shape = self.shape[:axis] + self.shape[axis + 1 :]
        rest = [int(i) for i in np.unravel_index(plane[0], shape)]
        return (*rest[:axis], index, *rest[axis:])

    def size_of(self, index: tuple[int, ...]) -> int | None:
        """Return the size in bytes of the file at an index, None where it is unknown."""
        size = int(self.sizes.reshape(self.shape)[index])
        return size if size >= 0 else None


class GridBuilder:
    """Builds a grid from the batches of a listing.

    Parameters
    ----------
    pattern : Pattern
        A pattern with at least one field.
    """

    def __init__(self, pattern: Pattern) -> None:
        self._pattern = pattern
        self._axis_of = [pattern.fields.index(o.name) for o in pattern.occurrences]
        n_axes = len(pattern.fields)
        self._codes = [array("l") for _ in range(n_axes)]
        self._values: list[dict[Label, int]] = [{} for _ in range(n_axes)]
        self._known: list[dict[str, int]] = [{} for _ in pattern.occurrences]
        self._texts: list[dict[int, str]] = [{} for _ in pattern.occurrences]
        self._makes_names = not pattern.has_wildcards
        self._sizes = array("q")
        self._names = NameColumn()
        self._has_versions = True
        self._hash = hashlib.sha256(pattern.text.encode(*ANY_NAME))
        self.unmatched: list[str] = []
        """The first few names that do not match the pattern."""
        self.n_unmatched = 0
        """Number of names that do not match the pattern."""

    def add(self, files: Iterable[Named]) -> None:
        """Add a batch of a listing."""
        split = self._pattern.split
        for file in files:
            texts = split(file.key)
            if texts is None:
                self.n_unmatched += 1
                if len(self.unmatched) < _SHOWN:
                    self.unmatched.append(file.key)
                continue
            self._add(file, texts)

    def _add(self, file: Named, texts: Sequence[str]) -> None:
        last_axis = -1
        for k, text in enumerate(texts):
            code = self._known[k].get(text)
            if code is None:
                code = self._new_text(k, text)
            axis = self._axis_of[k]
            if axis > last_axis:  # only the first occurrence of a repeated field counts
                self._codes[axis].append(code)
                last_axis = axis
        size = -1 if file.size_bytes is None else file.size_bytes
        self._sizes.append(size)
        self._names.append(file.key)
        self._has_versions &= file.etag is not None
        self._hash.update(f"{file.key}\0{size}\0{file.etag}\n".encode(*ANY_NAME))

    def _new_text(self, occurrence: int, text: str) -> int:
        values = self._values[self._axis_of[occurrence]]
        value = self._pattern.value(occurrence, text)
        code = values.setdefault(value, len(values))
        self._known[occurrence][text] = code
        if self._texts[occurrence].setdefault(code, text) != text:
            self._makes_names = False  # 7 is written both 7 and 07: names must be looked up
        return code

    def __len__(self) -> int:
        return len(self._names)

    def build(self) -> FileGrid:
        """Return the grid of the files added.

        Raises
        ------
        DuplicateIndexError
            If two files have the same labels.
        GridError
            If the labels span far more indices than there are files.
        """
        labels, ranks = zip(*(_sorted_labels(values) for values in self._values), strict=True)
        shape = tuple(len(axis_labels) for axis_labels in labels)
        self._check_extent(shape)
        indices = [
            rank[np.frombuffer(codes, np.dtype("l"))]
            for rank, codes in zip(ranks, self._codes, strict=True)
        ]
        flat = np.ravel_multi_index(tuple(indices), shape)
        rows = np.full(math.prod(shape), -1, np.int32)
        rows[flat] = np.arange(flat.size, dtype=np.int32)
        if np.count_nonzero(rows >= 0) != flat.size:
            raise self._duplicate(flat, labels, shape)
        sizes = np.full(rows.size, -1, np.int64)
        sizes[flat] = np.frombuffer(self._sizes, np.int64)
        present = None if flat.size == rows.size else (rows >= 0).reshape(shape)
        return FileGrid(
            fields=self._pattern.fields,
            labels=labels,
            keys=self._keys(labels, rows.reshape(shape)),
            present=present,
            sizes=sizes,
            digest=self._hash.hexdigest(),
            has_versions=self._has_versions,
            n_files=flat.size,
        )

    def _keys(self, labels: tuple[tuple[Label, ...], ...], rows: npt.NDArray[np.int32]) -> Keys:
        if not self._makes_names:
            return Keys(None, (), self._names, rows)
        texts = []
        for k, axis in enumerate(self._axis_of):
            by_code = self._texts[k]
            code_of = self._values[axis]
            texts.append((axis, compact([by_code[code_of[label]] for label in labels[axis]])))
        return Keys(self._pattern, tuple(texts), None, None)

    def _check_extent(self, shape: tuple[int, ...]) -> None:
        if math.prod(shape) > _INDICES_PER_FILE * len(self) + _FREE_INDICES:
            extent = " x ".join(
                f"{n} of {name}" for name, n in zip(self._pattern.fields, shape, strict=True)
            )
            raise GridError(
                f"{len(self)} files span a grid of {extent}, far more indices than files; fields"
                " that move together should be one: give them the same name, or match one of them"
                " with a wildcard"
            )

    def _duplicate(
        self, flat: npt.NDArray[np.intp], labels: Any, shape: tuple[int, ...]
    ) -> DuplicateIndexError:
        order = np.argsort(flat, kind="stable")
        at = int(np.flatnonzero(np.diff(flat[order]) == 0)[0])
        first, second = sorted((int(order[at]), int(order[at + 1])))
        index = np.unravel_index(flat[first], shape)
        where = ", ".join(
            f"{name}={axis_labels[i]}"
            for name, axis_labels, i in zip(self._pattern.fields, labels, index, strict=True)
        )
        return DuplicateIndexError(
            f"two files at {where}: {self._names[first]} and {self._names[second]}; make the part"
            " in which they differ a field, or write it out in the pattern"
        )


def _sorted_labels(
    values: dict[Label, int],
) -> tuple[tuple[Label, ...], npt.NDArray[np.int64]]:
    """Return the labels in order, and the position of each code in that order."""
    if any(isinstance(value, str) for value in values):
        ordered = sorted(values, key=lambda value: natural_key(str(value)))
    else:
        ordered = sorted(values)
    rank = np.empty(len(ordered), np.int64)
    for position, value in enumerate(ordered):
        rank[values[value]] = position
    return tuple(ordered), rank


def listed_grid(
    files: Sequence[Named],
    *,
    axis: str | None,
    present: Sequence[bool] | None = None,
    name_of: Callable[[str], str] = str,
) -> FileGrid:
    """Return a grid of files in the given order along one axis, or of one file without axes.

    Parameters
    ----------
    files : sequence of Named
    axis : str, optional
        Name of the axis.
    present : sequence of bool, optional
        Which of the files exist; all by default.
    name_of : callable, optional
        Returns the part of a key that identifies the file, without a signature that expires.
    """
    bitmap = None if present is None or all(present) else np.array(present, bool)
    names = NameColumn()
    digest = hashlib.sha256(b"listed")
    for file in files:
        names.append(file.key)
        digest.update(f"{name_of(file.key)}\0{file.size_bytes}\0{file.etag}\n".encode(*ANY_NAME))
    labels = tuple(_short_names([file.key for file in files]))
    rows = np.arange(len(files), dtype=np.int32)
    return FileGrid(
        fields=(axis,) if axis is not None else (),
        labels=(labels,) if axis is not None else (),
        keys=Keys(None, (), names, rows if axis is not None else None),
        present=bitmap,
        sizes=np.array([-1 if f.size_bytes is None else f.size_bytes for f in files], np.int64),
        digest=digest.hexdigest(),
        has_versions=all(file.etag is not None for file in files),
        n_files=len(files) if bitmap is None else int(bitmap.sum()),
    )


def _short_names(keys: Sequence[str]) -> list[str]:
    """Return file names as labels, numbered where they repeat."""
    # The query is removed because it may hold a signature.
    short = [key.partition("?")[0].rsplit("/", 1)[-1] for key in keys]
    if len(set(short)) == len(short):
        return short
    return [f"{i}:{name}" for i, name in enumerate(short)]
