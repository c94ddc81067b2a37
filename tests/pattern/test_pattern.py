"""The pattern language, through its public functions."""

from __future__ import annotations

import datetime
import itertools
import pickle
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from fsspec.utils import glob_translate
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from cloudimg.errors import ArgumentError, PatternError
from cloudimg.pattern import Label, Pattern, compile_pattern, natural_key, propose

# The names of real acquisitions (shared/corpus/acquisitions), and the seed's scheme.
CV8000 = [
    f"CV8000-Minimal-DataSet-2C-3W-4S-FP2-stack_{well}_T0001F{f:03}L01A{c:02}Z{z:02}C{c:02}.tif"
    for well in ("D08", "E03", "F08")
    for f in (1, 2, 3, 4)
    for z in (1, 2, 3, 4)
    for c in (1, 2)
]
DROSOPHILA = [f"DrosophilaEmbryo_GFPHistone_{n:04}.tif" for n in range(21)]
ILLUM = [
    f"AS_09047_050428030001_O{n:02}f{f:02}d2.TIF"
    for n, f in itertools.product(range(1, 25), range(3))
]
SEED = [
    f"mydata_ch{c}_{t}t_{x}x_{y}y_{z}z.tif"
    for c, t, x, y, z in itertools.product(range(2), range(3), range(2), range(2), range(12))
]


def utc(*args: int, hours: int = 0) -> datetime.datetime:
    return datetime.datetime(*args, tzinfo=datetime.timezone(datetime.timedelta(hours=hours)))


def labels_in(pattern: Pattern, url: str) -> dict[str, Label] | None:
    """Labels in a URL by field; None where it does not match."""
    texts = pattern.split(url)
    if texts is None:
        return None
    labels: dict[str, Label] = {}
    for i, text in enumerate(texts):
        labels.setdefault(pattern.occurrences[i].name, pattern.value(i, text))
    return labels


def test_a_pattern_tells_its_parts() -> None:
    pattern = compile_pattern("s3://lab/exp{{1}}/T_{t}/[[]{well:[A-P]\\d{2}}]_{t:03d}.tif")
    assert pattern.text == "s3://lab/exp{{1}}/T_{t}/[[]{well:[A-P]\\d{2}}]_{t:03d}.tif"
    assert pattern.fields == ("t", "well")
    assert [(each.name, each.kind, each.format) for each in pattern.occurrences] == [
        ("t", "int", ""),
        ("well", "str", ""),
        ("t", "int", ""),
    ]
    assert pattern.stem == "s3://lab/exp{1}/T_"
    assert not pattern.has_wildcards
    assert not pattern.is_literal
    assert labels_in(pattern, "s3://lab/exp{1}/T_7/[B03]_007.tif") == {"t": 7, "well": "B03"}


@pytest.mark.parametrize(
    ("text", "stem", "wild", "literal"),
    [
        ("a/b.tif", "a/b.tif", False, True),
        ("a/[[]b[*][?]}}.tif", "a/[b*?}.tif", False, True),
        ("a/*.tif", "a/", True, False),
        ("*/{c}", "", True, False),
        ("a[xy]{c}", "a", True, False),
        ("**/a.tif", "", True, False),
    ],
)
def test_stem_and_wildcards(text: str, stem: str, wild: bool, literal: bool) -> None:
    pattern = compile_pattern(text)
    assert (pattern.stem, pattern.has_wildcards, pattern.is_literal) == (stem, wild, literal)


@pytest.mark.parametrize(
    "place",
    [
        "",
        "scans/",
        "./scans/",
        "/data/my scans/",
        "~/scans/",
        "C:/scans/",
        "file:///data/scans/",
        "s3://lab/exp/",
        "gs://lab/exp/",
        "az://lab/exp/",
        "memory://lab/exp/",
        "https://me:pw@host:9000/lab/",
        "simplecache::s3://lab/exp/",
    ],
)
def test_the_place_of_the_files_is_literal_text(place: str) -> None:
    pattern = compile_pattern(place + "T_{t}/z{z:03d}.tif")
    assert pattern.stem == place + "T_"
    assert pattern.fields == ("t", "z")
    url = place + "T_12/z007.tif"
    assert pattern.split(url) == ("12", "007")
    assert pattern.join(("12", "007")) == url
    assert pattern.split("x" + url) is None
    assert pattern.split(url + ".part") is None
    assert compile_pattern(url).is_literal
    assert compile_pattern(url).stem == url


def test_the_stem_of_a_literal_matches_itself_only() -> None:
    pattern = compile_pattern("a/[[]b[*][?]}}.tif")
    assert pattern.split("a/[b*?}.tif") == ()
    assert pattern.split("a/[bxy}.tif") is None


