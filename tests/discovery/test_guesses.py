"""Guesses where no layout is known: one proposal, all files, no axis without evidence."""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloudimg.discovery.proposals import propose_patterns
from cloudimg.pattern import compile_pattern

R = range


def grid(name: Callable[..., str], *axes: Any) -> list[str]:
    return [name(*values) for values in itertools.product(*axes)]


@pytest.mark.parametrize(
    ("names", "pattern"),
    [
        # tiles of a map, which are called like wells
        (
            grid(lambda c, r: f"night_2012_{c}{r}_geo.tif", "ABCD", [1, 2]),
            "night_2012_{name:s}_geo.tif",
        ),
        (
            grid(lambda c, r: f"world.relief.{c}{r}.tif", "ABCD", [1, 2]),
            "world.relief.{name:s}.tif",
        ),
        (
            grid(lambda c, r: f"relief.{c}{r}.tif", "ABCD", [1, 2]),
            r"relief.{well:[A-Z]{1,2}\d{1,2}}.tif",
        ),
        # times are one field, whatever separates their parts
        (
            grid(lambda d: f"cam_2026-11-0{d}T10-00-00.tif", R(1, 4)),
            "cam_{t:%Y-%m-%dT%H-%M-%S}.tif",
        ),
        (grid(lambda d: f"2026110{d}_101500.tif", R(1, 4)), "{t:%Y%m%d_%H%M%S}.tif"),
        (grid(lambda y, m: f"x.{y}.{m:02d}.tif", [2019, 2020], R(1, 4)), "x.{t:%Y.%m}.tif"),
        (grid(lambda h, m: f"x_{h:02d}h{m:02d}m.tif", R(3), [0, 30]), "x_{t:elapsed %Hh%Mm}.tif"),
        (grid(lambda y, m: f"x_{y}{m:02d}.tif", [2019, 2020], R(1, 4)), "x_{t:%Y%m}.tif"),
        (grid(lambda d: f"x.A2020{d:03d}.tif", [1, 17, 366]), "x.A{t:%Y%j}.tif"),
        # the first of two times
        (
            [f"{a}_{b}.tif" for a, b in (("20200701", "20200913"), ("20200719", "20200911"))],
            "{t:%Y%m%d}_*.tif",
        ),
        # no times: month 13, and a number of eight digits
        (["x_20201301.tif", "x_20201302.tif"], "x_{n}.tif"),
        (["x_10000001.tif", "x_10000002.tif"], "x_{n}.tif"),
        # folders that follow from the date
        (
            [f"{d[:4]}/{d[4:6]}/{d}.tif" for d in ("20200701", "20200803", "20210901")],
            "*/*/{t:%Y%m%d}.tif",
        ),
        # GUIDs with separators, without, and glued to a number
        (
            [f"z{z}_0f8fad5b-d9cb-469f-a165-70867728950{z}.tif" for z in R(3)],
            "z{z}_[0-9A-Fa-f]*.tif",
        ),
        ([f"z{z}_0f8fad5bd9cb469fa16570867728950{z}.tif" for z in R(3)], "z{z}_[0-9A-Fa-f]*.tif"),
        (
            [f"ch{c}0F8FAD5B-D9CB-469F-A165-70867728950{c}.tif" for c in R(3)],
            r"ch{c:\d}[0-9A-Fa-f]*.tif",
        ),
        # signs and fractions
        (grid(lambda z, c: f"z{z:+d}_ch{c}.tif", R(-2, 3), R(2)), "z{z:d}_ch{c}.tif"),
        (grid(lambda z, c: f"z{z}_ch{c}.tif", R(-2, 3), R(2)), "z{z:d}_ch{c}.tif"),
        (grid(lambda n, c: f"a_{n}_ch{c}.tif", R(-2, 3), R(2)), "a_{n:d}_ch{c}.tif"),
        (grid(lambda z: f"z{z:.2f}.tif", [0, 0.5, 1.25]), "z{z:f}.tif"),
        (grid(lambda c: f"exp-{c:02d}.tif", R(3)), "exp-{n:02d}.tif"),
        # channels as words, in names and in folders
        (grid(lambda c, n: f"e_{c}_{n:04d}.tif", ["DAPI", "GFP"], R(3)), "e_{c:s}_{n:04d}.tif"),
        (grid(lambda c, n: f"{c}/i_{n:04d}.tif", ["BF", "Cy5"], R(3)), "{c:s}/i_{n:04d}.tif"),
        (
            grid(lambda d, b: f"x_{d}_{b}.tif", ["20200701", "20200801"], ["B04", "B8A", "SCL"]),
            "x_{t:%Y%m%d}_{band:s}.tif",
        ),
        # a longer word has the axis
        (
            grid(lambda r, c, k: f"r{r:02d}c{c:02d}-ch{k}.tif", R(2), R(3), R(2)),
            "r{row:02d}c{col:02d}-ch{c}.tif",
        ),
        (
            grid(lambda r, c, k: f"r{r:02d}_c{c:02d}_{k}.tif", R(2), R(3), ["DAPI", "GFP"]),
            "r{row:02d}_c{col:02d}_{c:s}.tif",
        ),
        (
            grid(lambda t, time: f"t{t}_time{time}.tif", R(2), R(3)),
            "t{n}_time{t}.tif",
        ),
        # no wells: degrees, and more columns than a plate has
        (grid(lambda n, e: f"N{n}_E{e:03d}.tif", [47, 48], [8, 9]), "N{n}_E{e:03d}.tif"),
        (grid(lambda n: f"A{n}_x.tif", [60, 61]), "A{a}_x.tif"),
        # bands, or wells of one row: only with something that a microscope has
        (
            grid(lambda d, b: f"x_{d}_{b}.tif", ["20200701", "20200801"], ["B02", "B03", "B04"]),
            "x_{t:%Y%m%d}_{name:s}.tif",
        ),
        (grid(lambda b: f"x_{b}.tif", ["B02", "B03", "B04"]), "x_{name:s}.tif"),
        (
            grid(lambda t, b: f"tile{t}_{b}.tif", R(2), ["B02", "B03", "B04"]),
            "tile{tile}_{name:s}.tif",
        ),
        (
            grid(lambda w, c: f"x_{w}_ch{c}.tif", ["B02", "B03"], R(2)),
            r"x_{well:[A-P]\d{2}}_ch{c}.tif",
        ),
        # a GUID that stands in several names is one of several images
        (
            grid(
                lambda g, c: f"0f8fad5b-d9cb-469f-a165-70867728950{g}_{c}.tif",
                *(R(3), ["blue", "green", "red"]),
            ),
            "{name:s}_{c:s}.tif",
        ),
        # channels of several words
        (
            grid(lambda s, c: f"p_s{s:02d}_{c}.tif", R(3), ["phase_contr", "mCherry"]),
            "p_s{n:02d}_{c:s}.tif",
        ),
        (
            grid(lambda f, c: f"fov{f}/{c}.tif", R(3), ["CD3", "CD45", "Ki67"]),
            "fov{field}/{c:s}.tif",
        ),
        # words glued to others
        (
            grid(
                lambda w, t, c: f"Well{w}_Time{t:03d}_Channel{c}.tif",
                *(["A01", "B02"], R(3), ["Far", "Near"]),
            ),
            r"Well{well:[A-P]\d{2}}_Time{t:03d}_Channel{c:s}.tif",
        ),
        # frames follow each other; a stack may be anything
        (grid(lambda c, t: f"ch{c}_frame{t}.tif", R(2), R(3)), "ch{c}_frame{t}.tif"),
        (grid(lambda t, f: f"t{t}_frame{f}.tif", R(2), R(3)), "t{t}_frame{frame}.tif"),
        (grid(lambda s, c: f"stack_{s}_ch{c}.tif", R(3), R(2)), "stack_{n}_ch{c}.tif"),
        # no axis from a letter that could mean anything
        (grid(lambda s, w: f"s{s}_w{w}.tif", R(2), R(3)), "s{n}_w{w}.tif"),
        # parts that move together, and counters that follow from the rest
        (["c1_a1.tif", "c2_a2.tif"], "c{c}_a{c}.tif"),
        (["c1_a5.tif", "c2_a7.tif"], "c{c}_a*.tif"),
        (
            [f"i{i:03d}_ch{c}_z{z}.tif" for i, (c, z) in enumerate(itertools.product(R(2), R(3)))],
            "i*_ch{c}_z{z}.tif",
        ),
        # tiles: side by side, or at positions
        (grid(lambda x, y: f"x{x}_y{y}.tif", R(3), R(2)), "x{x}_y{y}.tif"),
        (grid(lambda x, y: f"x{x}_y{y}.tif", [0, 900, 1800], [0, 900]), "x{tile_x}_y{tile_y}.tif"),
        # Nikon and Olympus: dimensions without separators
        (
            grid(lambda t, p, c: f"0430_t{t:03d}xy{p:02d}c{c}.tif", R(2), R(3), R(2)),
            "0430_t{t:03d}xy{position:02d}c{c}.tif",
        ),
        (
            grid(lambda c, z, t: f"q_C{c:03d}Z{z:03d}T{t:03d}.tif", R(2), R(3), R(2)),
            "q_C{c:03d}Z{z:03d}T{t:03d}.tif",
        ),
    ],
)
def test_guesses(names: list[str], pattern: str) -> None:
    for order in (names, names[::-1]):
        [proposal] = propose_patterns(order)
        assert proposal.pattern == pattern
        assert (proposal.n_files, proposal.n_left_out) == (len(names), 0)
        assert (proposal.n_missing, proposal.problem, proposal.layout) == (0, "", "")


