"""Pixels of a copy, with the stored objects that were read last kept in memory."""

from __future__ import annotations

import itertools
import math
import threading
from collections import OrderedDict, deque
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from cloudimg.migration.journal.destination import Destination
from cloudimg.migration.journal.records import read_record
from cloudimg.migration.plan.objects import cell_storing
from cloudimg.migration.plan.plan import Plan
from cloudimg.migration.run.inputs import LevelInput

Array = npt.NDArray[Any]
Region = tuple[slice, ...]

READ_AHEAD = 8
"""Objects that are requested before they are needed."""
_CACHE_BYTES = 2**30
"""Decoded pixels that are kept for the next planes and files of the same objects."""
_MOST_RECORDS = 256
"""Commit records whose digests are kept."""


class CopyPixels:
    """Pixels of a copy. Thread-safe.

    Each stored object is read and decoded once for all planes and files that overlap it, as long as
    it fits into the cache. The commit record of its cell says which SHA-256 it has, and whether an
    absent one is empty or missing; zarr-python would return other pixels without an error.
    """

    def __init__(self, copy: Destination, plan: Plan, threads: ThreadPoolExecutor) -> None:
        self._copy = copy
        self._plan = plan
        self._threads = threads
        self._lock = threading.Lock()
        self._cache: OrderedDict[tuple[Any, ...], Future[Array]] = OrderedDict()
        self._record_lock = threading.Lock()
        self._digests: OrderedDict[tuple[int, int], dict[str, str]] = OrderedDict()
        n_bytes = math.prod(plan.stored_shape(0)) * np.dtype(plan.dtype).itemsize
        self._cache_size = max(READ_AHEAD, _CACHE_BYTES // n_bytes)

    def read(self, image: int, level: int, region: Region) -> Array:
        """Read the pixels of a region of a level, in the plan's dims.

        Raises
        ------
        NotFoundError
            If an object is missing although it was stored.
        CorruptFileError, StorageError
        """
        stored = self._plan.stored_shape(level)
        out = np.empty([part.stop - part.start for part in region], np.dtype(self._plan.dtype))
        indices = itertools.product(
            *(range(p.start // n, -(-p.stop // n)) for p, n in zip(region, stored, strict=True))
        )
        pending: deque[tuple[tuple[int, ...], Future[Array]]] = deque()
        while True:
            ahead = itertools.islice(indices, READ_AHEAD - len(pending))
            pending += [(index, self._object(image, level, index)) for index in ahead]
            if not pending:
                return out
            index, future = pending.popleft()
            in_object, in_out = [], []
            for i, n, part in zip(index, stored, region, strict=True):
                start, stop = max(i * n, part.start), min((i + 1) * n, part.stop)
                in_object.append(slice(start - i * n, stop - i * n))
                in_out.append(slice(start - part.start, stop - part.start))
            out[tuple(in_out)] = future.result()[tuple(in_object)]

    def _object(self, image: int, level: int, index: tuple[int, ...]) -> Future[Array]:
        """Pixels of a stored object, from the cache or requested now."""
        key = (image, level, index)
        stored, shape = self._plan.stored_shape(level), self._plan.levels[level].shape
        region = tuple(
            slice(i * n, min((i + 1) * n, length), 1)
            for i, n, length in zip(index, stored, shape, strict=True)
        )
        with self._lock:
            future = self._cache.get(key)
            if future is None:
                source = LevelInput(self._plan, self._copy, level, partial(self._digest, level))
                future = self._cache[key] = self._threads.submit(source.read_image, image, region)
            self._cache.move_to_end(key)
            while len(self._cache) > self._cache_size:
                self._cache.popitem(last=False)
            return future

    def _digest(self, level: int, image: int, index: tuple[int, ...]) -> str | None:
        """SHA-256 of a stored object; None where the commit record of its cell is lost."""
        cell = cell_storing(self._plan, level, image, index)
        with self._record_lock:
            if cell not in self._digests:
                record = read_record(self._copy, *cell)
                levels = () if record is None else record.levels
                objects = itertools.chain.from_iterable(each.objects for each in levels)
                self._digests[cell] = {stored.key: stored.sha256 for stored in objects}
            self._digests.move_to_end(cell)
            while len(self._digests) > _MOST_RECORDS:
                self._digests.popitem(last=False)
            return self._digests[cell].get(self._plan.shard_key(image, level, index))