def test_patterns_are_values() -> None:
    one, two = compile_pattern("a{c}_*"), compile_pattern("a{d}_*")
    copy = pickle.loads(pickle.dumps(one))
    assert copy == one != two
    assert {one, copy, two} == {one, two}
    assert copy.split("a1_x") == ("1",)
    assert len(pickle.dumps(one)) < 200
    with pytest.raises(AttributeError):
        one.text = "b"  # type: ignore[misc]


def test_the_repr_shows_the_pattern_but_no_secret() -> None:
    assert repr(compile_pattern("s3://lab/{c}.tif")) == "Pattern('s3://lab/{c}.tif')"
    shown = repr(compile_pattern("https://me:pw@host/{c}.tif?sig=abc%3D&v=1&z={z}"))
    assert shown == "Pattern('https://***@host/{c}.tif?sig=***&v=***&z={z}')"
    with pytest.raises(PatternError) as caught:
        compile_pattern("https://me:pw@host/{c}{z}.tif?sig=abc")
    assert "pw" not in str(caught.value)
    assert "abc" not in str(caught.value)


MATCHES = [
    ("{c}.tif", "007.tif", {"c": 7}),
    ("{c}.tif", ".tif", None),
    ("{c}.tif", "-1.tif", None),
    ("{c}.tif", "١.tif", None),  # ASCII digits only
    ("{c}.tif", "1.TIF", None),
    ("{c}.tif", "1.tif\n", None),
    ("{c}5.tif", "105.tif", {"c": 10}),
    # padded: at least so many, longer ones only without leading zeros
    ("{c:03d}.tif", "007.tif", {"c": 7}),
    ("{c:03d}.tif", "07.tif", None),
    ("{c:03d}.tif", "1000.tif", {"c": 1000}),
    ("{c:03d}.tif", "0007.tif", None),
    ("{c:03d}5.tif", "1235.tif", {"c": 123}),
    ("{c:03d}{{", "1000{", {"c": 1000}),
    # padded with a field at once behind: exactly so many
    ("{c:03d}{z}", "00712", {"c": 7, "z": 12}),
    ("{c:03d}{z:02d}", "10007", {"c": 100, "z": 7}),
    ("{c:03d}{z:02d}", "100007", None),
    ("{row:[A-P]}{col:\\d{2}}_", "B03_", {"row": "B", "col": 3}),
    # signs and fractions
    ("p{x:d}_{y:d}", "p-5_12", {"x": -5, "y": 12}),
    ("p{x:d}", "p--5", None),
    ("p{x:d}", "p+5", {"x": 5}),
    ("z{z:f}.tif", "z+0.5.tif", {"z": 0.5}),
    ("z{z:.1f}.tif", "z+0.5.tif", {"z": 0.5}),
    ("z{z:g}.tif", "z+1e-3.tif", {"z": 1e-3}),
    ("v{v:f}.tif", "v-1.50.tif", {"v": -1.5}),
    ("v{v:f}.tif", "v3.tif", {"v": 3.0}),
    ("v{v:f}.tif", "v1e3.tif", None),
    ("v{v:.2f}_", "v1.50_", {"v": 1.5}),
    ("v{v:.2f}_", "v1.5_", None),
    ("v{v:.0f}_", "v-2_", {"v": -2.0}),
    ("v{v:g}_", "v1.5e-07_", {"v": 1.5e-07}),
    ("v{v:g}_", "v12_", {"v": 12.0}),
    # texts go to the next literal and never over a "/"
    ("{a:s}_{b:s}.tif", "x_y_z.tif", {"a": "x", "b": "y_z"}),
    ("{a:s}_{b:s}.tif", "_x_y.tif", None),
    ("{a:s}_{b:s}.tif", "x_.tif", None),
    ("{a:s}_{b:s}.tif", "x_y.tif.tif", None),
    ("{a:s}_T0{t}", "x_T1_T05", {"a": "x_T1", "t": 5}),
    ("{a:s}.tif", "x/y.tif", None),
    ("{a:s}/{b:s}", "x/y", {"a": "x", "b": "y"}),
    ("{a:s}/img_{b:s}", "x/img_y", {"a": "x", "b": "y"}),
    ("{a:s}{b:\\d{2}}_{c}", "img07_3", {"a": "img", "b": 7, "c": 3}),
    ("{a:s}{b:\\d{2}}", "i1mg07", {"a": "i1mg", "b": 7}),
    ("{a:s}[-_]{b:s}", "x-y_z", {"a": "x", "b": "y_z"}),
    ("{a:s}{b:p|q}_{c}", "xpq_4", {"a": "xp", "b": "q", "c": 4}),
    ("{a:s}", "anything else", {"a": "anything else"}),
    ("{a:s}.tif", "._a.tif", None),  # hidden
    ("d/{a:s}.tif", "d/._a.tif", None),
    ("x{a:s}.tif", "x.a.tif", {"a": ".a"}),
    # regular expressions
    ("{well:[A-P]\\d{2}}_", "B03_", {"well": "B03"}),
    ("{well:[A-P]\\d{2}}_", "Q03_", None),
    ("{z:\\d{2}}_{w:[0-9]+}", "07_08", {"z": 7, "w": 8}),
    ("{z:[0-9a]{2}}", "07", {"z": "07"}),
    ("{a:x|yz}_{b:(?:p|q)+}", "yz_pq", {"a": "yz", "b": "pq"}),
    ("{a:(x)(y)?}_{b}", "xy_4", {"a": "xy", "b": 4}),
    ("{a:[(]\\(x}_{b}", "((x_4", {"a": "((x", "b": 4}),
    ("{a:[{}]\\}{1,2}}_{b}", "{}}_4", {"a": "{}}", "b": 4}),
    ("{a:(?i:gfp)}.tif", "GfP.tif", {"a": "GfP"}),
    ("{a:x*}_{b}", "_4", None),  # nothing is no label
    ("{a:\\d*}_{b}", "_4", None),
    ("{a:\\d*}_{b}", "3_4", {"a": 3, "b": 4}),
    ("{a:.+}_{b}", "x/y_4", None),  # "/" only if the regex names it
    ("{a:[^_]+}_{b}", "x/y_4", None),
    ("{a:\\S+}_{b}", "x/y_4", None),
    ("{a:[+-9]+}_{b}", "1/2_4", None),
    ("{a:[+-9]+}_{b}", "1.2_4", {"a": "1.2", "b": 4}),
    ("{a:\\S+}_{b}", "xy_4", {"a": "xy", "b": 4}),
    ("{a:.+/.+}_{b}", "x/y/z_4", {"a": "x/y/z", "b": 4}),
    ("{n}{row:[A-P]}{col:\\d+}.tif", "12B3.tif", {"n": 12, "row": "B", "col": 3}),
    # a field twice agrees by value
    ("{c:03d}/{c}.tif", "002/2.tif", {"c": 2}),
    ("{c:03d}/{c}.tif", "002/3.tif", None),
    ("{v:f}/{v:.2f}", "1.5/1.50", {"v": 1.5}),
    ("{w:s}/{w:s}.tif", "a/a.tif", {"w": "a"}),
    ("{w:s}/{w:s}.tif", "a/A.tif", None),
    # folders and trailing parts
    ("TimePoint_{t}/w{c}.tif", "TimePoint_3/w1.tif", {"t": 3, "c": 1}),
]


