"""Histograms of pixel values, from which contrast limits are derived. Pure.

The bins are fixed and the counts are integers, so the histograms of cells add up exactly to the
histogram of the image, in any order.
"""

from __future__ import annotations

import base64
import math
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from cloudimg.errors.arrival import raised_where_used
from cloudimg.errors.checked_json import checked_list, checked_object, checked_text, unexpected
from cloudimg.tiff.colours.window import Values, apart

Array = npt.NDArray[Any]
_KIND = re.compile(r"[iu][1248]|f(2|4|8|16)")
_MOST_SAMPLES = 2**18
_BINS = 2**16
_DIGITS = np.frombuffer(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", np.uint8
)
_VALUES = np.zeros(128, np.int64)
_VALUES[_DIGITS] = np.arange(64)
_TEXT_OF_DIGITS = re.compile(r"[A-Za-z0-9+/ ]*")
_MOST_PLANES = 4
"""Digits of the greatest number, which is a count."""


@dataclass(frozen=True, slots=True, eq=False)
class Histogram:
    """Histogram of the values of a channel."""

    kind: str
    """NumPy's character for the kind of number, and its size in bytes: ``u2``."""
    bins: npt.NDArray[np.int64]
    """Numbers of the bins that are not empty, increasing."""
    counts: npt.NDArray[np.int64]
    """Number of values in each of these bins."""
    least: float
    """Smallest finite value counted; infinity if there is none."""
    greatest: float
    """Greatest finite value counted; minus infinity if there is none."""

    def __reduce__(self) -> tuple[Any, ...]:
        # Histograms are most of what workers return, and it all passes through the scheduler.
        # Packing reduces them to a tenth.
        steps = np.diff(self.bins, prepend=0)
        packed = _pack(steps), _pack(self.counts)
        return _from_packed, (self.kind, *packed, self.least, self.greatest)

    def merge(self, other: Histogram) -> Histogram:
        """Histogram of the values of both."""
        bins, inverse = np.unique(np.concatenate((self.bins, other.bins)), return_inverse=True)
        counts = np.zeros(len(bins), np.int64)
        np.add.at(counts, inverse, np.concatenate((self.counts, other.counts)))
        least, greatest = min(self.least, other.least), max(self.greatest, other.greatest)
        return Histogram(self.kind, bins, counts, least, greatest)

    def limits(self, low: float = 0.001, high: float = 0.999) -> tuple[float, float, float, float]:
        """Contrast limits of copies of older versions: start and end of the display, and the range.

        All four are finite, and the end is above the start, whatever the pixels are.

        Parameters
        ----------
        low, high : float
            Quantiles at which the display starts and ends.
        """
        if not len(self.bins):
            return 0, 1, 0, 1
        total = np.cumsum(self.counts)
        first = np.searchsorted(total, low * total[-1], "right")
        last = np.searchsorted(total, high * total[-1], "left")
        smallest, largest = _edges(self.bins[[first, last]], self.kind)
        start = max(smallest[0].item(), self.least)
        end = min(largest[1].item(), self.greatest)
        if self.kind[0] in "iu":
            # Edges of wide bins are fractions; truncating both would make 200.0 and 200.9 equal.
            start, end = math.floor(start), math.ceil(end)
        start, end = apart(start, end)
        least, greatest = min(self.least, start), max(self.greatest, end)
        if self.kind[0] in "iu":
            return int(start), int(end), int(least), int(greatest)
        return start, end, least, greatest

    def values(self) -> Values:
        """The values counted, each bin as narrow as is known."""
        edges = _edges(self.bins, self.kind)
        low, high = (each.clip(self.least, self.greatest) for each in edges)
        return Values(low, high, self.counts)

    def to_json(self) -> dict[str, Any]:
        """The histogram as JSON, as the journal stores it."""
        # As text, which is compressed with those of the other channels and images of a cell.
        return {
            "kind": self.kind,
            "steps": _as_digits(np.diff(self.bins, prepend=0)),
            "frequencies": _as_digits(self.counts),
            "range": [self.least, self.greatest] if len(self.bins) else None,
        }

    @classmethod
    def from_json(cls, stored: Any) -> Self:
        """Restore a histogram from `to_json`.

        Raises
        ------
        ValueError
            If it is not the histogram of any pixels.
        """
        is_older = isinstance(stored, dict) and "counts" in stored
        numbers = ("counts",) if is_older else ("steps", "frequencies")
        checked_object(stored, "histogram", required=("kind", *numbers, "range"))
        kind = checked_text(stored["kind"], "histogram.kind", pattern=_KIND)
        bins, counts = _unpacked(stored["counts"]) if is_older else _numbers(stored)
        is_increasing = not len(bins) or (bins[0] >= 0 and bins[-1] < _BINS)
        if not is_increasing or (np.diff(bins) <= 0).any():
            raise ValueError("histogram does not have increasing numbers of bins")
        if ((counts < 1) | (counts > _MOST_SAMPLES)).any():
            raise ValueError(f"histogram has counts that are not from 1 to {_MOST_SAMPLES}")
        least, greatest = float("inf"), float("-inf")
        if (stored["range"] is None) != (len(bins) == 0):
            raise ValueError("histogram.range does not fit the counts")
        if stored["range"] is not None:
            least, greatest = checked_list(stored["range"], "histogram.range", n=2)
            for value in (least, greatest):
                _check_value(value, kind)
            if least > greatest:
                raise ValueError("histogram.range does not increase")
        return cls(kind, bins, counts, least, greatest)


