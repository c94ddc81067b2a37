"""CSVs that are parsed block by block."""

from __future__ import annotations

import io
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import csv

from cloudimg.discovery.csv_blocks import CsvBlocks


def rows(batches: Any) -> list[dict[str, Any]]:
    return [row for batch in batches for row in batch.to_pylist()]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("last", ["", "z,9"])
def test_rows_and_types_are_those_of_pyarrows_reader(end: str, last: str) -> None:
    lines = ["name,t", *(f'"{"n" * (i % 97)}, {i}",{i}' for i in range(40_000)), last]
    data = end.join(lines).encode()
    assert len(data) > 2 * 2**20
    blocks = CsvBlocks(lambda: io.BytesIO(data), {"t": pa.float64()})
    options = csv.ConvertOptions(column_types={"t": pa.float64()})
    stream = csv.open_csv(pa.BufferReader(data), convert_options=options)
    assert blocks.schema == stream.schema
    expected = rows(stream)
    assert rows(blocks.batches(["name", "t"])) == expected
    assert [row["t"] for row in rows(blocks.batches(["t"]))] == [row["t"] for row in expected]


def test_later_blocks_have_the_types_of_the_first() -> None:
    data = ("t\n" + "1\n" * 2**19 + "a\n" * 2**19).encode()
    blocks = CsvBlocks(lambda: io.BytesIO(data), {})
    assert blocks.schema.types == [pa.int64()]
    with pytest.raises(ValueError, match="invalid value 'a'"):
        rows(blocks.batches(["t"]))


def test_a_line_without_end_is_refused() -> None:
    with pytest.raises(ValueError, match="line of more than"):
        CsvBlocks(lambda: io.BytesIO(b"x" * (2**24 + 2**21)), {})
