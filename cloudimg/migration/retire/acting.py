"""Acting on the files of a list, under the lease of the copy, and never beside an earlier run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from cloudimg.errors import ArgumentError
from cloudimg.migration.journal.acquiring import acquire
from cloudimg.migration.journal.clearing import remove_leftovers
from cloudimg.migration.journal.destination import Destination
from cloudimg.migration.journal.layout import LEASES
from cloudimg.migration.journal.lease import Lease
from cloudimg.migration.journal.lease_view import read_lease
from cloudimg.migration.progress import Counter, notify_of
from cloudimg.migration.retire.action import Original
from cloudimg.migration.retire.manifest import Manifest, originals_of
from cloudimg.migration.retire.originals import AHEAD
from cloudimg.migration.retire.result import Outcome, Tally
from cloudimg.migration.retire.work import Work
from cloudimg.settings import settings
from cloudimg.settings.operating_system import elapsed_s
from cloudimg.storage import engine, map_ahead


@contextmanager
def leased(work: Work) -> Iterator[tuple[Lease, Callable[[], None]]]:
    """Hold the lease of the copy.

    Yields the lease, and a function that returns when nothing of an earlier run can arrive any
    more. Call it before anything is done to files: a request to delete one, of a process that was
    killed, may still be under way, and would delete what was brought back meanwhile.

    Raises
    ------
    ArgumentError
        If the store does not fence.
    LeaseError, StorageError
    """
    copy, notify = work.copy, partial(notify_of, work.progress)
    began = elapsed_s()
    was_cut_off = _was_cut_off(copy) and work.source.location.protocol != "file"

    def wait() -> None:
        left_s = began + settings().lease_ttl_s - elapsed_s()
        if was_cut_off and left_s > 0:
            notify(
                f"an earlier run was interrupted: waiting {left_s:.0f} s for its requests to end"
            )
            time.sleep(left_s)

    with acquire(copy, notify=notify) as lease:
        if not lease.fences:
            raise ArgumentError(
                f"the store of {copy.url} does not refuse to create objects that exist, so another"
                " process may act on the same files: nothing was done"
            )
        remove_leftovers(copy)
        yield lease, wait
        # A request to delete a file may arrive late even where all was done.
        lease.end(has_failed=True)


def _was_cut_off(copy: Destination) -> bool:
    """Whether the last holder of the lease did not give it back."""
    numbers = [
        int(name) for entry in copy.list(LEASES) if (name := Path(entry.key).stem).isdecimal()
    ]
    last = read_lease(copy, max(numbers)) if numbers else None
    return last is not None and last.get("released") is not True


def act(work: Work, manifest: Manifest, step: Callable[[Original], Outcome], what: str) -> Tally:
    """Do a step for each file of a list, several at once.

    Raises
    ------
    LeaseError, StorageError
        Files that were not reached are as they were: the same call continues.
    """
    tally = Tally()
    counter = Counter(
        what=what,
        n_cells=manifest.n_files,
        n_done=0,
        bytes_left=manifest.n_bytes,
        progress=work.progress,
        unit="file",
    )

    def done(original: Original) -> tuple[int, Outcome]:
        return original.size_bytes, step(original)

    files = originals_of(work.copy, manifest)
    for size_bytes, outcome in map_ahead(
        lambda original: engine().fetch(partial(done, original)), files, n_ahead=AHEAD
    ):
        tally.add(outcome)
        counter.add(size_bytes)
    return tally
