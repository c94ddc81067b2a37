"""What is known of each file besides its pixels, as columns of the table of originals.

The columns are those of `cloudimg.discovery.fact_kinds.FACTS`; every part of the table has all of
them. For the planes of a multi-file dataset they are null: the table of files beside the plan has
what its metadata say of each plane.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cloudimg.discovery.fact_columns import FactColumns
from cloudimg.discovery.fact_kinds import FACTS, NUMBER, TIME, Fact
from cloudimg.discovery.facts_of_attributes import facts_in, time_facts
from cloudimg.tiff.flavours.facts import iso_time


def facts_of_file(attrs: Mapping[str, Any], tags: str | None) -> dict[str, Fact | None]:
    """Return what is known of a file, the same whether a cell or opening read its header.

    Times are microseconds since 1970.

    Parameters
    ----------
    attrs : mapping
        Attributes in its header. Cells leave out the time when it was written, see
        `cloudimg.tiff.metadata.describe`.
    tags : str, optional
        Its tags, see `cloudimg.migration.metadata.originals`.
    """
    facts = facts_in(attrs)
    if "acquired" not in facts and tags is not None and '"DateTime"' in tags:
        written = iso_time(json.loads(tags).get("DateTime", {}).get("value"))
        facts |= {} if written is None else time_facts(written)
    return {name: facts.get(name) for name in FACTS}


def with_facts(table: Any, rows: Sequence[Mapping[str, Any]]) -> Any:
    """Return a `pyarrow.Table` with the facts of its rows as further columns."""
    import pyarrow as pa

    columns = FactColumns()
    for i, row in enumerate(rows):
        columns.add(i, {name: row[name] for name in FACTS if row.get(name) is not None})
    found = columns.to_arrow(np.arange(len(rows)))
    types = {NUMBER: pa.float64(), TIME: pa.timestamp("us")}
    for name, kind in FACTS.items():
        type_ = types.get(kind.type, pa.string())
        values = found[name].cast(type_) if name in found else pa.nulls(len(rows), type_)
        table = table.append_column(pa.field(name, type_, metadata={"about": kind.about}), values)
    return table
