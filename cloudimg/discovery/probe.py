"""Find the extent of the axes of a pattern without a listing: by what names have between fields.

A store answers a request with a delimiter by what the names have up to it. So one request has the
texts of the first field; behind the first and the last of them, two have those of the second, and
so on. The files are then all combinations, as far as is known.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from cloudimg.discovery.grid import FileGrid, Keys
from cloudimg.discovery.listing import Listing
from cloudimg.discovery.literal import as_pattern
from cloudimg.discovery.names import compact
from cloudimg.discovery.places import sorted_labels
from cloudimg.discovery.scope import Scope
from cloudimg.errors import ArgumentError, GridError, counted
from cloudimg.errors.notes import Note
from cloudimg.pattern import Label, Pattern, Step, natural_key, steps_of
from cloudimg.storage import Store, engine, map_ahead

_MOST_FILES = 10**9
_MOST_TRIED = 16
"""Beginnings that are tried, all at once, in place of one that other files have."""
_ALL = 'listing="full", the default, finds its files'


def probe_files(store: Store, text: str) -> Listing | None:
    """Find the files of a pattern without a listing; None of a name, or where there are none.

    Parameters
    ----------
    store : Store
    text : str
        URL as pattern text.

    Raises
    ------
    ArgumentError
        If the store or the pattern does not allow it.
    PatternError, GridError, StorageError
    """
    pattern = as_pattern(store, text)
    if pattern.is_literal:
        return None
    Scope.of(store, pattern, whole_folder=False)  # refuses a pattern without a bucket
    shown = store.location.display_text(pattern.text)
    steps = list(steps_of(pattern, with_end=True))
    _refuse(store, pattern, steps, shown)
    probe = _Probe(store, pattern)
    for step in steps:
        if not probe.follow(step):
            return None
    return Listing(probe.grid(shown), None, further=(probe.note(),), is_complete=False)


def _refuse(store: Store, pattern: Pattern, steps: Sequence[Step], shown: str) -> None:
    """Refuse a pattern whose fields no delimiter shows, and a store without delimiters.

    Raises
    ------
    ArgumentError
    """
    location = store.location
    if not store.lists_in_order:
        where = location.display(location.root) or f"{location.protocol}://"
        raise ArgumentError(
            f'listing="probe" needs a store that lists names up to any text, as s3 and gs do, and'
            f" {where} does not: {_ALL} in one listing of the folder"
        )
    if pattern.has_wildcards:
        raise ArgumentError(f'listing="probe" cannot find what wildcards of {shown} match: {_ALL}')
    seen = [each.name for step in steps[-1:] for each in step.occurrences]
    if len(seen) < len(pattern.occurrences):
        raise ArgumentError(
            f'listing="probe" needs text behind the last field of {shown}, such as .tif: {_ALL}'
        )
    unsure = next((step for step in steps if step.regex is None), None)
    if unsure is not None:
        raise ArgumentError(
            f'listing="probe" cannot tell where the field {unsure.occurrences[-1].name} ends, as it'
            f" may contain {unsure.literal!r}, which follows it: {_ALL}"
        )


@dataclass(frozen=True, slots=True)
class _Beginning:
    """What a name of the pattern may begin with, up to a text between two fields."""

    key: str
    labels: tuple[Label, ...]
    """By occurrence of a field."""


class _Probe:
    """What has been found of the files of a pattern."""

    def __init__(self, store: Store, pattern: Pattern) -> None:
        self._store = store
        self._pattern = pattern
        self._known = [_Beginning(store.location.key_of(pattern.stem), ())]
        """What names may begin with, as far as it was asked for, in the order of labels."""
        self._texts: list[dict[Label, str]] = [{} for _ in pattern.occurrences]
        """Text by label, of each occurrence of a field."""
        self._none_is_before = True
        """Whether no other name can be before the first one."""
        self._n_requests = 0

    def follow(self, step: Step) -> bool:
        """Find what follows the known beginnings, up to a text; whether there is anything.

        Raises
        ------
        GridError, StorageError
        """
        first, last = 0, len(self._known) - 1
        behind = self._asked(step, {first, last})
        # An end may be that of other files, which do not go on as the pattern does.
        others = set[int]()
        if not behind[first]:
            others |= set(range(first + 1, last)[:_MOST_TRIED])
        if not behind[last]:
            others |= set(range(first + 1, last)[-_MOST_TRIED:])
        behind |= self._asked(step, others)
        found = [number for number in sorted(behind) if behind[number]]
        if found:
            self._none_is_before &= set(range(found[0])) <= behind.keys()
            self._known = [each for number in found for each in behind[number]]
        return bool(found)

    def _asked(self, step: Step, numbers: Collection[int]) -> dict[int, list[_Beginning]]:
        """What follows some of the known beginnings, by their numbers, in order.

        Raises
        ------
        GridError, StorageError
        """
        ask = partial(self._store.beginnings, delimiter=step.literal)
        answers = map_ahead(
            lambda number: engine().fetch_window(partial(ask, self._known[number].key)),
            numbers,
            n_ahead=2 * _MOST_TRIED,
        )
        behind = {}
        for number, (keys, n_requests) in zip(numbers, answers, strict=True):
            self._n_requests += n_requests
            found = [each for key in keys if (each := self._beginning(step, key)) is not None]
            behind[number] = sorted(found, key=lambda each: tuple(map(_sortable, each.labels)))
        return behind

    def _beginning(self, step: Step, key: str) -> _Beginning | None:
        """A beginning, whose labels are then known; None if it does not match.

        Raises
        ------
        GridError
        """
        assert step.regex is not None
        match = step.regex.fullmatch(self._store.location.pattern_text(key))
        if match is None:
            return None
        try:
            labels = [self._pattern.value(k, text) for k, text in enumerate(match.groups())]
        except ArgumentError:
            return None
        by_name: dict[str, Label] = {}
        for field, label in zip(step.occurrences, labels, strict=True):
            if by_name.setdefault(field.name, label) != label:
                return None
        for texts, label, text in zip(self._texts, labels, match.groups(), strict=False):
            if texts.setdefault(label, text) != text:
                raise GridError(
                    f"{label} is written as {texts[label]} and as {text} in names that"
                    f' listing="probe" found: {_ALL}'
                )
        return _Beginning(key, tuple(labels))

    def grid(self, shown: str) -> FileGrid:
        """The grid of all combinations of the labels.

        Raises
        ------
        GridError
        """
        fields, names = self._pattern.fields, [each.name for each in self._pattern.occurrences]
        firsts = [self._texts[names.index(field)] for field in fields]
        labels = tuple(
            sorted_labels({label: i for i, label in enumerate(each)})[0] for each in firsts
        )
        n_files = math.prod(map(len, labels))
        if n_files > _MOST_FILES:
            raise GridError(f"the names of {shown} span {n_files:,} files: {_ALL}")
        texts = []
        for name, known in zip(names, self._texts, strict=True):
            axis = fields.index(name)
            # Behind few beginnings, a field that is repeated was seen with few labels.
            if any(firsts[axis][label] != text for label, text in known.items()):
                raise GridError(
                    f'{name} is written in two ways in names that listing="probe" found: {_ALL}'
                )
            texts.append((axis, compact([firsts[axis][label] for label in labels[axis]])))
        first_labels = dict(zip(names, self._known[0].labels, strict=True))
        first = [each.index(first_labels[name]) for each, name in zip(labels, fields, strict=True)]
        shape = tuple(map(len, labels))
        n_before = int(np.ravel_multi_index(first, shape)) if self._none_is_before else 0
        return FileGrid(
            fields=fields,
            labels=labels,
            keys=Keys(self._pattern, tuple(texts), None, None),
            present=(np.arange(n_files) >= n_before).reshape(shape) if n_before else None,
            sizes=np.full(n_files, -1, np.int64),
            etags=None,
            digest=uuid.uuid4().hex,  # nothing shows which files there are
            has_versions=False,
            n_files=n_files - n_before,
        )

    def note(self) -> Note:
        """What the image is based on."""
        requests = counted(self._n_requests, "request")
        return Note(
            f'{requests} found the labels of the axes (listing="probe") by the first and the last'
            " names; the files were not listed, so that some may be missing, which shows when they"
            " are read, and labels that only others have are not seen: scan() lists them",
            kind="probed-files",
            n_files=1,
            urls=(),
        )


def _sortable(label: Label) -> Any:
    return natural_key(label) if isinstance(label, str) else label
