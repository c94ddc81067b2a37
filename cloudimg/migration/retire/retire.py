"""Retire the originals of a copy: prove, list, act; and the way back.

1. The copy is verified as a whole, and all its pixels are compared with the files. A sample of the
   files is read by a reader that is not ours.
2. Each file is looked at: it must have the version that its cells have read, and the place that it
   moves to must be free.
3. The list of all files is stored in the copy.
4. Only then each file is tagged or moved, under the lease of the copy. One that changed is left.

Whoever continues after a kill begins at 4, with the list that is there, and finds out at the stores
what is done. Nothing is ever deleted that is not whole at another place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import TypeVar

from cloudimg.errors import ArgumentError, CorruptFileError, counted
from cloudimg.migration.export.originals import read_rows
from cloudimg.migration.export.result import LostByKind
from cloudimg.migration.journal.file_table import get_files
from cloudimg.migration.journal.layout import RETIRED_LIST
from cloudimg.migration.journal.lease import Lease
from cloudimg.migration.progress import Counter
from cloudimg.migration.retire.acting import act, leased
from cloudimg.migration.retire.action import Action, Move, Original, Tag, common_folder
from cloudimg.migration.retire.manifest import (
    Manifest,
    check_parts,
    originals_of,
    read_manifest,
    remove_manifest,
    write_manifest,
)
from cloudimg.migration.retire.originals import AHEAD, CopiedFiles, originals
from cloudimg.migration.retire.proof import prove, rows_of_files, verify_alone
from cloudimg.migration.retire.refusals import refuse_copy
from cloudimg.migration.retire.result import BEFORE, DONE, LEFT, Left, Outcome, Retirement, Tally
from cloudimg.migration.retire.survey import not_held, what_stays
from cloudimg.migration.retire.tagging import CHANGED
from cloudimg.migration.retire.work import Work
from cloudimg.storage import Location, engine, map_ahead

T = TypeVar("T")


def dry_run(work: Work) -> Retirement:
    """Find out what `retire` would do, without comparing pixels.

    Raises
    ------
    ArgumentError
        If the copy cannot take the place of its originals.
    CorruptFileError, StorageError
    """
    refuse_copy(work.state, work.copy.url, work.source.location)
    files = CopiedFiles(work.copy, work.state, work.source)
    base = common_folder(*files.keys())
    action = work.action(base)
    manifest = read_manifest(work.copy, work.state.id)
    tally, n_bytes = Tally(), 0
    if manifest is None:
        for key, standing, taken in _looked(work, action, files.look()):
            n_bytes += 0 if standing is None else standing.size_bytes
            why = CHANGED if standing is None else f"another file is at {taken}" if taken else ""
            if why:
                tally.add(Outcome(LEFT, Left(work.source.location.display(key), why)))
    else:
        work.refuse_other(manifest)
        n_bytes = manifest.n_bytes
    lost = LostByKind()
    for rows in rows_of_files(work, files):
        lost.add(str(rows[0]["key"]), not_held(rows))
    result = _result(work, str(action), tally, n_files=len(files), n_bytes=n_bytes)
    return replace(
        result,
        is_dry_run=True,
        stays=tuple(what_stays(files, base)),
        not_held=lost.all(),
        notes=work.state.notes,
        manifest="" if manifest is None else result.manifest,
    )


def retire(work: Work) -> Retirement:
    """Tag or move the originals of a copy, or continue to do so.

    Raises
    ------
    ArgumentError
        If the copy cannot take the place of its originals.
    CloudimgError
        If the copy, or the sample, does not have the pixels of the files. Nothing was done then.
    ChangedError
        If files changed since they were copied. Nothing was done then.
    LeaseError, CorruptFileError, StorageError
    """
    refuse_copy(work.state, work.copy.url, work.source.location)
    with leased(work) as (lease, wait):
        manifest = read_manifest(work.copy, work.state.id)
        if manifest is None:
            manifest = _listed(work, lease)
        else:
            work.refuse_other(manifest)
            check_parts(work.copy, manifest)
            verify_alone(work)
        wait()
        hand = work.hand(manifest.action, lease.view())
        tally = act(work, manifest, hand.retire, "retiring")
    result = _result(
        work,
        str(manifest.action),
        tally,
        n_files=manifest.n_files,
        n_bytes=manifest.n_bytes,
    )
    return replace(result, proof=manifest.proof, notes=work.state.notes)


def undo_by_list(work: Work, *, may_use: Callable[[Location], None]) -> Retirement:
    """Take the tags away, or move the originals back, by the list that the copy has.

    Parameters
    ----------
    work : Work
    may_use : callable
        Called with a store other than that of the files from which they are to be moved back;
        raises if they must not be.

    Raises
    ------
    ArgumentError
        If the copy has no such list.
    LeaseError, CorruptFileError, StorageError
    """
    copy = work.copy
    with leased(work) as (lease, wait):
        manifest = read_manifest(copy, work.state.id)
        if manifest is None:
            raise ArgumentError(
                f"the originals of {copy.url} are not retired: there is no"
                f" {copy.display(RETIRED_LIST)}"
            )
        check_parts(copy, manifest)
        _check_keys(work, manifest)
        if isinstance(manifest.action, Move):
            target = work.target(manifest.action).location
            if target != work.source.location:
                may_use(target)
        wait()
        hand = work.hand(manifest.action, lease.view())
        tally = act(work, manifest, hand.bring_back, "bringing back")
        if not tally.counts[LEFT]:
            remove_manifest(lease.guarded())
    result = _result(
        work,
        f"undo {manifest.action}",
        tally,
        n_files=manifest.n_files,
        n_bytes=manifest.n_bytes,
    )
    return result if result.n_left else replace(result, manifest="")


def _listed(work: Work, lease: Lease) -> Manifest:
    """Prove that the files may be retired, and store the list of them."""
    files = CopiedFiles(work.copy, work.state, work.source)
    action = work.action(common_folder(*files.keys()))
    proof, trusts_md5 = prove(work, files)
    counter = Counter(
        what="checking", n_cells=len(files), n_done=0, bytes_left=0, progress=work.progress,
        unit="file",
    )  # fmt: skip
    name = action.name if isinstance(action, Tag) else None
    found = originals(files, name=name, trusts_md5=trusts_md5, report=counter.add)
    if isinstance(action, Move):
        found = _with_free_places(work, action, found)
    return write_manifest(lease.guarded(), work.state.id, action, proof, found)


def _with_free_places(work: Work, move: Move, found: Iterator[Original]) -> Iterator[Original]:
    """The files, to none of whose new places there is anything.

    Raises
    ------
    ArgumentError
    """
    n_taken, taken = 0, ""
    pairs = ((original.key, original) for original in found)
    for _, original, url in _looked(work, move, pairs):
        n_taken += bool(url)
        taken = taken or url
        yield original
    if n_taken:
        raise ArgumentError(
            f"{counted(n_taken, 'file')} cannot move to {move.url}, where others have their names"
            f" ({taken}): nothing was done to any file. Pass another folder as move_to="
        )


def _looked(
    work: Work, action: Action, found: Iterator[tuple[str, T]]
) -> Iterator[tuple[str, T, str]]:
    """Keys of files and what is known of them, with the URL of what is where they move to."""

    def looked(key: str, known: T) -> tuple[str, T, str]:
        if not isinstance(action, Move):
            return key, known, ""
        store, target = work.target(action), action.target_of(key)
        there = store.move(lambda mover: mover.look(target), changes=False)
        return key, known, "" if there is None else store.location.display(target)

    yield from map_ahead(lambda each: engine().fetch(partial(looked, *each)), found, n_ahead=AHEAD)


def _check_keys(work: Work, manifest: Manifest) -> None:
    """Check that a list is of the files of the copy, and of no others.

    Raises
    ------
    CorruptFileError
    """
    location = work.source.location
    try:
        table = get_files(work.copy, work.state)
        names = [] if table is None else table.keys.to_pylist()
    except CorruptFileError:  # the table of originals has the names, too
        names = [str(row["key"]) for row in read_rows(work.copy, work.state.source)]
    known = set(map(location.key_of, names))
    for original in originals_of(work.copy, manifest):
        if original.key not in known:
            url = work.copy.display(RETIRED_LIST)
            raise CorruptFileError(
                f"{url} is damaged: it lists {location.display(original.key)}, of which the copy"
                " was not made",
                url=url,
            )


def _result(
    work: Work, action: Action | str, tally: Tally, *, n_files: int, n_bytes: int
) -> Retirement:
    return Retirement(
        url=work.copy.url,
        action=str(action),
        is_dry_run=False,
        n_files=n_files,
        n_bytes=n_bytes,
        n_done=tally.counts[DONE],
        n_before=tally.counts[BEFORE],
        n_left=tally.counts[LEFT],
        left=tuple(tally.left),
        manifest=work.copy.display(RETIRED_LIST),
    )
