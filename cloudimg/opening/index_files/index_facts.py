"""`IndexFacts`: what index files say of an image, in the terms of attributes and facts."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from cloudimg.discovery.fact_columns import FactColumns
from cloudimg.discovery.fact_kinds import FACTS, TEXT
from cloudimg.discovery.grid import FileGrid
from cloudimg.errors import GridError, counted
from cloudimg.errors.notes import Note
from cloudimg.opening.index_files.content import Content
from cloudimg.opening.index_files.stage_positions import impossible_positions
from cloudimg.reading.agreement import without_facts
from cloudimg.tiff.flavours.facts import MICROMETRE, micrometres

UNUSED = "index-file-unused"
"""Kind of the note about index files that cannot be used."""
_IMPOSSIBLE = "index-file-positions"
_SAME = 1e-3
"""Share of a pixel size by which two statements of it may differ."""
_EVEN = 0.01
"""Share of the distance of planes by which distances may differ and still be even."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stated:
    """What index files state of all images together."""

    pixel_size: tuple[float, float] | None = None
    """Along x and y in micrometres, if it is the same for all."""
    z_step: float | None = None
    time_step_s: float | None = None
    colors: Mapping[str, int] = field(default_factory=dict)
    """Colours of channels by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexFacts:
    """What the index files of an image say. Picklable."""

    facts: FactColumns
    """What they say of each file, by position in C order of the grid."""
    attrs: Mapping[str, Any] = field(default_factory=dict)
    """Attributes of the image, as `cloudimg.ImageAttributes` has them."""
    notes: tuple[Note, ...] = ()
    urls: tuple[str, ...] = ()
    """URLs of the index files, without secrets."""
    stated: Stated = field(default_factory=Stated)

    @property
    def name(self) -> str:
        """Name of the first of them, for messages."""
        return self.urls[0].rpartition("/")[2] if self.urls else ""

    @contextmanager
    def explaining(self) -> Iterator[None]:
        """Add to an error about lacking positions why those of the index files are not used."""
        try:
            yield
        except GridError as exc:
            reasons = [note for note in self.notes if note.kind in (_IMPOSSIBLE, UNUSED)]
            exc.message = ". ".join([exc.message, *reasons])
            exc.args = (exc.message,)
            raise

    @classmethod
    def of(cls, content: Content, urls: Sequence[str], notes: Sequence[Note]) -> Self:
        """Sum up what was read.

        Parameters
        ----------
        content : Content
        urls : sequence of str
            Index files that were used.
        notes : sequence of Note
            Why others were not.
        """
        stated = Stated(
            pixel_size=_pixel_size(content),
            z_step=content.z_step,
            time_step_s=content.time_step_s,
            colors=content.colors,
        )
        if content.names_files and content.n_unknown:
            content.add_silent()
        facts, of_positions = _without_impossible(content, stated, urls)
        return cls(
            facts=facts,
            attrs=_attributes(content.grid, facts, stated) if urls else {},
            notes=(*notes, *_notes(content, urls), *of_positions),
            urls=tuple(urls),
            stated=stated,
        )

    @classmethod
    def unused(cls, notes: Sequence[Note]) -> Self:
        """No facts, and the notes that say why the index files are not used."""
        return cls(facts=FactColumns(), notes=tuple(notes))

    def narrowed(self, grid: FileGrid, rows: npt.NDArray[np.int64]) -> Self:
        """Return what is said of some of the files.

        Parameters
        ----------
        grid : FileGrid
            The grid of these files.
        rows : ndarray
            Their positions so far, by position in that grid.
        """
        facts = FactColumns()
        columns = {}
        for name in self.facts.names:
            columns[name] = self.facts.column(name, rows)
            if FACTS[name].type == TEXT:  # the number of no text, -1, is that of the last one
                columns[name] = np.array([*self.facts.texts(name), ""], object)[columns[name]]
        facts.add_columns(np.arange(len(rows)), columns)
        return replace(self, facts=facts, attrs=_attributes(grid, facts, self.stated))

    def filling(self, attrs: Mapping[str, Any], differing: Collection[str] = ()) -> dict[str, Any]:
        """Return the attributes of headers with those that only index files have.

        Parameters
        ----------
        attrs : mapping
        differing : collection of str
            Facts that differ from file to file according to headers.
        """
        own = without_facts(self.attrs, differing)
        joined = {**own, **attrs}
        for name in ("pixel_size", "pixel_size_unit"):
            if name in own:
                joined[name] = {**own[name], **attrs.get(name, {})}
        return joined

    def differences(self, attrs: Mapping[str, Any], url: str) -> list[Note]:
        """Return a note if the header of the first file says something else.

        Parameters
        ----------
        attrs : mapping
            Attributes of the first file.
        url : str
            Its URL.
        """
        texts = []
        for dim, size in self.attrs.get("pixel_size", {}).items():
            unit = attrs.get("pixel_size_unit", {}).get(dim, "")
            in_header = micrometres(attrs.get("pixel_size", {}).get(dim, np.nan), unit)
            if in_header is not None and abs(in_header - size) > _SAME * size:
                texts.append(f"pixels are {size:g} µm along {dim}, not {in_header:g}")
        if not texts:
            return []
        text = f"it says that {' and '.join(texts)} as in the header of {url}, which is used"
        return [Note(text, kind="index-file-differs", n_files=1, urls=self.urls)]


def _notes(content: Content, urls: Sequence[str]) -> list[Note]:
    notes = []
    if content.remarks:
        text = "; ".join(dict.fromkeys(content.remarks))
        notes.append(Note(text, kind="index-file", n_files=len(urls), urls=urls))
    if content.n_absent:
        files = counted(content.n_absent, "file that is", "files that are")
        text = f"{_name(urls)} names {files} not there"
        notes.append(
            Note(text, kind="index-file-missing", n_files=content.n_absent, urls=content.absent)
        )
    if content.names_files and content.n_unknown:
        text = f"it does not name {content.n_unknown} of the {content.grid.n_files} files"
        notes.append(Note(text, kind="index-file-incomplete", n_files=len(urls), urls=urls))
    return notes


def _name(urls: Sequence[str]) -> str:
    return urls[0].rpartition("/")[2] if len(urls) == 1 else f"one of {len(urls)} index files"


def _without_impossible(
    content: Content, stated: Stated, urls: Sequence[str]
) -> tuple[FactColumns, list[Note]]:
    """The facts without positions along x and y at which fields cannot lie, and a note on it."""
    pixel_um = None if stated.pixel_size is None else min(stated.pixel_size)
    problem = impossible_positions(content.grid, content.facts, pixel_um)
    if problem is None:
        return content.facts, []
    note = Note(
        f"its stage positions are not used: {problem}",
        kind=_IMPOSSIBLE,
        n_files=len(urls),
        urls=urls,
    )
    return content.facts.without("stage_x", "stage_y", "stage_flip"), [note]


def _attributes(grid: FileGrid, facts: FactColumns, stated: Stated) -> dict[str, Any]:
    attrs: dict[str, Any] = {}
    names = _names_of_channels(grid, facts)
    if names:
        attrs["channel_names"] = names
        if all(name in stated.colors for name in names):
            attrs["channel_colors"] = [stated.colors[name] for name in names]
    sizes = dict(zip("xy", stated.pixel_size, strict=True)) if stated.pixel_size else {}
    step = _step_along_z(grid, facts) or stated.z_step
    if step:
        sizes["z"] = step
    if sizes:
        attrs["pixel_size"] = sizes
        attrs["pixel_size_unit"] = dict.fromkeys(sizes, MICROMETRE)
    if stated.time_step_s:
        attrs["time_step_s"] = stated.time_step_s
    objectives = facts.texts("objective")
    if len(objectives) == 1:
        attrs["objective"] = objectives[0]
    magnifications = np.unique(facts.column("magnification", grid.positions))
    if len(magnifications) == 1 and magnifications[0] > 0:
        attrs["magnification"] = float(magnifications[0])
    return attrs


def _pixel_size(content: Content) -> tuple[float, float] | None:
    """Sizes along x and y, if all images have the same."""
    sizes = np.array(sorted(content.pixel_sizes)).reshape(-1, 2)
    if not len(sizes) or np.any(np.ptp(sizes, axis=0) > _SAME * sizes.min(axis=0)):
        return None
    return float(sizes[0, 0]), float(sizes[0, 1])


def _names_of_channels(grid: FileGrid, facts: FactColumns) -> list[str]:
    """Names along c, if files of each channel have one name; empty if not."""
    if "c" not in grid.fields:
        return []
    axis = grid.fields.index("c")
    rows = grid.positions
    codes, texts = facts.column("channel", rows), facts.texts("channel")
    channels = np.unravel_index(rows, grid.shape)[axis]
    names = []
    for i in range(grid.shape[axis]):
        found = np.unique(codes[channels == i])
        if len(found) != 1 or found[0] < 0:
            return []
        names.append(texts[found[0]])
    return names


def _step_along_z(grid: FileGrid, facts: FactColumns) -> float | None:
    """The distance of planes along z, if it is the same everywhere."""
    if "z" not in grid.fields or "stage_z" not in facts.names:
        return None
    rows = grid.positions
    dense: npt.NDArray[np.float64] = np.full(grid.sizes.size, np.nan)
    dense[rows] = facts.column("stage_z", rows)
    axis = grid.fields.index("z")
    steps = np.diff(dense.reshape(grid.shape), axis=axis)
    steps = steps[np.isfinite(steps)]
    if not steps.size:
        return None
    step = float(np.median(steps))
    if step == 0 or np.abs(steps - step).max() > _EVEN * abs(step):
        return None
    return round(abs(step), 9)
