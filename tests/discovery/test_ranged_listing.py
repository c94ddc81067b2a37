"""Listings that are cut into ranges have the same names as one that is not, whatever they are."""

from __future__ import annotations

import random
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloudimg.discovery.scope import Scope, outline_of
from cloudimg.errors import AccessDeniedError, ServerError, StorageError
from cloudimg.pattern import compile_pattern
from cloudimg.storage import Entry, Outline, Store, UnorderedListingError, split_url
from cloudimg.storage.attempts import Attempts
from cloudimg.storage.base import Entries, Page
from cloudimg.storage.complete_listing import CompleteListing

PATTERNS = (
    "s3://b/d/img_{t}.tif",
    "s3://b/d/c{c}_{t:[12]}t_{z}.tif",
    "s3://b/d/{well:s}/f{f:02d}{z:02d}.tif",
    "s3://b/d/{well:[A-C]\\d}_*_{t}.tif",
    "s3://b/d/{name:.+}_{c:[ab_]}_x{t}.tif",
    "s3://b/d/**/{t}.tif",
    "s3://b/d/*",
)
"""Numbers, narrow fields, folders, wildcards, and fields that may contain what follows them."""


@dataclass
class Memory:
    """Keys in memory as a store lists them, a few a page; some answers may be wrong."""

    keys: list[str]
    page_size: int
    begins_at_key: bool = False
    """As Google's, of which a page begins at the key after which it is asked for."""
    order: Any = None
    early_ends: frozenset[int] = frozenset()
    """Numbers of the answers that have nothing, and say that they are the last page."""
    n_requests: int = 0
    lists_in_order: bool = True
    checks_pages: bool = True
    missing: set[str] = field(default_factory=set)
    repeats: bool = False
    """Whether the first page is answered wherever a later one is asked for by a token."""
    delimiting: str = ""
    """What is wrong with answers to requests with a delimiter."""

    def __post_init__(self) -> None:
        self.keys = sorted(set(self.keys), key=self.order)

    def info(self, key: str) -> Entry:
        return Entry(key, 1, None)

    def list_page(
        self, prefix: str, *, after: str = "", token: str | None = None, delimiter: str = ""
    ) -> Page:
        self.n_requests += 1
        if self.n_requests in self.early_ends:
            return Page(Entries((), (), ()), None)
        if delimiter and self.delimiting == "is refused":
            raise AccessDeniedError("no delimiters here")
        if self.delimiting == "ends at its first character":
            delimiter = delimiter[:1]
        if self.repeats:
            token = None
        if self.delimiting == "is ignored":
            delimiter = ""
        keys = [key for key in self.keys if key.startswith(prefix)]
        if self.order is not None:
            at = int(token or 0)
        elif token is not None:
            at = bisect_left(keys, token)
        else:
            at = (bisect_left if self.begins_at_key else bisect_right)(keys, after) if after else 0
        listed: list[str] = []
        prefixes: list[str] = []
        while at < len(keys) and len(listed) + len(prefixes) < self.page_size:
            cut = keys[at].find(delimiter, len(prefix)) if delimiter else -1
            if cut < 0:
                listed.append(keys[at])
            else:
                common = keys[at][: cut + len(delimiter)]
                if not prefixes or prefixes[-1] != common:
                    prefixes.append(common)
            at += 1
            while prefixes and at < len(keys) and keys[at].startswith(prefixes[-1]):
                at += 1
        rest = None if at >= len(keys) else str(at) if self.order is not None else keys[at]
        sizes = [len(key) for key in listed]
        if self.delimiting == "is in no order":
            prefixes = prefixes[:1] + prefixes[3:] + prefixes[1:3]
        return Page(Entries(listed, sizes, [None] * len(listed)), rest, prefixes)


