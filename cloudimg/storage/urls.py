"""URLs: chains, plain paths, and the removal of credentials and signatures."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote, unquote_to_bytes

from cloudimg.errors import ArgumentError

_PROTOCOL = re.compile(r"^[A-Za-z][A-Za-z0-9+.\-]*://")
_ONE_SLASH = re.compile(
    r"(?i)^(s3a?|gs|gcs|az|abfss?|adl|wasbs?|https?|ftp|sftp|ssh|hdfs|webhdfs|oci|file|memory|github)"
    r":/(?!/)"
)
"""A mistake that would name a local folder ``s3:``."""
_SEPARATOR = re.compile(r"[?&;#%]")
_SECRET_QUERY = re.compile(
    r"(?i)((?:[?&;#]|%(?:25)*(?:26|3b|3f|23))"
    r"(?:[^=%?&;#\s]*(?:signature|token|credential|secret|key|sig|password|auth)[^=%?&;#\s]*)"
    r"(?:=|%(?:25)*3d))[^&#\s]*"
)
_FROM_WEB_URL = re.compile(r"(?i)https?://.*")
"""A URL in a line, and what follows it: users leave spaces and quotes in URLs."""
_QUERY = re.compile(r"\?(?:[^\s'\"<>]*[^\s'\"<>:,.)\]}])?")
_QUERY_PART = re.compile(r"([?&;#])([^?&;#=]*)(?:(=)([^&;#]*))?")
_NESTED_QUERY = re.compile(r"(?i)%(?:25)*(?:26|3b|3f).*(?:=|%(?:25)*3d)")
_LONGEST_NUMBER = 16
"""Longest value that is shown of a parameter with one letter, such as z=0012."""
_FIELD_OR_WILDCARD = re.compile(r"[*?]*|\{[^{}]*\}")
_HARMLESS = {
    *("file", "filename", "path", "name", "object", "prefix", "delimiter", "image", "img", "fif"),
    *("format", "fmt", "raw", "download", "dl", "alt", "version", "versionid", "generation", "v"),
    *("series", "level", "page", "plane", "channel", "region", "size", "width", "height", "n"),
    *("well", "field", "site", "row", "col", "time", "date", "year", "month", "day", "scene"),
    *("t", "c", "z", "y", "x", "s", "w", "h", "list-type", "max-keys", "start-after", "marker"),
    *("encoding-type", "fetch-owner", "partnumber", "uploads", "acl", "tagging"),
}
"""Parameters of a query that name or describe what is requested. Values of others may be secrets:
there is no end of names for them (code, access, jwt, ...)."""
_PARAMETER = re.compile(r"([?&])([^?&=#\s]+)=[^?&#\s]*")
_OF_SIGNATURES = {
    *("expires", "policy", "awsaccesskeyid", "googleaccessid"),  # CloudFront, S3, Google
    *("se", "sp", "sv", "sr", "st", "spr", "sip", "si", "ss", "srt"),  # Azure
    *("skoid", "sktid", "skt", "ske", "sks", "skv", "saoid", "suoid", "scid", "sdd"),
}
"""Parameters that belong to a signature, and have other meanings in URLs without one."""
_SIGNATURES = {"signature", "sig", "token", "credential", "auth"}
"""Without "key", which often names the requested object."""
_ALIASES = {"local": "file", "s3a": "s3", "gcs": "gs"}
_USERINFO = re.compile(r"(?i)(\babfss?)?://([^/\s]*)@")
"""In URLs of Azure the container stands there; with a colon it is something else."""
_WITHOUT_HOST = {"data", "file", "libarchive", "local", "memory", "reference", "tar", "zip"}
"""Protocols of fsspec whose URLs are paths only; all others begin with a host or bucket."""
_LONGEST_WORDS = 40
_BEGINNING = re.compile(r"[^A-Za-z.{*?[]*([A-Za-z]+(?:[-_ ]+[A-Za-z]+)*)(.?)")
"""The first words of a name, and what follows them."""
_LATER_PROTOCOL = re.compile(r"::([A-Za-z][A-Za-z0-9+.\-]*)://")


@dataclass(frozen=True, slots=True, repr=False)
class Location:
    """The part that the URLs of a set of objects have in common: everything but the path.

    In ``zip://x_{z}.tif::s3://lab/a.zip`` the objects are named by the first path, so
    `before` is empty, `protocol` is zip and `after` is ``::s3://lab/a.zip``; in
    ``simplecache::s3://lab/x_{z}.tif`` `before` is ``simplecache::``.
    """

    before: str
    """Filters of fsspec before the path, each ending with ``::``."""
    protocol: str
    """Protocol of the path that names the objects."""
    root: str
    """Bucket (s3, gs, ...) or host (http, ftp, ...); empty for protocols without one, and for
    several buckets, see `cloudimg.storage.several_roots`."""
    after: str
    """The rest of the chain, beginning with ``::``."""

    def __repr__(self) -> str:
        return f"Location({self.display(self.root)})"

    @property
    def is_on_this_machine(self) -> bool:
        """Whether the objects are local files, or lie in a local archive or in memory."""
        protocols = {self.protocol, *_LATER_PROTOCOL.findall(self.after)}
        return protocols <= _WITHOUT_HOST - {"reference"}

    def url(self, key: str) -> str:
        """URL of an object, whose `key` is its path below ``protocol://``."""
        if self.protocol == "file" and not self.before and not self.after:
            return key
        return f"{self.before}{self.protocol}://{key}{self.after}"

    def display(self, key: str) -> str:
        """`url` without credentials, for messages."""
        return redact(self.url(key))

    def pattern_text(self, key: str) -> str:
        """The URL without its filters, which patterns are compiled from and matched with."""
        return key if self.protocol == "file" else f"{self.protocol}://{key}"

    def key_of(self, pattern_text: str) -> str:
        """Key of the object with this `pattern_text`."""
        return pattern_text if self.protocol == "file" else pattern_text[len(self.protocol) + 3 :]

    def display_text(self, pattern_text: str) -> str:
        """`display` of the object with this `pattern_text`."""
        return self.display(self.key_of(pattern_text))


