"""Decoding the segments of a file in as many threads as have nothing else to do.

How many segments come with one request says nothing about how long they take to decode. So a thread
that has several leaves half of them to one that has none, again and again until all are busy.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial

from cloudimg.reading.run import FileSteps
from cloudimg.storage import Engine
from cloudimg.tiff import Piece
from cloudimg.tiff.ifd import Buffer

Stored = tuple[Piece, Buffer]
"""A piece and its bytes."""
Place = Callable[[Piece, Buffer], None]

_FEW_PIECES = 8
_FEW_BYTES = 64 * 2**10
"""Of the pieces, as they are stored. To decode so few takes little longer than to wake a thread."""


class Claim:
    """Bytes in flight that several steps hold; they count until the last one has ended.

    Thread-safe. Making one waits until there is room for it, and is its first holder.
    """

    def __init__(self, engine: Engine, size_bytes: int) -> None:
        self._budget = engine.budget
        self._cost_bytes = engine.budget.claim(size_bytes)
        self._n_holders = 1
        self._lock = threading.Lock()

    def hold(self) -> None:
        """Count one more holder."""
        with self._lock:
            self._n_holders += 1

    def release(self) -> None:
        """Count one holder less."""
        with self._lock:
            self._n_holders -= 1
            is_last = self._n_holders == 0
        if is_last:
            self._budget.release(self._cost_bytes)


class SharedDecoding:
    """Pieces that decoding threads decode together. Thread-safe.

    Parameters
    ----------
    steps : FileSteps
        The parts that other threads decode become steps of this file.
    stored : sequence of (Piece, bytes)
    place : callable
        Decodes a piece into the output.
    claim : Claim, optional
        Has one holder for these pieces.
    """

    def __init__(
        self, steps: FileSteps, stored: Sequence[Stored], place: Place, claim: Claim | None
    ) -> None:
        self._steps = steps
        self._stored = stored
        self._place = place
        self._claim = claim
        self._lock = threading.Lock()
        self._n_parts = 1
        self._stop = len(stored)
        """No piece from here on is wanted, as this one could not be decoded."""
        self._error: BaseException | None = None

    def decode(self) -> None:
        """Decode all pieces, leaving some of them to threads that have nothing to do.

        Whoever ends last raises the error of the first piece that could not be decoded, so that a
        file gives the same one each time.
        """
        self._decode(0, len(self._stored))

    def _decode(self, at: int, stop: int) -> None:
        engine = self._steps.engine
        try:
            while at < min(stop, self._stop) and not self._steps.failed:
                while engine.has_free_decoder and self._is_much(at, stop):
                    middle = (at + stop + 1) // 2
                    self._leave(middle, stop)
                    stop = middle
                self._place(*self._stored[at])
                at += 1
        except BaseException as exc:  # noqa: BLE001 - raised by the last part
            with self._lock:
                if at < self._stop:
                    self._stop, self._error = at, exc
        if self._ends_last():
            if self._claim is not None:
                self._claim.release()
            if self._error is not None:
                try:
                    raise self._error
                finally:
                    self._error = None  # its traceback leads back to this object

    def _is_much(self, at: int, stop: int) -> bool:
        """Whether it is worth another thread to decode half of some pieces."""
        n_pieces = stop - at
        if not 1 < n_pieces <= _FEW_PIECES:
            return n_pieces > 1
        return sum(len(data) for _, data in self._stored[at:stop]) > _FEW_BYTES

    def _leave(self, at: int, stop: int) -> None:
        with self._lock:
            self._n_parts += 1
        try:
            self._steps.start(self._steps.engine.decode, partial(self._decode, at, stop))
        except BaseException:
            self._ends_last()
            raise

    def _ends_last(self) -> bool:
        with self._lock:
            self._n_parts -= 1
            return self._n_parts == 0
