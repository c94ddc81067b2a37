"""Whether a file is what the first file leads one to expect: dims, shape and dtype. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cloudimg.errors import MismatchError


@dataclass(frozen=True, slots=True)
class FileShape:
    """What a header says about one level of an image."""

    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: np.dtype[Any] | None
    """None where the file has no such level."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What every file of an image must be, by the header of the first one."""

    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    first_url: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """A file compared with what is expected of it."""

    found: FileShape
    expected: Expected

    @property
    def fits(self) -> bool:
        """Whether nothing differs."""
        found, expected = self.found, self.expected
        return (found.dims, found.shape, found.dtype) == (
            expected.dims,
            expected.shape,
            expected.dtype,
        )

    @property
    def lacking(self) -> tuple[int, ...]:
        """Positions of expected axes of length 1 without which the file would fit; else none."""
        lacking = lacking_axes(self.found.dims, self.expected.dims)
        if lacking and self.found.dtype == self.expected.dtype:
            return lacking if with_ones(self.found.shape, lacking) == self.expected.shape else ()
        return ()

    @property
    def differences(self) -> str:
        """What differs, as text."""
        found, expected = self.found, self.expected
        pairs = {
            "axes": (found.dims, expected.dims),
            "shape": (found.shape, expected.shape),
            "dtype": (found.dtype, expected.dtype),
        }
        return "; ".join(
            f"{name} {mine} instead of {theirs}"
            for name, (mine, theirs) in pairs.items()
            if mine != theirs
        )

    def error(self, url: str) -> MismatchError:
        """The error for a file of a grid that does not fit."""
        return MismatchError(
            f"{url} does not fit the grid: {self.differences} (expected from the first file,"
            f" {self.expected.first_url}). Leave it out of the pattern, or pass"
            ' validate="all" to list every file that does not fit',
            url=url,
        )


def lacking_axes(dims: Sequence[str], expected: Sequence[str]) -> tuple[int, ...]:
    """Positions of expected axes that a file does not have; none where it differs otherwise.

    A writer leaves out an axis along which there is one plane, as in the last slab of a stack.
    """
    lacking = tuple(i for i, name in enumerate(expected) if name not in dims)
    rest = [name for name in expected if name in dims]
    return lacking if rest == list(dims) else ()


def with_ones(shape: Sequence[int], positions: Sequence[int]) -> tuple[int, ...]:
    """A shape with axes of length 1 inserted at the given positions of the result."""
    full = list(shape)
    for position in positions:
        full.insert(position, 1)
    return tuple(full)
