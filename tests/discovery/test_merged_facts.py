"""What two sources say of the same files: one counts, the other fills in, differences are told."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from cloudimg.discovery.fact_columns import FactColumns
from cloudimg.discovery.fact_kinds import FACTS
from cloudimg.discovery.merged_facts import merge_facts
from cloudimg.errors.notes import Note
from cloudimg.tiff.parsed import PlaneValues

Files = Mapping[int, Mapping[str, Any]]


def columns_of(files: Files) -> FactColumns:
    facts = FactColumns()
    for row, said in files.items():
        facts.add(row, said)
    return facts


def merged(first: Files, second: Files) -> tuple[dict[str, list[Any]], tuple[Note, ...]]:
    facts, notes = merge_facts(
        columns_of(first),
        columns_of(second),
        names=("its header", "the index file a.mlf"),
        url_of=lambda row: f"s3://b/{row}.tif",
    )
    rows = np.arange(max(*first, *second, 0) + 1)
    return {name: column.to_pylist() for name, column in facts.to_arrow(rows).items()}, notes


def test_the_first_counts_and_the_second_fills_in() -> None:
    found, notes = merged(
        {0: {"channel": "GFP", "exposure_s": 0.1}, 2: {"channel": "RFP"}},
        {0: {"channel": "GFP", "objective": "20x"}, 1: {"objective": "20x", "exposure_s": 0.2}},
    )
    assert found == {
        "exposure_s": [0.1, 0.2, None],
        "channel": ["GFP", None, "RFP"],
        "objective": ["20x", "20x", None],
    }
    assert notes == ()


@pytest.mark.parametrize(
    ("name", "one", "same", "other", "shown"),
    [
        ("stage_x", 1234.5, 1234.9, 1236.0, "1234.5 in its header, but 1236.0 in"),
        ("stage_x", 90_000.0, 90_000.8, 90_002.0, "90000.0 in its header, but 90002.0 in"),
        ("stage_z", 3.25, 3.3, 3.5, "3.25 in its header, but 3.5 in"),
        ("exposure_s", 0.015, 0.0150001, 0.016, "0.015 in its header, but 0.016 in"),
        ("acquired", 10**15, 10**15 + 999_999, 10**15 + 2_000_000, "2001-09-09T01:46:40"),
        ("channel", "DAPI", "DAPI", "GFP", "DAPI in its header, but GFP in"),
    ],
)
def test_differences_beyond_rounding_are_noted(
    name: str, one: Any, same: Any, other: Any, shown: str
) -> None:
    found, notes = merged(
        {row: {name: one} for row in range(6)},
        {0: {name: one}, 1: {name: same}, **{row: {name: other} for row in range(2, 6)}},
    )
    assert len(set(found[name])) == 1
    (note,) = notes
    assert note.kind == f"said-otherwise-{name.replace('_', '-')}"
    assert note.n_files == 4
    assert note.urls == ("s3://b/2.tif", "s3://b/3.tif", "s3://b/4.tif")
    assert shown in note
    assert "the index file a.mlf; the first counts" in note


def test_positions_in_other_units_are_neither_compared_nor_mixed() -> None:
    stage = {"stage_x": 5.0, "stage_y": 6.0, "stage_unit": "reference frame"}
    found, notes = merged(
        {0: stage, 1: {}},
        {row: {"stage_x": 700.0, "stage_z": 9.0, "stage_unit": "µm"} for row in range(2)},
    )
    assert notes == ()
    assert found["stage_x"] == [5, 700]
    assert found["stage_y"] == [6, None]
    assert found["stage_z"] == [None, 9]
    assert found["stage_unit"] == ["reference frame", "µm"]


def test_a_time_comes_with_its_own_zone() -> None:
    """A clock's time is not compared with UTC, and does not get another time's zone."""
    utc = {"acquired": 7_200_000_000, "acquired_offset": "+02:00"}
    found, notes = merged({0: {"acquired": 0}, 1: {}, 2: utc}, dict.fromkeys(range(3), utc))
    assert notes == ()
    assert [time.hour for time in found["acquired"]] == [0, 2, 2]
    assert found["acquired_offset"] == [None, "+02:00", "+02:00"]


def test_planes_of_files() -> None:
    """What the second says of planes counts for files of which the first says nothing."""
    first, second = FactColumns(), FactColumns()
    first.add(0, {}, {"elapsed_s": PlaneValues((0,), np.array([0.0, 1.0]))})
    first.add(1, {"elapsed_s": 5.0})
    first.add(2, {})
    for row in range(4):
        planes = PlaneValues((0,), np.array([10.0 * row, 20.0]))
        names = PlaneValues((1,), np.array(["a", f"b{row}"], object))
        second.add(row, {"elapsed_s": 10.0 * row}, {"elapsed_s": planes, "channel": names})
    facts, notes = merge_facts(first, second, names=("a", "b"), url_of=str)
    by_row = {
        int(row): values.tolist()
        for _, rows, planes in facts.planes("elapsed_s")
        for row, values in zip(rows, planes, strict=True)
    }
    assert by_row == {0: [0, 1], 2: [20, 20], 3: [30, 20]}
    texts = [
        facts.texts("channel")[code]
        for _, _, planes in facts.planes("channel")
        for code in planes.ravel()
    ]
    assert texts == ["a", "b0", "a", "b1", "a", "b2", "a", "b3"]
    assert [note.kind for note in notes] == ["said-otherwise-elapsed-s"]


def test_nothing_is_lost_or_made_up() -> None:
    """Every pair of facts, said by the first, the second, both or neither.

    Only an offset without a time is not taken for that of another time, nor a direction without a
    position for that of another position.
    """
    values = {
        name: {"number": 2.0, "time": 10**15}.get(kind.type, "x") for name, kind in FACTS.items()
    }
    for name, other in itertools.permutations(FACTS, 2):
        sides = [{name: values[name]}, {other: values[other]}, {}]
        for i, (mine, theirs) in enumerate(itertools.product(sides, repeat=2)):
            found, notes = merged({i: mine}, {i: theirs})
            expected = mine | theirs
            known = {each for each, column in found.items() if column[i] is not None}
            lone_zone = ("acquired_offset" in theirs and "acquired" in mine) or (
                "acquired_offset" in mine and "acquired" in theirs
            )
            lone_flip = "stage_flip" in theirs and mine.keys() & {"stage_x", "stage_y"}
            lone = {"acquired_offset"} if lone_zone else {"stage_flip"} if lone_flip else set()
            assert known == set(expected) - lone
            assert notes == ()