def test_a_guess_says_how_sure_it_is() -> None:
    [likely] = propose_patterns(["ch1_z1.tif", "ch1_z2.tif", "ch2_z1.tif", "ch2_z2.tif"])
    assert (likely.certainty, dict(likely.roles)) == (
        "likely",
        {"c": "beside 'ch'", "z": "beside 'z'"},
    )
    [guess] = propose_patterns(["ch1_1.tif", "ch1_2.tif", "ch2_1.tif", "ch2_2.tif"])
    assert (guess.certainty, dict(guess.roles)) == ("guess", {"c": "beside 'ch'", "n": ""})
    assert not likely.is_sure


def test_files_that_are_left_out_are_counted() -> None:
    first, second = propose_patterns(["overview.tif", *(f"scan_{n}.tif" for n in R(3))])
    assert (first.pattern, first.n_files, first.n_left_out) == ("scan_{n}.tif", 3, 1)
    assert (second.pattern, second.n_files, second.n_left_out) == ("overview.tif", 1, 3)


def test_names_that_form_no_grid_come_with_the_reason() -> None:
    [proposal] = propose_patterns(["z1.tif", "z01.tif"])
    assert "two files at z=1" in proposal.problem


# ------------------------------------------------------------------------------ random namings


@dataclass(frozen=True)
class Axis:
    name: str
    """What the proposal must call it."""
    texts: tuple[str, ...]