@pytest.mark.parametrize(("text", "url", "labels"), MATCHES)
def test_what_fields_match(text: str, url: str, labels: dict[str, object] | None) -> None:
    pattern = compile_pattern(text)
    assert labels_in(pattern, url) == labels
    assert (pattern.split(url) is None) == (labels is None)
    for name, label in (labels or {}).items():
        assert type(labels_in(pattern, url)[name]) is type(label)  # type: ignore[index]


TIMES = [
    ("%Y%m%dT%H%M%S", "20240131T235959", datetime.datetime(2024, 1, 31, 23, 59, 59)),
    ("%Y%m%d", "20241301", None),
    ("%Y%m%d", "20230229", None),
    ("%Y%m%d", "20240229", datetime.datetime(2024, 2, 29)),
    ("%Y%m%d", "00000101", None),
    ("%Y%m%d", "00070101", datetime.datetime(7, 1, 1)),
    ("%H-%M-%S.%f", "01-02-03.000004", datetime.datetime(1900, 1, 1, 1, 2, 3, 4)),
    ("%H-%M-%S.%f", "01-02-03.4", datetime.datetime(1900, 1, 1, 1, 2, 3, 400_000)),
    ("%H-%M-%S.%f", "01-02-03.045", datetime.datetime(1900, 1, 1, 1, 2, 3, 45_000)),
    ("%H-%M-%S.%f", "01-02-03.1234567", None),
    ("%j %H.%f", "032 01.5", datetime.datetime(1900, 2, 1, 1, 0, 0, 500_000)),
    ("%H%M", "2400", None),
    ("%Y-%j", "2024-366", datetime.datetime(2024, 12, 31)),
    ("%Y-%j", "2023-366", None),
    ("%Y-%j", "9999-999", None),
    ("%d%b%y", "05May68", datetime.datetime(2068, 5, 5)),
    ("%d%b%y", "05may69", None),
    ("%d%B%y", "05September69", datetime.datetime(1969, 9, 5)),
    ("%a_%Y%m%d", "Mon_20240101", datetime.datetime(2024, 1, 1)),
    ("%A_%Y%m%d", "Tuesday_20240101", None),
    ("%I%p", "12AM", datetime.datetime(1900, 1, 1, 0)),
    ("%I%p", "01PM", datetime.datetime(1900, 1, 1, 13)),
    ("%I%p", "13PM", None),
    ("%Y%m%d%z", "20240101-0230", utc(2024, 1, 1, hours=-2) - datetime.timedelta(minutes=-30)),
    ("%Y%m%d%z", "20240101+9900", None),
    ("%Y(%%)\\%m", "2024(%)\\02", datetime.datetime(2024, 2, 1)),
]


