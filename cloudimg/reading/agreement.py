"""Compare what files say of the whole image: the first file does not speak for all. Pure.

Some facts must be the same in all files, since pixels of different sizes or colours, or of
different places on Earth, are not one image. Others may differ; the image does not have them then.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cloudimg.errors import MismatchError, joined_messages
from cloudimg.errors.notes import Note, Remark
from cloudimg.reading.file_facts import COORDINATES, OF_ONE_FILE, FileFacts
from cloudimg.reading.layout import Layout
from cloudimg.tiff.flavours.facts import micrometres

_KIND = "facts-differ-"
"""What the kinds of remarks on differing facts begin with; the name of the fact follows."""
_SIZE_TOLERANCE = 1e-4
"""Share by which pixel sizes may differ: writers round them."""
_ORIGIN_TOLERANCE = 0.5 - 1e-6
"""Greatest distance in pixels of a file from its place. Half a pixel is the distance between the
corner and the centre of a pixel, which writers confuse."""
_SHOWN = 10
_BY_CHANNEL = ("channel_colors", "channel_names", "exposure_s")
_TILES = ("tile_x", "tile_y")
"""Axes along which ``mosaic=False`` stacks tiles, which lie apart."""
_TITLES = {
    "pixel_size": "pixel size",
    "photometric": "photometric interpretation",
    "color_space": "color space",
    "colormap": "colormap",
    "nodata": "nodata value",
    "crs": "coordinate reference system",
    "origin": "origin",
    "exposure_s": "exposure",
}


@dataclass(frozen=True, slots=True)
class Difference:
    """A fact that differs from what the first file leads one to expect."""

    name: str
    found: str
    expected: str
    note: str = ""
    """What else a message should say of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedFacts:
    """What the first file says of the whole image. Picklable, small."""

    facts: FileFacts
    first_url: str
    first_index: tuple[int, ...]
    file_dims: tuple[str, ...]
    """Axes of the files before the user's renaming."""
    ignored: tuple[str, ...]
    """Facts that differ in each file by their nature, such as the name of its only channel."""
    allowed: tuple[str, ...]
    """Shared facts that the user allows to differ."""
    all_compared: bool
    """Whether opening compared all files, so that it is known which of the allowed facts differ."""

    def compare(
        self, found: FileFacts | None, index: Sequence[int], url: str, layout: Layout
    ) -> tuple[Remark, ...]:
        """Compare a file with the first one, and return remarks on what may differ and does.

        Parameters
        ----------
        found : FileFacts or None
            What the file says; None if that was not read.
        index : sequence of int
            Its index in the grid.
        url : str
        layout : Layout
            The layout at level 0, with the lengths of the files where they are known.

        Raises
        ------
        MismatchError
        """
        if found is None or (found == self.facts and not found.transform):
            return ()
        shift = self._shift(index, layout)
        shared = list(_shared_differences(found, self.facts, shift))
        refused = [each for each in shared if each.name not in self.allowed]
        if refused:
            raise self._error(refused, url)
        allowed = (Difference(each.name, each.found, each.expected) for each in shared)
        return tuple(map(self._remark, (*allowed, *self._others(found, layout))))

    def attributes(
        self, attrs: Mapping[str, Any], layout: Layout, differing: Collection[str]
    ) -> dict[str, Any]:
        """Return the attributes of an image of several files, from those of its first file.

        Parameters
        ----------
        attrs : mapping
        layout : Layout
            The layout at level 0.
        differing : collection of str
            Facts that differ.
        """
        unknown = () if self.all_compared else self.allowed
        names = {*differing, *OF_ONE_FILE, *self.ignored, *unknown}
        if any(axis.name in _TILES and axis.is_stacked and axis.count > 1 for axis in layout.axes):
            names.add("origin")
        shared = without_facts(attrs, names)
        geo = shared.get("geo", {})
        columns, rows = self._place(self.first_index, layout)
        if "transform" in geo and (columns or rows):
            # The first file is not at the corner of the mosaic, because files are missing there.
            a, b, c, d, e, f = geo["transform"]
            corner = [a, b, c - a * columns - b * rows, d, e, f - d * columns - e * rows]
            kept = {name: value for name, value in geo.items() if name != "tiepoints"}
            shared["geo"] = {**kept, "transform": corner}
        return shared

    def _place(self, index: Sequence[int], layout: Layout) -> tuple[int, int]:
        """Column and row of the image at which a file begins."""
        place = {"x": 0, "y": 0}
        for axis in layout.axes:
            if axis.field is not None and axis.file_axis is not None:
                dim = self.file_dims[axis.file_axis]
                if dim in place:
                    place[dim] = sum(axis.extents[: index[axis.field]])
        return place["x"], place["y"]

    def _shift(self, index: Sequence[int], layout: Layout) -> tuple[int, int] | None:
        """Columns and rows from the first file to another; None if they are tiles apart."""
        for axis in layout.axes:
            if axis.field is None or axis.name not in _TILES or not axis.is_stacked:
                continue
            if index[axis.field] != self.first_index[axis.field]:
                return None
        here, first = (self._place(each, layout) for each in (index, self.first_index))
        return here[0] - first[0], here[1] - first[1]

    def _others(self, found: FileFacts, layout: Layout) -> Iterator[Difference]:
        """Yield further attributes of both files that differ; one may have fewer."""
        theirs = dict(found.others)
        differing = [
            name
            for name, digest in self.facts.others
            if name not in self.ignored and theirs.get(name, digest) != digest
        ]
        dims = {
            f"{COORDINATES}{self.file_dims[axis.file_axis]}": f"{COORDINATES}{axis.name}"
            for axis in layout.axes
            if axis.file_axis is not None and differing
        }
        for name in differing:
            yield Difference(dims.get(name, name), "", "")

    def _remark(self, difference: Difference) -> Remark:
        title = title_of(difference.name)
        values = f" ({difference.found} and {difference.expected})" if difference.found else ""
        text = (
            f"{title} other than in the first file, {self.first_url}{values}; left out of the"
            " image's attributes"
        )
        return Remark(_KIND + difference.name.replace("_", "-"), text)

    def _error(self, refused: Sequence[Difference], url: str) -> MismatchError:
        parts = [
            f"its {title_of(each.name)} is {each.found}, but {each.expected} in the first file,"
            f" {self.first_url}{each.note}"
            for each in refused
        ]
        names = json.dumps([each.name for each in refused])
        advice = f"Pass allow_differences={names} to put them together as they are"
        if any(each.name in ("crs", "origin") for each in refused):
            advice += (
                ", or align the files to one grid first. Tiles that are not side by side are"
                " stacked with mosaic=False"
            )
        return MismatchError(f"{url} does not fit the grid: {'; '.join(parts)}. {advice}", url=url)