def numbers(name: str, word: str) -> st.SearchStrategy[Axis]:
    return st.builds(
        lambda start, n, width: Axis(
            name, tuple(f"{word}{i:0{width}d}" for i in range(start, start + n))
        ),
        st.integers(0, 98),
        st.integers(2, 4),
        st.integers(1, 4),
    )


def _time(i: int) -> datetime.datetime:
    return datetime.datetime(2021, 3, 1, 9, 30) + i * datetime.timedelta(hours=7)


DYES = ("DAPI", "GFP", "mCherry", "Cy5", "BF")
CHANNELS = st.one_of(
    *(numbers("c", word) for word in ("ch", "CH", "channel", "C", "ch-", "channel_")),
    st.integers(2, 4).map(lambda n: Axis("c", DYES[:n])),
)
TIMES = st.one_of(
    *(numbers("t", word) for word in ("t", "T", "time", "TimePoint_")),
    st.integers(2, 4).map(lambda n: Axis("t", tuple(f"{_time(i):%Y%m%d_%H%M%S}" for i in R(n)))),
)
WELLS = st.sampled_from([("A01", "B02", "H12"), ("A1", "A12", "C3"), ("AA01", "AF48", "B07")]).map(
    lambda wells: Axis("well", wells)
)
AXES = st.tuples(
    st.lists(CHANNELS, max_size=1),
    st.lists(TIMES, max_size=1),
    st.lists(st.one_of(numbers("z", "z"), numbers("z", "Z"), numbers("z", "slice")), max_size=1),
    st.lists(st.one_of(numbers("field", "fov"), numbers("field", "site")), max_size=1),
    st.lists(st.one_of(numbers("position", "pos"), numbers("position", "xy")), max_size=1),
    st.lists(WELLS, max_size=1),
).map(lambda lists: [axis for axes in lists for axis in axes])


@pytest.mark.slow
@given(st.data())
@settings(max_examples=100, deadline=None)
def test_random_namings(data: st.DataObject) -> None:
    axes = data.draw(AXES.filter(bool).flatmap(st.permutations))
    separators = [data.draw(st.sampled_from(["_", "__", "--", "/", "_img_"])) for _ in axes]
    ending = data.draw(st.sampled_from([".tif", ".TIFF", ".ome.tif"]))
    names = [
        "exp" + "".join(itertools.chain(*zip(separators, texts, strict=True))) + ending
        for texts in itertools.product(*(axis.texts for axis in axes))
    ]
    [proposal] = propose_patterns(data.draw(st.permutations(names)))
    assert (proposal.n_files, proposal.n_left_out) == (len(names), 0)
    assert (proposal.n_missing, proposal.problem) == (0, "")
    assert dict(proposal.lengths) == {axis.name: len(axis.texts) for axis in axes}
    pattern = compile_pattern(proposal.pattern)
    assert all(pattern.split(name) is not None for name in names)


PIECE = st.sampled_from(
    [
        *("ch", "z", "t", "x", "A", "B03", "C07", "GFP", "s", "0", "1", "07", "12", "2021"),
        *("_", "/", "-", ".", "{", "[", "é", "0f8fad5b-d9cb-469f-a165-708677289501"),
    ]
)


@given(st.lists(st.lists(PIECE, min_size=1, max_size=8).map("".join), unique=True, max_size=14))
@settings(max_examples=100, deadline=None)
def test_any_names(names: list[str]) -> None:
    proposals = propose_patterns(names, "s3://b/{x}/")
    patterns = [compile_pattern(each.pattern) for each in proposals]
    covered = [0] * len(names)
    for i, name in enumerate(names):
        covered[i] = sum(each.split(f"s3://b/{{x}}/{name}") is not None for each in patterns)
    assert all(covered)
    n_excluded = sum(n for each in proposals for _, n in each.excluded)
    assert sum(each.n_files for each in proposals) + n_excluded == len(names)
    # Two patterns for one file are two that disagree: each file is counted once, and each
    # proposal says how many it leaves out.
    assert all(each.n_files + each.n_left_out <= len(names) for each in proposals)
