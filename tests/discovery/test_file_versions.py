"""Versions of files as digests: of one file, and of a listing."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cloudimg.discovery.build_grid import short_etag
from cloudimg.discovery.file_versions import file_version, versions_listed
from cloudimg.migration.journal.files_read import FilesRead

ETAGS = st.none() | st.text("0123456789abcdef-", min_size=1).map('"{}"'.format)
SIZES = st.none() | st.integers(0, 2**50)


@given(st.lists(st.tuples(ETAGS, SIZES), min_size=1))
def test_a_listing_gives_the_digests_of_its_files(
    files: list[tuple[str | None, int | None]],
) -> None:
    etags = np.array([short_etag(etag) for etag, _ in files], np.uint64)
    sizes = np.array([-1 if size is None else size for _, size in files], np.int64)
    for (etag, size), listed in zip(files, versions_listed(etags, sizes).tolist(), strict=True):
        known = etag is not None and size is not None
        assert listed == (file_version(etag, size) if known else 0)


@given(ETAGS, ETAGS, SIZES, SIZES)
def test_other_files_have_other_digests(
    etag: str | None, other_etag: str | None, size: int | None, other_size: int | None
) -> None:
    is_same = size == other_size and (etag == other_etag or size == 0)
    assert (file_version(etag, size) == file_version(other_etag, other_size)) == is_same


@given(st.dictionaries(st.integers(0, 300), st.integers(0, 2**64 - 1), min_size=1))
def test_the_files_of_a_record(versions: dict[int, int]) -> None:
    read = FilesRead.from_json(FilesRead.of(versions).to_json())
    rows, digests = read.arrays()
    assert dict(zip(rows.tolist(), digests.tolist(), strict=True)) == versions
    assert rows.tolist() == sorted(versions)
