"""From the bytes of a file to an array that cloudimg can rely on, or an error of ours."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
import numpy.typing as npt

from cloudimg.errors import ArgumentError, CloudimgError, CorruptFileError, LimitError
from cloudimg.formats.registry import Format, ReadFunction
from cloudimg.formats.sizes import UNREADABLE

Array = npt.NDArray[Any]


def decode(
    reader: Format | ReadFunction, data: bytes | memoryview, url: str, *, limit_bytes: int
) -> Array:
    """Decode a whole file.

    Parameters
    ----------
    reader : Format or callable
        From `find_format`, or a user's own: called with a binary file and the URL.
    data : bytes or memoryview
        The whole file.
    url : str
        Where it came from, for the reader and for messages.
    limit_bytes : int
        A header that declares more decoded bytes is refused before anything is decoded.

    Returns
    -------
    ndarray
        Numbers or booleans with two axes or more, C-contiguous, writable, in native byte order.

    Raises
    ------
    CorruptFileError
        The reader raised, or the file does not hold an image.
    UnsupportedFormatError
        A decoder is missing.
    LimitError
        The header asks for more than `limit_bytes`.
    ArgumentError
        A user's callable returned something that is not an image.
    """
    content = bytes(data)
    if isinstance(reader, Format):
        name, read = reader.name, reader.read
        _check_size(reader, content, url, limit_bytes)
    else:
        name, read = getattr(reader, "__qualname__", repr(reader)), reader
    try:
        result = read(io.BytesIO(content), url)
    except CloudimgError:
        raise
    except Exception as exc:
        hint = _HINT if isinstance(exc, TypeError) else ""
        raise CorruptFileError(
            f"{url} cannot be decoded by {name}: {type(exc).__name__}: {exc}{hint}", url=url
        ) from exc
    return _as_image(result, isinstance(reader, Format), name, url)


_HINT = (
    " (a reader is called with two arguments, a binary file and the URL; file.read() gives bytes,"
    " as in `lambda file, url: decode(file.read())`)"
)


def _check_size(known: Format, content: bytes, url: str, limit_bytes: int) -> None:
    try:
        factors = known.measure(content) if known.measure is not None else None
    except UNREADABLE:
        return  # the decoder reads the same header and reports what is wrong with it
    if factors is None or math.prod(factors) <= limit_bytes:
        return
    product = " x ".join(str(factor) for factor in factors if factor != 1)
    raise LimitError(
        f"the {known.name} header of {url} declares {product} = {math.prod(factors)} bytes of"
        f" pixels, more than the limit of {limit_bytes}; set CLOUDIMG_MAX_SEGMENT_BYTES higher if"
        f" the header is right",
        url=url,
    )


def _as_image(result: Any, is_format: bool, name: str, url: str) -> Array:
    try:
        array = np.asarray(result)
    except (ValueError, TypeError):
        array = np.empty(0, object)  # lists of unequal lengths, and objects that are not arrays
    if array.ndim < 2 or array.dtype.kind not in "biufc" or 0 in array.shape:
        what = f"a {type(result).__name__} of shape {array.shape} and dtype {array.dtype}"
        message = f"{name} returned {what} for {url}; an image is an array of numbers with two axes"
        raise (CorruptFileError if is_format else ArgumentError)(message, url=url)
    native = array.astype(array.dtype.newbyteorder("="), copy=False)
    # A view may belong to a buffer that is read-only, shared, or much larger.
    is_own = native.flags.owndata and native.flags.writeable and native.flags.c_contiguous
    return native if is_own else np.array(native, order="C")


def dims_of(
    shape: tuple[int, ...],
    dtype: npt.DTypeLike,
    *,
    sample_counts: tuple[int, ...] | None = (3, 4),
) -> tuple[str, ...]:
    """Name the axes of a decoded image.

    The last two axes are ``y, x``, or the last three ``y, x, s`` where the last one is samples:
    its length is one of `sample_counts` and its dtype unsigned or float (labels and differences are
    not colours). The axis before them is ``page``, those in front of it ``axis0``, ``axis1`` ...

    Parameters
    ----------
    shape : tuple of int
        Two axes or more.
    dtype : dtype
    sample_counts : tuple of int, optional
        `Format.sample_counts`. None: three axes or more always end in samples.
    """
    has_samples = len(shape) > 2 and (
        sample_counts is None or (np.dtype(dtype).kind in "uf" and shape[-1] in sample_counts)
    )
    plane = ("y", "x", "s") if has_samples else ("y", "x")
    n_leading = len(shape) - len(plane)
    page = ("page",) if n_leading else ()
    return (*(f"axis{i}" for i in range(n_leading - 1)), *page, *plane)