def differing_files(errors: Sequence[MismatchError]) -> MismatchError:
    """Return one error for files that say something else of the whole image than the first one."""
    if len(errors) == 1:
        return errors[0]
    shown = joined_messages(errors, _SHOWN)
    return MismatchError(f"{len(errors)} files do not fit the first one: {shown}")


def title_of(name: str) -> str:
    """Return the name of a fact as messages say it."""
    if name.startswith(COORDINATES):
        return f"coordinates along {name.removeprefix(COORDINATES)}"
    return _TITLES.get(name, name.replace("_", " "))


def ignored_facts(layout: Layout, file_dims: Sequence[str]) -> tuple[str, ...]:
    """Return the facts that differ in each file by their nature, as files form an image."""
    counts = {axis.name: axis.count for axis in layout.axes if axis.field is not None}
    joined = (
        file_dims[axis.file_axis]
        for axis in layout.axes
        if axis.field is not None and axis.file_axis is not None
    )
    by_channel = _BY_CHANNEL if counts.get("c", 1) > 1 else ()
    return (*by_channel, *(f"{COORDINATES}{dim}" for dim in sorted(joined)))


# ---------------------------------------------------------------------------------- shared facts


def _shared_differences(
    found: FileFacts, first: FileFacts, shift: tuple[int, int] | None
) -> Iterator[Difference]:
    if not _have_same_sizes(found, first):
        yield Difference("pixel_size", _size_text(found), _size_text(first))
    for name in ("photometric", "color_space", "colormap"):
        here, there = getattr(found, name), getattr(first, name)
        # A file that does not say anything does not contradict.
        if here and there and here != there:
            yield Difference(name, here, there)
    if found.nodata != first.nodata:
        yield Difference("nodata", _or_none(found.nodata), _or_none(first.nodata))
    if found.crs != first.crs:
        yield Difference("crs", found.crs or "none", first.crs or "none")
    elif shift is not None:
        yield from _origin_difference(found, first, shift)


def _or_none(value: Any) -> str:
    return "none" if value is None else str(value)


def _have_same_sizes(found: FileFacts, first: FileFacts) -> bool:
    sizes = {dim: (size, unit) for dim, size, unit in first.pixel_size}
    for dim, size, unit in found.pixel_size:
        expected, expected_unit = sizes.get(dim, (size, unit))
        if unit != expected_unit:
            # Half a micrometre is 500 nm; other units than those of lengths must be the same.
            here, there = micrometres(size, unit), micrometres(expected, expected_unit)
            if here is None or there is None:
                return False
            size, expected = here, there
        if not math.isclose(size, expected, rel_tol=_SIZE_TOLERANCE):
            return False
    return _have_same_steps(found.transform, first.transform)