def listed(
    memory: Memory, outline: Outline | None, scope: Scope, n_below: int = 0, attempts: int = 3
) -> list[str]:
    """All names of a listing, in the order in which they come."""

    def pause(failure: ServerError, attempt: int) -> None:
        if attempt + 1 >= attempts:
            raise failure

    stem = scope.begins_with.removeprefix("s3://")
    listing = CompleteListing(
        [memory],  # type: ignore[list-item]
        scope.folder,
        stem,
        scope.depth,
        "s3://b/d",
        pause,
        n_below=n_below,
        outline=outline,
        make=lambda request: request(memory),  # type: ignore[arg-type]
    )
    return [entry.key for batch in listing.batches() if batch is not None for entry in batch]


def scope_of(pattern: str, *, whole_folder: bool) -> tuple[Scope, Outline]:
    location, _ = split_url(pattern)
    compiled = compile_pattern(pattern)
    scope = Scope.of(Store(location), compiled, whole_folder=whole_folder)
    return scope, outline_of(scope, compiled, location)


def texts(alphabet: str, most: int) -> st.SearchStrategy[str]:
    return st.text(alphabet, min_size=1, max_size=most)


NUMBER = st.integers(0, 300).map(str)
PADDED = st.integers(0, 30).map("{:02d}".format)
NAMES = st.one_of(
    st.builds("img_{}.tif".format, NUMBER),
    st.builds("c{}_{}t_{}.tif".format, st.integers(0, 5), st.integers(0, 12), NUMBER),
    st.builds("{}/f{}{}.tif".format, texts("AB1.", 3), PADDED, PADDED),
    st.builds("{}{}_{}_{}.tif".format, texts("ABCD", 1), NUMBER, texts("xyz9_", 3), NUMBER),
    st.builds("{}_{}_x{}.tif".format, texts("ab_9", 4), texts("ab_", 1), NUMBER),
    st.builds("{}/{}/{}.tif".format, texts("pq", 2), texts("rs.", 2), NUMBER),
    # Others: next to these names, below them, and of any characters.
    texts("cit_0129/.é\U0010ffff", 9),
    # The places where ranges are cut.
    st.builds("c{}_{}t_".format, st.integers(0, 5), st.integers(0, 12)),
    st.builds("img_{}".format, NUMBER),
    st.builds("{}/".format, texts("AB1", 2)),
)
"""Names in the folder, most of which match a pattern."""
MANY: tuple[Callable[[int], str], ...] = (
    "b/d/img_{}.tif".format,
    "b/d/img_{}".format,
    lambda i: f"b/d/c{i % 3}_{i % 5}t_{i}.tif",
    lambda i: f"b/d/c{i % 3}_{i % 5}t_",
    lambda i: f"b/d/{'ABC'[i % 3]}{i % 2}/f{i % 7:02d}{i:02d}.tif",
    lambda i: f"b/d/{'ABC'[i % 3]}{i % 2}/",
    lambda i: f"b/d/{'ABCD'[i % 4]}{i % 3}_x_{i}.tif",
    lambda i: f"b/d/{'ab_'[i % 3]}_{'ab_'[i % 2]}_x{i}.tif",
)
"""Names of many files, and names at which ranges are cut."""
KEYS = st.builds(
    lambda kinds, n, others: [kind(i) for kind in kinds for i in range(n)] + others,
    st.lists(st.sampled_from(MANY), max_size=3),
    st.integers(5, 150),
    st.lists(NAMES.map("b/d/{}".format), max_size=30),
)


@settings(deadline=None, max_examples=400)
@given(
    keys=KEYS,
    outside=st.lists(texts("cdi/_9", 6).map("b/{}".format), max_size=5),
    pattern=st.sampled_from(PATTERNS),
    whole_folder=st.booleans(),
    page_size=st.integers(1, 7),
    begins_at_key=st.booleans(),
)
def test_ranges_have_the_names_of_a_plain_listing(
    keys: list[str],
    outside: list[str],
    pattern: str,
    whole_folder: bool,
    page_size: int,
    begins_at_key: bool,
) -> None:
    page_size += begins_at_key  # a page of one key, which is the last one, shows nothing new
    scope, outline = scope_of(pattern, whole_folder=whole_folder)
    plain = listed(Memory(keys + outside, page_size, begins_at_key), None, scope)
    found = listed(Memory(keys + outside, page_size, begins_at_key), outline, scope)
    assert len(set(found)) == len(found)
    assert set(found) <= set(plain)
    if whole_folder:
        assert set(found) == set(plain)
    compiled = compile_pattern(pattern)

    def matching(names: list[str]) -> list[str]:
        return sorted(name for name in names if compiled.split(f"s3://{name}") is not None)

    assert matching(found) == matching(plain)


