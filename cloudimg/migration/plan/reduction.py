"""What the header of an image says of reducing it: the method, and the value without data. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

_LABEL_NAME = re.compile(
    r"(?<![a-z])(labels?|label ?(map|image)s?|masks?|seg|segmentations?|class(es)?|classifications?"
    r"|categor(y|ies)|annotations?|land ?(cover|use))(?![a-z])",
    re.IGNORECASE,
)
"""Names that people give to images and channels whose values are classes or labels."""
_OF_COPIES = ("mean", "nearest", "mode")
"""What copies call the methods of their levels, `cloudimg.migration.plan.plan.METHODS`."""
_DIGITS_OF_LABELS = 4
"""Bytes of an integer from which on it may be a label: cameras count with fewer."""


@dataclass(frozen=True, slots=True)
class Reduction:
    """How the levels of an image are made, unless the user chooses otherwise."""

    method: str = "mean"
    """One of `cloudimg.migration.plan.plan.METHODS`."""
    because: str = ""
    """What the header says that decides it; empty if it says nothing."""
    may_be_labels: bool = False
    """Whether the values may be labels, although nothing says so."""


def reduction_of(
    attrs: Mapping[str, Any], names: Sequence[str], dtype: np.dtype[Any], n_samples: int
) -> Reduction:
    """Choose how levels are made, by what the header says.

    Parameters
    ----------
    attrs : mapping
        See `cloudimg.ImageAttributes`.
    names : sequence of str
        Names of the channels.
    dtype : numpy.dtype
    n_samples : int
        Number of samples of a pixel.
    """
    made_by = attrs.get("downsampling")
    if made_by in _OF_COPIES:
        return Reduction(made_by, "the levels of its source are made so")
    space = attrs.get("color_space")
    if space == "palette":
        return Reduction("mode", "its pixels are indices into a palette")
    if space == "mask":
        return Reduction("mode", "it is a mask")
    if space == "cielab" and dtype.kind == "u":
        # TIFF 6.0, section 23: a* and b* are signed, whatever the type says.
        return Reduction("nearest", "its samples a* and b* are signed, but their type is not")
    if dtype.kind not in "iub" or n_samples > 1:
        return Reduction()
    if attrs.get("has_categories"):
        return Reduction("mode", "its metadata say that its values are categories")
    name = str(attrs.get("name", ""))
    if _is_of_labels(name):
        return Reduction("mode", f'its name is "{name}"')
    if names and all(map(_is_of_labels, names)):
        return Reduction("mode", f'its channel is "{names[0]}"')
    return Reduction(may_be_labels=dtype.kind != "b" and dtype.itemsize >= _DIGITS_OF_LABELS)


def _is_of_labels(name: str) -> bool:
    return _LABEL_NAME.search(name.replace("_", " ")) is not None


def nodata_of(stated: Any, dtype: np.dtype[Any]) -> int | float | None:
    """The value of pixels without data, which have no part in means and histograms.

    NaN is such a value in any image of floating-point numbers.

    Parameters
    ----------
    stated : number or str, optional
        What the header says, perhaps as a plan stores it: "nan".
    dtype : numpy.dtype

    Returns
    -------
    number or None
        None if no pixel can have such a value.
    """
    if dtype.kind not in "iuf":
        return None
    nothing = math.nan if dtype.kind == "f" else None
    try:
        value = float(stated) if isinstance(stated, str) else stated
    except ValueError:
        return nothing
    if isinstance(value, bool) or not isinstance(value, int | float):
        return nothing
    if dtype.kind == "f":
        with np.errstate(all="ignore"):
            found: float = np.asarray(value, np.float64).astype(dtype).item()
        return found if math.isfinite(found) == math.isfinite(value) else nothing
    limits = np.iinfo(dtype)
    is_pixel = math.isfinite(value) and value == int(value) and limits.min <= value <= limits.max
    return int(value) if is_pixel else None
