"""From the varying parts of many names to one pattern: which parts are axes, and their formats."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from cloudimg.errors import PatternError
from cloudimg.pattern.language import Pattern, compile_pattern, escape

WELL = r"[A-Z]{1,2}\d{1,2}"
"""A well of a plate with up to 1536 of them, such as B03 or AF48."""
_WELL_OF_384 = r"[A-P]\d{2}"
_GUIDS = ("[0-9A-Fa-f]*", "[0-9A-Fa-f]" * 8 + "-*")
"""Wildcards for GUIDs; the second tells them from a number that stands before them (s15A3F...)."""
_GUID_BEGINS = re.compile(r"[0-9A-Fa-f]{8}-|[0-9A-Fa-f]{32}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A part of names that may differ from name to name, and its text in each name."""

    role: str
    """Name of its axis."""
    texts: tuple[str, ...]
    """Text by name."""
    is_axis: bool = True
    """False for what is an axis only if the others do not tell the names apart."""
    is_chance: bool = False
    """Whether it is an axis in no case, as a GUID."""
    time_format: str = ""
    """Format of a time, or of an elapsed time with the prefix of `elapsed`."""
    is_text: bool = False
    """Whether digits are a text and not a number."""
    evidence: str = ""
    """What shows that the part has this role."""

    @property
    def is_constant(self) -> bool:
        return len(set(self.texts)) == 1

    @property
    def is_number(self) -> bool:
        return (
            not self.is_text
            and not self.time_format
            and all(re.fullmatch(r"[-+]?\d+(?:\.\d+)?", text, re.ASCII) for text in self.texts)
        )

    @property
    def labels(self) -> tuple[object, ...]:
        """What the texts stand for, so that "1" and "01" are equal."""
        return tuple(map(float, self.texts)) if self.is_number else self.texts


Part = str | Column
_Codes = tuple[int, ...]
"""A number for each name, the same for names with the same label."""


@dataclass(frozen=True, slots=True)
class Written:
    """A pattern that was made of columns."""

    pattern: Pattern
    evidence: dict[str, str]
    """What shows the role of each field, by its name."""


def write_pattern(
    parts: Sequence[Part], *, joins_roles: bool, keep: bool = False
) -> Written | None:
    """Write the pattern of names that consist of some parts.

    Columns that always move together are one axis: the first with a role, or else the first, is
    its field; another is the same field where it has the same labels, and ``*`` elsewhere.

    Parameters
    ----------
    parts : sequence of str and Column
        Texts that are the same in all names, and columns.
    joins_roles : bool
        Whether columns of different roles that move together are one axis.
    keep : bool
        Make axes of columns with one text too, because more names follow.

    Returns
    -------
    Written or None
        None where no pattern takes these names apart.
    """
    columns = [part for part in parts if isinstance(part, Column)]
    varying = [each for each in columns if keep or not each.is_constant]
    chosen = _choose_axes(varying, joins_roles=joins_roles)
    names = _unique_names(chosen.values())
    for guid, text_spec in itertools.product(_GUIDS, (":s", ":.+", ":.+?")):
        try:
            pattern = compile_pattern(_join(parts, chosen, names, text_spec, guid))
        except PatternError:
            continue
        if _takes_apart(pattern, parts, chosen):
            evidence = {names[id(axis)]: axis.evidence for axis in chosen.values()}
            return Written(pattern, evidence)
    return None


def _choose_axes(columns: Sequence[Column], *, joins_roles: bool) -> dict[int, Column]:
    """The column that gives a column its field, by `id`; columns that are not in it are ``*``."""
    codes = {id(each): _codes(each.labels) for each in columns}
    candidates = [each for each in columns if not each.is_chance]
    axes: dict[tuple[_Codes, str], Column] = {}
    for column in sorted(candidates, key=_rank):
        if column.is_axis:
            axes.setdefault((codes[id(column)], "" if joins_roles else column.role), column)
    for column in _needed({of_axis for of_axis, _ in axes}, candidates, codes):
        axes[codes[id(column)], ""] = column
    chosen: dict[int, Column] = {}
    for (of_axis, _), axis in axes.items():
        for column in candidates:
            is_other = column.is_axis and not joins_roles and axis.role != column.role
            if of_axis == codes[id(column)] and not is_other:
                chosen.setdefault(id(column), axis)
    return _same(chosen, candidates)


def _same(chosen: Mapping[int, Column], columns: Sequence[Column]) -> dict[int, Column]:
    """Those columns that can be the field of their axis, which then stands twice in a pattern."""
    by_id = {id(each): each for each in columns}
    return {at: axis for at, axis in chosen.items() if _is_same(axis, by_id[at])}


