"""`Damage`: which parts of a copy the problems concern that a verification found."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from cloudimg.migration.plan.plan import Plan


@dataclass(slots=True)
class Damage:
    """What of a copy is damaged. All of it, whereas a result keeps the first problems."""

    cells: list[set[int]]
    """By stage, numbers of the cells that have problems."""
    has_other_records: bool = False
    """Whether the commit records are not those that the end mark names, or cannot be compared with
    it."""
    lacks_table: bool = False
    """Whether the table of the source's files is missing or damaged."""
    foreign: list[str] = field(default_factory=list)
    """Keys of objects among those of the copy that do not belong to it."""
    links: list[Path] = field(default_factory=list)
    """Symbolic links in the folder of the copy."""

    @classmethod
    def none(cls, plan: Plan) -> Damage:
        """No damage."""
        return cls([set() for _ in plan.stages])