@pytest.mark.parametrize(("spec", "text", "expected"), TIMES)
def test_times(spec: str, text: str, expected: datetime.datetime | None) -> None:
    pattern = compile_pattern(f"_{{t:{spec}}}_{{c}}")
    labels = labels_in(pattern, f"_{text}_4")
    if expected is None:
        assert labels is None
        assert pattern.split(f"_{text}_4") is None
        return
    assert labels is not None
    assert labels["t"] == expected
    assert labels["c"] == 4
    if "%z" in spec:
        assert labels["t"].utcoffset() == datetime.timedelta(hours=-2, minutes=-30)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("spec", "text", "expected"),
    [
        ("%dd%Hh%Mm", "00d00h00m", datetime.timedelta()),
        ("%dd%Hh%Mm", "00d03h30m", datetime.timedelta(hours=3, minutes=30)),
        ("%dd%Hh%Mm", "112d23h05m", datetime.timedelta(days=112, hours=23, minutes=5)),
        ("%Hh", "72h", datetime.timedelta(hours=72)),
        ("%H%M", "0130", datetime.timedelta(hours=1, minutes=30)),
        ("%S.%f", "7.25", datetime.timedelta(seconds=7, milliseconds=250)),
        ("%dd%Hh", "1d", None),
        ("%d", "9999999999", None),
    ],
)
def test_elapsed_times(spec: str, text: str, expected: datetime.timedelta | None) -> None:
    labels = labels_in(compile_pattern(f"_{{t:elapsed {spec}}}_{{c}}"), f"_{text}_4")
    assert labels == (None if expected is None else {"t": expected, "c": 4})


def test_value_is_of_one_occurrence() -> None:
    pattern = compile_pattern("{c:03d}/{v:f}/{t:%Y}/{w:s}")
    assert [pattern.value(i, text) for i, text in enumerate(("007", "-1.50", "2024", "007"))] == [
        7,
        -1.5,
        datetime.datetime(2024, 1, 1),
        "007",
    ]
    with pytest.raises(ArgumentError, match=r"'x'.*'c'"):
        pattern.value(0, "x")
    for occurrence, text in ((0, "9" * 5000), (1, "x"), (2, "x"), (2, "20245")):
        with pytest.raises(ArgumentError):
            pattern.value(occurrence, text)


GLOBS = [
    ("img*_{c}.tif", "img__7_1.tif", {"c": 1}),
    ("*_{c}_*", "a_1_b_2_c", {"c": 1}),  # a wildcard takes the least
    ("*_{c}.tif", "d/a_1.tif", None),
    ("a?_{c}", "ab_1", {"c": 1}),
    ("a?_{c}", "a/_1", None),
    ("a[!b]_{c}", "a/_1", None),
    ("a[!b-d]_{c}", "ac_1", None),
    ("a[!b-d]_{c}", "ae_1", {"c": 1}),
    ("a[b-d^-]_{c}", "a-_1", {"c": 1}),
    ("a[]x]_{c}", "a]_1", {"c": 1}),
    ("a[+-9]_{c}", "a/_1", None),
    ("**/{c}.tif", "1.tif", {"c": 1}),
    ("**/{c}.tif", "a/b/1.tif", {"c": 1}),
    ("**/t{t}/**/{c}.tif", "a/t3/x/y/1.tif", {"t": 3, "c": 1}),
    ("**/a*b{c}.tif", "a1/a2b3.tif", {"c": 3}),
    ("**/a*b{c}/**", "a1/a2b3/x/y", {"c": 3}),
    ("x/**", "x/a/b", {}),
    ("d/*", "d/", None),  # a folder's marker
    # as in a shell, wildcards match no dot at the beginning of a name
    ("d/*.tif", "d/._a.tif", None),
    ("d/._*.tif", "d/._a.tif", {}),
    ("*_{c}.tif", "._a_1.tif", None),
    ("?_a_{c}.tif", "._a_1.tif", None),
    ("[._]_a_{c}.tif", "._a_1.tif", None),
    ("[!x]_a_{c}.tif", "._a_1.tif", None),
    ("a*_{c}.tif", "a.b_1.tif", {"c": 1}),
    ("**/{c}.tif", "a/.b/1.tif", None),
    ("**/{c}.tif", ".b/1.tif", None),
    ("d/**", "d/.b/1.tif", None),
    ("d/**", "d/b/.1.tif", None),
    ("d/**", "d/b.c/1.tif", {}),
    ("*a/**/b*_{c}.tif", "xa/b1/b2_3.tif", {"c": 3}),
    ("*_{w:[a-z]+}b*cb_", "_abcb_", {"w": "a"}),
    ("*{p:[a-z/]{2}}*x", "ab/cx", {"p": "b/"}),
    ("*[A-Z]{n}.tif", "abC12.tif", {"n": 12}),
    ("https://h/i?n={c}&*", "https://h/i?n=4&x", {"c": 4}),
    ("https://h/i?n={c}", "https://h/ixn=4", None),
    ("simplecache::https://h/i?{c}", "simplecache::https://h/i?4", {"c": 4}),
    ("simplecache::https://h/i?{c}", "simplecache::https://h/ix4", None),
    ("https::s3://h/i?_{c}", "https::s3://h/ix_4", {"c": 4}),
]


