"""Pages of listings of S3: the document itself, taken apart by a few regular expressions.

obstore shows the names of a page and nothing else of its document, and knows no delimiter but
``/``. It takes 4 µs of processor time a name, this takes 1, and the parser of botocore, which signs
and sends, 20.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import datetime
from urllib.parse import unquote_plus, urlsplit

from cloudimg.settings import settings
from cloudimg.storage.base import ARCHIVES, Entries, NotMappableError, Page
from cloudimg.storage.network import authorities, proxy_of
from cloudimg.storage.obstore_errors import translate
from cloudimg.storage.pages import (
    MOST_KEYS,
    NotTheListingError,
    archives,
    checked_page,
    wrong_page,
)
from cloudimg.storage.s3_options import S3Settings
from cloudimg.storage.versions import version_text

_DOCUMENT = re.compile(
    r"\s*(?:<\?xml[^>]*>\s*)?<ListBucketResult[\s>].*</ListBucketResult>\s*", re.DOTALL
)
_ANY_LISTING = re.compile(r"<(?:\w+:)?ListBucketResult")
_KEY, _SIZE, _ETAG, _MODIFIED = (
    re.compile(f"<{name}>([^<]*)</{name}>") for name in ("Key", "Size", "ETag", "LastModified")
)
_PLAIN_ETAG = re.compile('<ETag>("[^<"]*")</ETag>')
_CLASS = re.compile("<StorageClass>([^<]*)</StorageClass>")
_PREFIX = re.compile(r"<CommonPrefixes>\s*<Prefix>([^<]*)</Prefix>")
_ENTITY = re.compile("&(?:#x([0-9A-Fa-f]+)|#([0-9]+)|(lt|gt|amp|quot|apos));")
_ENTITIES = {"lt": "<", "gt": ">", "amp": "&", "quot": '"', "apos": "'"}
_HEAD = {
    name: re.compile(f"<{name}>([^<]*)</{name}>")
    for name in ("Name", "KeyCount", "IsTruncated", "NextContinuationToken", "EncodingType")
}


class S3Pages:
    """Requests pages of listings of one bucket.

    Parameters
    ----------
    options : S3Settings
    bucket : str
    display : callable
        Returns the URL of a key, for messages.
    hint : str
        Appended to messages where access is denied.
    """

    def __init__(
        self, options: S3Settings, bucket: str, display: Callable[[str], str], hint: str
    ) -> None:
        from botocore.httpsession import URLLib3Session

        limits = settings()
        self._options = options
        self._bucket = bucket
        self._display = display
        self._hint = hint
        self._url = options.endpoint + ("/" if options.virtual_hosted else f"/{bucket}")
        proxy = proxy_of(self._url)
        self._session = URLLib3Session(
            verify=options.ca_bundle or next(map(str, authorities()), True),
            proxies={} if proxy is None else {urlsplit(self._url).scheme: proxy},
            timeout=(limits.timeout_s, limits.timeout_s),
            max_pool_connections=limits.max_requests,
        )

    def page(self, prefix: str, after: str, token: str | None, delimiter: str) -> Page:
        """Request a page; see `Backend.list_page`.

        Raises
        ------
        StorageError
        NotMappableError
            If the document has another form than those that stores are known to send.
        """
        n = len(self._bucket) + 1
        more = {"continuation-token": token} if token else {"start-after": after[n:]}
        query = {
            "list-type": "2",
            "encoding-type": "url",
            "max-keys": str(MOST_KEYS),
            "prefix": prefix[n:],
            "delimiter": delimiter,
            **more,
        }
        url = self._display(prefix.rpartition("/")[0])
        document = self._answer({name: text for name, text in query.items() if text}, url)
        try:
            return self._taken_apart(document, prefix[n:])
        except NotTheListingError as exc:
            failure = wrong_page(exc, url)
        raise failure

    def _answer(self, query: dict[str, str], url: str) -> str:
        """The body of the answer to a request."""
        from botocore.auth import S3SigV4Auth
        from botocore.awsrequest import AWSRequest
        from botocore.credentials import Credentials
        from botocore.exceptions import BotoCoreError
        from urllib3.exceptions import HTTPError

        options = self._options
        # Streamed, because what is not is read in pieces of 1 KB.
        request = AWSRequest("GET", self._url, params=query, stream_output=True)
        if options.requester_pays:
            request.headers["x-amz-request-payer"] = "requester"
        if options.credentials is not None:
            given = options.credentials()
            signer = Credentials(
                given["access_key_id"], given["secret_access_key"], given.get("token")
            )
            S3SigV4Auth(signer, "s3", options.region).add_auth(request)
        try:
            response = self._session.send(request.prepare())
            body: bytes = response.raw.read()
            status, document = response.status_code, body.decode(errors="surrogateescape")
        except (BotoCoreError, HTTPError, OSError) as exc:
            reason = getattr(exc, "kwargs", {}).get("error", exc)
            answered = OSError(f"Error performing GET {self._url} - {type(exc).__name__}: {reason}")
        else:
            if status == 200:
                return document
            answered = OSError(f"status code: {status}, body: {document}")
        raise translate(answered, url, "read", self._hint)

    def _taken_apart(self, document: str, prefix: str) -> Page:
        if not _DOCUMENT.fullmatch(document):
            if not _ANY_LISTING.search(document[:MOST_KEYS]):
                problem = "the answer is not a listing, although its status is 200"
            elif document.rstrip().endswith("ListBucketResult>"):
                raise NotMappableError
            else:
                problem = "the answer breaks off"
            raise NotTheListingError(problem)
        head = {name: each.search(document) for name, each in _HEAD.items()}
        found = {name: _plain(match[1]) for name, match in head.items() if match is not None}
        is_encoded = found.get("EncodingType") == "url"
        names, sizes, etags = _columns(document)
        keys = [f"{self._bucket}/{key}" for key in _names(names, is_encoded=is_encoded)]
        entries = Entries(keys, list(map(int, sizes)), etags, _archives(document, len(keys)))
        prefixes = _names(_PREFIX.findall(document), is_encoded=is_encoded)
        n_keys = found.get("KeyCount", "")
        return checked_page(
            Page(
                entries,
                found.get("NextContinuationToken"),
                [f"{self._bucket}/{each}" for each in prefixes],
            ),
            self._bucket,
            prefix,
            name=found.get("Name"),
            n_keys=int(n_keys) if n_keys.isdecimal() else None,
            is_truncated={"true": True, "false": False}.get(found.get("IsTruncated", "")),
        )


def _names(texts: Sequence[str], *, is_encoded: bool) -> list[str]:
    plain = [_plain(text) if "&" in text else text for text in texts]
    if is_encoded:
        return [unquote_plus(text) if "%" in text or "+" in text else text for text in plain]
    return plain


def _plain(text: str) -> str:
    """A text without the entities of XML."""

    def character(entity: re.Match[str]) -> str:
        hexadecimal, decimal, name = entity.groups()
        if name:
            return _ENTITIES[name]
        return chr(int(hexadecimal, 16) if hexadecimal else int(decimal))

    return _ENTITY.sub(character, text)


def _columns(document: str) -> tuple[Sequence[str], Sequence[str], Sequence[str | None]]:
    """Names, sizes and versions of the objects of a page."""
    if "&quot;" in document:
        document = document.replace("&quot;", '"')
    names, sizes = _KEY.findall(document), _SIZE.findall(document)
    versions: Sequence[str | None] = _PLAIN_ETAG.findall(document)
    n_objects = document.count("<Contents>")
    if len(versions) != n_objects:
        versions = _versions(_ETAG.findall(document), _MODIFIED.findall(document))
    if not len(names) == len(sizes) == len(versions) == n_objects:
        raise NotMappableError
    return names, sizes, versions


def _archives(document: str, n_objects: int) -> Sequence[str | None]:
    """Storage classes of the objects in an archive; empty where none is."""
    if not any(f">{each}<" in document for each in ARCHIVES):
        return ()
    classes = _CLASS.findall(document)
    if len(classes) != n_objects:
        raise NotMappableError
    return archives(classes)


def _versions(etags: Sequence[str], times: Sequence[str]) -> Sequence[str | None]:
    if len(times) != len(etags):
        # Some stores leave out one of them.
        times, etags = (times, [""] * len(times)) if times else ([""] * len(etags), etags)
    return [
        version_text(_plain(etag), datetime.fromisoformat(time) if time else None)
        for etag, time in zip(etags, times, strict=True)
    ]