@settings(deadline=None, max_examples=300)
@given(
    n_keys=st.integers(30, 300),
    pattern=st.sampled_from(PATTERNS[:2]),
    page_size=st.integers(2, 9),
    # Two empty answers at the beginning are believed, since nothing else is known then.
    early_ends=st.frozensets(st.integers(2, 60), max_size=6),
    seed=st.integers(0, 10**6),
)
def test_answers_that_end_too_early_never_shorten_a_listing(
    n_keys: int, pattern: str, page_size: int, early_ends: frozenset[int], seed: int
) -> None:
    """The listing is whole, or an error: an empty last page may be anything but a listing."""
    chance = random.Random(seed)
    names = [f"b/d/img_{i}.tif" for i in range(n_keys)]
    names += [f"b/d/c{c}_{t}t_{z}.tif" for c in range(3) for t in range(4) for z in range(9)]
    names = chance.sample(names, len(names) * 3 // 4)
    scope, outline = scope_of(pattern, whole_folder=chance.random() < 0.5)
    whole = set(listed(Memory(names, page_size), outline, scope))
    memory = Memory(names, page_size, early_ends=early_ends)
    try:
        found = listed(memory, outline, scope)
    except ServerError:
        return
    if early_ends.isdisjoint(range(memory.n_requests + 1)):
        assert set(found) == whole
    compiled = compile_pattern(pattern)
    for name in whole - set(found):
        assert compiled.split(f"s3://{name}") is None, (name, sorted(early_ends))
    assert len(set(found)) == len(found)


def test_a_store_without_an_order_is_listed_plainly() -> None:
    """Of which the ranges would not have all names."""
    keys = [f"b/d/c{c}_{t}t_{z}.tif" for c in range(3) for t in range(1, 3) for z in range(30)]
    scope, outline = scope_of(PATTERNS[1], whole_folder=True)
    memory = Memory(keys, 5, order=lambda key: key[::-1])
    with pytest.raises(UnorderedListingError):
        listed(memory, outline, scope)
    assert set(listed(memory, None, scope)) == set(keys)


def test_a_store_that_repeats_a_page_is_not_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its names would be there twice, or without end."""
    keys = [f"b/d/img_{i}.tif" for i in range(300)]
    scope, outline = scope_of("s3://b/d/*", whole_folder=True)
    for known in (outline, None):
        with pytest.raises(StorageError, match=r"cannot list s3://b/d: .*same page again"):
            listed(Memory(keys, 9, repeats=True), known, scope)
    memory: Any = Memory(keys, 9, repeats=True)
    monkeypatch.setattr(Attempts, "make", lambda _, request: request(memory))
    store = Store(split_url("s3://b/d")[0])
    with pytest.raises(StorageError, match="same page again"):
        store.beginnings("b/d/", ".tif")


@pytest.mark.parametrize(
    "delimiting", ["is refused", "ends at its first character", "is ignored", "is in no order"]
)
def test_a_store_that_does_not_know_delimiters_is_listed_plainly(delimiting: str) -> None:
    """Nothing is left out by what its answers seem to say."""
    keys = [f"b/d/c{c}_{t}t_{z}.tif" for c in range(3) for t in range(9) for z in range(9)]
    scope, outline = scope_of(PATTERNS[1], whole_folder=False)
    found = listed(Memory(keys, 10, delimiting=delimiting), outline, scope)
    assert len(set(found)) == len(found)
    assert {key for key in keys if "_1t_" in key or "_2t_" in key} <= set(found)
