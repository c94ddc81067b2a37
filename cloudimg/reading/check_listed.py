"""Whether a file is the one that the table of an image lists."""

from __future__ import annotations

from cloudimg.discovery.build_grid import short_etag
from cloudimg.errors import ChangedError
from cloudimg.reading.header_cache import OpenFile


def check_listed(opened: OpenFile, size_bytes: int, etag: int) -> None:
    """Check that a file has the version that a table lists.

    Parameters
    ----------
    opened : OpenFile
    size_bytes : int
        Size in the table, -1 if it has none.
    etag : int
        Digest of the ETag in the table, see `short_etag`; 0 if it has none.

    Raises
    ------
    ChangedError
        If it has another one.
    """
    if size_bytes not in (-1, opened.size_bytes):
        what = f"it has {opened.size_bytes} bytes, and {size_bytes} in the table"
    elif etag and opened.etag is not None and short_etag(opened.etag) != etag:
        what = f"its ETag, {opened.etag}, is not the one in the table"
    else:
        return
    raise ChangedError(
        f"{opened.url} is not the file that the table lists: {what}. Make the table again, such as"
        " by cloudimg.index, or leave sizes and ETags out of it to read files as they are",
        url=opened.url,
    )
