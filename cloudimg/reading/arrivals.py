"""Whether a header that was read before serves, where the bytes of its file are to be checked."""

from __future__ import annotations

from cloudimg.errors import ServerError
from cloudimg.reading.header_cache import OpenFile
from cloudimg.reading.headers import HeaderReader
from cloudimg.reading.transit import Reading
from cloudimg.storage import Blob


def is_settled(headers: HeaderReader, key: str, opened: OpenFile) -> bool:
    """Whether reading all of a file again would check none of its bytes that are not checked."""
    known = opened.arrival
    if not headers.transit.is_on or known.is_checked or known.md5 is None:
        return True
    data = opened.file.have(0, opened.size_bytes)
    if data is None:
        return False
    blob = Blob(data, 0, opened.size_bytes, opened.etag, known.md5)
    arrival = headers.transit.check(key, blob)
    if isinstance(arrival, Reading):
        return False
    opened.arrival = arrival
    return True


def compare_header(headers: HeaderReader, key: str, whole: Blob) -> None:
    """Compare a header that was read when the image was opened with the same bytes of the file.

    Raises
    ------
    ServerError
    """
    opened = headers.cached(key) if headers.transit.is_on else None
    if opened is None:
        return
    if opened.etag is None or opened.etag != whole.etag:
        return  # another version, or an unknown one
    data = memoryview(whole.data)
    for start, stop in opened.file.fetched_ranges():
        if opened.file.have(start, stop) != data[start:stop]:
            raise ServerError(
                f"the header of {opened.url} changed in transit: it was read twice, with different"
                " bytes. Check the network and the proxies between this machine and the store,"
                " then start over with overwrite=True",
                url=opened.url,
                byte_range=(start, stop),
            )