@pytest.mark.parametrize(("text", "url", "labels"), GLOBS)
def test_what_wildcards_match(text: str, url: str, labels: dict[str, object] | None) -> None:
    assert labels_in(compile_pattern(text), url) == labels


@pytest.mark.slow
@given(
    st.lists(st.sampled_from(["a", "b", "/", "*", "?", "**", "[ab]", "[!b]"]), min_size=1),
    st.text("ab/", min_size=1, max_size=12),
)
@example(["**", "/", "a", "*", "b"], "ab/ab")
@settings(max_examples=1000)
def test_wildcards_match_what_fsspec_matches(parts: list[str], key: str) -> None:
    text = "".join(parts)
    try:
        pattern = compile_pattern(text)
    except PatternError:
        assert "**" in text
        return
    regex = re.compile(glob_translate(text).replace("[^b]", "[^b/]"))  # a set is never a "/"
    assert (pattern.split(key) is not None) == (regex.match(key) is not None)


@pytest.mark.slow
@given(st.data())
@settings(max_examples=500)
def test_no_match_is_lost_among_several_wildcards(data: st.DataObject) -> None:
    names = iter("cdefghijklmnop")
    pieces = data.draw(st.lists(st.sampled_from(["*", "_", "a", "1", "/", "?", "{}"]), max_size=12))
    texts = [piece.replace("{}", f"{{{next(names)}}}") for piece in pieces]
    try:
        pattern = compile_pattern("".join(texts))
    except PatternError:
        assume(False)
    fill = {"*": st.text("_a1", min_size=1, max_size=5), "?": st.sampled_from("_a1")}
    fill["{}"] = st.text("01", min_size=1, max_size=3)
    key = "".join(data.draw(fill[piece]) if piece in fill else piece for piece in pieces)
    assert pattern.split(key) is not None


@pytest.mark.timeout(60)  # many times what it takes, and far less than what grows faster would
@pytest.mark.parametrize(
    "text",
    [
        "*_*_*_*_*_*_{c}.tif",
        "{a:s}_*_{b}_*_*_*_*_{c}.tif",
        "**/a*/**/a*_*/**/{c}.tif",
        "*_{a}_*_{b:s}_*q",
    ],
)
@pytest.mark.parametrize("unit", ["a_", "1_", "a_1_", "a/", "1_/a_a/"])
def test_many_wildcards_are_refused_without_trying_every_way(text: str, unit: str) -> None:
    pattern = compile_pattern(text)
    for n in range(4000, 3970, -1):
        assert pattern.split(unit * (n // len(unit)) + "x") is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("a{}", r"name.*position 1.*\{c\}"),
        ("{1}", "name"),
        ("{ c }", "name"),
        ("{c!r}", "name"),
        ("ab{c", "position 2"),
        ("{c:[0-9]{2}", "never closed.*position 0"),
        ("c}_{d}", r"position 1.*\}\}"),
        ("{c:}", r"write \{c\}"),
        ("{c:3d}", "unknown format.*03d"),
        ("{c:x}", "unknown format"),
        ("{v:e}", "unknown format"),
        ("{c:0100d}", "unknown format"),
        ("{a}{b}", r"\{a\} from \{b\}.*position 3"),
        ("{a:s}{b}", r"\{a:s\} from \{b\}"),
        ("{a:s}{b:s}", "separates"),
        ("{a}{b:03d}", "separates"),
        ("{a}{b:03d}{c}", r"\{a\} from \{c\}"),
        ("{a}0{b}", r"\{a\} from \{b\}"),
        ("{a}?{b}", "separates"),
        ("{a}[0-9]{b}", "separates"),
        ("{a:s}?{b}", "separates"),
        ("{a}*", r"\{a\} from \*"),
        ("*{a}", r"\* from \{a\}"),
        ("{z:03d}*.tif", "separates"),
        ("{a}_{a:s}", "'?int'? before"),
        ("{t:%Q}", "%Q.*%Y"),
        ("{t:%-d}", "%-d"),
        ("{t:%Y%}", "% is not supported"),
        ("{t:%Y-%Y}", "twice"),
        ("{t:elapsed %Hh%Ym}", "%Y is not a part of an elapsed time.*%d %H"),
        ("{t:elapsed h}", "write some of"),
        ("{t:elapsed %H_%H}", "twice"),
        ("{s}.tif", "samples of a colour.*{field}"),
        ("{a:(?P<n>x)}", "named"),
        ("{a:(x)\\1}", "references"),
        ("{a:(x)?(?(1)y|z)}", "references"),
        ("{a:x)(y}", "parenthesis"),
        ("{a:(?i)x}", r"\(\?i:"),
        ("{a:[z-a]}", "range"),
        ("{a:(?=x)}", "empty"),
        ("{a:x{99999999999}}", "too large"),
        ("{a}_{b:x{4294967290}}", "endless"),
        ("a[bc", r"position 1.*\[\[\]"),
        ("a[]", r"\[\[\]"),
        ("img[{c}].tif", r"\[\[\]"),
        ("a[b/c]", "'/'"),
        ("a[z-b]", "write b-z"),
        ("a**", r"\*\*/"),
        ("a/***/b", "folder"),
    ],
)
def test_errors_show_the_place_and_the_way_out(text: str, message: str) -> None:
    with pytest.raises(PatternError, match=message):
        compile_pattern(text)


