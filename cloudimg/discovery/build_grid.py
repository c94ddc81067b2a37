"""Build the table of files from the batches of a listing. Pure: fetches nothing."""

from __future__ import annotations

import hashlib
import re
from array import array
from collections.abc import Callable, Iterable, Sequence
from itertools import compress
from typing import Protocol

import numpy as np
import numpy.typing as npt

from cloudimg.discovery.grid import FileGrid, Keys
from cloudimg.discovery.names import ETAG_DIGEST, NameColumn, compact, files_digest, name_digests
from cloudimg.discovery.places import Places, sorted_labels
from cloudimg.discovery.unmatched import UnmatchedCounter
from cloudimg.errors import DuplicateIndexError
from cloudimg.pattern import Label, Pattern

_DIGITS = re.compile("[0-9a-f]{16}")
"""Of a digest of an ETag, as tables have it."""


class Named(Protocol):
    """One file of a listing."""

    @property
    def key(self) -> str: ...
    @property
    def size_bytes(self) -> int | None: ...
    @property
    def etag(self) -> str | None: ...


def short_etag(etag: str | None) -> int:
    """Return a digest of eight bytes of an ETag, or of the digest as text; 0 for none."""
    if etag is None:
        return 0
    if etag.startswith(ETAG_DIGEST) and _DIGITS.fullmatch(etag, len(ETAG_DIGEST)):
        return int(etag[len(ETAG_DIGEST) :], 16)
    return int.from_bytes(hashlib.blake2b(etag.strip('"').encode(), digest_size=8).digest())


def short_etags(etags: Sequence[str | None]) -> Iterable[int]:
    """Return `short_etag` of each ETag, in less time for many."""
    if not all(etag is not None and etag.startswith('"') for etag in etags):
        return map(short_etag, etags)
    texts = [etag.strip('"') for etag in etags if etag is not None]
    return np.frombuffer(name_digests(texts), ">u8").tolist()  # type: ignore[no-any-return]


