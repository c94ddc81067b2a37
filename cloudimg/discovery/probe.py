"""Find the extent of the axes of a pattern without a listing: by what names have between fields.

A store answers a request with a delimiter by what the names have up to it. So one request has the
texts of the first field; behind the first and the last of them, two have those of the second, and
so on. The files are then all combinations, as far as is known.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Sequence
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


class _Probe:
    """What has been found of the files of a pattern."""

    def __init__(self, store: Store, pattern: Pattern) -> None:
        self._store = store
        self._pattern = pattern
        self._ends = [store.location.key_of(pattern.stem)]
        """What the first name and the last one begin with, as far as they are known."""
        self._texts: list[dict[Label, str]] = [{} for _ in pattern.occurrences]
        """Text by label, of each occurrence of a field."""
        self._first: dict[str, Label] = {}
        """The labels of the first name, by field."""
        self._none_is_before = True
        """Whether no other name can be before the first one."""
        self._n_requests = 0

    def follow(self, step: Step) -> bool:
        """Find what follows the known beginnings, up to a text; whether there is anything.

        Raises
        ------
        GridError, StorageError
        """
        ask = partial(self._store.beginnings, delimiter=step.literal)
        answers = map_ahead(
            lambda end: engine().fetch_window(partial(ask, end)), self._ends, n_ahead=2
        )
        found: list[tuple[tuple[Any, ...], str, list[Label]]] = []
        for keys, n_requests in answers:
            self._n_requests += n_requests
            for key in keys:
                labels = self._labels(step, key)
                if labels is not None:
                    found.append((tuple(map(_sortable, labels)), key, labels))
        if found:
            first, last = min(found), max(found)
            self._none_is_before &= first[1].startswith(self._ends[0])
            self._ends = list(dict.fromkeys((first[1], last[1])))
            names = [each.name for each in step.occurrences]
            self._first = dict(zip(names, first[2], strict=True))
        return bool(found)

    def _labels(self, step: Step, key: str) -> list[Label] | None:
        """The labels of a beginning, which are then known; None if it does not match.

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
        return labels

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
        first = [each.index(self._first[field]) for each, field in zip(labels, fields, strict=True)]
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
