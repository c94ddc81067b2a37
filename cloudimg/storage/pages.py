"""Pages of listings of s3 and gs through fsspec's filesystems, checked by what they state.

``find`` takes any answer with status 200 for a listing: an error document, HTML that a proxy sends
and a page of another bucket all become an empty last page.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any

from cloudimg.errors import ServerError
from cloudimg.storage.base import ARCHIVES, Entries, Page, is_aside
from cloudimg.storage.gcsfs_private import call
from cloudimg.storage.s3fs_private import call_s3
from cloudimg.storage.versions import version_of_details, version_text

MOST_KEYS = 1000
"""Names in a page; stores return no more."""
LAST_CHARACTER = "\U0010ffff"
"""Sorts after all other characters."""
_UNORDERED = "--x-s3"
"""End of the names of directory buckets, which list in no order and from no key on."""

Pager = Callable[[Any, str, str, str, str | None, str], Coroutine[Any, Any, Page]]
"""Requests a page from a filesystem: of a bucket, keys that begin with a prefix and come after a
key (or at it), with the token of the page before, and a delimiter. See `Backend.list_page`."""


class NotTheListingError(Exception):
    """An answer is not the page that was requested; its text says why. Never leaves storage."""


def wrong_page(problem: NotTheListingError, url: str) -> ServerError:
    """The error to raise for an answer that is not the page that was requested."""
    return ServerError(f"cannot list {url}: {problem}", url=url)


def pager(kind: type) -> Pager | None:
    """The pager for a class of filesystems, or for a class that it derives from."""
    return next((_PAGERS[base.__name__] for base in kind.mro() if base.__name__ in _PAGERS), None)


def is_ordered(bucket: str) -> bool:
    """Whether a bucket lists in the order of keys."""
    return not bucket.endswith(_UNORDERED)


def skipped_folder(
    first: str, last: str, n_parts: int | None, *, with_below: bool = False
) -> str | None:
    """The folder to skip after a page whose keys all lie in it, deeper than is of interest.

    Such as a copy beside the files. Keys are listed in order, so the rest of it can be skipped.

    Parameters
    ----------
    first, last : str
        Keys of a page.
    n_parts : int, optional
        Number of parts of the longest keys of interest; None for any.
    with_below : bool
        Whether deeper keys are listed, too; then only a folder that `is_aside` is skipped.
    """
    if n_parts is None:
        return None
    if with_below:
        return _aside_folder(first, last, n_parts)
    first_parts, last_parts = first.split("/"), last.split("/")
    if min(len(first_parts), len(last_parts)) <= n_parts:
        return None
    parts = last_parts[:n_parts]
    return "/".join(parts) if first_parts[:n_parts] == parts else None


def _aside_folder(first: str, last: str, n_parts: int) -> str | None:
    """The folder deeper than is of interest that `is_aside` and has all keys of a page."""
    parts = last.split("/")
    for n in range(n_parts, len(parts)):
        if is_aside(parts[n - 1]):
            folder = "/".join(parts[:n])
            return folder if first.startswith(f"{folder}/") else None
    return None


async def _page_of_s3(
    fs: Any, bucket: str, prefix: str, after: str, token: str | None, delimiter: str
) -> Page:
    more = {"ContinuationToken": token} if token else {"StartAfter": after} if after else {}
    more |= {"Delimiter": delimiter} if delimiter else {}
    request = {"Bucket": bucket, "Prefix": prefix, "MaxKeys": MOST_KEYS, **more}
    answer = await call_s3(fs, "list_objects_v2", **request)
    contents = answer.get("Contents") or []
    entries = Entries(
        [f"{bucket}/{item['Key']}" for item in contents],
        [item.get("Size") for item in contents],
        [version_text(item.get("ETag"), item.get("LastModified")) for item in contents],
        archives([item.get("StorageClass") for item in contents]),
    )
    prefixes = [f"{bucket}/{item['Prefix']}" for item in answer.get("CommonPrefixes") or ()]
    return checked_page(
        Page(entries, answer.get("NextContinuationToken"), prefixes),
        bucket,
        prefix,
        name=answer.get("Name"),
        n_keys=answer.get("KeyCount"),
        is_truncated=answer.get("IsTruncated"),
    )


def archives(classes: Sequence[str | None]) -> Sequence[str | None]:
    """Storage classes of the objects in an archive; empty where none is."""
    if ARCHIVES[0] not in classes and ARCHIVES[1] not in classes:
        return ()
    return [each if each in ARCHIVES else None for each in classes]


def checked_page(
    page: Page,
    bucket: str,
    prefix: str,
    *,
    name: str | None,
    n_keys: int | None,
    is_truncated: bool | None,
) -> Page:
    """A page of S3, if it is what was requested by what it says of itself.

    Parameters
    ----------
    page : Page
        As it was answered, with the token of the next one.
    bucket, prefix : str
        What was requested.
    name, n_keys, is_truncated
        ``Name``, ``KeyCount`` and ``IsTruncated`` of the answer; None where it has none. See
        https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html.

    Raises
    ------
    NotTheListingError
    """
    n_listed = len(page.entries) + len(page.prefixes)
    if name is None or is_truncated is None:
        problem: str | None = "the answer is not a listing, although its status is 200"
    elif not _is_name_of(bucket, name):
        problem = f"the answer is a listing of {name}"
    elif n_keys is not None and n_keys != n_listed:
        problem = f"the answer has {n_listed} keys and says that it has {n_keys}"
    elif is_truncated and not page.token:
        problem = "the answer is not the last page and does not say where the next one begins"
    else:
        problem = foreign_key((*page.entries.keys, *page.prefixes), f"{bucket}/{prefix}")
    if problem is not None:
        raise NotTheListingError(problem)
    return page if is_truncated else Page(page.entries, None, page.prefixes)


def _is_name_of(bucket: str, name: str) -> bool:
    # The answer to an access point has its name, its alias or that of the bucket behind it. Ceph
    # omits the tenant of "tenant:bucket".
    is_alias = bucket.startswith("arn:") or bucket.endswith(("-s3alias", "--ol-s3"))
    return is_alias or name == bucket or name == bucket.rpartition(":")[2]


async def _page_of_gcs(
    fs: Any, bucket: str, prefix: str, after: str, token: str | None, delimiter: str
) -> Page:
    answer = await call(
        fs,
        "GET",
        f"b/{bucket}/o",
        prefix=prefix or None,
        startOffset=after or None,
        pageToken=token,
        delimiter=delimiter or None,
        maxResults=MOST_KEYS,
        # A tenth of what else it says of each object.
        fields="kind,nextPageToken,prefixes,items(name,size,generation)",
        json_out=True,
    )
    if not isinstance(answer, Mapping) or answer.get("kind") != "storage#objects":
        raise NotTheListingError("the answer is not a listing, although its status is 200")
    items = answer.get("items") or []
    entries = Entries(
        [f"{bucket}/{item['name']}" for item in items],
        [int(item["size"]) if "size" in item else None for item in items],
        list(map(version_of_details, items)),
    )
    prefixes = [f"{bucket}/{each}" for each in answer.get("prefixes") or ()]
    problem = foreign_key((*entries.keys, *prefixes), f"{bucket}/{prefix}")
    if problem is not None:
        raise NotTheListingError(problem)
    return Page(entries, answer.get("nextPageToken"), prefixes)


def foreign_key(keys: Iterable[str], beginning: str) -> str | None:
    """The problem with a page that has keys with another beginning; None where it has none."""
    foreign = [key for key in keys if not key.startswith(beginning)]
    return f"the answer lists {foreign[0]}, which was not asked for" if foreign else None


_PAGERS: Mapping[str, Pager] = {"S3FileSystem": _page_of_s3, "GCSFileSystem": _page_of_gcs}