class GridBuilder:
    """Builds the table of the files that match a pattern from the batches of a listing.

    Works on whole batches, because there may be a million files. Names are kept only once the
    pattern cannot make them from the labels.

    Parameters
    ----------
    pattern : Pattern
        A pattern with at least one field.
    unmatched : UnmatchedCounter
        Counts the names that do not match it.
    plain : callable, optional
        Returns the part of a name that the pattern matches, without a signature that expires; by
        default the whole name.
    """

    def __init__(
        self,
        pattern: Pattern,
        unmatched: UnmatchedCounter,
        plain: Callable[[str], str] | None = None,
    ) -> None:
        self._pattern = pattern
        self._unmatched = unmatched
        self._plain = plain
        self._axis_of = [pattern.fields.index(o.name) for o in pattern.occurrences]
        n_axes = len(pattern.fields)
        self._codes = [array("i") for _ in range(n_axes)]
        self._values: list[dict[Label, int]] = [{} for _ in range(n_axes)]
        self._known: list[dict[str, int]] = [{} for _ in pattern.occurrences]
        self._texts: list[dict[int, str]] = [{} for _ in pattern.occurrences]
        self._sizes = array("q")
        self._etags = array("Q")
        self._makes_names = plain is None and not pattern.has_wildcards
        self._names: NameColumn | None = None if self._makes_names else NameColumn()
        self._has_versions = True
        self._name_digests = bytearray()

    def add(self, files: Iterable[Named]) -> None:
        """Add a batch of a listing."""
        batch = list(files)
        self.add_columns(
            [file.key for file in batch],
            [file.size_bytes for file in batch],
            [file.etag for file in batch],
        )

    def add_columns(
        self, names: Sequence[str], sizes: Sequence[int | None], etags: Sequence[str | None]
    ) -> None:
        """Add a batch of a listing by its columns, see `Named`."""
        plain = names if self._plain is None else list(map(self._plain, names))
        columns = self._pattern.split_columns(plain)
        if columns is None:
            texts = self._pattern.split_all(plain)
            if None in texts:
                matches = [text is not None for text in texts]
                for name, match in zip(names, matches, strict=True):
                    if not match:
                        self._unmatched.add(name)
                names, plain = list(compress(names, matches)), list(compress(plain, matches))
                sizes, etags = list(compress(sizes, matches)), list(compress(etags, matches))
            columns = list(zip(*filter(None, texts), strict=True))
        if names:
            self._add(names, columns, sizes, etags)
            self._name_digests += name_digests(plain)

    def _add(
        self,
        names: Sequence[str],
        columns: Sequence[Sequence[str]],
        sizes: Sequence[int | None],
        etags: Sequence[str | None],
    ) -> None:
        n_before, last_axis = len(self), -1
        for k, column in enumerate(columns):
            codes = self._encoded(k, column)
            axis = self._axis_of[k]
            if axis > last_axis:  # only the first occurrence of a repeated field counts
                self._codes[axis].extend(codes)
                last_axis = axis
        if self._names is None and not self._makes_names:
            self._names = self._made_names(n_before)
        if self._names is not None:
            for name in names:
                self._names.append(name)
        self._sizes.extend([-1 if size is None else size for size in sizes])
        self._add_etags(etags)

    def _encoded(self, occurrence: int, texts: Sequence[str]) -> list[int]:
        """Codes of the labels that texts stand for."""
        known = self._known[occurrence]
        try:
            return [known[text] for text in texts]
        except KeyError:
            for text in dict.fromkeys(texts):
                if text not in known:
                    self._learn(occurrence, text)
            return [known[text] for text in texts]

    def _learn(self, occurrence: int, text: str) -> None:
        values = self._values[self._axis_of[occurrence]]
        value = self._pattern.value(occurrence, text)
        code = values.setdefault(value, len(values))
        self._known[occurrence][text] = code
        if self._texts[occurrence].setdefault(code, text) != text:
            self._makes_names = False  # 7 is written both 7 and 07: names must be looked up

    def _made_names(self, n_files: int) -> NameColumn:
        """The names of the first files, which the pattern could still make."""
        names = NameColumn()
        columns = list(zip(self._texts, self._axis_of, strict=True))
        for row in range(n_files):
            names.append(
                self._pattern.join([texts[self._codes[axis][row]] for texts, axis in columns])
            )
        return names

    def _add_etags(self, etags: Sequence[str | None]) -> None:
        if None in etags:
            self._has_versions = False
        # Where no file has an ETag, as on disks, the column stays empty.
        if self._etags or any(etags):
            self._etags.extend([0] * (len(self) - len(etags) - len(self._etags)))
            self._etags.extend(short_etags(etags))

    def __len__(self) -> int:
        return len(self._sizes)

    def build(self) -> FileGrid:
        """Return the table of the files added; the builder cannot be used afterwards.

        Raises
        ------
        DuplicateIndexError
            If two files have the same labels.
        GridError
            If the labels span far more indices than there are files.
        """
        labels, ranks = zip(*(sorted_labels(values) for values in self._values), strict=True)
        fields = self._pattern.fields
        indices = (
            rank[np.frombuffer(codes, np.int32)]
            for rank, codes in zip(ranks, self._codes, strict=True)
        )
        self.places = Places.of(fields, labels, indices, len(self))
        twice = self.places.twice()
        if twice is not None:
            names = self._names or self._made_names(max(twice) + 1)
            first, second = sorted(names[row] for row in twice)
            raise DuplicateIndexError(
                f"two files at {self.places.labels_of(twice[0])}: {first} and {second}; make the"
                " part in which they differ a field, or write it out in the pattern"
            )
        return self.places.grid(
            self._keys(labels, self.places.rows),
            np.frombuffer(self._sizes, np.int64),
            np.frombuffer(self._etags, np.uint64) if self._etags else None,
            np.frombuffer(self._name_digests, np.uint64),
            has_versions=self._has_versions,
        )

    def _keys(self, labels: tuple[tuple[Label, ...], ...], rows: npt.NDArray[np.int32]) -> Keys:
        if self._names is not None:
            return Keys(None, (), self._names, rows)
        texts = []
        for k, axis in enumerate(self._axis_of):
            by_code = self._texts[k]
            code_of = self._values[axis]
            texts.append((axis, compact([by_code[code_of[label]] for label in labels[axis]])))
        return Keys(self._pattern, tuple(texts), None, None)


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
    exists = np.ones(len(files), bool) if present is None else np.array(present, bool)
    bitmap = None if exists.all() else exists
    names = NameColumn()
    for file in files:
        names.append(file.key)
    digests = np.frombuffer(name_digests(name_of(file.key) for file in files), np.uint64)
    labels = tuple(short_names([file.key for file in files]))
    rows = np.arange(len(files), dtype=np.int32)
    sizes = np.array([-1 if f.size_bytes is None else f.size_bytes for f in files], np.int64)
    found = np.array([short_etag(file.etag) for file in files], np.uint64)
    etags = found if found.any() else None
    return FileGrid(
        fields=(axis,) if axis is not None else (),
        labels=(labels,) if axis is not None else (),
        keys=Keys(None, (), names, rows if axis is not None else None),
        present=bitmap,
        sizes=sizes,
        etags=etags,
        digest=files_digest((digests * exists, sizes, etags)),
        has_versions=all(file.etag is not None for file in files),
        n_files=int(exists.sum()),
    )


def short_names(keys: Sequence[str]) -> list[str]:
    """Return file names as labels, numbered where they repeat."""
    # The query is removed because it may hold a signature.
    short = [key.partition("?")[0].rsplit("/", 1)[-1] for key in keys]
    if len(set(short)) == len(short):
        return short
    return [f"{i}:{name}" for i, name in enumerate(short)]