PIECES = st.sampled_from(
    [
        *"{}[]()*?+|\\^$!:/%.,-_=a1Z\n",
        *(
            "{c}",
            "{c:03d}",
            "{w:s}",
            "{t:%Y",
            "(?",
            "(?P<",
            "[^",
            "\\d",
            "\\1",
            "**/",
            "https://",
            "é",
        ),
    ]
)


@pytest.mark.slow
@given(st.one_of(st.text(), st.lists(PIECES, max_size=20).map("".join)), st.data())
@settings(max_examples=1500)
@pytest.mark.filterwarnings("ignore:Possible:FutureWarning")  # re's own, about [[ in a class
def test_any_text_is_a_pattern_or_a_pattern_error(text: str, data: st.DataObject) -> None:
    try:
        pattern = compile_pattern(text)
    except PatternError:
        return
    url = data.draw(st.one_of(st.text(), st.lists(PIECES, max_size=8).map("".join), st.just(text)))
    texts, labels = pattern.split(url), labels_in(pattern, url)
    assert (texts is None) == (labels is None)
    if texts is not None and not pattern.has_wildcards:
        assert pattern.join(texts) == url


NESTED = [
    "(a+)+",
    "(?:a*|b)*c*",
    "(?:[a-z]+_)*[a-z]+",
    "(?:a{2,}){1,3}",
    "(?:a{1,2})+",
    "(?:x(?:y(?:a|b+?)))*?",
    "(?i:a+)+",
    "(?:(?:a+){3})+",
    "(?>(?:a+)+b)",
    "(?=(?:a+)+b)[ab]+",
    "(?:(?:a+)+b)?",
]


@pytest.mark.parametrize("regex", NESTED)
def test_a_regex_that_could_match_forever_is_refused(regex: str) -> None:
    with pytest.raises(PatternError, match=r"repeat inside a repeat.*position 2 .*write .*\+\+"):
        compile_pattern(f"x_{{a:{regex}}}_{{b}}")


@pytest.mark.timeout(60)  # to match them in every way would take hours
@pytest.mark.parametrize(
    ("regex", "text"),
    [
        ("(?:[a-z]++_)*[a-z]+", "a_bc_d"),
        ("(?:a*+|b)*c*", "aabac"),
        ("(?:(?>a+)b?)+", "aabaab"),
        ("(?:a+b)*+", "aabab"),
        ("(?:(?=a+)[ab])+", "aaa"),
        ("(?:a{3}b?)+", "aaabaaa"),
        ("(?:a+){2}", "aaa"),
        ("a+(?:b|c)*d+", "aabcd"),
    ],
)
def test_repeats_that_share_nothing_are_kept(regex: str, text: str) -> None:
    pattern = compile_pattern(f"x_{{a:{regex}}}_{{b}}")
    assert labels_in(pattern, f"x_{text}_4") == {"a": text, "b": 4}
    assert pattern.split("x_" + "a" * 4000) is None


@pytest.mark.parametrize("depth", [50, 5000])
def test_deep_nesting_is_no_crash(depth: int) -> None:
    text = "{a:" + "(" * depth + "x" + ")" * depth + "}"
    if depth > 1000:
        with pytest.raises(PatternError):
            compile_pattern(text)
    else:
        assert compile_pattern(text).split("x") == ("x",)


