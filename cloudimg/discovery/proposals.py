"""From the names in a folder to patterns: known layouts first, then guesses. Pure.

Each proposal has been tried: the grid of its files was built from the names that were listed.
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from cloudimg.discovery.build_grid import GridBuilder
from cloudimg.discovery.exclusion import Exclusion
from cloudimg.discovery.layout import Layout
from cloudimg.discovery.layouts import LAYOUTS
from cloudimg.discovery.unmatched import UnmatchedCounter
from cloudimg.errors import GridError
from cloudimg.pattern import Pattern, compile_pattern, escape, propose
from cloudimg.pattern.columns import Column, Part, move_together, write_pattern
from cloudimg.pattern.proposal import parts_of
from cloudimg.storage import Entry

_SAMPLE = 2000
"""Names from which a layout or a guess is made, if there are more; all are counted then."""
_MOST_ROUNDS = 4
_MOST_PROPOSALS = 20
_FREE = ("folder", "name")
"""Roles of parts in which a user may write anything."""
_GROUP = re.compile(r"(any_|maybe_)?([a-z_]+?)(?:_?_\d)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A pattern for files of a folder."""

    pattern: str
    n_files: int
    """Number of listed files that it matches."""
    n_left_out: int
    """Number of listed files that it does not match and `exclude` does not leave out."""
    layout: str = ""
    """Name of the known layout that fits; empty for a guess."""
    source: str = ""
    """URL of what says so."""
    roles: tuple[tuple[str, str], ...] = ()
    """Fields, and what shows that they are these axes; empty texts where nothing does."""
    lengths: tuple[tuple[str, int], ...] = ()
    """Lengths of the axes."""
    n_missing: int = 0
    """Number of indices of the grid without a file."""
    problem: str = ""
    """Why the files form no grid; empty if they do."""
    exclude: tuple[str, ...] = ()
    """Globs of files beside the planes, to be left out."""
    excluded: tuple[tuple[str, int], ...] = ()
    """What those files are, and their number."""

    @property
    def certainty(self) -> str:
        """``"known"`` for a layout, ``"likely"`` where names say all axes, else ``"guess"``."""
        if self.layout:
            return "known"
        return "likely" if self.roles and all(why for _, why in self.roles) else "guess"

    @property
    def is_sure(self) -> bool:
        """Whether a folder may be opened by it without being asked."""
        return bool(self.layout) and not self.problem and not self.n_left_out


def propose_patterns(
    names: Sequence[str], prefix: str = "", *, is_truncated: bool = False
) -> list[Proposal]:
    """Return patterns that together cover some names: known layouts first, then most files first.

    Parameters
    ----------
    names : sequence of str
        Names below the folder.
    prefix : str
        Pattern text of the folder, which stands before each name.
    is_truncated : bool
        Whether the folder has more names than these.
    """
    found: list[Proposal] = []
    rest = list(names)
    while rest:
        known = _best_layout(rest, is_truncated=is_truncated)
        if known is None:
            break
        proposal, rest = known
        found.append(proposal)
    n_known = len(found)
    n_rounds = 0
    while rest and n_rounds < _MOST_ROUNDS and len(found) < _MOST_PROPOSALS:
        n_rounds += 1
        for guess in propose(_sample(rest))[: _MOST_PROPOSALS - len(found)]:
            proposal, rest = _tried(guess.text, tuple(guess.evidence.items()), rest)
            if proposal.n_files:
                found.append(proposal)
    merged = found[:n_known] + _without_repeats(found[n_known:])
    n_covered = sum(each.n_files + sum(n for _, n in each.excluded) for each in merged)
    return [
        replace(
            each,
            pattern=f"{escape(prefix)}{each.pattern}",
            n_left_out=max(n_covered, len(names)) - each.n_files - sum(n for _, n in each.excluded),
        )
        for each in merged
    ]


def _sample(names: Sequence[str]) -> Sequence[str]:
    """The same random names each time: every n-th might always be the same channel."""
    return names if len(names) <= _SAMPLE else random.Random(0).sample(names, _SAMPLE)


