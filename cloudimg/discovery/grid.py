"""The table of files: which file is at which index of the axes that a pattern names. Pure.

There are often a million files, so the table consists of columns (sizes, ETags, a bitmap) and never
of an object per file. Names are stored only where the pattern cannot make them from the labels.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

import numpy as np
import numpy.typing as npt

from cloudimg.discovery.names import NameColumn, compact, files_digest, name_digests
from cloudimg.pattern import Label, Pattern


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

    def taken(self, kept: Mapping[int, npt.NDArray[np.int64]]) -> Keys:
        """Return the names at some of the indices along some axes, see `FileGrid.taken`."""
        texts = tuple(
            (axis, compact([each[int(i)] for i in kept[axis]]) if axis in kept else each)
            for axis, each in self.texts
        )
        rows = self.rows
        if rows is not None:
            for axis, indices in kept.items():
                rows = np.take(rows, indices, axis)
        return replace(self, texts=texts, rows=rows)

    def transposed(self, order: Sequence[int]) -> Keys:
        """Return the names with the axes in another order."""
        texts = tuple((order.index(axis), each) for axis, each in self.texts)
        rows = None if self.rows is None else self.rows.transpose(order).copy()
        return replace(self, texts=texts, rows=rows)


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
    etags: npt.NDArray[np.uint64] | None = field(repr=False)
    """Digests of the ETags, see `short_etag`, in C order of the grid, 0 where there is none; None
    if no file has an ETag."""
    digest: str
    """Digest of names, sizes and ETags by index; changes when any file does. The same however the
    files were listed."""
    has_versions: bool
    """Whether every file has an ETag; otherwise `digest` can miss changes."""
    n_files: int
    """Number of files."""

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(len(labels) for labels in self.labels)

    def without(self, names: Sequence[str]) -> FileGrid:
        """Return the grid in which some files are missing."""
        missing = set(names)
        present = np.zeros(self.shape, bool)
        for index in self.files():
            present[index] = self.keys(index) not in missing
        return replace(
            self,
            present=present,
            sizes=np.where(present.ravel(), self.sizes, -1),
            etags=None if self.etags is None else np.where(present.ravel(), self.etags, 0),
            n_files=int(present.sum()),
        )

    def taken(self, kept: Mapping[int, npt.NDArray[np.int64]]) -> FileGrid:
        """Return the grid with some of the indices along some axes only.

        Parameters
        ----------
        kept : mapping
            Indices to keep, increasing, by number of the axis.
        """
        places = self.places(kept)
        shape = tuple(len(kept[a]) if a in kept else n for a, n in enumerate(self.shape))
        present = None if self.present is None else self.present.ravel()[places].reshape(shape)
        etags = None if self.etags is None else self.etags[places]
        grid = replace(
            self,
            labels=tuple(
                tuple(labels[i] for i in kept[a]) if a in kept else labels
                for a, labels in enumerate(self.labels)
            ),
            keys=self.keys.taken(kept),
            present=None if present is None or present.all() else present,
            sizes=self.sizes[places],
            etags=etags,
            has_versions=self.has_versions or (etags is not None and bool(etags.all())),
            n_files=len(places) if present is None else int(present.sum()),
        )
        return replace(grid, digest=grid._digest())

    def led_by(self, field: str) -> FileGrid:
        """Return the grid with one of its axes first.

        The positions of files stay as they are when that axis gets longer.
        """
        axis = self.fields.index(field)
        if axis == 0:
            return self
        order = (axis, *(i for i in range(len(self.fields)) if i != axis))
        etags = self.etags
        grid = replace(
            self,
            fields=tuple(self.fields[i] for i in order),
            labels=tuple(self.labels[i] for i in order),
            keys=self.keys.transposed(order),
            present=None if self.present is None else self.present.transpose(order).copy(),
            sizes=self.sizes.reshape(self.shape).transpose(order).ravel(),
            etags=None if etags is None else etags.reshape(self.shape).transpose(order).ravel(),
        )
        return replace(grid, digest=grid._digest())

    def of_labels(self, kept: Collection[Label]) -> FileGrid:
        """Return the grid with some of the labels of its first axis.

        Labels of other axes that no file has then are left out.
        """
        rows = [i for i, label in enumerate(self.labels[0]) if label in kept]
        grid = self.taken({0: np.array(rows, np.int64)})
        if grid.present is None:
            return grid
        axes = range(len(grid.shape))
        used = {a: grid.present.any(axis=tuple(b for b in axes if b != a)) for a in axes}
        return grid.taken({a: np.flatnonzero(each) for a, each in used.items() if not each.all()})

    def places(self, kept: Mapping[int, npt.NDArray[np.int64]]) -> npt.NDArray[np.int64]:
        """Return the positions in C order of the grid that have some of the indices."""
        indices = [kept.get(a, np.arange(n)) for a, n in enumerate(self.shape)]
        flat: npt.NDArray[np.int64] = np.ravel_multi_index(np.ix_(*indices), self.shape).ravel()
        return flat

    def _digest(self) -> str:
        """Digest of names, sizes and ETags, of a part of the files that were listed."""
        names = np.zeros(self.sizes.size, np.uint64)
        digests = name_digests(self.keys(index) for index in self.files())
        names[self.positions] = np.frombuffer(digests, np.uint64)
        return files_digest((names, self.sizes, self.etags))

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

    def missing_examples(self, n: int = 3) -> list[str]:
        """Return the labels of the first few indices without a file, as text."""
        examples = []
        for index in islice(self.missing(), n):
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

    def last(self) -> tuple[int, ...]:
        """Return the index of the last file."""
        if self.present is None:
            return tuple(n - 1 for n in self.shape)
        flat = np.flatnonzero(self.present)[-1]
        return tuple(int(i) for i in np.unravel_index(flat, self.shape))

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

    @property
    def positions(self) -> npt.NDArray[np.int64]:
        """Positions of the files in C order of the grid, increasing."""
        if self.present is None:
            return np.arange(self.sizes.size)
        return np.flatnonzero(self.present)

    def position(self, index: tuple[int, ...]) -> int:
        """Return the position of an index in C order of the grid."""
        position = 0
        for i, labels in zip(index, self.labels, strict=True):
            position = position * len(labels) + i
        return int(position)

    def size_of(self, index: tuple[int, ...]) -> int | None:
        """Return the size in bytes of the file at an index, None where it is unknown."""
        size = int(self.sizes.reshape(self.shape)[index])
        return size if size >= 0 else None
