"""How the files of an image are read: what a reader of headers knows of all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cloudimg.discovery.stored_headers import StoredHeader
from cloudimg.formats import Format, ReadFunction, find_format
from cloudimg.tiff import Offsets

_TIFF_MAGIC = {b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"}
_BYTE_ORDERS = {b"II", b"MM", b"EP"}
"""First bytes of every TIFF, and what NDTiff and some cameras write instead; tifffile checks more.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadContext:
    """How to read a file: which image of it, how to interpret it, and which version to expect.

    It is immutable: `HeaderReader.using` makes a new reader when more becomes known.
    """

    series: int
    """See `cloudimg.tiff.ParseRequest`."""
    ignore_siblings: bool
    """See `cloudimg.tiff.ParseRequest`."""
    palette: str
    """See `cloudimg.tiff.ParseRequest`."""
    epoch: str
    """Identifies one call of `cloudimg.open`, so that cached headers of earlier calls are not used.
    """
    decoder: Format | ReadFunction | None = field(default=None, compare=False)
    """Decoder of files that are not TIFFs: the user's function, or the format of the first file."""
    member: Offsets | None = None
    """See `cloudimg.tiff.ParseRequest`."""
    versions: Mapping[str, str] = field(default_factory=dict, compare=False)
    """ETags by key of some files whose headers were read at open, so that workers can check them.
    """
    is_listed: bool = field(default=True, compare=False)
    """Whether the files were listed or looked up; otherwise some may be missing."""
    fills_missing: bool = field(default=False, compare=False)
    """Whether the pixels of files that turn out to be missing are the fill value."""
    stored: Mapping[str, StoredHeader] = field(default_factory=dict, compare=False)
    """Headers by key that a table has, with which an image is opened. Only those of a table that
    has all are used to read pixels, whose versions are then compared with theirs."""
    is_tabled: bool = field(default=False, compare=False)
    """Whether a table lists the files, whose versions files must have."""
    compares_facts: bool = field(default=False, compare=False)
    """Whether headers are parsed with the attributes that are compared between files; see
    `cloudimg.tiff.ParseRequest.only_compared`."""
    checks_transit: bool = field(default=False, compare=False)
    """Whether files that are read as a whole are compared with the MD5 that the store states."""

    @property
    def has_own_decoder(self) -> bool:
        """Whether the user passed a function, which then decodes all files."""
        return self.decoder is not None and not isinstance(self.decoder, Format)

    def decoder_of(self, name: str, head: bytes) -> Format | ReadFunction | None:
        """Return the decoder of a file, by its name and first bytes; None for a TIFF."""
        if self.has_own_decoder:
            return self.decoder
        if head[:4] in _TIFF_MAGIC:
            return None
        name = name.partition("?")[0]
        first = self.decoder
        if isinstance(first, Format) and first.claims(name, head):
            return first
        known = find_format(name, head)
        if known is None and head[:2] in _BYTE_ORDERS:
            return None
        return known or first