def _without_repeats(guesses: Sequence[Proposal]) -> list[Proposal]:
    """Guesses in order; one of them can be found twice, from two samples."""
    known: dict[str, Proposal] = {}
    for each in guesses:
        before = known.get(each.pattern)
        n_before = before.n_files if before else 0
        known[each.pattern] = replace(each, n_files=n_before + each.n_files)
    return sorted(known.values(), key=lambda each: (bool(each.problem), -each.n_files))


class _Rest(UnmatchedCounter):
    """Keeps the names that a pattern does not match."""

    def __init__(self, pattern: Pattern) -> None:
        super().__init__(pattern, str)
        self.names: list[str] = []

    def add(self, name: str) -> None:
        self.names.append(name)


def _tried(
    text: str, roles: tuple[tuple[str, str], ...], names: Sequence[str]
) -> tuple[Proposal, list[str]]:
    """Build the grid of a pattern from names; the names that it does not match are returned too."""
    pattern = compile_pattern(text)
    rest = _Rest(pattern)
    proposal = Proposal(pattern=text, n_files=0, n_left_out=0, roles=roles)
    if not pattern.fields:
        rest.names = [name for name in names if pattern.split(name) is None]
        return replace(proposal, n_files=len(names) - len(rest.names)), rest.names
    builder = GridBuilder(pattern, rest)
    builder.add(Entry(name, None, None) for name in names)
    proposal = replace(proposal, n_files=len(builder))
    if not proposal.n_files:
        return proposal, rest.names
    try:
        grid = builder.build()
    except GridError as error:
        return replace(proposal, problem=str(error)), rest.names
    lengths = tuple((name, len(each)) for name, each in zip(grid.fields, grid.labels, strict=True))
    return replace(proposal, lengths=lengths, n_missing=grid.n_missing), rest.names


# ------------------------------------------------------------------------------- known layouts


def _best_layout(names: Sequence[str], *, is_truncated: bool) -> tuple[Proposal, list[str]] | None:
    """The layout that fits most names, and the names that it leaves; None if none fits two."""
    sample = _sample(names)
    counts = [(_n_explained(layout, sample), -i, layout) for i, layout in enumerate(LAYOUTS)]
    for n_fitting, _, layout in sorted(counts, key=lambda each: each[:2], reverse=True):
        if n_fitting < min(2, len(names)):
            break
        known = _by_layout(layout, names, is_truncated=is_truncated)
        if known is not None:
            return known
    return None


def _n_explained(layout: Layout, names: Sequence[str]) -> int:
    """Number of names that are planes of a layout, or stored beside them."""
    planes, _, excluded = _without_beside(layout, names)
    n_planes = sum(layout.compiled.fullmatch(name) is not None for name in planes)
    return n_planes + sum(n for _, n in excluded) if n_planes else 0


def _by_layout(
    layout: Layout, names: Sequence[str], *, is_truncated: bool
) -> tuple[Proposal, list[str]] | None:
    """The names of a layout as one proposal, and what it leaves; None if they form no grid."""
    planes, globs, excluded = _without_beside(layout, names)
    sample = list(_sample(planes))
    for _ in range(_MOST_ROUNDS):
        matches = _matches_of_one_form(layout, sample)
        written = write_pattern(_parts(layout, matches), joins_roles=False, keep=is_truncated)
        if written is None:
            return None
        roles = tuple(written.evidence.items())
        proposal, rest = _tried(written.pattern.text, roles, planes)
        # What is the same in all names of a sample may differ in others.
        further = [name for name in _sample(rest) if _has_form(layout, name, _form(matches[0]))]
        if not further:
            break
        sample += further
    if proposal.problem or not proposal.n_files:
        return None
    known = replace(
        proposal, layout=layout.name, source=layout.source, exclude=globs, excluded=excluded
    )
    return known, rest


def _matches_of_one_form(layout: Layout, names: Sequence[str]) -> list[re.Match[str]]:
    """The names of the form that most names of a layout have."""
    forms: dict[tuple[str, ...], list[re.Match[str]]] = {}
    for match in filter(None, map(layout.compiled.fullmatch, names)):
        forms.setdefault(_form(match), []).append(match)
    return max(forms.values(), key=len)


