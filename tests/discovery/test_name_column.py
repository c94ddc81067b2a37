"""Properties of `cloudimg.discovery.names`."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cloudimg.discovery.names import NameColumn


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))))
def test_name_column(names: list[str]) -> None:
    names = names * 300
    column = NameColumn()
    for name in names:
        column.append(name)
    assert len(column) == len(names)
    assert list(column) == names
