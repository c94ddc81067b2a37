"""Write the metadata of a copy anew, by the rules of this version. No pixels are read or stored.

1. Look at the copy without its pixels: it must have all of its commit records and its end mark.
2. Acquire its lease, and make the facts anew: from the source, or from what the copy has of it.
3. Store the documents, that of the root last. What others edited in them stays.
4. Store the plan with the new facts, its second copy, and an end mark that names it.

Killed in step 3, it leaves a copy that is whole, in which some documents differ from what its plan
says as if they were edited. Killed in step 4, it leaves one whose plan is not the one that the end
mark names, and which any repair mends: by the old plan while one copy of it is left, or else by the
new one. In each case the next call with the same arguments does what is left.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from cloudimg.errors import CloudimgError, DamagedCopyError, NotFoundError
from cloudimg.migration.journal.clearing import remove_leftovers
from cloudimg.migration.journal.destination import Destination
from cloudimg.migration.journal.layout import END_MARK, PLAN
from cloudimg.migration.journal.plans import StoredPlans, plan_bytes, read_plans
from cloudimg.migration.journal.sealing import seal
from cloudimg.migration.journal.state import NO_FENCE, State
from cloudimg.migration.journal.stored_objects import restore_object
from cloudimg.migration.journal.stored_plan import replace_plan
from cloudimg.migration.metadata.channels import channels_of
from cloudimg.migration.metadata.facts import ImageFacts
from cloudimg.migration.metadata.mended import renewed_document
from cloudimg.migration.metadata.positions import in_one_unit
from cloudimg.migration.plan.axes_mapping import AxesMapping
from cloudimg.migration.repair.mend_rest import mend_plans, written_documents
from cloudimg.migration.repair.options import OpenOriginal, RepairOptions
from cloudimg.migration.repair.result import MOST, Repair
from cloudimg.migration.run.advice import facts_with_advice
from cloudimg.migration.run.committed import CommittedCells, committed_cells
from cloudimg.migration.verify.result import Verification
from cloudimg.migration.verify.verifying import Verifying
from cloudimg.storage import engine, map_ahead
from cloudimg.tiff.colours.channels import PixelColours

_AHEAD = 16
"""Documents that are compared and stored at once."""
_NOT_COMPARED = (
    "the metadata is made of the headers of the source that was named, whose pixels were not"
    " compared with the copy: cloudimg.verify(copy, source=...) compares them"
)


@dataclass(frozen=True, slots=True)
class NewFacts:
    """What is known of the image of a copy now."""

    facts: ImageFacts
    notes: tuple[str, ...] = ()
    """What could not be made anew, and why."""


@dataclass(slots=True)
class Renewal:
    """A copy whose documents are written anew.

    Parameters
    ----------
    destination : Destination
        Guarded by the lease, unless nothing is to be stored.
    plans : StoredPlans
    open_original : callable
    options : RepairOptions
    """

    destination: Destination
    plans: StoredPlans
    open_original: OpenOriginal
    options: RepairOptions
    renewed: list[str] = field(default_factory=list)
    """Keys of what was stored anew, or would be."""

    def run(self, started: float, *, fences: bool) -> Repair:
        """Store what differs, and look at the copy again.

        Raises
        ------
        DamagedCopyError
            If it has other damage than what this can mend.
        StorageError, LeaseError
        """
        found = self._look()
        committed = committed_cells(self.destination, self.plans.state)
        before = self.plans.state
        if committed is None or before.end_mark is None or _has_other_records(before, committed):
            raise DamagedCopyError(
                f"{self.destination.url} is damaged, and nothing was written: it lacks commit"
                " records or its end mark, or has others. Mend it first, by cloudimg.repair without"
                " new_documents=True",
                url=self.destination.url,
            )
        new = new_facts(before, self.open_original)
        state = replace(before, facts=new.facts)
        written, documents = (
            written_documents(self.destination, each, committed) for each in (before, state)
        )
        if self.options.dry_run:
            self._store_documents(written, documents, fences=fences)
            return self._result(found, found, new, started)
        remove_leftovers(self.destination)
        mend_plans(self.destination, self.plans, fences=fences)
        self._store_documents(written, documents, fences=fences)
        self._store_plan(state, committed, documents, fences=fences)
        self.plans = read_plans(self.destination)
        return self._result(found, self._look(), new, started)

    def _look(self) -> Verification:
        """Check everything but pixels."""
        state = self.plans.state
        work = Verifying(
            self.destination, state, max_bytes=self.options.max_bytes, client=self.options.client
        )
        return work.run_again([set() for _ in state.plan.stages])

    def _store_documents(
        self, written: Mapping[str, bytes], documents: Mapping[str, bytes], *, fences: bool
    ) -> None:
        *others, root = documents
        renew = partial(self._renew, written, documents, fences=fences)
        for _ in map_ahead(lambda key: engine().fetch(partial(renew, key)), others, n_ahead=_AHEAD):
            pass
        renew(root)
        for key in written:
            if key not in documents and self._found(key) == written[key]:
                self.renewed.append(key)
                if not self.options.dry_run:
                    self.destination.delete([key])

    def _renew(
        self,
        written: Mapping[str, bytes],
        documents: Mapping[str, bytes],
        key: str,
        *,
        fences: bool,
    ) -> None:
        """Store a document, with what others edited in the one that stands there."""
        found = self._found(key)
        base = None if self.options.replace_edits else written.get(key)
        data = documents[key]
        if found is not None and not self.options.replace_edits:
            data = renewed_document(key, base, found, data)
        if data != found:
            self.renewed.append(key)
            if not self.options.dry_run:
                restore_object(self.destination, key, data, fences=fences)

    def _found(self, key: str) -> bytes | None:
        try:
            return self.destination.get(key)
        except NotFoundError:
            return None

    def _store_plan(
        self,
        state: State,
        committed: CommittedCells,
        documents: Mapping[str, bytes],
        *,
        fences: bool,
    ) -> None:
        """Store the plan and its second copy, then the end mark, unless they are those."""
        end_mark = state.end_mark
        assert end_mark is not None
        _, etag = plan_bytes(self.destination, PLAN, self.plans.state)
        # Records of a copy that was moved have the versions of another place. If the plan is not
        # the one that the end mark names, an earlier call was killed, and nobody knows.
        is_in_place = state.is_of(end_mark) and end_mark.plan_etag == etag
        if state.to_json() != self.plans.state.to_json():
            state = replace_plan(self.destination, replace(state, etag=etag))
        elif state.is_of(end_mark):
            return
        new = committed.records_digest.end_mark(
            state.id,
            documents.items(),
            state.facts.with_notes(committed.all_notes()).source_notes,
            plan_sha256=state.sha256,
            plan_etag=state.etag if is_in_place else None,
        )
        restore_object(self.destination, END_MARK, seal(new.to_json()), fences=fences)

    def _result(
        self, found: Verification, last: Verification, new: NewFacts, started: float
    ) -> Repair:
        return Repair(
            url=self.destination.url,
            is_dry_run=self.options.dry_run,
            n_found=found.n_problems,
            found=found.problems[:MOST],
            n_renewed=len(self.renewed),
            renewed=tuple(sorted(self.renewed)[:MOST]),
            n_problems=last.n_problems,
            problems=last.problems[:MOST],
            notes=new.notes,
            seconds=time.monotonic() - started,
            edits=last.edits,
            n_edits=last.n_edits,
        )


def _has_other_records(state: State, committed: CommittedCells) -> bool:
    """Whether the commit records are not those that the end mark names."""
    assert state.end_mark is not None
    return committed.records_digest.digest() != state.end_mark.records_digest


def new_facts(state: State, open_original: OpenOriginal) -> NewFacts:
    """The facts of a copy by the rules of this version.

    Those of labels stay: they have the coordinates of their image.

    Parameters
    ----------
    state : State
    open_original : callable
    """
    if state.facts.label_of is not None:
        return NewFacts(state.facts)
    try:
        original = open_original(state)
        if not original.is_unchanged or original.has_other_sizes:
            raise CloudimgError("it has other files than were copied, or they changed")
        lost = sorted(state.facts.scales.keys() - original.write_input.facts.scales.keys())
        if lost and state.source["kind"] == "array":
            along = ", ".join(lost)
            raise CloudimgError(
                f"the array that was given has no coordinates along {along}, unlike the one that"
                " was copied"
            )
    except CloudimgError as exc:
        return _from_copy(state, exc.message)
    made = facts_with_advice(original.write_input, state.plan, state.request)
    is_known = original.is_recorded or state.source["kind"] == "array"
    return NewFacts(_completed(made, state), () if is_known else (_NOT_COMPARED,))


def _completed(made: ImageFacts, state: State) -> ImageFacts:
    """New facts, with those of the old ones that only the migration could know."""
    before = state.facts
    return replace(
        made,
        ome_xml=made.ome_xml or before.ome_xml,
        companion=made.companion if made.ome_xml else before.companion,
        companions=before.companions,
        provenance=before.provenance,
        notes=(*made.notes, *([] if state.fences else [NO_FENCE])),
        source_notes=before.source_notes,
    )


def _from_copy(state: State, why: str) -> NewFacts:
    """New facts from what the copy has of the headers."""
    before = state.facts
    if not before.is_of_older:
        return NewFacts(before, (f"the source was not read ({why}): the facts stay as they are",))
    mapping = AxesMapping(state.source["dims"], state.source["shape"])
    dtype = np.dtype(state.source["dtype"])
    names, colors = channels_of(mapping, before.attrs, before.coordinates("c") or None)
    scales, origins, units = in_one_unit(before.scales, before.origins, before.units)
    facts = replace(
        before,
        scales=scales,
        origins=origins,
        units=units,
        channel_names=before.channel_names or names,
        channel_colors=before.channel_colors or colors,
        colours=PixelColours.of(before.attrs, dtype, mapping.n_samples),
    )
    note = (
        f"the source was not read ({why}): colours and units are made from what the copy has of the"
        " headers. The name of the image and positions of fields stay as they were"
    )
    return NewFacts(facts, (note,))
