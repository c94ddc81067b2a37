"""Compare what files say of the whole image: the first file does not speak for all. Pure.

Some facts must be the same in all files, since pixels of different sizes or colours, or of
different places on Earth, are not one image. Others may differ; the image does not have them then.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cloudimg.errors import MismatchError, joined_messages
from cloudimg.errors.notes import Note, Remark
from cloudimg.reading.fact_differences import Difference, shared_differences, title_of
from cloudimg.reading.file_facts import COORDINATES, OF_ONE_FILE, FileFacts
from cloudimg.reading.layout import Layout

_KIND = "facts-differ-"
"""What the kinds of remarks on differing facts begin with; the name of the fact follows."""
_SHOWN = 10
_BY_CHANNEL = ("channel_colors", "channel_names", "exposure_s")
NO_REPROJECTION = (
    "cloudimg does not reproject or resample: odc-stac (odc.stac.load) and rioxarray"
    " (rio.reproject_match) bring files to one grid"
)
"""What to do with georeferenced files that are not on one grid."""
ONE_SCALE = (
    "select files that agree, such as one band (Image.sel), or apply scale and offset yourself"
    " without mask=True"
)
"""What to do with files of several scales."""
_TILES = ("tile_x", "tile_y")
"""Axes along which ``place="stack"`` stacks tiles, which lie apart."""


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
        shared = self._differences(found, index, layout)
        refused = [each for each in shared if each.name not in self.allowed]
        if refused:
            raise self._error(refused, url)
        return tuple(map(self._remark, (*shared, *self._others(found, layout))))

    def refused(
        self, found: FileFacts | None, index: Sequence[int], layout: Layout
    ) -> tuple[str, ...]:
        """Return the names of the facts for which `compare` refuses a file."""
        shared = () if found is None else self._differences(found, index, layout)
        return tuple(each.name for each in shared if each.name not in self.allowed)

    def _differences(
        self, found: FileFacts, index: Sequence[int], layout: Layout
    ) -> list[Difference]:
        """Facts that must be the same in all files and are not."""
        return list(shared_differences(found, self.facts, self._shift(index, layout)))

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
        if layout.canvas is None and any(
            axis.name in _TILES and axis.is_stacked and axis.count > 1 for axis in layout.axes
        ):
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
        if layout.canvas is not None:
            row, column = layout.canvas.offset(index)
            return column, row
        place = {"x": 0, "y": 0}
        for axis in layout.axes:
            if axis.field is not None and axis.file_axis is not None:
                dim = self.file_dims[axis.file_axis]
                if dim in place:
                    place[dim] = sum(axis.extents[: index[axis.field]])
        return place["x"], place["y"]

    def _shift(self, index: Sequence[int], layout: Layout) -> tuple[int, int] | None:
        """Columns and rows from the first file to another; None if they are tiles apart."""
        for axis in layout.axes if layout.canvas is None else ():
            if axis.field is None or axis.name not in _TILES or not axis.is_stacked:
                continue
            if index[axis.field] != self.first_index[axis.field]:
                return None
        here, first = (self._place(each, layout) for each in (index, self.first_index))
        return here[0] - first[0], here[1] - first[1]

    def _others(self, found: FileFacts, layout: Layout) -> Iterator[Difference]:
        """Yield further attributes of both files that differ; one may have fewer."""
        if found.scaling is not None and found.scaling != self.facts.scaling:
            yield Difference("scale", found.scaling or "none", self.facts.scaling or "none")
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
            yield Difference(dims.get(name, name))

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
        if any(each.name == "origin" for each in refused):
            advice += (
                ', or align="outer" or align="inner" to place files of one grid by whole pixels.'
                ' Tiles that are not side by side are stacked with place="stack"'
            )
        if self.facts.transform:
            advice += f". {NO_REPROJECTION}"
        return MismatchError(f"{url} does not fit the grid: {'; '.join(parts)}. {advice}", url=url)


def differing_files(errors: Sequence[MismatchError]) -> MismatchError:
    """Return one error for files that say something else of the whole image than the first one."""
    if len(errors) == 1:
        return errors[0]
    shown = joined_messages(errors, _SHOWN)
    return MismatchError(f"{len(errors)} files do not fit the first one: {shown}")


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
    shared = tuple(shared_differences(now, before, (0, 0)))
    for each in shared:
        if each.name not in allowed:
            raise MismatchError(
                f"the first file says something else of the whole image than the one with which"
                f" others were compared: its {title_of(each.name)} is {each.found} and was"
                f" {each.expected}. Start over with overwrite=True"
            )
    theirs = dict(before.others)
    names = [name for name, digest in now.others if theirs.get(name, digest) != digest]
    names += ["scale"] if now.scaling not in (None, before.scaling) else []
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


def differing_facts(notes: Iterable[Note | Remark]) -> set[str]:
    """Return the names of the facts that notes or remarks say to differ."""
    return {
        note.kind.removeprefix(_KIND).replace("-", "_")
        for note in notes
        if note.kind.startswith(_KIND)
    }


_ATTRS = {
    "scale": {"scale", "offset"},
    "pixel_size": {"pixel_size", "pixel_size_unit"},
    "color_space": {"color_space", "samples", "ycbcr_coefficients", "reference_black_white"},
}
"""Attributes of a fact that are not just the one of the same name."""
_GEO = {
    "pixel_size": {"pixel_scale", "transform", "tiepoints"},
    "crs": {"crs", "epsg", "keys", "transform", "tiepoints"},
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