def test_endless_urls_match_nothing() -> None:
    assert labels_in(compile_pattern("{c}"), "9" * 4000) == {"c": int("9" * 4000)}
    assert labels_in(compile_pattern("{c}"), "9" * 5000) is None


def test_join_is_the_inverse_of_split() -> None:
    pattern = compile_pattern("a{{{c:03d}{d:d}_{c}}}.tif")
    assert pattern.split("a{007-4_7}.tif") == ("007", "-4", "7")
    assert pattern.join(("007", "-4", "7")) == "a{007-4_7}.tif"
    with pytest.raises(ArgumentError, match=r"3 .*got 2"):
        pattern.join(("007", "-4"))
    with pytest.raises(ArgumentError, match="wildcards"):
        compile_pattern("a{c}_*").join(("1",))


def _time_text(spec: str) -> Callable[[datetime.datetime], str]:
    # strftime does not pad years everywhere.
    return lambda time: time.strftime(spec.replace("%Y", f"{time.year:04}"))


LABELS: dict[str, tuple[st.SearchStrategy[Any], Callable[[Any], str]]] = {
    "{%}": (st.integers(0, 10**6), str),
    "{%:03d}": (st.integers(0, 10**5), "{:03d}".format),
    "{%:d}": (st.integers(-(10**6), 10**6), str),
    "{%:\\d{3}}": (st.integers(0, 999), "{:03d}".format),
    "{%:f}": (
        st.floats(allow_nan=False, allow_infinity=False),
        lambda value: np.format_float_positional(value, trim="0"),
    ),
    "{%:g}": (st.floats(allow_nan=False, allow_infinity=False), repr),
    "{%:.2f}": (st.integers(-(10**6), 10**6).map(lambda n: n / 100), "{:.2f}".format),
    "{%:s}": (  # at the beginning of a name, a dot would hide the file
        st.text(min_size=1).filter(
            lambda text: not set(text) & set("/;") and not text.startswith(".")
        ),
        str,
    ),
    "{%:[A-P]\\d{2}}": (st.from_regex(r"[A-P][0-9]{2}", fullmatch=True), str),
    "{%:%Y-%m-%dT%H%M%S.%f}": (st.datetimes(), _time_text("%Y-%m-%dT%H%M%S.%f")),
    "{%:%j %Y, %I%p}": (
        st.datetimes().map(lambda t: t.replace(minute=0, second=0, microsecond=0)),
        _time_text("%j %Y, %I%p"),
    ),
    "{%:%A %d %B %Y}": (
        st.dates().map(lambda d: datetime.datetime(d.year, d.month, d.day)),
        _time_text("%A %d %B %Y"),
    ),
}


@pytest.mark.slow
@given(st.data())
@settings(max_examples=500)
def test_labels_survive_a_url(data: st.DataObject) -> None:
    specs = data.draw(st.lists(st.sampled_from(sorted(LABELS)), min_size=1, max_size=5))
    names = [f"n{i}" for i in range(len(specs))]
    fields = [spec.replace("%", name, 1) for spec, name in zip(specs, names, strict=True)]
    again = data.draw(st.integers(0, len(fields) - 1))
    pattern = compile_pattern("gs://{{b}}/" + ";".join(fields) + ";/" + fields[again])
    labels = {name: data.draw(LABELS[spec][0]) for name, spec in zip(names, specs, strict=True)}
    written = [LABELS[spec][1](labels[name]) for name, spec in zip(names, specs, strict=True)]
    url = "gs://{b}/" + ";".join(written) + ";/" + written[again]
    assert labels_in(pattern, url) == labels
    texts = pattern.split(url)
    assert texts == (*written, written[again])
    assert pattern.join(texts) == url
    assert pattern.fields == tuple(names)
    assert url.startswith(pattern.stem)


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        (CV8000, "*stack_{well:[A-P]\\d{2}}_T{t:04d}F{f:03d}L01A{c:02d}Z{z:02d}C{c:02d}.tif"),
        (DROSOPHILA, "DrosophilaEmbryo_{dye:s}_{t:04d}.tif"),
        (ILLUM, "AS_{id:s}_O{n:02d}f{f:02d}d{d}.TIF"),
        (SEED, "mydata_ch{c}_{t}t_{x}x_{y}y_{z}z.tif"),
    ],
)
def test_real_acquisitions(keys: list[str], text: str) -> None:
    pattern = compile_pattern(text)
    found = [labels_in(pattern, key) for key in keys]
    assert None not in found
    assert len({tuple(labels.values()) for labels in found if labels}) == len(keys)
    if not pattern.has_wildcards:
        assert [pattern.join(pattern.split(key) or ()) for key in keys] == keys