def _have_same_steps(found: Sequence[float], first: Sequence[float]) -> bool:
    """Whether a step along columns and rows is the same; also if either is unknown."""
    if not found or not first:
        return True
    steps = [(found[i], first[i]) for i in (0, 1, 3, 4)]
    longest = max(abs(step) for _, step in steps)
    return all(abs(a - b) <= _SIZE_TOLERANCE * longest for a, b in steps)


def _size_text(facts: FileFacts) -> str:
    if facts.pixel_size:
        return ", ".join(f"{dim} {size:.10g} {unit}" for dim, size, unit in facts.pixel_size)
    return f"({', '.join(f'{facts.transform[i]:.10g}' for i in (0, 1, 3, 4))}) in the affine form"


def _origin_difference(
    found: FileFacts, first: FileFacts, shift: tuple[int, int]
) -> Iterator[Difference]:
    """Yield the difference if a file does not lie where its place in the image is on Earth."""
    if not found.transform or not first.transform:
        here, there = (_origin_text(each) for each in (found, first))
        # Control points are given in the columns and rows of each file.
        is_comparable = bool(found.transform or first.transform) or shift == (0, 0)
        if is_comparable and here != there:
            yield Difference("origin", here, there)
        return
    if not _have_same_steps(found.transform, first.transform):
        return
    a, b, c, d, e, f = first.transform
    columns, rows = shift
    x, y = found.transform[2] - c, found.transform[5] - f
    area = a * e - b * d
    apart = ((e * x - b * y) / area - columns, (a * y - d * x) / area - rows)
    if max(map(abs, apart)) <= _ORIGIN_TOLERANCE:
        return
    note = ""
    if shift != (0, 0):
        place = (a * columns + b * rows + c, d * columns + e * rows + f)
        note = (
            f", from which the file is {columns} columns and {rows} rows away in the mosaic, so"
            f" that its origin should be {_pair(place)}"
        )
    yield Difference("origin", _origin_text(found), _origin_text(first), note)


def _origin_text(facts: FileFacts) -> str:
    if facts.transform:
        return _pair((facts.transform[2], facts.transform[5]))
    return facts.control_points or "none"


def _pair(point: Sequence[float]) -> str:
    return f"({', '.join(f'{value:.12g}' for value in point)})"


# ------------------------------------------------------------------------------ what files share


def differences_since(
    now: FileFacts, before: FileFacts, allowed: Collection[str]
) -> tuple[Note, ...]:
    """Compare what is said of an image with what was said when some files were compared with it.

    Parameters
    ----------
    now, before : FileFacts
    allowed : collection of str
        Shared facts that the user allows to differ.

    Returns
    -------
    tuple of Note
        Notes on what may differ and does.

    Raises
    ------
    MismatchError
    """
    shared = tuple(_shared_differences(now, before, (0, 0)))
    for each in shared:
        if each.name not in allowed:
            raise MismatchError(
                f"the first file says something else of the whole image than the one with which"
                f" others were compared: its {title_of(each.name)} is {each.found} and was"
                f" {each.expected}. Start over with overwrite=True"
            )
    theirs = dict(before.others)
    names = [name for name, digest in now.others if theirs.get(name, digest) != digest]
    return tuple(
        Note(
            f"{title_of(name)} other than when the first files were compared; left out of the"
            " image's attributes",
            kind=_KIND + name.replace("_", "-"),
            n_files=1,
            urls=(),
        )
        for name in (*(each.name for each in shared), *names)
    )


def differing_facts(notes: Iterable[Note]) -> set[str]:
    """Return the names of the facts that notes say to differ."""
    return {
        note.kind.removeprefix(_KIND).replace("-", "_")
        for note in notes
        if note.kind.startswith(_KIND)
    }


_ATTRS = {
    "pixel_size": {"pixel_size", "pixel_size_unit"},
    "color_space": {"color_space", "samples", "ycbcr_coefficients", "reference_black_white"},
}
"""Attributes of a fact that are not just the one of the same name."""
_GEO = {
    "pixel_size": {"pixel_scale", "transform", "tiepoints"},
    "crs": {"crs", "epsg", "transform", "tiepoints"},
    "origin": {"transform", "tiepoints"},
}
"""Parts of the georeference that belong to a fact."""


def without_facts(attrs: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    """Return attributes without those that belong to some facts."""
    dropped = set().union(*(_ATTRS.get(name, {name}) for name in names))
    kept = {name: value for name, value in attrs.items() if name not in dropped}
    in_geo = set().union(*(_GEO.get(name, ()) for name in names))
    if "geo" in kept and in_geo:
        geo = {name: value for name, value in kept["geo"].items() if name not in in_geo}
        kept |= {"geo": geo}
        if not geo:
            del kept["geo"]
    return kept


def without_coordinates(
    coords: Mapping[str, Sequence[Any]], names: Collection[str]
) -> dict[str, Sequence[Any]]:
    """Return coordinates by dim without those that are among some facts."""
    return {dim: values for dim, values in coords.items() if f"{COORDINATES}{dim}" not in names}
