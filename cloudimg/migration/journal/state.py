"""`State`: a planned or finished migration, as the plan in its journal describes it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from cloudimg.discovery.table import MOST_ROWS
from cloudimg.migration.journal.inventory import EndMark
from cloudimg.migration.journal.layout import FORMAT
from cloudimg.migration.journal.state_from_json import (
    CONTINUED,
    GROWN,
    checked_state,
    identity_of,
)
from cloudimg.migration.metadata.facts import ImageFacts
from cloudimg.migration.plan.plan import Plan
from cloudimg.migration.plan.request import WriteRequest

NO_FENCE = (
    "while this copy was made, its store did not refuse to create an object that exists: only its"
    " lease kept other writers apart"
)
"""Note in copies on stores that do not fence, see `Lease.fences`."""


@dataclass(frozen=True, slots=True)
class GrownFrom:
    """What decides the documents of a finished copy that has grown since."""

    length: int
    """Length of the axis along which it grows."""
    facts: ImageFacts
    written: Mapping[str, str] | None = None
    """If files came late: the documents that others edited, as they were written. The commit
    records no longer tell, since the cells that are done again had a part in the documents."""

    def to_json(self) -> dict[str, Any]:
        """The same as JSON for the plan."""
        written = {} if self.written is None else {"written": dict(self.written)}
        return {"length": self.length, "facts": self.facts.to_json(), **written}


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """A planned migration, as its destination records it."""

    plan: Plan
    request: WriteRequest
    """The arguments that the plan was made from."""
    source: Mapping[str, Any]
    """`WriteInput.source` of the migration."""
    facts: ImageFacts
    id: str
    """Digest of everything that decides which pixels are written; the same on every machine."""
    files_sha256: str = ""
    """SHA-256 of the stored table of files; empty for an array, and in plans of older versions."""
    fences: bool = True
    """Whether the store refused to create an object that exists, when the plan was made."""
    format: int = FORMAT
    """Format number of the journal."""
    began_as: Mapping[str, Any] | None = None
    """What the fields `CONTINUED` of `source` were when the migration was planned, if it goes on
    with other files, and the fields `GROWN`, if its copy has grown; `id` is of them."""
    grown_from: GrownFrom | None = None
    """The finished copy that this one adds to; None unless it has grown."""
    sha256: str = ""
    """Checksum of the stored plan, which covers all of the above; empty if none is stored yet."""
    etag: str | None = None
    """Version of the stored plan; None also if the store reports none."""
    end_mark: EndMark | None = None
    """None if the migration is not finished."""

    @classmethod
    def planned(
        cls,
        plan: Plan,
        request: WriteRequest,
        source: Mapping[str, Any],
        facts: ImageFacts,
        *,
        fences: bool,
    ) -> Self:
        """The state of a new migration."""
        state_id = identity_of(plan.to_json(), request.to_json(), source)
        state = cls(plan=plan, request=request, source=source, facts=facts, id=state_id)
        return state if fences else state.without_fence()

    def with_files(self, source: Mapping[str, Any], facts: ImageFacts) -> Self:
        """The state of the same migration, which goes on with other files under its identity."""
        began_as = self.began_as or {name: self.source[name] for name in CONTINUED}
        return replace(self, source=source, facts=facts, began_as=began_as)

    def grown(
        self,
        plan: Plan,
        source: Mapping[str, Any],
        facts: ImageFacts,
        *,
        written: Mapping[str, str] | None,
    ) -> Self:
        """The state of the same migration, unfinished, with a longer plan for more files.

        Cells keep their numbers, so that their commit records stay valid under the identity.
        """
        before = self.plan.levels[0].shape[self.plan.dims.index(self.plan.grow or "")]
        return replace(
            self,
            plan=plan,
            source=source,
            facts=facts,
            began_as={**{name: self.source[name] for name in GROWN}, **(self.began_as or {})},
            grown_from=GrownFrom(before, self.facts, written),
            end_mark=None,
        )

    def without_fence(self) -> Self:
        """The state of the same migration, with a note that its store does not fence."""
        facts = replace(self.facts, notes=(*self.facts.notes, NO_FENCE))
        return replace(self, facts=facts, fences=False)

    @property
    def is_done(self) -> bool:
        """Whether the migration is finished."""
        return self.end_mark is not None

    def is_of(self, end_mark: EndMark) -> bool:
        """Whether this is the plan that a migration finished with, as far as it recorded that."""
        return end_mark.plan_sha256 in ("", self.sha256)

    @property
    def is_current(self) -> bool:
        """Whether this version writes journals of this format."""
        return self.format == FORMAT

    @property
    def most_files(self) -> int:
        """Most files, or planes of files, that the source can consist of: each has a pixel."""
        n_pixels: int = math.prod(self.source["shape"])
        return min(n_pixels, MOST_ROWS)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the copy lacks, and what was noticed about the source: by all cells if finished."""
        if self.end_mark is None:
            return self.facts.all_notes
        return (*self.facts.notes, *self.end_mark.notes)

    def to_json(self) -> dict[str, Any]:
        """The state without its end mark, as JSON for the journal."""
        return {
            "format": self.format,
            "state": "planned",
            "id": self.id,
            "plan": self.plan.to_json(),
            "request": self.request.to_json(),
            "source": dict(self.source),
            "facts": self.facts.to_json(),
            **({"files": self.files_sha256} if self.files_sha256 else {}),
            **({} if self.fences else {"fence": "none"}),
            **({} if self.began_as is None else {"began_as": dict(self.began_as)}),
            **({} if self.grown_from is None else {"grown_from": self.grown_from.to_json()}),
        }

    @classmethod
    def from_json(cls, content: Any) -> Self:
        """Make a state, without an end mark, from its JSON.

        Raises
        ------
        ValueError
            If it is not the plan of a migration that could have been made.
        """
        fields = checked_state(content)
        grown_from = fields.pop("grown_from")
        return cls(**fields, grown_from=grown_from and GrownFrom(*grown_from))
