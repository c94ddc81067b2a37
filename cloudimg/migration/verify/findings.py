"""What the cells of a copy are compared with, and the problems that are found in one of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from cloudimg.migration.journal.destination import Destination
from cloudimg.migration.plan.plan import Plan
from cloudimg.migration.run.inputs import Input
from cloudimg.migration.verify.result import Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Checks:
    """What to compare the cells of a copy with. Picklable, so that workers can check cells."""

    plan: Plan
    """Plan of the migration."""
    destination: Destination
    """The copy."""
    source: Input | None
    """Pixels to compare level 0 with."""
    sampled: npt.NDArray[np.bool_] | None
    """By number of the cell of stage 0, whether to compare it with the source. None: all."""
    lists_all: bool
    """Whether commit records list all objects of their cells, also those of empty chunks."""
    recorded_source: Mapping[str, Any]
    """`State.source` of the migration."""
    plan_id: str
    """`State.id` of the migration; commit records of other migrations are not valid."""
    compares_versions: bool = False
    """Whether `source` has the rows of the table of files that commit records name."""


@dataclass(slots=True)
class Findings:
    """Problems of a cell and bytes read, collected while it is checked."""

    checks: Checks
    cell: tuple[int, int]
    """Stage and number of the cell."""
    problems: list[Problem] = field(default_factory=list)
    n_bytes: int = 0

    def add(self, key: str, what: str) -> None:
        """Add a problem of the object with a key."""
        self.problems.append(Problem(self.checks.destination.display(key), what, self.cell))
