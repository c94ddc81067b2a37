"""Turn the keyword arguments of functions that write copies into a request and run options."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from cloudimg.distributed.run import once
from cloudimg.errors import ArgumentError
from cloudimg.migration.deletion import Deletion
from cloudimg.migration.journal.destination import open_destination
from cloudimg.migration.metadata.calibration import requested
from cloudimg.migration.metadata.labelled import name_of_labels
from cloudimg.migration.options import PLAN_OPTIONS
from cloudimg.migration.plan.part import Part
from cloudimg.migration.plan.request import WriteRequest
from cloudimg.migration.progress import notify_of, progress_callback
from cloudimg.migration.run.collection import OpenImage, write_collection
from cloudimg.migration.run.earlier_source import EarlierSource
from cloudimg.migration.run.labels import Labels, labels_of
from cloudimg.migration.run.memory import default_max_bytes
from cloudimg.migration.run.options import RunOptions
from cloudimg.migration.run.parts import write_part
from cloudimg.migration.run.result import Migration
from cloudimg.migration.run.source_files import shown_urls
from cloudimg.migration.run.write import write
from cloudimg.migration.run.write_input import WriteInput
from cloudimg.opening.options import URL, StorageOptions, URLs
from cloudimg.settings import parse_bytes
from cloudimg.tiff import FileImage

OpenNamed = Callable[[str | None, EarlierSource | None], WriteInput]
"""Opens the image to write, given the name that it gets in the copy, and the source of an earlier
migration, to whose files it keeps if it is the same."""
_UNLIMITED = 2**62


def write_to_url(
    open_write_input: OpenNamed,
    url: URL | None,
    given: Mapping[str, Any],
    storage_options: StorageOptions | None,
    urls: URLs | None = None,
) -> Migration:
    """Write an image to a URL, or as labels of another image; see `cloudimg.to_zarr`.

    Parameters
    ----------
    open_write_input : callable
        Called with the `name` argument, and with what the URL holds a migration of.
    url : str or path, optional
        None for labels.
    given : mapping
        The arguments among `RunKeywords` and `labels_of` that the user passed.
    storage_options : mapping, optional
        fsspec's options for the store of the destination.
    urls : str, path, sequence of them or table, optional
        The source, from whose name labels get theirs; None for an array.
    """
    labels = labels_of_arguments(url, given, storage_options, urls)
    run_options = make_run_options(given)
    if labels is None:
        request = make_request(given)
        assert url is not None
        destination = open_destination(url, storage_options)
        open_named = partial(open_write_input, request.name)
        return _writer(run_options)(open_named, destination, request, run_options)
    request = make_request(labels.request(given))
    refuse_growth(request, "labels")

    def open_labels(earlier: EarlierSource | None) -> WriteInput:
        return labels.of(open_write_input(request.name, earlier))

    done = _writer(run_options)(open_labels, labels.destination, request, run_options)
    if run_options.part is not None:
        return done
    return labels.listed(done, partial(notify_of, run_options.progress))


def _writer(options: RunOptions) -> Callable[..., Migration]:
    """What writes an image, or a part of its cells."""
    return write if options.part is None else partial(write_part, part=options.part)


def write_all_to_url(
    images: Sequence[FileImage],
    open_image: OpenImage,
    url: URL | None,
    given: Mapping[str, Any],
    storage_options: StorageOptions | None,
) -> Migration:
    """Write all images of a source below a URL; see `write_collection` and `write_to_url`.

    Raises
    ------
    ArgumentError
        If the images are to be labels, or to have one name.
    """
    if url is None or given.get("labels_of") is not None:
        raise ArgumentError(
            'series="all" writes a collection of images, which cannot be labels: pass series=N with'
            " the number of the image that has the labels"
        )
    request = make_request(given)
    refuse_one_name(request)
    refuse_growth(request, "a collection of images")
    run_options = make_run_options(given)
    destination = open_destination(url, storage_options)
    return write_collection(images, open_image, destination, request, run_options)


def refuse_growth(request: WriteRequest, what: str) -> None:
    """Refuse to make a copy that grows where only one that stays as it is can be made.

    Raises
    ------
    ArgumentError
    """
    if request.grow is not None:
        raise ArgumentError(
            f"grow={request.grow!r}: {what} cannot grow. Copy one image, or leave out grow="
        )


def refuse_one_name(request: WriteRequest) -> None:
    """Refuse a name, and sizes, for the images of a collection, which have their own.

    Raises
    ------
    ArgumentError
    """
    if request.name is not None:
        raise ArgumentError(
            f'name={request.name!r} is the name of one image: with series="all" each has the name'
            " that the file gives it"
        )
    if request.companions:
        raise ArgumentError(
            'companions=True copies what is beside the files of one image: with series="all" there'
            " are several, so copy these files by other means"
        )
    if request.pixel_size or request.translation or request.channel_names:
        raise ArgumentError(
            'sizes, places and channels can be stated of one image: with series="all" each has'
            " those that the file gives it"
        )


def labels_of_arguments(
    url: URL | None,
    given: Mapping[str, Any],
    storage_options: StorageOptions | None,
    urls: URLs | None,
) -> Labels | None:
    """The labels that are to be written; None if a URL says where an image is to be written.

    Raises
    ------
    ArgumentError
        If both or neither are given, or `labels_of` is not an image that can have labels.
    StorageError
    """
    labelled = given.get("labels_of")
    if (url is None) is (labelled is None):
        raise ArgumentError(
            "pass either a URL for the copy or labels_of= with an image whose labels are written"
        )
    if labelled is None:
        return None
    name = given.get("name")
    if name is None:
        name = name_of_labels(shown_urls(urls) if isinstance(urls, str | os.PathLike) else [])
    return labels_of(open_destination(labelled, storage_options), name)


def make_request(given: Mapping[str, Any]) -> WriteRequest:
    """Collect the arguments that decide what is written, and check them without the image.

    Raises
    ------
    ArgumentError
    """
    from cloudimg.migration.encode.codecs import make_codec

    planned = {name: given[name] for name in PLAN_OPTIONS if name in given} | requested(given)
    if given.get("companions") is not False:
        planned["companions"] = given.get("companions")
    if planned.get("codec") is not None:
        # In the plan's form, so that equal codecs compare equal however they are given. Only the
        # item size depends on the pixels: the plan adds it.
        chain = make_codec(planned["codec"], "u1", planned.get("zarr_format", 3)).spec["chain"]
        for link in chain:
            link["configuration"].pop("typesize", None)
        planned["codec"] = chain
    return WriteRequest(**planned)


def make_run_options(given: Mapping[str, Any]) -> RunOptions:
    """Collect and check the arguments that do not change what is written.

    Raises
    ------
    ArgumentError
    """
    client = once(given.get("client"))
    part = None if given.get("part") is None else Part.parse(given["part"])
    if part is not None:
        _refuse_beside_part(given)
    return RunOptions(
        max_bytes=memory(given.get("max_mem"), client),
        overwrite=_flag(given.get("overwrite", False), "overwrite"),
        yes=_flag(given.get("yes", False), "yes"),
        confirm=_confirm(given.get("confirm")),
        resume=_flag(given.get("resume", True), "resume"),
        client=client,
        progress=progress_callback(given.get("progress", False)),
        part=part,
    )


def _refuse_beside_part(given: Mapping[str, Any]) -> None:
    """Refuse arguments that a part of a migration cannot follow.

    Raises
    ------
    ArgumentError
    """
    for text, is_given in (
        ("overwrite=True exclude each other: parts delete nothing", given.get("overwrite")),
        (
            "resume=False exclude each other: parts continue what others began",
            given.get("resume") is False,
        ),
        (
            "client= exclude each other: each part is done by one process",
            given.get("client") is not None,
        ),
    ):
        if is_given:
            raise ArgumentError(f"part= and {text}")


def memory(max_mem: int | str | None, client: Any) -> int:
    """Memory for cells in bytes, from a number or a text such as ``"2GB"``.

    Without `max_mem`, the workers of a cluster are limited by their own memory only.

    Raises
    ------
    ArgumentError
    """
    if max_mem is None:
        return default_max_bytes() if client is None else _UNLIMITED
    return parse_bytes("max_mem", max_mem)


def _flag(value: Any, name: str) -> bool:
    if not isinstance(value, bool):
        raise ArgumentError(f"{name}={value!r} must be True or False")
    return value


def _confirm(value: Any) -> Callable[[Deletion], bool] | None:
    if value is not None and not callable(value):
        raise ArgumentError(f"confirm={value!r} must be a callable")
    return value  # type: ignore[no-any-return]