def _has_form(layout: Layout, name: str, form: tuple[str, ...]) -> bool:
    match = layout.compiled.fullmatch(name)
    return match is not None and _form(match) == form


def _without_beside(
    layout: Layout, names: Sequence[str]
) -> tuple[list[str], tuple[str, ...], tuple[tuple[str, int], ...]]:
    """Names without those that are stored beside planes, with the globs of these and their number.

    Where there is nothing else, they are the images.
    """
    globs: list[str] = []
    excluded: list[tuple[str, int]] = []
    planes = list(names)
    for glob, what in layout.beside.items():
        exclusion = Exclusion(glob)
        kept = [name for name in planes if not exclusion.excludes(name)]
        if exclusion.n_excluded and any(map(layout.compiled.fullmatch, kept)):
            planes = kept
            globs.append(glob)
            excluded.append((what, exclusion.n_excluded))
    return planes, tuple(globs), tuple(excluded)


def _groups(match: re.Match[str]) -> list[tuple[str, int, int]]:
    """The groups that took part in a match, in the order of the name, and where they are."""
    names = [name for name, text in match.groupdict().items() if text is not None]
    return sorted(((name, *match.span(name)) for name in names), key=lambda each: each[1:])


def _form(match: re.Match[str]) -> tuple[str, ...]:
    """What is the same in names of one pattern: groups, and the text between them."""
    form = [str(match["folders"].count("/"))]
    at = match.end("folders")
    for name, start, end in _groups(match):
        if name != "folders":
            form += [match.string[at:start], name]
            at = end
    return (*form, match.string[at:])


def _parts(layout: Layout, matches: Sequence[re.Match[str]]) -> list[Part]:
    """The parts of names of one form."""
    parts: list[Part] = []
    folders = zip(*(match["folders"].split("/")[:-1] for match in matches), strict=True)
    for texts in folders:
        parts += [Column(role="folder", texts=texts, is_axis=False, is_text=True), "/"]
    form = _form(matches[0])
    for literal, name in zip(form[1:-1:2], form[2::2], strict=True):
        parts += [literal, _column(layout, name, tuple(match[name] for match in matches))]
    parts.append(form[-1])
    known = [part for part in parts if isinstance(part, Column)]
    return [each for part in parts if part != "" for each in _further_axes(part, known)]


def _further_axes(part: Part, known: Collection[Column]) -> Sequence[Part]:
    """The parts of a folder or a name that varies, if its words say axes that a layout lacks.

    Or if one of them moves together with an axis: of 20585w1, where w1 is a channel.
    """
    if isinstance(part, str) or part.role not in _FREE or part.is_constant:
        return [part]
    further = parts_of(part.texts)
    columns = _varying(further)
    twins = {id(a): b for a, b in itertools.product(columns, _varying(known)) if _are_twins(a, b)}
    if twins and len(columns) > 1:
        return [_twin(each, twins.get(id(each)), part) for each in further]
    roles = {each.role for each in columns if each.evidence}
    says_all = len(roles) == len(columns) > 0
    return further if says_all and roles.isdisjoint(each.role for each in known) else [part]


def _varying(parts: Iterable[Part]) -> list[Column]:
    return [part for part in parts if isinstance(part, Column) and not part.is_constant]


def _are_twins(column: Column, axis: Column) -> bool:
    return axis.is_axis and move_together(column, axis)


def _twin(part: Part, axis: Column | None, whole: Column) -> Part:
    """A part of a folder or a name, as the axis with which it moves or as an axis where needed."""
    if isinstance(part, str) or part.is_constant:
        return part
    if axis is not None:
        return replace(part, role=axis.role, is_axis=True, evidence=axis.evidence)
    return replace(part, role=whole.role, is_axis=False)


def _column(layout: Layout, group: str, texts: tuple[str, ...]) -> Column:
    found = _GROUP.fullmatch(group)
    assert found is not None
    kind, role = found.groups()
    return Column(
        role=role,
        texts=texts,
        is_axis=kind is None,
        is_chance=kind == "any_",
        time_format=layout.times.get(role, ""),
        evidence=f"as {layout.name} names it",
    )