def _as_digits(numbers: npt.NDArray[np.int64]) -> str:
    """Numbers as text: the last digits of all in base 64, then those before them, and so on.

    Equal digits then lie beside each other, so that the text compresses to about their entropy.
    """
    planes: list[str] = []
    while not planes or numbers.any():
        planes.append(_DIGITS[numbers % 64].tobytes().decode())
        numbers = numbers // 64
    return " ".join(planes)


def _numbers_in(text: Any, name: str) -> npt.NDArray[np.int64]:
    """Numbers of `_as_digits`."""
    most = _MOST_PLANES * (_BINS + 1)
    checked_text(text, f"histogram.{name}", most=most, pattern=_TEXT_OF_DIGITS)
    planes = text.split(" ")
    if len({len(plane) for plane in planes}) > 1 or len(planes) > _MOST_PLANES:
        raise ValueError(f"histogram.{name} does not have digits of numbers")
    digits = (_VALUES[np.frombuffer(plane.encode(), np.uint8)] for plane in planes)
    found = np.zeros(len(planes[0]), np.int64)
    for place, each in enumerate(digits):
        found += each << (6 * place)
    return found


def _numbers(stored: Mapping[str, Any]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Numbers of bins and their counts."""
    steps, counts = (_numbers_in(stored[name], name) for name in ("steps", "frequencies"))
    if len(steps) != len(counts):
        raise ValueError(f"histogram has {len(steps)} steps and {len(counts)} frequencies")
    return np.cumsum(steps), counts


def _unpacked(stored: Any) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The same of a record of an older version, which takes a limited number of bytes."""
    text = checked_text(stored, "histogram.counts", most=2**21)
    unpacker = zlib.decompressobj()
    most = 2 * 8 * _BINS
    try:
        data = unpacker.decompress(base64.b64decode(text, validate=True), most + 1)
    except zlib.error as exc:
        raise ValueError(f"histogram.counts cannot be decompressed: {exc}") from exc
    if len(data) > most or len(data) % 16 or not unpacker.eof or unpacker.unused_data:
        raise ValueError(f"histogram.counts does not have up to {_BINS} bins")
    bins, counts = np.frombuffer(data, "<i8").reshape(2, -1).astype(np.int64)
    return bins, counts


def _check_value(value: Any, kind: str) -> None:
    """Check a pixel value of a kind."""
    if kind[0] == "f":
        is_value = isinstance(value, float) and math.isfinite(value)
    else:
        limits = np.iinfo(kind)
        is_whole = isinstance(value, int) and not isinstance(value, bool)
        is_value = is_whole and bool(limits.min <= value <= limits.max)
    if not is_value:
        raise unexpected(value, "a number in histogram.range", f"a pixel of type {kind}")


def _pack(numbers: npt.NDArray[np.int64]) -> tuple[str, bytes]:
    """Compress numbers that are not negative; returns the smallest dtype that holds them too."""
    dtype = np.min_scalar_type(int(numbers.max(initial=0)))
    return dtype.str, zlib.compress(numbers.astype(dtype).tobytes(), 1)


def _unpack(packed: tuple[str, bytes]) -> npt.NDArray[np.int64]:
    dtype, data = packed
    return np.frombuffer(zlib.decompress(data), dtype).astype(np.int64)


@raised_where_used
def _from_packed(
    kind: str, steps: tuple[str, bytes], counts: tuple[str, bytes], least: float, greatest: float
) -> Histogram:
    """Restore a histogram when it is unpickled."""
    return Histogram(kind, np.cumsum(_unpack(steps)), _unpack(counts), least, greatest)


def measure(pixels: Array, channel_axis: int | None, nodata: Any = None) -> list[Histogram]:
    """Compute a histogram of each channel, from a regular sample if there are many pixels.

    Parameters
    ----------
    pixels : ndarray
    channel_axis : int, optional
        There is one histogram for each position along this axis. None: one for all pixels.
    nodata : scalar, optional
        A value that is not counted. NaN and infinities never are.
    """
    parts = [pixels] if channel_axis is None else list(np.moveaxis(pixels, channel_axis, 0))
    return [_measure(part, nodata) for part in parts]


def _measure(pixels: Array, nodata: Any) -> Histogram:
    kind = f"{pixels.dtype.kind}{pixels.dtype.itemsize}"
    values = _thinned(pixels).reshape(-1)
    if pixels.dtype.kind == "c":
        values, kind = np.abs(values), f"f{pixels.dtype.itemsize // 2}"
    if pixels.dtype.kind == "b":
        values, kind = values.view(np.uint8), "u1"
    if values.dtype.kind == "f":
        values = values[np.isfinite(values)]
    if nodata is not None:
        values = values[values != nodata]
    if not values.size:
        empty = np.zeros(0, np.int64)
        return Histogram(kind, empty, empty, float("inf"), float("-inf"))
    counts = np.bincount(_bin_of(values), minlength=1)
    bins = np.flatnonzero(counts)
    return Histogram(
        kind,
        bins,
        counts[bins].astype(np.int64),
        values.min().item() + 0,  # 0.0 instead of -0.0, so that the order of merging is irrelevant
        values.max().item() + 0,
    )


def _thinned(pixels: Array) -> Array:
    """Every n-th pixel along each axis, doubling n along the longest until they are few enough."""
    steps = [1] * pixels.ndim
    lengths = list(pixels.shape)
    while np.prod(lengths, dtype=np.int64) > _MOST_SAMPLES:
        i = int(np.argmax(lengths))
        steps[i] *= 2
        lengths[i] = -(-pixels.shape[i] // steps[i])
    return np.ascontiguousarray(pixels[tuple(slice(None, None, step) for step in steps)])


def _bin_of(values: Array) -> npt.NDArray[np.int64]:
    """Bins, in the order of the values. Each value of an integer of up to 16 bits has its own."""
    if values.dtype.kind == "u" and values.itemsize <= 2:
        return values.astype(np.int64)
    if values.dtype.kind == "i" and values.itemsize <= 2:
        return values.astype(np.int64) + _BINS // 2
    # The upper half of a float's bits, arranged so that they increase with the float: a precision
    # of 7 bits.
    with np.errstate(over="ignore"):
        wide = np.clip(values.astype(np.float64), -3.4e38, 3.4e38).astype("<f4")
    bits = (wide.view("<u4") >> 16).astype(np.int64)
    return np.where(bits < _BINS // 2, bits + _BINS // 2, _BINS - 1 - bits)


def _edges(numbers: npt.NDArray[np.int64], kind: str) -> tuple[Array, Array]:
    """Smallest and greatest value of bins."""
    if kind in ("u1", "u2"):
        return numbers, numbers
    if kind in ("i1", "i2"):
        return numbers - _BINS // 2, numbers - _BINS // 2
    is_positive = numbers >= _BINS // 2
    bits = np.where(is_positive, numbers - _BINS // 2, _BINS - 1 - numbers) << 16
    near, far = np.stack((bits, bits + 0xFFFF)).astype("<u4").view("<f4").astype(np.float64)
    return np.where(is_positive, near, far), np.where(is_positive, far, near)