def split_url(url: str | os.PathLike[str]) -> tuple[Location, str]:
    """Split a URL (or a pattern of URLs, or a path) into its location and the key in it.

    Raises
    ------
    ArgumentError
        If there is no path that names objects.
    """
    text = os.fspath(url) if isinstance(url, str | os.PathLike) else url
    if not isinstance(text, str) or not text:
        raise ArgumentError(f"expected a URL or a path, not {text!r}")
    links = text.split("::")
    naming = _naming_link(links)
    if naming is None:
        raise ArgumentError(f"{redact(text)!r} has no path that names objects")
    before = "".join(link.removesuffix("://") + "::" for link in links[:naming])
    after = "".join("::" + link for link in links[naming + 1 :])
    protocol, path = _split_link(links[naming])
    if protocol in _WITHOUT_HOST:
        return Location(before, protocol, "", after), path
    root = path.split("/", 1)[0]
    if not root:
        raise ArgumentError(f"{redact(text)!r} does not name a bucket or host")
    return Location(before, protocol, root, after), path


def _naming_link(links: list[str]) -> int | None:
    """Index of the link of a chain whose path names the objects."""
    for i, link in enumerate(links):
        match = _PROTOCOL.match(link)
        if match and link[match.end() :]:
            return i
    # A plain path can only be the last link, as in simplecache::/data/x.tif.
    return None if _PROTOCOL.match(links[-1]) else len(links) - 1


def _split_link(link: str) -> tuple[str, str]:
    """Protocol and path of one link of a chain."""
    if _ONE_SLASH.match(link):
        right = _ONE_SLASH.sub(r"\1:///" if link.lower().startswith("file") else r"\1://", link)
        raise ArgumentError(
            f"{redact(link)} has one slash after its protocol; write {redact(right)}, or"
            f" ./{redact(link)} for a local file"
        )
    match = _PROTOCOL.match(link)
    protocol = match.group(0)[:-3].lower() if match else "file"
    path = link[match.end() :] if match else link
    protocol = _ALIASES.get(protocol, protocol)
    if protocol == "file":
        path = _absolute(path)
    elif protocol == "memory":
        path = path.lstrip("/")
    return protocol, path


def _absolute(path: str) -> str:
    if path.startswith("~"):
        try:
            path = str(Path(path).expanduser())
        except RuntimeError as exc:
            raise ArgumentError(f"cannot find the home folder of {path!r}") from exc
    while path.startswith("./"):
        path = path[2:]
    if not path.startswith("/"):
        path = f"{Path.cwd()}/{path}"
    return path


def redact(text: str) -> str:
    """Remove what may be a secret from a URL or message.

    These are user names and passwords, values of a query that have the name of a secret, and, in
    URLs of web servers, all values of a query whose names are not known to be harmless.
    """
    text = _USERINFO.sub(_hide_userinfo, text)
    if not _SEPARATOR.search(text):
        return text
    text = _SECRET_QUERY.sub(r"\1***", text)
    return _FROM_WEB_URL.sub(_with_harmless_queries, text) if "?" in text else text


def _hide_userinfo(found: re.Match[str]) -> str:
    is_container = found[1] and re.fullmatch(r"[\w$-]*", found[2])
    return found[0] if is_container else f"{found[1] or ''}://***@"


