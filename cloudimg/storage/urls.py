"""URLs: chained ones, plain paths, and what of them may be shown."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from cloudimg.errors import ArgumentError

_PROTOCOL = re.compile(r"^[A-Za-z][A-Za-z0-9+.\-]*://")
_SECRET_QUERY = re.compile(
    r"(?i)([?&](?:[^=&#\s]*(?:signature|token|credential|secret|key|sig|password|auth)[^=&#\s]*)=)"
    r"[^&#\s]*"
)
_PARAMETER = re.compile(r"([?&])([^?&=#\s]+)=[^?&#\s]*")
_OF_SIGNATURES = {
    *("expires", "policy", "awsaccesskeyid", "googleaccessid"),  # CloudFront, S3, Google
    *("se", "sp", "sv", "sr", "st", "spr", "sip", "si", "ss", "srt"),  # Azure
    *("skoid", "sktid", "skt", "ske", "sks", "skv", "saoid", "suoid", "scid", "sdd"),
}
"""Parameters that come with a signature, and mean something else where there is none."""
_SIGNATURES = {"signature", "sig", "token", "credential", "auth"}
"""Not keys, which often name what is asked for."""
_USERINFO = re.compile(r"://[^/\s]*@")
_WITHOUT_HOST = {"data", "file", "libarchive", "local", "memory", "reference", "tar", "zip"}
"""Protocols of fsspec whose URLs are paths only; in all others a host or bucket comes first."""


@dataclass(frozen=True, slots=True, repr=False)
class Location:
    """Where a family of objects lives: everything of their URLs but the path.

    In ``zip://x_{z}.tif::s3://lab/a.zip`` the objects are named by the first path, so
    `before` is empty, `protocol` is zip and `after` is ``::s3://lab/a.zip``; in
    ``simplecache::s3://lab/x_{z}.tif`` `before` is ``simplecache::``.
    """

    before: str
    """Filters of fsspec in front, each ending with ``::``."""
    protocol: str
    """Protocol of the path that names the objects."""
    root: str
    """Bucket (s3, gs, ...) or host (http, ftp, ...); empty where URLs have none."""
    after: str
    """The rest of the chain, beginning with ``::``."""

    def __repr__(self) -> str:
        return f"Location({self.display(self.root)})"

    def url(self, key: str) -> str:
        """URL of an object, whose `key` is its path below ``protocol://``."""
        if self.protocol == "file" and not self.before and not self.after:
            return key
        return f"{self.before}{self.protocol}://{key}{self.after}"

    def display(self, key: str) -> str:
        """`url` without credentials, for messages."""
        return redact(self.url(key))

    def pattern_text(self, key: str) -> str:
        """What a pattern is compiled from and matched with: the URL without its filters."""
        return key if self.protocol == "file" else f"{self.protocol}://{key}"

    def key_of(self, pattern_text: str) -> str:
        """The key again, from `pattern_text`."""
        return pattern_text if self.protocol == "file" else pattern_text[len(self.protocol) + 3 :]


def split_url(url: str | os.PathLike[str]) -> tuple[Location, str]:
    """Split a URL (or a pattern of URLs, or a path) into its location and the key in it.

    Raises
    ------
    ArgumentError
        If there is no path that names objects.
    """
    text = os.fspath(url) if isinstance(url, str | os.PathLike) else url
    if not isinstance(text, str) or not text:
        raise ArgumentError(f"a URL or a path is needed, not {text!r}")
    links = text.split("::")
    naming = next(
        (i for i, link in enumerate(links) if (m := _PROTOCOL.match(link)) and link[m.end() :]),
        None,
    )
    if naming is None:
        if len(links) > 1 and not _PROTOCOL.match(links[-1]):
            naming = len(links) - 1  # simplecache::/data/x.tif
        elif len(links) == 1 and not _PROTOCOL.match(text):
            naming = 0
        else:
            raise ArgumentError(f"{redact(text)!r} has no path that names objects")
    before = "".join(link.removesuffix("://") + "::" for link in links[:naming])
    after = "".join("::" + link for link in links[naming + 1 :])
    link = links[naming]
    match = _PROTOCOL.match(link)
    protocol = match.group(0)[:-3].lower() if match else "file"
    path = link[match.end() :] if match else link
    if protocol in ("file", "local"):
        protocol, path = "file", _absolute(path)
    elif protocol in ("s3", "s3a"):
        protocol = "s3"
    elif protocol in ("gs", "gcs"):
        protocol = "gs"
    elif protocol == "memory":
        path = path.lstrip("/")
    has_root = protocol not in _WITHOUT_HOST
    root = path.split("/", 1)[0] if has_root else ""
    if has_root and not root:
        raise ArgumentError(f"{redact(text)!r} names no bucket or host")
    return Location(before, protocol, root, after), path


def _absolute(path: str) -> str:
    if path.startswith("~"):
        try:
            path = str(Path(path).expanduser())
        except RuntimeError:
            raise ArgumentError(f"{path!r} names no home folder") from None
    while path.startswith("./"):
        path = path[2:]
    if not path.startswith("/"):
        path = f"{Path.cwd()}/{path}"
    return path


def redact(text: str) -> str:
    """Take user names, passwords, tokens and signatures out of a URL or message."""
    return _SECRET_QUERY.sub(r"\1***", _USERINFO.sub("://***@", text))


def unsigned(text: str) -> str:
    """A URL as a name of what it leads to: without what differs each time that it is signed.

    Other URLs, and what is no URL of the web, are as they were.
    """
    if "http" not in text:
        return text
    names = [name.lower() for _, name in _PARAMETER.findall(text)]
    is_signed = any(map(_is_of_signature, names))

    def kept(found: re.Match[str]) -> str:
        name = found[2].lower()
        drops = _is_of_signature(name) or (is_signed and name in _OF_SIGNATURES)
        return found[1] if drops else found[0]

    if not is_signed:
        return text
    return re.sub(r"[?&]+$", "", re.sub(r"([?&])[?&]+", r"\1", _PARAMETER.sub(kept, text)))


def _is_of_signature(name: str) -> bool:
    if name.startswith(("x-amz-", "x-goog-")) or name == "key-pair-id":
        return True
    return not _SIGNATURES.isdisjoint(re.split(r"[^a-z]+", name)) or name.endswith("token")
