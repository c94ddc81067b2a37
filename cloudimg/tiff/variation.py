"""Find the axes along which values vary. Pure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Variation:
    """Values along named axes, some of which are not known."""

    names: tuple[str, ...]
    """Names of the axes of `values`."""
    values: Array
    is_known: Mask
    """Where a value is known; NaN is a value, too."""

    def without(self, name: str) -> Variation | None:
        """Return it without an axis along which no known value varies; None if one does."""
        first = self.first_along(name)
        expected = np.expand_dims(first.values, self.names.index(name))
        return first if (same(self.values, expected) | ~self.is_known).all() else None

    def first_along(self, name: str) -> Variation:
        """Return it with the first known values along an axis, without the axis."""
        axis = self.names.index(name)
        at = np.expand_dims(self.is_known.argmax(axis), axis)
        return Variation(
            self.names[:axis] + self.names[axis + 1 :],
            np.take_along_axis(self.values, at, axis).squeeze(axis),
            np.asarray(self.is_known.any(axis)),
        )

    def reduced(self, removable: Collection[str], kept_longest: str = "") -> Variation:
        """Return it without those of some axes along which nothing varies.

        Where values are unknown, either of two axes may explain the others. The last ones are
        removed first, and `kept_longest` is tried after all others.
        """
        found = self
        names = [name for name in reversed(self.names) if name in removable]
        for name in sorted(names, key=lambda name: name == kept_longest):
            found = found.without(name) or found
        return found


def same(a: Array, b: Array) -> Mask:
    """Return where values are equal; NaN equals NaN."""
    found: Mask = np.asarray((a == b) | ((a != a) & (b != b)))
    return found


def with_silent_steps(is_known: Mask) -> Mask:
    """Return where values are known, if those of steps without any are known to be null.

    A step along an axis is, for example, a channel.
    """
    silent = np.zeros_like(is_known)
    for axis in range(is_known.ndim):
        others = tuple(other for other in range(is_known.ndim) if other != axis)
        silent |= ~is_known.any(others, keepdims=True)
    return is_known | silent
