"""Files of a microscope that is still at work: one for each time, field and channel."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tests.support import seed

CHANNELS = ("dapi", "gfp")
SIZE = 64


@dataclass(frozen=True, slots=True)
class Acquisition:
    """Files that are put somewhere one after the other."""

    put: Callable[[str, bytes], object]
    fields: tuple[int, ...] = (0,)
    """With several, each is an image of its own."""

    @property
    def name(self) -> str:
        """The pattern of the names, in which the time comes last."""
        return "a_{c:s}_f{field}_t{t}.tif" if len(self.fields) > 1 else "a_{c:s}_t{t}.tif"

    def name_of(self, t: int, c: str, field: int) -> str:
        named = self.name.replace("{c:s}", c).replace("{field}", str(field))
        return named.replace("{t}", f"{t:03d}")

    def files(self, t: int) -> Iterator[tuple[str, bytes]]:
        for field in self.fields:
            for number, c in enumerate(CHANNELS):
                yield self.name_of(t, c, field), seed.encode(plane(t, number, field))

    def take(self, *times: int) -> None:
        """Put the files of some times."""
        for t in times:
            for name, data in self.files(t):
                self.put(name, data)


def plane(t: int, c: int, field: int = 0) -> npt.NDArray[Any]:
    draw = np.random.default_rng((t, c, field))
    return draw.integers(1, 1000 * (t + 1), (SIZE, SIZE), np.uint16)
