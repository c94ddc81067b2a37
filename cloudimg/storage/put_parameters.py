"""Parameters of PUTs to S3 that users choose: storage class, encryption, tags, access.

They are s3fs's option ``s3_additional_kwargs``, and s3fs sends them with every object.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from cloudimg.errors import ArgumentError

_OPTION = "s3_additional_kwargs"
_ONLY_OF_PUTS = {
    *("ACL", "GrantFullControl", "GrantRead", "GrantReadACP", "GrantWriteACP"),
    *("CacheControl", "ContentDisposition", "ContentLanguage", "ContentType", "Expires"),
    *("ObjectLockLegalHoldStatus", "ObjectLockMode", "ObjectLockRetainUntilDate"),
    *("BucketKeyEnabled", "ServerSideEncryption", "SSEKMSEncryptionContext", "SSEKMSKeyId"),
    *("Metadata", "StorageClass", "Tagging", "WebsiteRedirectLocation"),
}
_OWN = {"Body", "Bucket", "ContentLength", "ContentMD5", "IfMatch", "IfNoneMatch", "Key"}
"""Parameters that decide which object is stored, and whether."""
_REQUESTS = ("PutObject", "GetObject", "HeadObject", "ListObjectsV2", "DeleteObject")


def has_put_parameters(options: Mapping[str, Any]) -> bool:
    """Whether options of s3fs have parameters that only s3fs can send."""
    return bool(options.get(_OPTION))


def are_only_of_puts(options: Mapping[str, Any]) -> bool:
    """Whether these parameters have no effect on other requests than PUTs."""
    return set(options.get(_OPTION) or {}) <= _ONLY_OF_PUTS


def refuse_unknown_parameters(options: Mapping[str, Any]) -> None:
    """Refuse parameters that no request takes, because s3fs leaves them out without a word.

    Raises
    ------
    ArgumentError
    """
    given = options.get(_OPTION) or {}
    if not isinstance(given, Mapping):
        raise ArgumentError(
            f"{_OPTION} must be a mapping, such as {{'StorageClass': 'STANDARD_IA'}}"
        )
    if not set(given) - _ONLY_OF_PUTS:
        return
    import botocore.session

    model = botocore.session.Session().get_service_model("s3")
    known = {name for each in _REQUESTS for name in model.operation_model(each).input_shape.members}
    for name in given:
        if name in _OWN:
            raise ArgumentError(f"{_OPTION} cannot have {name}, which cloudimg sets itself")
        if name not in known:
            close = difflib.get_close_matches(str(name), known, 1)
            advice = f"; did you mean {close[0]}?" if close else ""
            raise ArgumentError(f"{_OPTION} has {name}, which no request to S3 takes{advice}")
