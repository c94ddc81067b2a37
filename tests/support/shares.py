"""Which part of very many cases runs: a tenth, chosen by a seed, unless all are asked for."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from typing import TypeVar

Case = TypeVar("Case")

SEED = os.environ.get("CLOUDIMG_TEST_LONG", "0")
"""Chooses the tenth; "all" runs all cases."""
_LEAST_CASES = 3


def share_of(cases: Sequence[Case], name_of: Callable[[Case], str] = repr) -> list[Case]:
    """A tenth of some cases, in their order, and at least three of them."""
    if SEED == "all":
        return list(cases)

    def drawn(i: int) -> bytes:
        return hashlib.sha256(f"{SEED} {name_of(cases[i])}".encode()).digest()

    n_cases = max(_LEAST_CASES, -(-len(cases) // 10))
    return [cases[i] for i in sorted(sorted(range(len(cases)), key=drawn)[:n_cases])]
