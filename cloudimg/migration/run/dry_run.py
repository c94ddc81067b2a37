"""What a migration would do, for one image or all images of a source, and at its destination."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from cloudimg.errors import ArgumentError
from cloudimg.migration.encode.codecs import make_codec
from cloudimg.migration.journal.collection import Collection
from cloudimg.migration.journal.destination import open_destination
from cloudimg.migration.plan.plan import Plan
from cloudimg.migration.plan.request import WriteRequest
from cloudimg.migration.run.advice import facts_with_advice
from cloudimg.migration.run.arguments import (
    OpenNamed,
    make_request,
    make_run_options,
    refuse_one_name,
)
from cloudimg.migration.run.collection import OpenImage, images_to_copy
from cloudimg.migration.run.collection_resuming import continues_collection, is_collection_done
from cloudimg.migration.run.companions import with_companions
from cloudimg.migration.run.destination_check import DestinationCheck
from cloudimg.migration.run.estimate import Estimate, estimate_of_collection
from cloudimg.migration.run.estimating import checked_prices, estimate, part_of_files
from cloudimg.migration.run.options import RunOptions
from cloudimg.migration.run.planning import OpenWriteInput, plan_for
from cloudimg.migration.run.sampling import sampled
from cloudimg.migration.run.write_input import WriteInput
from cloudimg.opening.options import URL
from cloudimg.tiff import FileImage

_OF_RUN = ("max_mem", "overwrite", "yes", "resume")


def dry_run_of_image(
    open_write_input: OpenNamed, url: URL | None, given: Mapping[str, Any]
) -> Estimate:
    """Estimate the copy of one image.

    Parameters
    ----------
    open_write_input : callable
        Called with the `name` argument, and with what the URL holds a migration of.
    url : str or path, optional
        The destination, if it is known.
    given : mapping
        The arguments among `DryRunOptions` that the user passed.

    Raises
    ------
    ArgumentError
    CloudimgError
        If the source cannot be opened.
    """
    request, options = _arguments(given)
    check = None if url is None else _check_of(url, given, options)
    return _estimated(partial(open_write_input, request.name), check, request, options, given)


def dry_run_of_images(
    images: Sequence[FileImage], open_image: OpenImage, url: URL | None, given: Mapping[str, Any]
) -> Estimate:
    """Estimate the copy of all images of a source; see `write_collection` and `dry_run_of_image`.

    Raises
    ------
    ArgumentError
    CloudimgError
        If the source cannot be opened.
    """
    request, options = _arguments(given)
    refuse_one_name(request)
    check = None if url is None else _check_of(url, given, options)
    collection = Collection(request.zarr_format, images_to_copy(images))
    is_continued = check is not None and _is_continued(check, collection, options)
    of_images = replace(options, keeps_finished=True)
    estimates = {}
    for image, path in zip(collection.images, collection.paths, strict=True):
        of_image: DestinationCheck | None = None
        if check is not None and is_continued:
            copy = check.destination.below(path)
            of_image = DestinationCheck(copy, of_images, probes=False)

        def resize(write_input: WriteInput, image: FileImage = image) -> WriteInput:
            if check is not None:
                check.check_source(write_input)
            return part_of_files(write_input, image, collection.images)

        open_one = partial(open_image, image.series)
        found = _estimated(open_one, of_image, request, of_images, given, resize)
        if check is not None and found.destination is not None:
            check.add(found.destination)
        estimates[path] = replace(found, destination=None)
    total = estimate_of_collection(estimates)
    if check is None:
        return total
    is_done = is_continued and check.tried(
        partial(is_collection_done, check.destination, collection)
    )
    found_there = check.found(
        n_bytes=_size(total),
        n_objects=_n_objects(total),
        is_continued=is_continued,
        is_done=bool(is_done),
    )
    return replace(total, destination=found_there)


def _arguments(given: Mapping[str, Any]) -> tuple[WriteRequest, RunOptions]:
    """Check the arguments before anything is read.

    Raises
    ------
    ArgumentError
    """
    checked_prices(given.get("prices"))
    if not isinstance(given.get("probe", False), bool):
        raise ArgumentError(f"probe={given['probe']!r} must be True or False")
    of_run = {name: given[name] for name in _OF_RUN if name in given}
    return make_request(given), make_run_options(of_run)


def _check_of(url: URL, given: Mapping[str, Any], options: RunOptions) -> DestinationCheck:
    destination = open_destination(url, given.get("target_options"))
    return DestinationCheck(destination, options, probes=given.get("probe", False))


def _is_continued(check: DestinationCheck, collection: Collection, options: RunOptions) -> bool:
    contents = check.contents
    if contents is None:
        return False
    step = partial(continues_collection, collection, contents, check.destination, options)
    return bool(check.tried(step))


def _estimated(
    open_write_input: OpenWriteInput,
    check: DestinationCheck | None,
    request: WriteRequest,
    options: RunOptions,
    given: Mapping[str, Any],
    resize: Callable[[WriteInput], WriteInput] = lambda write_input: write_input,
) -> Estimate:
    """Open an image, and estimate its copy; `resize` gives it its part of the files."""
    if check is None:
        return _estimate(resize(open_write_input(None)), None, request, options, given)
    write_input = check.open(open_write_input, request)
    estimated = _estimate(resize(write_input), check.plan, request, options, given)
    check.check_source(write_input)
    found = check.found(n_bytes=_size(estimated), n_objects=_n_objects(estimated))
    return replace(estimated, destination=found)


def _estimate(
    write_input: WriteInput,
    plan: Plan | None,
    request: WriteRequest,
    options: RunOptions,
    given: Mapping[str, Any],
) -> Estimate:
    """Estimate the copy of an image by a plan, or by the one that its request gives."""
    if plan is None:
        spec = make_codec(request.codec, write_input.dtype, request.zarr_format).spec
        plan = plan_for(write_input, request, spec)
    write_input = write_input.mapped(is_plate=plan.plate is not None)
    return estimate(
        plan,
        write_input,
        with_companions(facts_with_advice(write_input, plan, request), write_input, request),
        max_bytes=options.max_bytes,
        prices=given.get("prices"),
        sample=sampled(plan, write_input),
    )


def _size(found: Estimate) -> int:
    """Bytes that a copy takes, at most where that is not known."""
    return found.bytes_to_write if found.stored_bytes is None else found.stored_bytes


def _n_objects(found: Estimate) -> int:
    return found.objects + found.metadata_objects + found.journal_objects
