"""Columns of `pyarrow` made from NumPy arrays and texts, and read to them. Pure.

`pyarrow.array`, `pyarrow.scalar` and `to_numpy` import pandas where it is installed, which takes
half a second. These functions use the buffers of the columns instead, whose layout is that of
https://arrow.apache.org/docs/format/Columnar.html
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def as_numbers(values: Array, is_null: npt.NDArray[np.bool_] | None = None) -> Any:
    """Return integers or floats as a `pyarrow.Array`, with nulls where `is_null` says so."""
    import pyarrow as pa

    valid = None
    if is_null is not None and is_null.any():
        valid = pa.py_buffer(np.packbits(~is_null, bitorder="little"))
    content = pa.py_buffer(np.ascontiguousarray(values))
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), [valid, content])


def as_texts(texts: Sequence[str]) -> Any:
    """Return texts as a `pyarrow.Array`."""
    import pyarrow as pa

    encoded = [text.encode() for text in texts]
    offsets = np.array([0, *accumulate(map(len, encoded))], np.int32)
    buffers = pa.py_buffer(offsets), pa.py_buffer(b"".join(encoded))
    return pa.StringArray.from_buffers(len(encoded), *buffers)


def from_numbers(column: Any, null: int = 0) -> Array:
    """Return a column of integers or floats as an array, with `null` in the place of nulls."""
    import pyarrow as pa

    dtype = np.dtype(column.type.to_pandas_dtype())
    parts = [np.empty(0, dtype)]
    for chunk in column.chunks if isinstance(column, pa.ChunkedArray) else [column]:
        if not len(chunk):
            continue
        validity, content = chunk.buffers()
        place = slice(chunk.offset, chunk.offset + len(chunk))
        values = np.frombuffer(content, dtype, count=place.stop)[place]
        if chunk.null_count:
            bits = np.frombuffer(validity, np.uint8)
            is_valid = np.unpackbits(bits, count=place.stop, bitorder="little")[place]
            values = np.where(is_valid, values, np.asarray(null, dtype))
        parts.append(values)
    return np.concatenate(parts)
