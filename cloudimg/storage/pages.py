"""Pages of listings of s3 and gs through fsspec's filesystems, checked by what they state.

``find`` takes any answer with status 200 for a listing: an error document, HTML that a proxy sends
and a page of another bucket all become an empty last page.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from cloudimg.storage.base import Entry, is_aside
from cloudimg.storage.gcsfs_private import call
from cloudimg.storage.s3fs_private import call_s3
from cloudimg.storage.versions import version_of_details, version_text


@dataclass(frozen=True, slots=True)
class Page:
    """One answer to a request for a listing."""

    entries: list[Entry]
    token: str | None
    """Requests the next page; None for the last one."""
    problem: str | None = None
    """Why this is not the requested page."""


LAST_CHARACTER = "\U0010ffff"
"""Sorts after all other characters."""
_UNORDERED = "--x-s3"
"""End of the names of directory buckets, which list in no order and from no key on."""

Pager = Callable[[Any, str, str, str, str | None], Coroutine[Any, Any, Page]]
"""Requests a page from a filesystem: of a bucket, keys that begin with a prefix and come after a
key (or at it), with the token of the page before."""


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


async def _page_of_s3(fs: Any, bucket: str, prefix: str, after: str, token: str | None) -> Page:
    more = {"ContinuationToken": token} if token else {"StartAfter": after} if after else {}
    answer = await call_s3(fs, "list_objects_v2", Bucket=bucket, Prefix=prefix, **more)
    contents = answer.get("Contents") or []
    entries = [
        Entry(
            f"{bucket}/{item['Key']}",
            item.get("Size"),
            version_text(item.get("ETag"), item.get("LastModified")),
        )
        for item in contents
    ]
    is_truncated, next_token = answer.get("IsTruncated"), answer.get("NextContinuationToken")
    problem = foreign_key((entry.key for entry in entries), f"{bucket}/{prefix}")
    if answer.get("Name") is None or is_truncated is None:
        problem = "the answer is not a listing, although its status is 200"
    elif not _is_name_of(bucket, answer["Name"]):
        problem = f"the answer is a listing of {answer['Name']}"
    elif answer.get("KeyCount", len(entries)) != len(entries):
        problem = f"the answer has {len(entries)} keys and says that it has {answer['KeyCount']}"
    elif is_truncated and not next_token:
        problem = "the answer is not the last page and does not say where the next one begins"
    return Page(entries, next_token if is_truncated else None, problem)


def _is_name_of(bucket: str, name: str) -> bool:
    # The answer to an access point has its name, its alias or that of the bucket behind it. Ceph
    # omits the tenant of "tenant:bucket".
    is_alias = bucket.startswith("arn:") or bucket.endswith(("-s3alias", "--ol-s3"))
    return is_alias or name == bucket or name == bucket.rpartition(":")[2]


async def _page_of_gcs(fs: Any, bucket: str, prefix: str, after: str, token: str | None) -> Page:
    answer = await call(
        fs,
        "GET",
        f"b/{bucket}/o",
        prefix=prefix or None,
        startOffset=after or None,
        pageToken=token,
        maxResults=1000,
        json_out=True,
    )
    if not isinstance(answer, Mapping) or answer.get("kind") != "storage#objects":
        return Page([], None, "the answer is not a listing, although its status is 200")
    entries = [
        Entry(
            f"{bucket}/{item['name']}",
            int(item["size"]) if "size" in item else None,
            version_of_details(item),
        )
        for item in answer.get("items") or []
    ]
    problem = foreign_key((entry.key for entry in entries), f"{bucket}/{prefix}")
    return Page(entries, answer.get("nextPageToken"), problem)


def foreign_key(keys: Iterable[str], beginning: str) -> str | None:
    """The problem with a page that has keys with another beginning; None where it has none."""
    foreign = next((key for key in keys if not key.startswith(beginning)), None)
    return None if foreign is None else f"the answer lists {foreign}, which was not asked for"


_PAGERS: Mapping[str, Pager] = {"S3FileSystem": _page_of_s3, "GCSFileSystem": _page_of_gcs}
