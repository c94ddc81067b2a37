"""Notes of a copy about what it could hold instead, where the headers leave that open. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from cloudimg.errors import counted
from cloudimg.migration.metadata.facts import ImageFacts
from cloudimg.migration.plan.plan import Plan
from cloudimg.migration.plan.plate import Plate
from cloudimg.migration.plan.request import WriteRequest
from cloudimg.migration.run.write_input import WriteInput

_OTHER_COLOURS: Mapping[str, str] = {
    "palette": "are indices into a palette",
    "cmyk": "are CMYK",
    "cmyk-inverted": "are CMYK",
    "ycbcr": "are YCbCr",
    "cielab": "are CIE L*a*b*",
    "icclab": "are CIE L*a*b*",
    "itulab": "are CIE L*a*b*",
}
"""Colour spaces that OME-Zarr cannot name, of which RGB can be copied."""
_SHOWN = 3


def facts_with_advice(write_input: WriteInput, plan: Plan, request: WriteRequest) -> ImageFacts:
    """The facts of an image, with notes about choices that were made for the user."""
    facts = write_input.facts
    notes = (*facts.notes, *_advice(write_input, plan, request))
    return replace(facts, notes=notes)


def _advice(write_input: WriteInput, plan: Plan, request: WriteRequest) -> Iterator[str]:
    colours, is_of_files = write_input.facts.colours, write_input.files is not None
    is_label = write_input.facts.label_of is not None
    if colours is not None and is_of_files and colours.space in _OTHER_COLOURS and not is_label:
        yield (
            f"the pixels {_OTHER_COLOURS[colours.space]}, and viewers of OME-Zarr show them as grey"
            " values: rgb=True copies them as RGB"
        )
    if request.plate is not False:
        yield from _advice_on_plate(write_input, plan.plate, request)
    is_default = request.downsampling is None and plan.method == "mean"
    if is_default and len(plan.levels) > 1 and write_input.reduction.may_be_labels:
        yield (
            f"the pixels are integers of {8 * write_input.dtype.itemsize} bits, and nothing says"
            " whether they are labels: each level is the mean of blocks of the level below. For"
            ' labels, downsampling="mode" keeps their values'
        )


def _advice_on_plate(
    write_input: WriteInput, plate: Plate | None, request: WriteRequest
) -> Iterator[str]:
    if plate is None:
        why = write_input.plate()
        if isinstance(why, str):
            yield f"the copy is not a plate: {why}"
        return
    if request.plate is None and plate.n_of_well == 1 and len(plate.well_dims) > 1:
        yield (
            "rows and columns are taken for those of a plate with one field in each well; if they"
            " are not, plate=False copies the images one by one"
        )
    if plate.absent:
        paths = [plate.wells[i] for i in plate.absent]
        shown = ", ".join(paths[:_SHOWN]) + (", ..." if len(paths) > _SHOWN else "")
        yield f"the plate does not list {counted(len(paths), 'well')} without any file: {shown}"
