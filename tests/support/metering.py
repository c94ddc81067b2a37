"""An S3 server on loopback that counts: every request, every byte, and when.

It runs in a process of its own, since a server that shares the client's interpreter lock would
disturb what it is there to time. ``Meter.start()`` spawns one and talks to it. By hand,
``python tests/support/metering.py --port 0 --latency-ms 30`` prints its endpoint in one line of
JSON.

What holds here:

- The server speaks the part of S3 that cloudimg has a right to use. Anything else, multipart
  uploads among it, is answered 501, so that a test sees it.
- Calls under ``/_meter/`` are the test's own: never logged, never delayed, never made to fail.
- Times are the server's monotonic clock. A request starts when all of it has arrived and ends when
  the last byte of its answer was handed to the kernel.
- One thread serves everything. Without latency even simultaneous requests are answered one after
  another, so ``round_trips`` and ``max_concurrent`` say something about clients only under a
  latency that is long against the time in which the client sends its requests.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import gc
import hashlib
import http.client
import json
import mmap
import os
import random
import re
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import formatdate
from functools import lru_cache, partial
from http import HTTPStatus
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qsl, quote, unquote, urlencode
from xml.etree import ElementTree
from xml.sax.saxutils import escape

REGION = "us-east-1"
MAX_KEYS = 1000
PIECE_BYTES = 1 << 20  # written at once: bounds what asyncio copies when the socket is full
LINK_PIECE_BYTES = 1 << 14  # of each answer in turn, where all pass one link
CONNECTION_PIECE_BYTES = 1 << 18  # of an answer at a time, where each connection has its limit
JOIN_BYTES = 1 << 16  # a body up to this goes out in one write with its head
HASH_ASIDE_BYTES = 1 << 20  # from here on md5 would stall the other connections noticeably

LogEntry = dict[str, Any]  # what becomes a Request at the client; the server fills it in as it goes


# What the client sees of the traffic


@dataclass(frozen=True, slots=True)
class Request:
    """One request, as the server saw it."""

    method: str
    bucket: str
    key: str
    """Decoded; empty for a request on the bucket."""
    query: dict[str, str]
    range: tuple[int, int | None] | None
    """As requested: it means ``data[start:stop]``, so a suffix is (-n, None)."""
    status: int
    """0 if no complete response was sent: stalled, reset, cut off by the client, or in progress."""
    bytes_sent: int
    """Of the body of the response."""
    bytes_received: int
    """Of the body of the request, after chunked encoding was removed."""
    t_start: float
    t_end: float

    @property
    def kind(self) -> str:
        """get and put (objects), list, head, delete (one or many), or other."""
        if self.method == "GET" and not self.key:
            return "list" if "list-type" in self.query else "other"
        if self.method == "POST":
            return "delete" if "delete" in self.query else "other"
        if self.method == "PUT" and not self.key:
            return "other"
        return self.method.lower()


@dataclass(frozen=True, slots=True)
class Traffic:
    """What happened in a ``with meter.measure()`` block; filled when the block ends."""

    requests: list[Request] = field(default_factory=list)

    def count(self, kind: str) -> int:
        return sum(request.kind == kind for request in self.requests)

    @property
    def gets(self) -> int:
        return self.count("get")

    @property
    def lists(self) -> int:
        return self.count("list")

    @property
    def heads(self) -> int:
        return self.count("head")

    @property
    def puts(self) -> int:
        return self.count("put")

    @property
    def bytes_sent(self) -> int:
        return sum(request.bytes_sent for request in self.requests)

    @property
    def round_trips(self) -> int:
        """The most requests that followed one another, each started after the one before ended."""
        count, free_at = 0, float("-inf")
        # The classic interval scheduling: whichever ends first leaves most room for others.
        for request in sorted(self.requests, key=lambda request: request.t_end):
            if request.t_start >= free_at:
                count, free_at = count + 1, request.t_end
        return count

    @property
    def max_concurrent(self) -> int:
        """The most requests that were under way at one moment."""
        # At one moment ends sort before starts: touching requests were not concurrent.
        steps = [(request.t_start, 1) for request in self.requests]
        steps += [(request.t_end, -1) for request in self.requests]
        most = running = 0
        for _, step in sorted(steps):
            running += step
            most = max(most, running)
        return most


# Objects and listings


@dataclass(frozen=True, slots=True)
class Stored:
    """One object, in memory or (`path`) mapped from a file when it is read."""

    size: int
    etag: str
    modified: float
    data: bytes = b""
    path: Path | None = None
    tags: Mapping[str, str] = field(default_factory=dict)

    def view(self, start: int, stop: int) -> memoryview:
        if self.path is None or not self.size:
            return memoryview(self.data)[start:stop]
        with self.path.open("rb") as file:
            # The view keeps the mapping alive, the mapping needs no open file.
            mapped = mmap.mmap(file.fileno(), self.size, access=mmap.ACCESS_READ)
        return memoryview(mapped)[start:stop]


class Bucket:
    """Objects by key, and the keys in S3's order (which is Python's: code points)."""

    def __init__(self, objects: Mapping[str, Stored] = {}, *, read_only: bool = False) -> None:
        self.objects = dict(objects)
        self.read_only = read_only
        self._sorted: list[str] | None = None

    def put(self, key: str, stored: Stored) -> None:
        if key not in self.objects:
            self._sorted = None
        self.objects[key] = stored

    def delete(self, key: str) -> None:
        if self.objects.pop(key, None) is not None:
            self._sorted = None

    def keys(self) -> list[str]:
        if self._sorted is None:
            self._sorted = sorted(self.objects)
        return self._sorted


@dataclass(slots=True)
class Page:
    """One answer to ListObjectsV2."""

    keys: list[str] = field(default_factory=list)
    prefixes: list[str] = field(default_factory=list)
    resume_at: str | None = None
    """The first key that was not looked at, where there are more."""


def list_page(keys: Sequence[str], at: int, prefix: str, delimiter: str, limit: int) -> Page:
    """The page that begins at position `at` of the sorted keys."""
    page = Page()
    for _ in range(limit):
        if at >= len(keys) or not keys[at].startswith(prefix):
            return page
        key = keys[at]
        cut = key.find(delimiter, len(prefix)) if delimiter else -1
        if cut < 0:
            page.keys.append(key)
            at += 1
        else:
            common = key[: cut + len(delimiter)]
            page.prefixes.append(common)
            after = common[:-1] + chr(min(ord(common[-1]) + 1, sys.maxunicode))
            at = bisect_left(keys, after, at)
    if limit and at < len(keys) and keys[at].startswith(prefix):
        page.resume_at = keys[at]
    return page


def buckets_in(root: Path) -> dict[str, Bucket]:
    """One read-only bucket for every folder in `root`, as the files are at this moment."""
    return {
        folder.name: Bucket(dict(_stored_files(folder)), read_only=True)
        for folder in root.resolve().iterdir()
        if folder.is_dir()
    }


def _stored_files(folder: Path) -> Iterator[tuple[str, Stored]]:
    for parent, _, names in os.walk(folder):
        for name in names:
            path = Path(parent, name)
            status = path.stat()
            # Reading an archive of many GB to hash it would take minutes, and no client may take
            # an ETag for the md5 of the content anyway: on S3 it is not after multipart uploads.
            mark = f"{path}\0{status.st_size}\0{status.st_mtime_ns}"
            stored = Stored(status.st_size, etag_of(mark.encode()), status.st_mtime, path=path)
            yield path.relative_to(folder).as_posix(), stored


def etag_of(data: bytes) -> str:
    return f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'


# HTTP messages


@dataclass(slots=True)
class Message:
    """A request as it came over the wire."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes = b""
    etag: str = ""
    """Of the body."""
    traits: set[str] = field(default_factory=set)
    """What kind of store it came to, see `TRAITS`."""

    @property
    def bucket(self) -> str:
        return self.path[1:].partition("/")[0]

    @property
    def key(self) -> str:
        return self.path[1:].partition("/")[2]