def test_natural_order() -> None:
    names = ["z10", "z2", "z02", "a", "z", "10", "9", "z2a", "z2a3", ""]
    assert sorted(names, key=natural_key) == [
        "", "9", "10", "a", "z", "z02", "z2", "z2a", "z2a3", "z10",
    ]  # fmt: skip


@given(st.lists(st.text("z0129²._"), max_size=6))
def test_natural_order_is_total(names: list[str]) -> None:
    keys = [(name, natural_key(name)) for name in names]
    for (a, key_a), (b, key_b) in itertools.product(keys, keys):
        assert (key_a == key_b) == (a == b)
        assert (key_a < key_b) + (key_b < key_a) == (a != b)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (SEED, [("mydata_ch{c}_{t}t_{x}x_{y}y_{z}z.tif", 288)]),
        (
            CV8000,
            [
                (
                    "CV8000-Minimal-DataSet-2C-3W-4S-FP2-stack_{well:[A-P]\\d{2}}_T0001F{f:03d}"
                    "L01A{c:02d}Z{z:02d}C{c:02d}.tif",
                    96,
                )
            ],
        ),
        (DROSOPHILA, [("DrosophilaEmbryo_GFPHistone_{n:04d}.tif", 21)]),
        (ILLUM, [("AS_09047_050428030001_O{o:02d}f{f:02d}d2.TIF", 72)]),
        ([], []),
        (["", "one_07.tif"], [("one_07.tif", 1)]),
        (["z9.tif", "z10.tif"], [("z{z}.tif", 2)]),
        (["z1.tif", "z01.tif"], [("z{z}.tif", 2)]),
        (["z998.tif", "z007.tif", "z1000.tif"], [("z{z:03d}.tif", 3)]),
        (["ch0_CH0", "ch1_CH2"], [("ch{c}_CH*", 2)]),
        (["1x2y_", "2x2y_", "1x3y_"], [("{x}x{y}y_", 3)]),
        (["a1_b1", "a1_b2", "a2_b1"], [("a{a}_b{b}", 3)]),
        (["c1_a1", "c2_a2"], [("c{c}_a{c}", 2)]),
        (["a_1.png", "a_1.tif"], [("a_1.png", 1), ("a_1.tif", 1)]),
        (["TimePoint_1/s1", "TimePoint_2/s1"], [("TimePoint_{t}/s1", 2)]),
        (["x_C01_.tif", "x_C02_.tif"], [("x_C{c:02d}_.tif", 2)]),
        (["x_D03_.tif", "x_D04_.tif"], [("x_{well:[A-P]\\d{2}}_.tif", 2)]),
        (["a[1]{b}*?", "a[2]{b}*?"], [("a[[]{n}]{{b}}[*][?]", 2)]),
        (["https://h/a?z=1", "https://h/a?z=2"], [("https://h/a[?]z={z}", 2)]),
        (["a_1.tif", "a_2.tif", "log.txt"], [("a_{n}.tif", 2), ("log.txt", 1)]),
        (
            ["e/GFP_z1.tif", "e/GFP_z2.tif", "e/RFP_z1.tif", "e/RFP_z2.tif", "e/x_z1.tif"],
            [("e/{c:s}_z{z}.tif", 5)],
        ),
        (
            [f"{p}_{d}_{z}" for p in ("ab", "cd") for d in ("GFP", "RFP") for z in (1, 2)],
            [("{name:s}_{c:s}_{n}", 8)],
        ),
        (
            [f"w{c}_0f8fad5b-d9cb-469f-a165-70867728950{c}.tif" for c in (1, 2)],
            [("w{w}_[0-9A-Fa-f]*.tif", 2)],
        ),
    ],
)
def test_proposals(keys: list[str], expected: list[tuple[str, int]]) -> None:
    for order in (keys, keys[::-1]):
        assert [(each.text, each.n_names) for each in propose(order)] == expected


KEY = st.lists(
    st.sampled_from(
        [
            *("ch", "z", "A", "B03", "C07", "GFP", "0", "1", "07", "12"),
            *("_", "/", ".", "{", "}", "[", "*", "?", "é", "٣", "\n"),
            "0f8fad5b-d9cb-469f-a165-708677289501",
        ]
    ),
    max_size=8,
).map("".join)


@pytest.mark.slow
@given(st.lists(KEY, unique=True, max_size=12))
@settings(max_examples=500)
def test_proposals_match_what_they_claim(keys: list[str]) -> None:
    proposals = propose(keys)
    counts = [each.n_names for each in proposals]
    patterns = [compile_pattern(each.text) for each in proposals]
    assert counts == sorted(counts, reverse=True)
    for pattern, count in zip(patterns, counts, strict=True):
        assert sum(pattern.split(key) is not None for key in keys) >= count > 0
    assert sum(counts) == sum(key != "" for key in keys)
    assert all(any(each.split(key) is not None for each in patterns) for key in keys if key)
