"""Loops in the chain of IFDs, found in what a parser reads.

An IFD is the number of its tags, the tags, and the offset of the next IFD (TIFF 6.0, section 2;
BigTIFF has wider numbers). Each has one link to the next, so a link closes a loop exactly if the
chain that begins where it leads ends where it comes from. That is known as soon as the parser has
read the last link of a loop, however long the loop is.
"""

from __future__ import annotations

from cloudimg.tiff.ifd import Buffer, Dialect

_LINK_BYTES = (4, 8)
"""NDPI has links of 8 bytes behind tags of 12."""


class ChainWatch:
    """Follows the links between the IFDs that a parser reads.

    Parameters
    ----------
    dialect : Dialect
        Byte order and width of the file.
    """

    def __init__(self, dialect: Dialect) -> None:
        self._order = dialect.byteorder
        self._count_bytes, self._entry_bytes = dialect.count_bytes, dialect.entry_bytes
        self._ifd = self._tags = self._link = 0
        self._seen: set[int] = set()
        self._ahead: dict[int, int] = {}
        """An IFD further on in the chain, if any is known: the next one, or a later one."""

    @property
    def n_ifds(self) -> int:
        """Number of IFDs that were read."""
        return len(self._seen)

    def is_visit(self, n_bytes: int) -> bool:
        """Whether a read is of the number of tags, with which a parser begins an IFD.

        No value outside an IFD has this length: values as short as this are stored in the IFD.
        """
        return n_bytes == self._count_bytes

    def loop(self, start: int, data: Buffer) -> tuple[int, int] | None:
        """Take what the parser read at an offset.

        Returns
        -------
        (int, int) or None
            The offsets of the last IFD of a loop and of the IFD that it leads back to, if the read
            shows one.
        """
        if len(data) == self._count_bytes:
            self._ifd = start
            self._seen.add(start)
            self._tags = start + self._count_bytes
            self._link = self._tags + int.from_bytes(data, self._order) * self._entry_bytes
            return None
        link_bytes = start + len(data) - self._link
        if start not in (self._tags, self._link) or link_bytes not in _LINK_BYTES:
            return None
        following = int.from_bytes(data[-link_bytes:], self._order)
        if not following or self._ifd in self._ahead:
            return None
        if self._last_from(following) == self._ifd:
            return self._ifd, following
        self._ahead[self._ifd] = following
        return None

    def _last_from(self, ifd: int) -> int:
        """The last known IFD of a chain; the links on the way are shortened."""
        path = []
        while ifd in self._ahead:
            path.append(ifd)
            ifd = self._ahead[ifd]
        for passed in path:
            self._ahead[passed] = ifd
        return ifd