@dataclass(slots=True)
class Response:
    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | memoryview = b""

    def head(self, *, close: bool) -> bytes:
        lines = [f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        if self.status != HTTPStatus.NO_CONTENT:
            lines.append(f"Content-Length: {len(self.body)}")
        if close:
            lines.append("Connection: close")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


CODES = {
    400: "InvalidRequest",
    403: "AccessDenied",
    404: "NoSuchKey",
    412: "PreconditionFailed",
    416: "InvalidRange",
    429: "TooManyRequests",
    500: "InternalError",
    501: "NotImplemented",
    503: "SlowDown",
}


class S3Error(Exception):
    """An answer that is an error, in S3's words."""

    def __init__(self, status: int, code: str = "", **headers: str) -> None:
        super().__init__(status, code)
        self.status = status
        self.code = code or CODES.get(status, HTTPStatus(status).phrase.replace(" ", ""))
        self.headers = headers

    def response(self, resource: str) -> Response:
        text = (
            f"<Code>{self.code}</Code><Message>{self.code} from the meter</Message>"
            f"<Resource>{escape(resource)}</Resource><RequestId>meter</RequestId>"
        )
        response = xml("Error", text, self.status)
        response.headers |= {name.replace("_", "-"): value for name, value in self.headers.items()}
        return response


def xml(root: str, content: str, status: int = 200) -> Response:
    space = "" if root == "Error" else ' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
    text = f'<?xml version="1.0" encoding="UTF-8"?>\n<{root}{space}>{content}</{root}>'
    return Response(status, {"Content-Type": "application/xml"}, text.encode())


def parse_head(head: bytes) -> Message:
    first, *lines = head.decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ")
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    path, _, query = target.partition("?")
    if "%" in path:
        path = unquote(path)
    return Message(method, path, dict(parse_qsl(query, keep_blank_values=True)), headers)


def decode_chunks(data: bytes | bytearray) -> tuple[bytes, int] | None:
    """Take chunked coding off: the content and its coded length, or None where not all is here.

    HTTP's own chunked coding and S3's aws-chunked look alike but for the signature that may follow
    a chunk's size after a semicolon, and both end with trailers and an empty line.
    """
    spans, at, size = [], 0, -1
    while size:
        end = data.find(b"\r\n", at)
        if end < 0:
            return None
        size = int(bytes(data[at:end]).partition(b";")[0], 16)
        at = end + 2
        if size:
            spans.append((at, at + size))
            at += size + 2
    while (end := data.find(b"\r\n", at)) != at:
        if end < 0:
            return None
        at = end + 2
    return b"".join([bytes(data[start:stop]) for start, stop in spans]), at + 2


def parse_range(header: str | None) -> tuple[int, int | None] | None:
    """`bytes=a-b` as the slice it means. None for no range, or one that S3 ignores too."""
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", header or "")
    if not match or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:
        return (-int(last), None) if int(last) else (0, 0)
    if last and int(last) < int(first):
        return None
    return int(first), int(last) + 1 if last else None


# The store's behaviour


def first_name(message: Message) -> str:
    """The least name that the answer to a request for a listing can have; empty for others."""
    query = message.query
    if message.key or "list-type" not in query:
        return ""
    token = query.get("continuation-token")
    if token is not None:
        return base64.urlsafe_b64decode(token).decode()
    after = f"{query['start-after']}\0" if "start-after" in query else ""
    return max(after, query.get("prefix", ""))


def _emptied(text: str) -> str:
    """A listing without its keys, which says that it is the last page."""
    text = re.sub("<(Contents|CommonPrefixes)>.*?</\\1>", "", text, flags=re.DOTALL)
    return re.sub("<KeyCount>.*?</KeyCount>", "<KeyCount>0</KeyCount>", _ended(text))


def _ended(text: str) -> str:
    """A listing with its keys, which says that it is the last page."""
    text = re.sub("<NextContinuationToken>.*?</NextContinuationToken>", "", text)
    return text.replace("<IsTruncated>true<", "<IsTruncated>false<")


def _of_another_bucket(text: str) -> str:
    """A listing of another bucket: as long, of other names."""
    text = re.sub("<Name>.*?</Name>", "<Name>elsewhere</Name>", _ended(text))
    return re.sub("<Key>.*?</Key>", "<Key>another/file.tif</Key>", text)


ALTERED: Mapping[str, Callable[[str], str] | None] = {
    "body": None,
    "short": None,
    "short-whole": None,
    "short-range": None,
    "empty": _emptied,
    "ended": _ended,
    "other-bucket": _of_another_bucket,
    "half": lambda text: text[: len(text) // 2],
    "undeleted": None,
}
"""body: `Fault.body` instead, and the store does what was asked only with `apply`. short: half the
bytes, with a Content-Length of that half; the Content-Range is that of all. short-whole: so, with
status 200 and no Content-Range. short-range: so, with a Content-Range by which the file ends there.
undeleted: the answer to DeleteObjects says `Fault.code` of the first object. The others alter the
document of a listing.
"""
SUMS = ("content-md5", "x-amz-content-sha256")
"""Headers with checksums, beside those that begin with x-amz-checksum-."""
TRAITS = ("unconditional", "kms", "parts")
"""Kinds of stores, see `Fault.kind`."""


@dataclass(slots=True)
class Fault:
    """A rule that makes requests go wrong; the first rule that applies to a request decides."""

    match: str
    """A regular expression, searched in ``METHOD /bucket/key``; a listing is ``GET /bucket/``."""
    kind: str = "status"
    """status: answer `status`. reset: drop the connection without an answer. truncate: close it
    after half the body. stall: never answer. hold: answer after `Meter.release`. slow: drip the
    body over `seconds`. flip: another bit at `at`, in the body of a PUT or in that of the answer to
    a GET. The others are complete answers of HTTP with the status of the right one (`ALTERED`) or
    say what kind of store this is (`TRAITS`), and then the rules after them apply too.
    unconditional: If-Match and If-None-Match are ignored. kms: ETags look like MD5s and are none.
    parts: they are those of multipart uploads."""
    status: int = 503
    code: str = ""
    """Of the answer with `status`, S3's usual one for it without; for undeleted: of the object."""
    times: int | None = None
    """How often the rule fires before it is spent; None for always."""
    probability: float = 1.0
    skip: int = 0
    """Number of matching requests that pass first."""
    per_second: float | None = None
    """Only requests beyond so many a second, of which `burst` may come at once."""
    burst: int = 1
    seconds: float = 2.0
    apply: bool = False
    """For status, reset, stall, hold and body: whether the store carries out the request, and at
    once. Without, a request that is held is carried out when it is released."""
    body: str = ""
    """For kind body: all that is answered, with status 200."""
    begins_at: str = ""
    """Only listings of which all names would come at or after this key."""
    at: int | None = None
    """For flip: which byte of the body; the middle one without."""
    unchecked: bool = False
    """For flip: whether the store ignores the checksums that came with a PUT."""
    header: str = ""
    """Only requests with a header like this; a regular expression, searched in ``name: value``."""
    without: str = ""
    """Only requests without a header like this."""
    allowed: float = field(init=False)
    """Requests that `per_second` allows now, as of `allowed_at`."""
    allowed_at: float = field(init=False)

    KINDS = ("status", "reset", "truncate", "stall", "hold", "slow", "flip", *ALTERED, *TRAITS)

    def __post_init__(self) -> None:
        if self.kind not in self.KINDS:
            raise ValueError(f"kind of fault {self.kind!r} is none of {self.KINDS}")
        re.compile(self.match)
        self.allowed, self.allowed_at = float(self.burst), time.monotonic()

    def fires(self, message: Message, draw: Callable[[], float]) -> bool:
        text = f"{message.method} /{message.bucket}/{message.key}"
        if self.times == 0 or not re.search(self.match, text):
            return False
        if self.begins_at and first_name(message) < self.begins_at:
            return False
        if self.header and not has_header(message, self.header):
            return False
        if self.without and has_header(message, self.without):
            return False
        if self.skip:
            self.skip -= 1
            return False
        if self.probability < 1 and draw() >= self.probability:
            return False
        if self.per_second and self._is_within_rate(self.per_second):
            return False
        if self.times:
            self.times -= 1
        return True

    def _is_within_rate(self, per_second: float) -> bool:
        now = time.monotonic()
        gained = per_second * (now - self.allowed_at)
        self.allowed, self.allowed_at = min(self.burst, self.allowed + gained), now
        if self.allowed < 1:
            return False
        self.allowed -= 1
        return True


def has_header(message: Message, pattern: str) -> bool:
    lines = (f"{name}: {value}" for name, value in message.headers.items())
    return any(re.search(pattern, line, re.IGNORECASE) for line in lines)


class Server:
    """Everything that outlives a connection: objects, log, latency, faults."""

    def __init__(self, buckets: dict[str, Bucket], latency_s: float) -> None:
        self.buckets = buckets
        self.latency_s = latency_s
        self.link_bytes_per_s: float | None = None
        self.connection_bytes_per_s: float | None = None
        self._link_free_at = 0.0
        self.faults: list[Fault] = []
        self.random = random.Random(0)
        self.log: list[LogEntry] = []
        self.held: list[tuple[Message, Callable[[], None]]] = []
        """Requests that wait for their release, and what is done then."""

    def link_delay_s(self, n_bytes: int) -> float:
        """Seconds until the link that all share has carried so many bytes more."""
        if self.link_bytes_per_s is None:
            return 0.0
        now = time.monotonic()
        self._link_free_at = max(self._link_free_at, now) + n_bytes / self.link_bytes_per_s
        return self._link_free_at - now

    def enter(self, message: Message) -> LogEntry:
        """Begin the request's line in the log."""
        entry: LogEntry = {
            "method": message.method,
            "bucket": message.bucket,
            "key": message.key,
            "query": message.query,
            "range": parse_range(message.headers.get("range")),
            "status": 0,
            "bytes_sent": 0,
            "bytes_received": len(message.body),
            "t_start": time.monotonic(),
            "t_end": None,
        }
        self.log.append(entry)
        return entry

    def fault_for(self, message: Message) -> Fault | None:
        for fault in self.faults:
            if fault.fires(message, self.random.random):
                if fault.kind not in TRAITS:
                    return fault
                message.traits.add(fault.kind)
        return None

    def answer(self, message: Message) -> Response:
        """Carry out a request, as the kind of store that the traits say."""
        if "unconditional" in message.traits:
            for name in ("if-match", "if-none-match", "x-amz-copy-source-if-match"):
                message.headers.pop(name, None)
        suffix = "-3" if "parts" in message.traits else ""
        if not message.traits & {"kms", "parts"}:
            return self.right_answer(message)
        for name in ("if-match", "x-amz-copy-source-if-match"):
            if name in message.headers:
                expected = message.headers[name].strip('"').removesuffix(suffix)
                message.headers[name] = expected[::-1]
        response = self.right_answer(message)
        if "ETag" in response.headers:
            etag = response.headers["ETag"].strip('"')
            response.headers["ETag"] = f'"{etag[::-1]}{suffix}"'
        elif not message.key:
            etags = re.compile(rb'(<ETag>"?)([0-9a-f]{32})')
            listed = etags.sub(lambda m: m[1] + m[2][::-1] + suffix.encode(), bytes(response.body))
            response.body = listed
        return response

    def right_answer(self, message: Message) -> Response:
        operations = OBJECT_OPERATIONS if message.key else BUCKET_OPERATIONS
        # A parameter that is not known makes another operation of it, which is not ours to guess.
        others = {name for name in message.query.keys() - PLAIN_PARAMETERS if name[:2] != "X-"}
        operation = operations.get((message.method, "&".join(others)))
        if operation is None:
            return S3Error(501).response(message.path)
        try:
            return operation(self, message)
        except S3Error as error:
            return error.response(message.path)
        except (ValueError, ElementTree.ParseError):
            return S3Error(400).response(message.path)
        except OSError:  # a file under --root is gone
            return S3Error(500).response(message.path)

    def bucket(self, message: Message, *, write: bool = False) -> Bucket:
        bucket = self.buckets.get(message.bucket)
        if bucket is None:
            raise S3Error(404, "NoSuchBucket")
        if write and bucket.read_only:
            raise S3Error(403)
        return bucket

    def get_object(self, message: Message) -> Response:
        stored = self.bucket(message).objects.get(message.key)
        if stored is None:
            raise S3Error(404)
        if message.headers.get("if-match", "*") not in ("*", stored.etag, stored.etag.strip('"')):
            raise S3Error(412)
        headers = {
            "Accept-Ranges": "bytes",
            "Content-Type": "binary/octet-stream",
            "ETag": stored.etag,
            "Last-Modified": formatdate(stored.modified, usegmt=True),
        }
        requested = parse_range(message.headers.get("range"))
        if requested is None:
            return Response(200, headers, stored.view(0, stored.size))
        start, stop, _ = slice(*requested).indices(stored.size)
        if start >= stop:
            raise S3Error(416, Content_Range=f"bytes */{stored.size}")
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{stored.size}"
        return Response(206, headers, stored.view(start, stop))

    def put_object(self, message: Message) -> Response:
        bucket = self.bucket(message, write=True)
        if "x-amz-copy-source" in message.headers:
            return self.copy_object(message, bucket)
        decoded = message.headers.get("x-amz-decoded-content-length")
        if decoded is not None and int(decoded) != len(message.body):
            raise S3Error(400, "IncompleteBody")
        before = bucket.objects.get(message.key)
        if message.headers.get("if-none-match") == "*" and before is not None:
            raise S3Error(412)
        expected = message.headers.get("if-match")
        if expected is not None and before is None:
            raise S3Error(404)
        if before is not None and expected not in (None, "*", before.etag, before.etag.strip('"')):
            raise S3Error(412)
        check_sums(message)
        stored = Stored(len(message.body), message.etag, time.time(), message.body)
        bucket.put(message.key, stored)
        return Response(200, {"ETag": stored.etag})

    def copy_object(self, message: Message, bucket: Bucket) -> Response:
        """Copy an object with its tags, on the conditions that S3 has for both."""
        name, _, key = unquote(message.headers["x-amz-copy-source"]).lstrip("/").partition("/")
        source = self.buckets[name].objects.get(key) if name in self.buckets else None
        if source is None:
            raise S3Error(404)
        expected = message.headers.get("x-amz-copy-source-if-match", "*")
        if expected not in ("*", source.etag, source.etag.strip('"')):
            raise S3Error(412)
        if message.headers.get("if-none-match") == "*" and message.key in bucket.objects:
            raise S3Error(412)
        bucket.put(message.key, replace(source, modified=time.time()))
        return xml("CopyObjectResult", f"<ETag>{escape(source.etag)}</ETag>")

    def get_tags(self, message: Message) -> Response:
        stored = self.bucket(message).objects.get(message.key)
        if stored is None:
            raise S3Error(404)
        tags = "".join(
            f"<Tag><Key>{escape(name)}</Key><Value>{escape(value)}</Value></Tag>"
            for name, value in stored.tags.items()
        )
        return xml("Tagging", f"<TagSet>{tags}</TagSet>")

    def put_tags(self, message: Message) -> Response:
        bucket = self.bucket(message, write=True)
        stored = bucket.objects.get(message.key)
        if stored is None:
            raise S3Error(404)
        texts = [each.text or "" for each in ElementTree.fromstring(message.body).iter()
                 if each.tag.endswith(("Key", "Value"))]  # fmt: skip
        tags = dict(zip(texts[::2], texts[1::2], strict=True))
        bucket.put(message.key, replace(stored, tags=tags))
        return Response(200)

    def delete_object(self, message: Message) -> Response:
        bucket = self.bucket(message, write=True)
        stored, expected = bucket.objects.get(message.key), message.headers.get("if-match", "*")
        if stored and expected not in ("*", stored.etag, stored.etag.strip('"')):
            raise S3Error(412)
        bucket.delete(message.key)
        return Response(204)

    def delete_objects(self, message: Message) -> Response:
        bucket = self.bucket(message, write=True)
        done = []
        for element in ElementTree.fromstring(message.body).iter():
            if element.tag.endswith("Key"):
                bucket.delete(element.text or "")
                done.append(f"<Deleted><Key>{escape(element.text or '')}</Key></Deleted>")
        return xml("DeleteResult", "".join(done))

    def create_bucket(self, message: Message) -> Response:
        self.buckets.setdefault(message.bucket, Bucket())
        return Response(200, {"Location": f"/{message.bucket}"})

    def head_bucket(self, message: Message) -> Response:
        self.bucket(message)
        return Response(200, {"x-amz-bucket-region": REGION})

    def locate_bucket(self, message: Message) -> Response:
        self.bucket(message)
        return xml("LocationConstraint", "")  # which is how S3 says us-east-1

    def list_objects(self, message: Message) -> Response:
        bucket, query = self.bucket(message), message.query
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        keys, limit = bucket.keys(), min(int(query.get("max-keys", MAX_KEYS)), MAX_KEYS)
        token = query.get("continuation-token")
        if token is not None:
            at = bisect_left(keys, base64.urlsafe_b64decode(token).decode())
        else:
            after = bisect_right(keys, query["start-after"]) if "start-after" in query else 0
            at = max(bisect_left(keys, prefix), after)
        page = list_page(keys, at, prefix, delimiter, limit)
        return xml("ListBucketResult", _listing(message, bucket, page, limit))

    def control(self, message: Message) -> Response:
        """Do what the test itself asks for, under /_meter/."""
        command, _, rest = message.path.removeprefix("/_meter/").partition("/")
        name, _, key = rest.partition("/")
        match message.method, command:
            case "POST", "reset":
                self.log = []
            case "GET", "log":
                now = time.monotonic()
                entries = [entry | {"t_end": entry["t_end"] or now} for entry in self.log]
                return Response(200, {}, json.dumps(entries).encode())
            case "POST", "latency":
                self.latency_s = float(message.query["ms"]) / 1000
            case "POST", "link":
                self.link_bytes_per_s = float(message.query["bytes_per_s"]) or None
            case "POST", "connection":
                self.connection_bytes_per_s = float(message.query["bytes_per_s"]) or None
            case "POST", "faults":
                self.faults = [Fault(**rule) for rule in json.loads(message.body)]
                self.random.seed(0)
            case "POST", "release":
                waiting, self.held = self.held, []
                for _, go_on in waiting:
                    go_on()
            case "GET", "held":
                waiting_for = [f"{m.method} {m.path}" for m, _ in self.held]
                return Response(200, {}, json.dumps(waiting_for).encode())
            case "PUT", "objects":
                bucket = self.buckets.setdefault(name, Bucket())
                if key:
                    stored = Stored(len(message.body), message.etag, time.time(), message.body)
                    bucket.put(key, stored)
            case "POST", "copies":
                bucket = self.buckets[name]
                for copy in message.body.decode().split("\n"):
                    bucket.put(copy, bucket.objects[key])
                gc.freeze()  # a million objects looked through again would be pauses in the timing
            case "DELETE", "objects" if key:
                self.buckets[name].delete(key)
            case "DELETE", "objects":
                self.buckets.pop(name, None)
            case _:
                return Response(404, {}, b"no such control call")
        return Response(200)


def _listing(message: Message, bucket: Bucket, page: Page, limit: int) -> str:
    encoded = message.query.get("encoding-type") == "url"
    text: Callable[[str], str] = quote if encoded else escape
    parts = [f"<Name>{message.bucket}</Name><MaxKeys>{limit}</MaxKeys>"]
    parts += ["<EncodingType>url</EncodingType>"] if encoded else []
    for tag, name in (
        ("Prefix", "prefix"),
        ("Delimiter", "delimiter"),
        ("StartAfter", "start-after"),
    ):
        parts.append(f"<{tag}>{text(message.query.get(name, ''))}</{tag}>")
    parts.append(f"<KeyCount>{len(page.keys) + len(page.prefixes)}</KeyCount>")
    parts.append(f"<IsTruncated>{'true' if page.resume_at is not None else 'false'}</IsTruncated>")
    if page.resume_at is not None:
        token = base64.urlsafe_b64encode(page.resume_at.encode()).decode()
        parts.append(f"<NextContinuationToken>{token}</NextContinuationToken>")
    for key in page.keys:
        stored = bucket.objects[key]
        parts.append(
            f"<Contents><Key>{text(key)}</Key><LastModified>{_iso_time(stored.modified)}</LastModified>"
            f"<ETag>{escape(stored.etag)}</ETag><Size>{stored.size}</Size>"
            "<StorageClass>STANDARD</StorageClass></Contents>"
        )
    for common in page.prefixes:
        parts.append(f"<CommonPrefixes><Prefix>{text(common)}</Prefix></CommonPrefixes>")
    return "".join(parts)


@lru_cache(4096)
def _iso_time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def shortened(kind: str, right: Response) -> Response:
    """Half of an answer's bytes; see `ALTERED`."""
    headers, n = dict(right.headers), len(right.body) // 2
    content_range = re.match(r"bytes (\d+)-", headers.get("Content-Range", ""))
    if kind == "short-whole":
        headers.pop("Content-Range", None)
    elif kind == "short-range" and content_range is not None:
        start = int(content_range[1])
        headers["Content-Range"] = f"bytes {start}-{start + n - 1}/{start + n}"
    status = 200 if kind == "short-whole" else right.status
    return Response(status, headers, right.body[:n])


def flipped(body: bytes | memoryview, at: int | None) -> bytes:
    """The same bytes but for one bit."""
    changed = bytearray(body)
    if changed:
        changed[len(changed) // 2 if at is None else at] ^= 0x10
    return bytes(changed)


def check_sums(message: Message) -> None:
    """Compare a body with the checksums in its headers, as S3 does; those of trailers are not."""
    body, headers = message.body, message.headers
    sums = {
        "content-md5": bytes.fromhex(message.etag.strip('"')),
        "x-amz-checksum-crc32": zlib.crc32(body).to_bytes(4, "big"),
        "x-amz-checksum-sha1": hashlib.sha1(body, usedforsecurity=False).digest(),
        "x-amz-checksum-sha256": hashlib.sha256(body).digest(),
    }
    for name, value in sums.items():
        if name in headers and base64.b64decode(headers[name]) != value:
            raise S3Error(400, "BadDigest")
    signed = headers.get("x-amz-content-sha256", "")
    if re.fullmatch("[0-9a-f]{64}", signed) and signed != sums["x-amz-checksum-sha256"].hex():
        raise S3Error(400, "XAmzContentSHA256Mismatch")


def received_flipped(message: Message, fault: Fault) -> Message:
    """A PUT as it arrives with another bit."""
    body = flipped(message.body, fault.at)
    headers = dict(message.headers)
    if fault.unchecked:
        for name in list(headers):
            if name.startswith("x-amz-checksum-") or name in SUMS:
                del headers[name]
    return replace(message, body=body, etag=etag_of(body), headers=headers)


def altered(fault: Fault, right: Response) -> Response:
    """A complete answer in place of the right one."""
    if fault.kind.startswith("short"):
        return shortened(fault.kind, right)
    if fault.kind == "undeleted":
        error = rf"<Error>\1<Code>{fault.code}</Code><Message>still there</Message></Error>"
        text = re.sub("<Deleted>(.*?)</Deleted>", error, bytes(right.body).decode(), count=1)
        return Response(right.status, right.headers, text.encode())
    alter = ALTERED[fault.kind]
    assert alter is not None
    return Response(right.status, right.headers, alter(bytes(right.body).decode()).encode())


Operation = Callable[[Server, Message], Response]
PLAIN_PARAMETERS = {"x-id", "prefix", "delimiter", "continuation-token", "start-after"}
PLAIN_PARAMETERS |= {"max-keys", "encoding-type", "fetch-owner"}
OBJECT_OPERATIONS: dict[tuple[str, str], Operation] = {
    ("GET", ""): Server.get_object,
    ("HEAD", ""): Server.get_object,
    ("PUT", ""): Server.put_object,
    ("DELETE", ""): Server.delete_object,
    ("GET", "tagging"): Server.get_tags,
    ("PUT", "tagging"): Server.put_tags,
}
BUCKET_OPERATIONS: dict[tuple[str, str], Operation] = {
    ("GET", "list-type"): Server.list_objects,
    ("GET", "location"): Server.locate_bucket,
    ("HEAD", ""): Server.head_bucket,
    ("POST", "delete"): Server.delete_objects,
    ("PUT", ""): Server.create_bucket,
}


# The connection


class Connection(asyncio.Protocol):
    """HTTP/1.1 with keep-alive, one request at a time; what arrives meanwhile waits in the buffer.

    Written on the bare protocol because aiohttp's handlers cost several times as much a request.
    """

    transport: asyncio.Transport

    def __init__(self, server: Server) -> None:
        self.server = server
        self.loop = asyncio.get_running_loop()
        self.buffer = bytearray()
        self.head: Message | None = None  # arrived without all of its body
        self.busy = False
        self.entry: LogEntry = {}
        self.body = memoryview(b"")  # what is still to be sent
        self.sending = self.paused = self.close = False
        self.piece_bytes, self.pause_s, self.has_crossed = PIECE_BYTES, 0.0, False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        # With 0 a resume_writing means that the kernel took every byte: the end of an answer.
        transport.set_write_buffer_limits(high=0)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.busy and self.entry.get("t_end") is None:
            self.entry |= {"t_end": time.monotonic(), "status": 0}

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        self.advance()

    def advance(self) -> None:
        """Take up the next request, if one has arrived and none is being answered."""
        while not self.busy and not self.transport.is_closing():
            try:
                message = self.take_message()
            except ValueError:
                self.transport.write(S3Error(400).response("").head(close=True))
                self.transport.close()
                return
            if message is None:
                return
            self.busy = True
            if len(message.body) > HASH_ASIDE_BYTES:
                future = self.loop.run_in_executor(None, etag_of, message.body)
                future.add_done_callback(partial(self.hashed, message))
            else:
                self.begin(message, etag_of(message.body) if message.body else EMPTY_ETAG)

    def hashed(self, message: Message, etag: asyncio.Future[str]) -> None:
        self.begin(message, etag.result())

    def take_message(self) -> Message | None:
        if self.head is None:
            end = self.buffer.find(b"\r\n\r\n")
            if end < 0:
                return None
            self.head = parse_head(bytes(self.buffer[:end]))
            del self.buffer[: end + 4]
            if self.head.headers.get("expect", "").lower() == "100-continue":
                self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = self.take_body(self.head.headers)
        if body is None:
            return None
        message, self.head = self.head, None
        message.body = body
        return message

    def take_body(self, headers: dict[str, str]) -> bytes | None:
        if headers.get("transfer-encoding", "").lower() == "chunked":
            decoded = decode_chunks(self.buffer)
            if decoded is None:
                return None
            body, used = decoded
        else:
            used = int(headers.get("content-length", 0))
            if len(self.buffer) < used:
                return None
            with memoryview(self.buffer) as view:
                body = bytes(view[:used])
        del self.buffer[:used]
        if headers.get("x-amz-content-sha256", "").startswith("STREAMING-"):
            decoded = decode_chunks(body)
            if decoded is None:
                raise ValueError("aws-chunked body without an end")
            body = decoded[0]
        return body

    def begin(self, message: Message, etag: str) -> None:
        message.etag = etag
        self.close = message.headers.get("connection", "").lower() == "close"
        if message.path.startswith("/_meter/"):
            self.entry = {"bytes_sent": 0}
            try:
                response = self.server.control(message)
            except (KeyError, TypeError, ValueError, re.error) as error:
                response = Response(400, {}, repr(error).encode())
            self.send(message, response)
            return
        self.entry = self.server.enter(message)
        if self.server.latency_s:
            self.loop.call_later(self.server.latency_s, self.respond, message)
        else:
            self.respond(message)

    def respond(self, message: Message) -> None:
        """Answer, or go wrong as a rule says. The store acts even where the client has left."""
        fault = self.server.fault_for(message)
        if fault is None:
            self.send(message, self.server.answer(message))
        elif fault.kind == "status":
            if fault.apply:
                self.server.answer(message)
            self.send(message, S3Error(fault.status, fault.code).response(message.path))
        elif fault.kind in ("reset", "stall"):
            if fault.apply:
                self.server.answer(message)
            if fault.kind == "reset":
                self.reset()
        elif fault.kind == "hold":
            # The store acts at the release, even where the client has left by then.
            right = self.server.answer(message) if fault.apply else None
            go_on = partial(self.go_on, message, right)
            self.server.held.append((message, go_on))
        elif fault.kind == "flip" and message.method == "PUT":
            self.send(message, self.server.answer(received_flipped(message, fault)))
        elif fault.kind == "flip":
            right = self.server.answer(message)
            right.body = flipped(right.body, fault.at)
            self.send(message, right)
        elif fault.kind == "body":
            if fault.apply:
                self.server.answer(message)
            instead = Response(200, {"Content-Type": "application/xml"}, fault.body.encode())
            self.send(message, instead)
        elif fault.kind in ALTERED:
            self.send(message, altered(fault, self.server.answer(message)))
        else:
            self.send(message, self.server.answer(message), fault)

    def go_on(self, message: Message, right: Response | None) -> None:
        self.send(message, right or self.server.answer(message))

    def reset(self) -> None:
        # Without lingering the kernel sends RST in place of an orderly FIN.
        sock = self.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def send(self, message: Message, response: Response, fault: Fault | None = None) -> None:
        if self.transport.is_closing():
            return
        self.entry["status"] = response.status
        head = response.head(close=self.close)
        body = memoryview(b"" if message.method == "HEAD" else response.body)
        self.piece_bytes, self.pause_s = PIECE_BYTES, 0.0
        if fault and fault.kind == "truncate":
            body, self.close = body[: len(body) // 2], True
        elif fault and fault.kind == "slow":
            self.piece_bytes, self.pause_s = len(body) // 16 + 1, fault.seconds / 16
        elif self.server.link_bytes_per_s:
            self.piece_bytes = LINK_PIECE_BYTES
        elif self.server.connection_bytes_per_s:
            self.piece_bytes = CONNECTION_PIECE_BYTES
            self.pause_s = CONNECTION_PIECE_BYTES / self.server.connection_bytes_per_s
        elif len(body) <= JOIN_BYTES:
            self.entry["bytes_sent"] = len(body)
            head, body = head + body, body[:0]
        self.body, self.sending = body, True
        self.transport.write(head)
        self.pump()

    def pump(self) -> None:
        """Send the body as fast as the client takes it, or as slowly as a fault wants."""
        while self.body and not self.paused and not self.transport.is_closing():
            piece = self.body[: self.piece_bytes]
            if not self.has_crossed and (wait_s := self.server.link_delay_s(len(piece))):
                self.has_crossed = True
                self.loop.call_later(wait_s, self.pump)
                return
            self.has_crossed = False
            piece, self.body = self.body[: self.piece_bytes], self.body[self.piece_bytes :]
            self.entry["bytes_sent"] += len(piece)
            self.transport.write(piece)
            if self.pause_s and self.body:
                self.loop.call_later(self.pause_s, self.pump)
                return
        if self.sending and not self.body and not self.paused:
            self.finish()

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        self.pump()

    def finish(self) -> None:
        self.entry["t_end"] = time.monotonic()
        self.sending = self.busy = False
        if self.close:
            self.transport.close()
        else:
            self.advance()


EMPTY_ETAG = etag_of(b"")


async def serve(
    port: int, latency_s: float, root: Path | None, *, until_stdin_closes: bool
) -> None:
    server = Server(buckets_in(root) if root else {}, latency_s)
    gc.freeze()
    loop = asyncio.get_running_loop()
    listener = await loop.create_server(lambda: Connection(server), "127.0.0.1", port, backlog=1024)
    address, port = listener.sockets[0].getsockname()
    print(json.dumps({"endpoint": f"http://{address}:{port}"}), flush=True)
    ended = asyncio.Event()
    if until_stdin_closes:
        loop.add_reader(sys.stdin, ended.set)
    await ended.wait()


# The client's side


class Child:
    """A server in a process of its own that says where it listens in one line of JSON.

    It watches its standard input and ends when that closes, so none is left behind, however the
    tests end.
    """

    def __init__(
        self, arguments: Iterable[str], *, cwd: Path | None = None, timeout_s: float = 60
    ) -> None:
        self.process = subprocess.Popen(
            [sys.executable, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=cwd,
            start_new_session=True,  # Ctrl-C is for pytest, which then stops the servers
        )
        assert self.process.stdout is not None
        alarm = threading.Timer(timeout_s, self.process.kill)
        alarm.start()
        line = self.process.stdout.readline()
        alarm.cancel()
        if not line:
            self.stop()
            raise RuntimeError(f"{arguments}: no endpoint after {timeout_s} s, see stderr")
        self.endpoint: str = json.loads(line)["endpoint"]

    def stop(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()


class Meter:
    """A metering server in another process, and the calls to steer it."""

    def __init__(self, child: Child) -> None:
        self._child = child
        self.endpoint = child.endpoint

    @classmethod
    def start(cls, latency_ms: float = 0, root: Path | None = None) -> Self:
        arguments = [str(Path(__file__).resolve()), "--until-stdin-closes"]
        arguments += ["--latency-ms", str(latency_ms)]
        arguments += ["--root", str(root.resolve())] if root else []
        return cls(Child(arguments))

    def stop(self) -> None:
        self._child.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    @property
    def storage_options(self) -> dict[str, Any]:
        """For fsspec's s3fs."""
        client = {"endpoint_url": self.endpoint, "region_name": REGION}
        return {"key": "x", "secret": "y", "client_kwargs": client}

    def create(self, bucket: str) -> None:
        self._call("PUT", f"objects/{quote(bucket)}/")

    def drop(self, bucket: str) -> None:
        self._call("DELETE", f"objects/{quote(bucket)}/")

    def put(self, bucket: str, key: str, data: bytes) -> None:
        """Put an object there unseen: not logged, delayed or made to fail. Creates the bucket."""
        self._call("PUT", f"objects/{quote(bucket)}/{quote(key)}", data)

    def fill(self, bucket: str, keys: Sequence[str], data: bytes) -> None:
        """Put the same bytes under many keys at once; they are held once."""
        self.put(bucket, keys[0], data)
        self._call("POST", f"copies/{quote(bucket)}/{quote(keys[0])}", "\n".join(keys).encode())

    def delete(self, bucket: str, key: str) -> None:
        self._call("DELETE", f"objects/{quote(bucket)}/{quote(key)}")

    def reset(self) -> None:
        """Empty the log; latency and faults stay."""
        self._call("POST", "reset")

    def log(self) -> list[Request]:
        """Every request since the last reset, by start."""
        entries = json.loads(self._call("GET", "log"))
        return [
            Request(**entry | {"range": entry["range"] and tuple(entry["range"])})
            for entry in entries
        ]

    def latency(self, ms: float) -> None:
        self._call("POST", "latency?" + urlencode({"ms": ms}))

    def link(self, bytes_per_s: float | None) -> None:
        """Make all bodies pass one link; None for one without a limit."""
        self._call("POST", "link?" + urlencode({"bytes_per_s": bytes_per_s or 0}))

    def connection(self, bytes_per_s: float | None) -> None:
        """Send the bodies of each connection so fast at most; None for no limit."""
        self._call("POST", "connection?" + urlencode({"bytes_per_s": bytes_per_s or 0}))

    def faults(self, rules: Sequence[Mapping[str, Any]]) -> None:
        """Replace the rules by which requests go wrong: dicts with the fields of `Fault`."""
        self._call("POST", "faults", json.dumps(list(rules)).encode())

    def held(self) -> list[str]:
        """The requests that a rule holds, each as ``METHOD /bucket/key``."""
        return list(json.loads(self._call("GET", "held")))

    def release(self) -> None:
        """Let the store carry out and answer all that is held, in the order in which it came."""
        self._call("POST", "release")

    @contextlib.contextmanager
    def measure(self) -> Iterator[Traffic]:
        traffic = Traffic()
        self.reset()
        try:
            yield traffic
        finally:
            traffic.requests.extend(self.log())

    def _call(self, method: str, path: str, body: bytes | None = None) -> bytes:
        # A connection a call: no socket to leave open, and calls from any thread.
        connection = http.client.HTTPConnection(self.endpoint.removeprefix("http://"), timeout=60)
        with contextlib.closing(connection):
            connection.request(method, f"/_meter/{path}", body)
            response = connection.getresponse()
            answer = response.read()
        if response.status != HTTPStatus.OK:
            raise ValueError(f"{method} {path}: {response.status} {answer.decode()}")
        return answer


def main() -> None:
    parser = argparse.ArgumentParser(description="An S3 server on loopback that counts.")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--latency-ms", type=float, default=0, help="added to every request")
    parser.add_argument("--root", type=Path, help="serve ROOT/bucket/key too, read only")
    parser.add_argument("--until-stdin-closes", action="store_true", help="end with the parent")
    given = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(
            serve(
                given.port,
                given.latency_ms / 1000,
                given.root,
                until_stdin_closes=given.until_stdin_closes,
            )
        )


if __name__ == "__main__":
    main()
