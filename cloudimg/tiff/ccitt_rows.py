"""Counting the whole rows of a CCITT stream without a decoder (ITU T.4, 4; ITU T.6, 2).

libtiff tells of damaged rows by warnings only, which an application may have turned off. This
counter reads the codes itself. It takes about a second for a million of them, and is used only
where no warning would be heard. It is strict: what is not a row as the recommendations have it, and
what lies beyond it, does not count.
"""

from __future__ import annotations

from bisect import bisect_right
from functools import cache

from cloudimg.tiff.ifd import Buffer

_RLE, _T4, _T6 = 2, 3, 4
_TWO_DIMENSIONAL = 1
"""Bit of T4Options for rows that refer to the one before."""
_PEEK = 13
"""Length of the longest code."""
_EOL_ZEROS = 11
"""An end of line is so many zeros, or more of them as fill, and a one."""

_WHITE = """
    00110101 000111 0111 1000 1011 1100 1110 1111 10011 10100 00111 01000 001000 000011 110100
    110101 101010 101011 0100111 0001100 0001000 0010111 0000011 0000100 0101000 0101011 0010011
    0100100 0011000 00000010 00000011 00011010 00011011 00010010 00010011 00010100 00010101 00010110
    00010111 00101000 00101001 00101010 00101011 00101100 00101101 00000100 00000101 00001010
    00001011 01010010 01010011 01010100 01010101 00100100 00100101 01011000 01011001 01011010
    01011011 01001010 01001011 00110010 00110011 00110100
    11011 10010 010111 0110111 00110110 00110111 01100100 01100101 01101000 01100111 011001100
    011001101 011010010 011010011 011010100 011010101 011010110 011010111 011011000 011011001
    011011010 011011011 010011000 010011001 010011010 011000 010011011
"""
"""Codes of runs of 0 to 63 and of 64, 128, ..., 1728 white pixels (T.4, tables 2 and 3a)."""
_BLACK = """
    0000110111 010 11 10 011 0011 0010 00011 000101 000100 0000100 0000101 0000111 00000100 00000111
    000011000 0000010111 0000011000 0000001000 00001100111 00001101000 00001101100 00000110111
    00000101000 00000010111 00000011000 000011001010 000011001011 000011001100 000011001101
    000001101000 000001101001 000001101010 000001101011 000011010010 000011010011 000011010100
    000011010101 000011010110 000011010111 000001101100 000001101101 000011011010 000011011011
    000001010100 000001010101 000001010110 000001010111 000001100100 000001100101 000001010010
    000001010011 000000100100 000000110111 000000111000 000000100111 000000101000 000001011000
    000001011001 000000101011 000000101100 000001011010 000001100110 000001100111
    0000001111 000011001000 000011001001 000001011011 000000110011 000000110100 000000110101
    0000001101100 0000001101101 0000001001010 0000001001011 0000001001100 0000001001101
    0000001110010 0000001110011 0000001110100 0000001110101 0000001110110 0000001110111
    0000001010010 0000001010011 0000001010100 0000001010101 0000001011010 0000001011011
    0000001100100 0000001100101
"""
_LONGER = """
    00000001000 00000001100 00000001101 000000010010 000000010011 000000010100 000000010101
    000000010110 000000010111 000000011100 000000011101 000000011110 000000011111
"""
"""Codes of runs of 1792, 1856, ..., 2560 pixels of either colour (T.4, table 3b)."""
_PASS, _HORIZONTAL = 100, 101
_MODES = {
    "1": 0,
    "011": 1,
    "000011": 2,
    "0000011": 3,
    "010": -1,
    "000010": -2,
    "0000010": -3,
    "0001": _PASS,
    "001": _HORIZONTAL,
}
"""Modes of two-dimensional coding; numbers are those of vertical mode (T.4, table 4)."""

Codes = list[tuple[int, int]]
"""Length and value by the next 13 bits; a length of 0 where they begin with no code."""


def count_rows(
    data: Buffer, *, compression: int, t4_options: int, width: int, most: int, is_reversed: bool
) -> int:
    """Number of whole rows with which a stream begins.

    Parameters
    ----------
    data : bytes
    compression : int
        Value of the tag Compression: 2, 3 or 4.
    t4_options : int
        Value of the tag T4Options.
    width : int
        Pixels of a row.
    most : int
        Number of rows to count.
    is_reversed : bool
        Whether the lowest bit of each byte comes first (FillOrder 2).
    """
    stream = _Stream(bytes(data).translate(_reversed_bytes()) if is_reversed else bytes(data))
    changes: list[int] = []
    for n_rows in range(most):
        try:
            if compression == _T4:
                is_flat = stream.begin_row(has_tag=bool(t4_options & _TWO_DIMENSIONAL))
            else:
                is_flat = compression == _RLE
            changes = stream.row(width) if is_flat else stream.row_like(changes, width)
        except _EndOfRowsError:
            return n_rows
        if compression == _RLE:
            stream.at += -stream.at % 8
    return most