def _with_harmless_queries(line: re.Match[str]) -> str:
    return _QUERY.sub(lambda query: _QUERY_PART.sub(_hide_unknown, query[0]), line[0])


def _hide_unknown(part: re.Match[str]) -> str:
    separator, name, equals, value = part.groups()
    if _FIELD_OR_WILDCARD.fullmatch(value or name) or (separator == "#" and not equals):
        return part[0]
    is_short = len(name) > 1 or len(value or "") <= _LONGEST_NUMBER
    if name.lower() in _HARMLESS and is_short and not _NESTED_QUERY.search(value or ""):
        return part[0]
    return f"{separator}{name}=***" if equals else f"{separator}***"


_NOT_IN_URLS = re.compile(r"%(?![0-9A-Fa-f]{2})|[^A-Za-z0-9\-._~:/?@!$&'()*+,;=%]+")
"""What the path and the query of a URL cannot hold (RFC 3986), and the sign of a fragment: a file
has none, so the sign is part of a name."""
_ENCODED = re.compile(r"(?:%[0-9A-Fa-f]{2})+")


def encoded_url(url: str) -> str:
    """A URL of a web server as it is requested: what no URL can hold is encoded, the rest stays.

    Signatures hold for one spelling, so ``%2F``, ``%3A`` and ``%28`` are not rewritten.
    """
    protocol, _, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    return f"{protocol}://{host}{slash}{_NOT_IN_URLS.sub(lambda found: quote(found[0]), path)}"


def spelled_as(key: str, beginning: str) -> str | None:
    """A key of a web server whose beginning is spelled as in a pattern; None if it is another one.

    Links in pages encode characters that users write plainly, such as spaces. The rest of the key
    is decoded where the beginning has some that no URL can hold.
    """
    if key.startswith(beginning):
        return key
    if "%" not in key and "%" not in beginning:
        return None
    wanted, n = unquote_to_bytes(beginning), 0
    for match in re.finditer(r"%[0-9A-Fa-f]{2}|.", key, re.DOTALL):
        part = unquote_to_bytes(match[0])
        if wanted[n : n + len(part)] != part:
            return None
        n += len(part)
        if n == len(wanted):
            rest = key[match.end() :]
            is_plain = _NOT_IN_URLS.search(beginning) is not None
            return beginning + (_decoded(rest) if is_plain else rest)
    return None


def _decoded(text: str) -> str:
    """Decode what `encoded_url` encodes again."""

    def plain(encoded: re.Match[str]) -> str:
        try:
            characters = unquote(encoded[0], errors="strict")
        except UnicodeDecodeError:
            return encoded[0]
        return "".join(c if _NOT_IN_URLS.match(c + "00") else quote(c, "") for c in characters)

    return _ENCODED.sub(plain, text)


def unsigned(text: str) -> str:
    """A URL without its signature, which differs each time that the URL is signed.

    Unsigned URLs and those of other protocols are returned unchanged.
    """
    if "http" not in text:
        return text
    names = [name.lower() for _, name in _PARAMETER.findall(text)]
    if not any(map(_is_signature, names)):
        return text

    def kept(parameter: re.Match[str]) -> str:
        name = parameter[2].lower()
        drops = _is_signature(name) or name in _OF_SIGNATURES
        return parameter[1] if drops else parameter[0]

    return re.sub(r"[?&]+$", "", re.sub(r"([?&])[?&]+", r"\1", _PARAMETER.sub(kept, text)))


def _is_signature(name: str) -> bool:
    if name.startswith(("x-amz-", "x-goog-")) or name == "key-pair-id":
        return True
    return not _SIGNATURES.isdisjoint(re.split(r"[^a-z]+", name)) or name.endswith("token")


def step_of(verb: str, url: str | os.PathLike[str]) -> str:
    """A verb and the words that the name of the files begins with, for names of Dask tasks.

    Dask's dashboard shows the names of tasks up to the first part that is not letters only. Only
    the last part of the path is used, without a query: the rest of a URL may hold secrets.
    """
    location, key = split_url(url)
    text = key.rpartition("/")[2]
    if location.protocol in ("http", "https"):
        text = text.partition("?")[0]
    beginning = _BEGINNING.match(text)
    if beginning is None or "." not in text:  # without a suffix it may not be the name of a file
        return verb
    words = re.split("[-_ ]+", beginning[1])
    if len(words) > 1 and (beginning[2].isdigit() or beginning[2] == "{"):
        words.pop()  # it names a field, as "ch" in mydata_ch{c}
    # Dask (2026.8) takes a word of eight letters for a digest if it begins with one of a to f.
    shown = [w.capitalize() if len(w) == 8 and w[0] in "abcdef" else w for w in words]
    return f"{verb}-{'-'.join(shown)[:_LONGEST_WORDS]}".rstrip("-")
