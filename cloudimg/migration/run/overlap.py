"""Refuse a destination that contains the source: overwriting would delete it."""

from __future__ import annotations

import io
import os
import pickle
import re
from contextlib import suppress
from functools import lru_cache
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from cloudimg.errors import ArgumentError
from cloudimg.migration.journal.destination import Destination
from cloudimg.migration.run.dask_input import DaskInput
from cloudimg.migration.run.labels_group import GROUP as LABELS
from cloudimg.migration.run.write_input import WriteInput
from cloudimg.reading.zarr_images.documents import folder_of, is_document

_LONGEST_PATH = 4096


def refuse_overlap(write_input: WriteInput, destination: Destination) -> None:
    """Refuse a destination whose keys include a file of the source.

    Raises
    ------
    ArgumentError
    """
    if write_input.location is None or write_input.location != destination.store.location:
        return
    if not _may_overlap(write_input, destination.root):
        return
    for key in write_input.list_keys():
        if key.startswith(f"{destination.root}/") or key == destination.root:
            raise ArgumentError(
                f"the source file {destination.store.location.display(key)} lies inside the"
                f" destination {destination.url}: choose another destination"
            )
        if is_document(key) and _is_within(destination.root, folder_of(key)):
            raise _within_source(destination, destination.store.location.display(folder_of(key)))


def _is_within(root: str, folder: str) -> bool:
    """Whether a destination lies inside a Zarr, but not among its labels."""
    return root.startswith(f"{folder}/") and not root.startswith(f"{folder}/{LABELS}/")


def _within_source(destination: Destination, folder: str) -> ArgumentError:
    return ArgumentError(
        f"the destination {destination.url} lies inside the source {folder}: choose another"
        " destination"
    )


def _may_overlap(write_input: WriteInput, root: str) -> bool:
    """Whether a source file may lie below `root`, judging by what all file names begin with."""
    if len(write_input.source["urls"]) > 1:
        return True
    stem = re.split(r"[{*?\[]", write_input.source["urls"][0])[0].partition("://")[2]
    return root.startswith(stem) or stem.startswith(root) or not stem


def refuse_to_delete_source(write_input: WriteInput, destination: Destination) -> None:
    """Refuse to overwrite a destination that contains the source under another name.

    That is files behind symbolic links, and whatever a Dask array is computed from.

    Raises
    ------
    ArgumentError
    """
    pixels = write_input.pixels
    if isinstance(pixels, DaskInput) and graph_mentions(pixels.array, destination.root):
        raise ArgumentError(
            f"the array is computed from objects in {destination.url}, which overwrite=True would"
            " delete first: choose another destination"
        )
    protocol = destination.store.location.protocol
    if write_input.location is None or {write_input.location.protocol, protocol} != {"file"}:
        return
    real_folder = lru_cache(os.path.realpath)
    root = os.path.realpath(destination.root)
    for key in write_input.list_keys():
        folder, _, name = key.rpartition("/")
        path = os.path.realpath(key) if Path(key).is_symlink() else f"{real_folder(folder)}/{name}"
        if path.startswith(f"{root}/"):
            raise ArgumentError(
                f"the source file {key} lies inside the destination {destination.url}, by a"
                " symbolic link: choose another destination"
            )
        if is_document(key) and _is_within(root, folder_of(path)):
            raise _within_source(destination, folder_of(key))


def graph_mentions(array: Any, folder: str) -> bool:
    """Whether any text or path in a Dask array's graph names a folder or something inside it.

    Parameters
    ----------
    array : dask.array.Array
    folder : str
        A key, or an absolute path.
    """
    import cloudpickle

    here = Path.cwd()

    class Search(cloudpickle.Pickler):  # type: ignore[misc]
        """Visits every object that pickling would visit."""

        has_match = False

        def persistent_id(self, visited: Any) -> Any:
            if isinstance(visited, str | PurePath):
                text = str(visited)
                texts = (text, str(here / text)) if len(text) < _LONGEST_PATH else (text,)
                self.has_match |= any(folder in each for each in texts)
            elif isinstance(visited, bytes):  # sources of ours travel pickled
                self.has_match |= folder.encode() in visited
            return None

        def reducer_override(self, visited: Any) -> Any:
            if isinstance(visited, np.ndarray):  # pixels contain no names
                return int, ()
            return super().reducer_override(visited)

    search = Search(io.BytesIO())
    # Of an object that cannot be pickled, everything before it is visited.
    with suppress(pickle.PicklingError, TypeError, AttributeError):
        search.dump(dict(array.dask))
    return bool(search.has_match)