class _EndOfRowsError(Exception):
    """What follows is not a row."""


class _Stream:
    """The bits of a stream, and the position of the next one."""

    def __init__(self, data: bytes) -> None:
        self._data = data + bytes(8)
        self._n_bits = 8 * len(data)
        self.at = 0

    def begin_row(self, *, has_tag: bool) -> bool:
        """Skip an end of line; whether the row after it refers to no other one.

        Raises
        ------
        _EndOfRowsError
            There is none where the row needs one, or there are two: the end of the page.
        """
        has_end = self._skip_end_of_line()
        is_flat = True
        if has_tag:
            if not has_end:
                raise _EndOfRowsError
            is_flat = bool(self._peek() >> (_PEEK - 1))
            self.at += 1
        if has_end and self._skip_end_of_line():
            raise _EndOfRowsError
        return is_flat

    def row(self, width: int) -> list[int]:
        """The positions where the colour changes in a row of one-dimensional coding."""
        position, is_black = 0, False
        changes: list[int] = []
        while position < width:
            position += self._run(is_black=is_black)
            changes.append(position)
            is_black = not is_black
        if position != width:
            raise _EndOfRowsError
        return changes

    def row_like(self, before: list[int], width: int) -> list[int]:
        """The same in a row of two-dimensional coding, of which the one before is known.

        Changes to black have even indices; a run of no pixels repeats a position.
        """
        position, first = 0, True
        changes: list[int] = []
        while position < width:
            mode = self._code(_modes())
            b1, b2 = _next_changes(before, -1 if first else position, len(changes) % 2, width)
            if mode == _PASS:
                position = b2
            elif mode == _HORIZONTAL:
                for _ in range(2):
                    position += self._run(is_black=bool(len(changes) % 2))
                    changes.append(position)
            else:
                if b1 + mode < position:
                    raise _EndOfRowsError
                position = b1 + mode
                changes.append(position)
            first = False
        if position != width:
            raise _EndOfRowsError
        return changes

    def _run(self, *, is_black: bool) -> int:
        length, part = 0, 64
        while part >= 64:
            part = self._code(_runs(is_black=is_black))
            length += part
        return length

    def _code(self, codes: Codes) -> int:
        n_bits, value = codes[self._peek()]
        self.at += n_bits
        if not n_bits or self.at > self._n_bits:
            raise _EndOfRowsError
        return value

    def _peek(self) -> int:
        first = self.at >> 3
        bits = int.from_bytes(self._data[first : first + 3], "big")
        return bits >> (24 - _PEEK - (self.at & 7)) & ((1 << _PEEK) - 1)

    def _skip_end_of_line(self) -> bool:
        """Whether an end of line follows, which is skipped then."""
        at = self.at
        while at < self._n_bits and not self._data[at >> 3] >> (7 - (at & 7)) & 1:
            at += 1
        is_end = at - self.at >= _EOL_ZEROS and at < self._n_bits
        if is_end:
            self.at = at + 1
        return is_end


def _next_changes(before: list[int], after: int, n_changes: int, width: int) -> tuple[int, int]:
    """The next changes b1, to the other colour, and b2 in the row before (T.4, 4.2.1.1)."""
    i = bisect_right(before, after)
    i += (i + n_changes) % 2
    b1, b2 = (before[k] if k < len(before) else width for k in (i, i + 1))
    return b1, b2


@cache
def _runs(*, is_black: bool) -> Codes:
    words = (_BLACK if is_black else _WHITE).split() + _LONGER.split()
    lengths = (*range(64), *range(64, 2561, 64))
    return _table(dict(zip(words, lengths, strict=True)))


@cache
def _modes() -> Codes:
    return _table(_MODES)


def _table(values: dict[str, int]) -> Codes:
    codes: Codes = [(0, 0)] * (1 << _PEEK)
    for word, value in values.items():
        spare = _PEEK - len(word)
        start = int(word, 2) << spare
        codes[start : start + (1 << spare)] = [(len(word), value)] * (1 << spare)
    return codes


@cache
def _reversed_bytes() -> bytes:
    return bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
