"""An S3 that misbehaves by rules: what `Meter` (tests/support/metering.py) is told to do wrong.

Use: ``meter.faults([held("PUT", "zarr.json$", nth=2), kms()])``, run the code (in any number of
processes, with ``meter.storage_options``), ``meter.held()``, ``meter.release()``, ``meter.log()``.

A rule takes a method (``"GET|HEAD"`` for either), a regular expression that is searched in
``bucket/key`` (a listing is a GET of ``bucket/``; the key is empty), and when it applies: `nth`
(only the n-th such request, from 1), or `skip` that many first and then `times` (always without).
Of several rules that apply, the first one decides. Of the kinds of stores (`unconditional`, `kms`,
`parts`) any number applies, if they stand before other rules.
"""

from __future__ import annotations

from typing import Any

Rule = dict[str, Any]

ERROR = (
    '<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>InternalError</Code>'
    "<Message>We encountered an internal error. Please try again.</Message></Error>"
)
HTML = '<!DOCTYPE html><html><head><meta charset="utf-8"></head><body><p>Sign in<br></body></html>'
CONDITION = "^if-(none-)?match:"
CHECKSUM = "^(content-md5|x-amz-checksum-|x-amz-trailer)"
TRAILER = "^x-amz-trailer"


def rule(method: str, key: str, *, nth: int | None = None, **how: Any) -> Rule:
    """What all rules have in common; `how` are fields of `metering.Fault`."""
    when = {} if nth is None else {"skip": nth - 1, "times": 1}
    return {"match": f"^({method}) /.*?({key})", **when, **how}


def error_body(method: str, key: str, body: str = ERROR, **how: Any) -> Rule:
    """Status 200 with an error document; `apply=True` carries the request out nevertheless."""
    return rule(method, key, kind="body", body=body, **how)


def html(method: str, key: str, **how: Any) -> Rule:
    """Status 200 with a page of a proxy; `apply=True` carries the request out nevertheless."""
    return rule(method, key, kind="body", body=HTML, **how)


def held(method: str, key: str, **how: Any) -> Rule:
    """Carried out and answered at `meter.release()`; with `apply=True` carried out at once."""
    return rule(method, key, kind="hold", **how)


def lost(method: str, key: str, *, arrives: bool, **how: Any) -> Rule:
    """The connection is reset without an answer, after the store carried it out or before."""
    return rule(method, key, kind="reset", apply=arrives, **how)


def stalled(method: str, key: str, *, arrives: bool, **how: Any) -> Rule:
    """No answer ever comes, after the store carried it out or before."""
    return rule(method, key, kind="stall", apply=arrives, **how)


def flipped(method: str, key: str, *, at: int | None = None, **how: Any) -> Rule:
    """One bit of the body (of a PUT; of a GET's answer) is another one on the way, in byte `at`.

    The store notices it where a PUT has a checksum, unless it is told ``unchecked=True``.
    """
    return rule(method, key, kind="flip", at=at, **how)


def short(key: str, kind: str = "short", **how: Any) -> Rule:
    """Half of the bytes, as a complete answer; `kind` says what its headers tell (`ALTERED`)."""
    return rule("GET", key, kind=kind, **how)


def throttled(method: str, key: str, **how: Any) -> Rule:
    """503 SlowDown; the request is not carried out."""
    return rule(method, key, status=503, code="SlowDown", **how)


def refused(method: str, key: str, status: int = 403, code: str = "", **how: Any) -> Rule:
    """An error with its status; `apply=True` carries the request out nevertheless."""
    return rule(method, key, status=status, code=code, **how)


def undeleted(bucket: str, code: str = "AccessDenied", **how: Any) -> Rule:
    """Status 200 to the deletion of many objects, with an error for the first of them."""
    return rule("POST", f"{bucket}/$", kind="undeleted", code=code, **how)


def no_conditions(method: str = "PUT", key: str = "", **how: Any) -> Rule:
    """501 NotImplemented to requests with If-Match or If-None-Match."""
    return rule(method, key, status=501, code="NotImplemented", header=CONDITION, **how)


def no_checksums(method: str = "PUT", key: str = "", header: str = CHECKSUM, **how: Any) -> Rule:
    """400 to requests with a checksum; `header=TRAILER` for trailers only."""
    return rule(method, key, status=400, code="InvalidArgument", header=header, **how)


def wants_checksums(method: str = "PUT", key: str = "", **how: Any) -> Rule:
    """400 to requests without a checksum, as of buckets with object lock."""
    return rule(method, key, status=400, code="InvalidRequest", without=CHECKSUM, **how)


def unconditional(method: str = "PUT|DELETE", key: str = "", **how: Any) -> Rule:
    """A store that ignores If-Match and If-None-Match: the request is carried out without them."""
    return rule(method, key, kind="unconditional", **how)


def kms(method: str = "", key: str = "", **how: Any) -> Rule:
    """A store whose ETags look like MD5s and are others, everywhere (SSE-KMS, gateways)."""
    return rule(method or "[A-Z]+", key, kind="kms", **how)


def parts(method: str = "", key: str = "", **how: Any) -> Rule:
    """A store whose ETags are those of multipart uploads, everywhere: no MD5 of the bytes."""
    return rule(method or "[A-Z]+", key, kind="parts", **how)
