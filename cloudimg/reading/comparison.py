"""Compare a file with what the first file leads one to expect: axes, shape and dtype. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cloudimg.errors import MismatchError


@dataclass(frozen=True, slots=True)
class FileShape:
    """Axes, shape and dtype of one level of a file."""

    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: np.dtype[Any] | None
    """None where the file does not have the level."""


@dataclass(frozen=True, slots=True)
class Expected:
    """Axes, shape and dtype that a file must have, derived from the header of the first file."""

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
    def omitted_axes(self) -> tuple[int, ...]:
        """Positions of expected axes of length 1 without which the file fits; else empty."""
        omitted = omitted_axes(self.found.dims, self.expected.dims)
        if omitted and self.found.dtype == self.expected.dtype:
            return omitted if insert_ones(self.found.shape, omitted) == self.expected.shape else ()
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
            f"{name} {actual} instead of {wanted}"
            for name, (actual, wanted) in pairs.items()
            if actual != wanted
        )

    @property
    def kind(self) -> str:
        """Kind of a file that does not fit; see `cloudimg.FileReport`."""
        found, expected = self.found, self.expected
        if found.dims != expected.dims:
            return "other-axes"
        return "other-shape" if found.shape != expected.shape else "other-dtype"

    def error(self, url: str, *, advise: bool = True) -> MismatchError:
        """Return the error for a file of a grid that does not fit.

        Parameters
        ----------
        url : str
        advise : bool
            Say what to do, as is right for an error that is not part of a list.
        """
        advice = (
            '. Leave it out of the pattern, or pass validate="all" to list every file that does'
            " not fit"
        )
        error = MismatchError(
            f"{url} does not fit the grid: {self.differences} (expected from the first file,"
            f" {self.expected.first_url}){advice if advise else ''}",
            url=url,
        )
        error.bad_file = self.kind
        return error


def omitted_axes(dims: Sequence[str], expected: Sequence[str]) -> tuple[int, ...]:
    """Return positions of expected axes that a file lacks; none where it differs otherwise.

    Writers omit an axis along which there is one plane, as in the last slab of a stack.
    """
    omitted = tuple(i for i, name in enumerate(expected) if name not in dims)
    rest = [name for name in expected if name in dims]
    return omitted if rest == list(dims) else ()


def insert_ones(shape: Sequence[int], positions: Sequence[int]) -> tuple[int, ...]:
    """Return a shape with axes of length 1 inserted at the given positions of the result."""
    full = list(shape)
    for position in positions:
        full.insert(position, 1)
    return tuple(full)