def _needed(
    told_apart: set[_Codes], columns: Sequence[Column], codes: Mapping[int, _Codes]
) -> Iterator[Column]:
    """Yield columns that tell names apart which axes do not.

    Those with few labels come first: a counter would make axes of all others superfluous.
    """
    n_names = len(columns[0].texts) if columns else 1
    others = [each for each in columns if not each.is_axis]
    for column in sorted(others, key=lambda each: (len(set(each.texts)), not each.evidence)):
        n_before = _n_distinct(told_apart)
        if n_before == n_names:
            return
        if _n_distinct(told_apart | {codes[id(column)]}) > n_before:
            told_apart = told_apart | {codes[id(column)]}
            yield column


def move_together(a: Column, b: Column) -> bool:
    """Whether two columns differ in the same names."""
    return _codes(a.labels) == _codes(b.labels)


def _is_same(axis: Column, column: Column) -> bool:
    """Whether two columns can be one field that stands twice in a pattern."""
    return (
        axis.labels == column.labels
        and axis.is_number == column.is_number
        and axis.time_format == column.time_format
    )


def _rank(column: Column) -> tuple[bool, bool]:
    """Order in which columns that move together are preferred."""
    return (not column.role, not column.time_format)


def _codes(labels: Sequence[object]) -> _Codes:
    """The same numbers for columns that always move together."""
    known: dict[object, int] = {}
    return tuple(known.setdefault(label, len(known)) for label in labels)


def _n_distinct(fields: Iterable[_Codes]) -> int:
    """Number of names that fields tell apart."""
    return len(set(zip(*fields, strict=True))) or 1


def _unique_names(axes: Iterable[Column]) -> dict[int, str]:
    """Names of fields by the `id` of their column."""
    names: dict[int, str] = {}
    for axis in {id(each): each for each in axes}.values():
        wanted = axis.role or "n"
        free = (f"{wanted}{i}" if i > 1 else wanted for i in itertools.count(1))
        names[id(axis)] = next(each for each in free if each not in names.values())
    return names


def _join(
    parts: Sequence[Part],
    chosen: dict[int, Column],
    names: dict[int, str],
    text_spec: str,
    guid: str,
) -> str:
    """The text of the pattern."""
    texts: list[str] = []
    for part, following in itertools.zip_longest(parts, parts[1:], fillvalue=""):
        if isinstance(part, str):
            texts.append(escape(part))
        elif id(part) in chosen:
            glued = _is_glued(following, chosen)
            spec = _spec(chosen[id(part)], part, text_spec, is_glued=glued)
            texts.append(f"{{{names[id(chosen[id(part)])]}{spec}}}")
        elif part.is_constant:
            texts.append(escape(part.texts[0]))
        elif not texts or texts[-1] != "*":
            texts.append(guid if _is_guid(part) else "*")
    return "".join(texts)


def _is_guid(column: Column) -> bool:
    """Whether the wildcard of a column is to take nothing before a GUID, such as ``_thumb``."""
    return column.is_chance and all(_GUID_BEGINS.match(text) for text in column.texts)


def _is_glued(following: Part, chosen: dict[int, Column]) -> bool:
    """Whether only its width can show where a part before this one ends."""
    if isinstance(following, str):
        return following[:1].isdecimal()
    if following.is_constant and id(following) not in chosen:
        return following.texts[0][:1].isdecimal()
    return True


def _spec(axis: Column, column: Column, text_spec: str, *, is_glued: bool) -> str:
    """The format of a field."""
    widths = {len(text) for text in column.texts}
    if axis.time_format:
        return f":{axis.time_format}"
    if not axis.is_number:
        if axis.role == "well" and all(re.fullmatch(WELL, text) for text in column.texts):
            of_384 = all(re.fullmatch(_WELL_OF_384, text) for text in column.texts)
            return f":{_WELL_OF_384 if of_384 else WELL}"
        if is_glued and len(widths) == 1:
            return f":.{{{max(widths)}}}"
        return text_spec
    return _number_spec(column.texts, is_glued=is_glued)


def _number_spec(texts: Sequence[str], *, is_glued: bool) -> str:
    if any("." in text for text in texts):
        return ":f"
    if any(text[0] in "-+" for text in texts):
        return ":d"
    width = min(map(len, texts))
    if is_glued and width == max(map(len, texts)):
        return f":\\d{{{width}}}" if width > 1 else r":\d"
    padded = any(text[0] == "0" and len(text) > 1 for text in texts)
    # The longer ones may follow on from 999; with a zero in front they would not be canonical.
    regular = all(len(text) == width or text[0] != "0" for text in texts)
    return f":0{width}d" if padded and regular and width < 100 else ""


def _takes_apart(pattern: Pattern, parts: Sequence[Part], chosen: dict[int, Column]) -> bool:
    """Whether the pattern finds in each name the parts that it was made of."""
    columns = [part for part in parts if isinstance(part, Column)]
    n_names = len(columns[0].texts) if columns else 1
    texts = [[part] * n_names if isinstance(part, str) else part.texts for part in parts]
    is_field = [id(part) in chosen for part in parts]
    for row in zip(*texts, strict=True):
        if pattern.split("".join(row)) != tuple(itertools.compress(row, is_field)):
            return False
    return True
