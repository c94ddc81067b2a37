"""Where files lie on one canvas along y and x, in whole pixels, instead of beside each other.

Pure. Files that lie over each other are painted in C order of the grid, later ones on top; where no
file lies, the canvas has the fill value.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from cloudimg.errors.arrival import raised_where_used
from cloudimg.tiff import overlap

Integers = npt.NDArray[np.int64]
_MAX_PHASES = 4
"""Most positions of files relative to the grid of their segments for which segments are listed."""


@dataclass(frozen=True, slots=True)
class CanvasPart:
    """What one file shows of a region of the canvas, along y and x."""

    index: tuple[int, ...]
    """Index of the file in the grid."""
    file_region: tuple[slice, slice]
    place: tuple[slice, slice]
    """Where the pixels belong in the output."""
    is_apart: bool
    """Whether pixels of other files belong to the same place, so that these are placed later."""


@dataclass(frozen=True, slots=True, eq=False)
class Canvas:
    """Where each file lies along y and x."""

    fields: tuple[int, ...]
    """Axes of the grid whose files lie on one canvas; files along the others are apart."""
    shape: tuple[int, int]
    boxes: Integers
    """Grid shape + (4,): first row and column of each file on the canvas, which may be negative,
    and its height and width, 0 where there is no file."""
    blend: str = "last"
    """What is shown where files overlap: the ``"last"`` one, or the ``"mean"``."""

    @classmethod
    def of(
        cls,
        fields: Sequence[int],
        offsets: Integers,
        sizes: Integers,
        *,
        bounds: str = "outer",
        blend: str = "last",
    ) -> Self:
        """Place files of which the first rows and columns are known, in any frame.

        Parameters
        ----------
        fields : sequence of int
            Axes of the grid whose files lie on one canvas.
        offsets, sizes : ndarray
            Grid shape + (2,): first row and column, and height and width, of each file; height 0
            where there is no file.
        bounds : {"outer", "inner"}
            The canvas holds all files, or what those at each index along the other axes have.
        blend : {"last", "mean"}
            What is shown where files overlap.
        """
        is_known = (sizes[..., :1] > 0) & (sizes[..., 1:] > 0)
        far = np.iinfo(np.int64).max
        starts = np.where(is_known, offsets, far).min(axis=tuple(fields)).reshape(-1, 2)
        stops = np.where(is_known, offsets + sizes, -far).max(axis=tuple(fields)).reshape(-1, 2)
        has_files = starts[:, 0] < far
        starts, stops = starts[has_files], stops[has_files]
        if bounds == "outer":
            first, last = starts.min(axis=0), stops.max(axis=0)
        else:
            first, last = starts.max(axis=0), stops.min(axis=0)
        boxes = np.concatenate((offsets - first, sizes), axis=-1, dtype=np.int64)
        boxes[~is_known[..., 0]] = 0
        height, width = (max(0, int(n)) for n in last - first)
        return cls(tuple(fields), (height, width), boxes, blend)

    @classmethod
    def unknown(cls, fields: Sequence[int], grid_shape: Sequence[int]) -> Self:
        """The canvas of files whose places are not known yet."""
        return cls(tuple(fields), (0, 0), np.zeros((*grid_shape, 4), np.int64))

    def __reduce__(self) -> tuple[Any, ...]:
        # Most files are as large as others, and lie where they do.
        packed = zlib.compress(self.boxes.tobytes(), 1)
        return _unpacked, (self.fields, self.shape, self.boxes.shape, packed, self.blend)

    def __repr__(self) -> str:
        digest = hashlib.sha256(np.ascontiguousarray(self.boxes).tobytes()).hexdigest()
        return (
            f"Canvas(fields={self.fields}, shape={self.shape}, boxes={digest}, blend={self.blend})"
        )

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, Canvas) and repr(self) == repr(other)

    def __hash__(self) -> int:
        return hash(repr(self))

    def offset(self, index: Sequence[int]) -> tuple[int, int]:
        """First row and column of the file at an index."""
        row, column = self.boxes[tuple(index)][:2]
        return int(row), int(column)

    def size(self, index: Sequence[int]) -> tuple[int, int]:
        """Height and width of the file at an index."""
        height, width = self.boxes[tuple(index)][2:]
        return int(height), int(width)

    def region_of(self, index: Sequence[int]) -> tuple[slice, slice]:
        """Rows and columns of the canvas at which the file at an index lies."""
        (top, left), (height, width) = self.offset(index), self.size(index)
        rows, columns = (
            slice(min(max(0, start), length), min(max(0, start + extent), length), 1)
            for start, extent, length in zip((top, left), (height, width), self.shape, strict=True)
        )
        return rows, columns

    def parts(
        self, index: Sequence[int], rows: slice, columns: slice, *, all_files: bool
    ) -> Iterator[CanvasPart]:
        """Yield what each file shows of a region.

        Parameters
        ----------
        index : sequence of int
            Index in the grid along the axes that are not on the canvas; others are not used.
        rows, columns : slice
            With start, stop and a positive step, within bounds.
        all_files : bool
            Whether to yield files below others with all that they have of the region, and not only
            what can be seen, so that each file is opened by whoever reads where it lies.
        """
        at = tuple(slice(None) if i in self.fields else k for i, k in enumerate(index))
        boxes = self.boxes[at].reshape(-1, 4)
        apart = [k for i, k in enumerate(index) if i not in self.fields]
        own = np.stack((boxes[:, :2], boxes[:, :2] + boxes[:, 2:]), axis=1)
        region = np.array([(rows.start, columns.start), (rows.stop, columns.stop)])
        chosen = ((own[:, 0] < region[1]) & (own[:, 1] > region[0])).all(axis=1)
        # A file that does not exist belongs to whoever reads the first pixel.
        is_gap = (boxes[:, 2] == 0) & bool((region[0] == 0).all())
        numbers = np.flatnonzero(chosen | is_gap)
        seen = np.clip(own[numbers], region[0], region[1])
        blends = self.blend == "mean"
        if not all_files and not blends:
            seen = _uncovered(seen)
        for k, (number, box) in enumerate(zip(numbers, seen, strict=True)):
            (top, left), (bottom, right) = box.tolist()
            along = (overlap(rows, top, bottom), overlap(columns, left, right))
            if None in along:
                if not is_gap[number]:
                    continue
                along = ((slice(0, 0, 1), slice(0, 0)),) * 2
            skipped = box[0] - own[number, 0]
            parts = [part for part in along if part is not None]
            below = np.delete(seen, k, axis=0) if blends else seen[:k]
            meets = (below[:, 0] < np.minimum(box[1], below[:, 1])) & (below[:, 1] > box[0])
            is_apart = bool(meets.all(axis=1).any())
            (of_rows, place_rows), (of_columns, place_columns) = parts
            yield CanvasPart(
                self._index(apart, int(number)),
                (_moved(of_rows, int(skipped[0])), _moved(of_columns, int(skipped[1]))),
                (place_rows, place_columns),
                is_apart,
            )

    def overlapping(self) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, int]] | None:
        """Two files that lie over each other, and the rows and columns that both have."""
        apart = tuple(n for i, n in enumerate(self.boxes.shape[:-1]) if i not in self.fields)
        moved = np.moveaxis(self.boxes, self.fields, range(-1 - len(self.fields), -1))
        for at in np.ndindex(apart):
            boxes = moved[at].reshape(-1, 4)
            tops, stops = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
            for k in range(1, len(boxes)):
                common = np.minimum(stops[:k], stops[k]) - np.maximum(tops[:k], tops[k])
                over = np.flatnonzero((common > 0).all(axis=1))
                if len(over):
                    rows, columns = common[over[0]].tolist()
                    return self._index(at, int(over[0])), self._index(at, k), (rows, columns)
        return None

    def _index(self, apart: Sequence[int], number: int) -> tuple[int, ...]:
        """Index in the grid, from that on other axes and the number of a file on a canvas."""
        lengths = [self.boxes.shape[i] for i in self.fields]
        on_canvas = [int(i) for i in np.unravel_index(number, lengths)] if lengths else []
        full = list(apart)
        for i, position in sorted(zip(self.fields, on_canvas, strict=True)):
            full.insert(i, position)
        return tuple(full)

    def boundaries(self, along: int, segment: int) -> Integers:
        """Positions between segments of the files along y (0) or x (1), from 0 to the length.

        The beginnings of files where they are not on one grid of segments.
        """
        length = self.shape[along]
        boxes = self.boxes.reshape(-1, 4)
        starts = np.unique(boxes[boxes[:, 2] > 0, along])
        phases = np.unique(starts % segment)
        if len(phases) <= _MAX_PHASES:
            of_segments = [np.arange(phase, length, segment) for phase in phases]
            starts = np.concatenate([starts, *of_segments])
        inside = starts[(starts > 0) & (starts < length)]
        return np.unique(np.concatenate(([0], inside, [length])))


@raised_where_used
def _unpacked(
    fields: tuple[int, ...],
    shape: tuple[int, int],
    boxes_shape: tuple[int, ...],
    packed: bytes,
    blend: str,
) -> Canvas:
    boxes = np.frombuffer(zlib.decompress(packed), np.int64).reshape(boxes_shape)
    return Canvas(fields, shape, boxes, blend)


def _moved(part: slice, by: int) -> slice:
    return slice(part.start + by, part.stop + by, part.step)


def _uncovered(boxes: Integers) -> Integers:
    """Trim boxes (n, 2, 2) by later ones that cover them from side to side; others stay."""
    trimmed = boxes.copy()
    for k in range(len(boxes) - 1):
        box = trimmed[k]
        later = boxes[k + 1 :]
        meets = ((later[:, 0] < box[1]) & (later[:, 1] > box[0])).all(axis=1)
        for cover in later[meets]:
            for along in (0, 1):
                across = 1 - along
                if cover[0, across] > box[0, across] or cover[1, across] < box[1, across]:
                    continue
                if cover[0, along] <= box[0, along]:
                    box[0, along] = max(box[0, along], min(cover[1, along], box[1, along]))
                if cover[1, along] >= box[1, along]:
                    box[1, along] = min(box[1, along], max(cover[0, along], box[0, along]))
    return trimmed
