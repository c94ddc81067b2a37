"""`Subject`: what is to be written, whether it is made of files or computed by Dask."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from cloudimg.__about__ import __version__
from cloudimg.discovery.listing import locate
from cloudimg.errors import ArgumentError, FormatError
from cloudimg.migration.metadata.facts import ImageFacts, facts_of_array, facts_of_image
from cloudimg.migration.metadata.tags import file_tags
from cloudimg.migration.plain_json import to_plain
from cloudimg.migration.plan.axes_mapping import AxesMapping
from cloudimg.migration.run.dask_input import DaskInput, refuse_mask
from cloudimg.migration.run.inputs import ImageInput, Input
from cloudimg.opening.coordinates import coordinates
from cloudimg.opening.open_files import Opened, list_sources, open_sources
from cloudimg.opening.options import OpenArguments, URLs, as_texts
from cloudimg.reading.source import make_token
from cloudimg.storage import Location, engine, redact, unsigned

_LAST_DIMS = ("t", "c", "z", "y", "x")
_OF_OPEN = ("axes", "dims", "mosaic", "series", "missing", "fill_value", "palette")
"""Arguments of `cloudimg.open` that decide which pixels an image has."""
_MOST_CHANNELS = 64
"""In files of their own, of which each is asked for its name."""
_PIXELS = re.compile(r"<(?:\w+:)?Pixels[\s>]")
"""Of OME-XML: images without pixels are none that could be left out."""


@dataclass(frozen=True, slots=True)
class WriteInput:
    """Pixels, and everything that is known about them."""

    input: Input | DaskInput
    axes_mapping: AxesMapping
    dtype: np.dtype[Any]
    fill_value: Any
    boundaries: Sequence[npt.NDArray[np.int64]]
    """Per dim of the plan, where it can be cut without reading anything twice."""
    facts: ImageFacts
    source: Mapping[str, Any]
    """What the plan says of the source; JSON."""
    fingerprint: Callable[[], str]
    """Asks the source again; the answer changes when a file does."""
    location: Location | None
    """Where the files are."""
    list_keys: Callable[[], Iterator[str]]
    """Keys of the files, made as they are asked for."""
    n_files: int
    stored_nbytes: int | None
    """Size of all files, where that is known."""


def write_input_of_image(
    opened: Opened, urls: URLs, arguments: OpenArguments, *, name: str | None
) -> WriteInput:
    """An image made of files."""
    source = opened.sources[0]
    location = source.reader.store.location
    axes_mapping = AxesMapping(source.dims, source.shape)
    fingerprint = fingerprint_of(opened)
    described = {
        "kind": "image",
        "urls": shown_urls(urls),
        # No axes renamed is the same however it was said.
        "open": {name: to_plain(getattr(arguments, name)) for name in _OF_OPEN}
        | {"axes": to_plain(arguments.axes or None)},
        "is_list": not isinstance(urls, str) and isinstance(urls, Sequence),
        "has_own_reader": arguments.imread is not None,
        "dims": list(source.dims),
        "shape": list(source.shape),
        "dtype": source.dtype.str,
        "fingerprint": fingerprint,
    }
    header = opened.inspection.headers[0]
    ome_xml = _ome_xml(opened)
    facts = facts_of_image(
        axes_mapping,
        coordinates(source.layout, opened.grid, opened.inspection.own_coords),
        {**header.attrs, **_channels_of_files(opened), **_images_of_set(opened, ome_xml)},
        name=name,
        ome_xml=ome_xml,
        provenance={
            "source": described["urls"],
            "options": described["open"],
            "cloudimg": __version__,
        },
        is_multifile=source.files.pages is not None,
    )
    sizes = opened.grid.sizes
    known = int(sizes[sizes >= 0].sum()) if (sizes >= 0).sum() == opened.n_files else None
    if known is None and opened.n_files == 1:
        known = header.size_bytes
    return WriteInput(
        ImageInput(source, axes_mapping),
        axes_mapping,
        source.dtype,
        source.fill_value,
        axes_mapping.boundaries(source.boundaries()),
        facts,
        described,
        partial(_fingerprint_now, opened, urls, arguments, fingerprint),
        location,
        lambda: (location.key_of(opened.grid.keys(index)) for index in opened.grid.files()),
        opened.n_files,
        known,
    )


def _fingerprint_now(opened: Opened, urls: URLs, arguments: OpenArguments, then: str) -> str:
    """The fingerprint of an image as its files are now; `then` is that of when it was opened."""
    # Where versions are listed, files that are listed alike are the same and say the same.
    if opened.grid.fields and opened.grid.has_versions:
        now = list_sources(urls, arguments)
        if now.has_versions and now.digest == opened.grid.digest:
            return then
    return fingerprint_of(open_sources(urls, arguments))


def fingerprint_of(opened: Opened) -> str:
    """Of names, sizes and versions of all files, and of how they are put together.

    Other than the token of a source it is never random: where a store names no versions, sizes
    must do.
    """
    header = opened.inspection.headers[0]
    source = opened.sources[0]
    context = source.reader.headers.context
    first = unsigned(source.reader.store.location.pattern_text(header.key))
    return make_token(
        (first, header.etag, header.size_bytes, header.dtype.str),
        (context.series, context.ignore_siblings, context.palette),
        opened.grid.digest,
        source.layout,
        repr(source.fill_value),
    )


def write_input_of_array(
    array: Any,
    *,
    dims: Sequence[str] | None,
    name: str | None,
    identity: str | None,
) -> WriteInput:
    """A Dask array, an `xarray.DataArray` or a NumPy array.

    Parameters
    ----------
    array : dask.array.Array, xarray.DataArray or ndarray
    dims : sequence of str, optional
        Names of the axes; by default those that xarray has, else the last of t, c, z, y, x.
    name : str, optional
        Of the image.
    identity : str, optional
        Names the content where Dask's own name differs from run to run.

    Raises
    ------
    ArgumentError
    """
    import dask.array as da

    is_xarray = hasattr(array, "dims") and hasattr(array, "coords") and hasattr(array, "data")
    data = array.data if is_xarray else array
    refuse_mask(data._meta if isinstance(data, da.Array) else data)
    if is_xarray and dims is None:
        dims = tuple(str(dim) for dim in array.dims)
    if not isinstance(data, da.Array):
        if not isinstance(data, np.ndarray | np.generic):
            raise ArgumentError(
                f"an Image, a dask.array, an xarray.DataArray or a NumPy array is needed, not"
                f" {type(array).__name__}"
            )
        data = np.asarray(data)
    if data.dtype.kind not in "biufc" or data.dtype.char in "gG":
        raise ArgumentError(
            f"an array of {data.dtype} is no image: convert it to integers, floats or booleans of"
            " up to 64 bits, or to complex numbers"
        )
    if not isinstance(data, da.Array):
        data = cast(Any, da).from_array(data, chunks="auto")
    names = _checked_dims(dims, data.shape)
    _refuse_unwritable(data)
    axes_mapping = AxesMapping(names, data.shape)
    described = {
        "kind": "array",
        "dims": list(names),
        "shape": list(data.shape),
        "dtype": data.dtype.str,
        "fingerprint": make_token(identity if identity is not None else data.name, names),
        "identity": identity,
    }
    provenance = {"source": "array", "cloudimg": __version__}
    facts = facts_of_array(
        axes_mapping,
        name=name,
        provenance=provenance,
        xarray=array if is_xarray else None,
        dims=names,
    )
    boundaries = [np.cumsum((0, *lengths)).astype(np.int64) for lengths in data.chunks]
    return WriteInput(
        DaskInput(data, axes_mapping),
        axes_mapping,
        data.dtype,
        0,
        axes_mapping.boundaries(boundaries),
        facts,
        described,
        lambda: str(described["fingerprint"]),
        None,
        lambda: iter(()),
        0,
        None,
    )


def _checked_dims(dims: Sequence[str] | None, shape: Sequence[int]) -> tuple[str, ...]:
    if dims is None:
        if len(shape) > len(_LAST_DIMS):
            raise ArgumentError(
                f"an array of {len(shape)} axes needs names for them: dims=(..., 'y', 'x')"
            )
        return _LAST_DIMS[len(_LAST_DIMS) - len(shape) :]
    names = tuple(dims)  # "zyx" too
    if len(names) != len(shape) or len(set(names)) != len(names):
        raise ArgumentError(f"dims={names} must name each of {len(shape)} axes once")
    return names


def _refuse_unwritable(data: Any) -> None:
    if any(n != n for n in data.shape):
        raise ArgumentError(
            "the array's shape is not known before it is computed: call its compute_chunk_sizes()"
        )
    if 0 in data.shape:
        raise ArgumentError(f"an array of shape {data.shape} has no pixels")


def shown_urls(urls: URLs) -> list[str]:
    """URLs as they may be stored, from which the image can be opened again."""
    location, texts = locate(as_texts(urls))
    return [redact(f"{location.before}{text}{location.after}") for text in texts]


def _images_of_set(opened: Opened, ome_xml: str | None) -> dict[str, Any]:
    """How many images a set of files holds, of which one is opened."""
    if opened.sources[0].files.pages is None or ome_xml is None:
        return {}
    n_images = len(_PIXELS.findall(ome_xml))
    return {"n_series": n_images} if n_images > 1 else {}


def _channels_of_files(opened: Opened) -> dict[str, Any]:
    """Names and colours of channels that lie in files of their own, each told by its own file.

    Only where the first file tells its own: then a header is read for each channel.
    """
    source, header = opened.sources[0], opened.inspection.headers[0]
    axis = next((axis for axis in source.layout.axes if axis.name == "c"), None)
    if axis is None or axis.field is None or not header.attrs.get("channel_names"):
        return {}
    first = list(opened.grid.first())
    indices = []
    for i in range(opened.grid.shape[axis.field]):
        first[axis.field] = i
        indices.append(tuple(first))
    reader, is_multifile = source.reader, source.files.pages is not None
    if (
        is_multifile
        or len(indices) > _MOST_CHANNELS
        or not all(map(source.files.is_present, indices))
    ):
        return {}
    keys = [reader.store.location.key_of(source.files.keys(index)) for index in indices]
    under_way = [engine().fetch(partial(reader.headers.open, key)) for key in keys]
    try:
        told = [future.result().parsed.attrs for future in under_way]
    except FormatError:
        return {}  # that the file is broken, its cell tells
    names = [name for attrs in told for name in attrs.get("channel_names", ())]
    colors = [color for attrs in told for color in attrs.get("channel_colors", ())]
    if len(names) != axis.length:
        return {}
    return {"channel_names": names} | (
        {"channel_colors": colors} if len(colors) == axis.length else {}
    )


def _ome_xml(opened: Opened) -> str | None:
    """The OME-XML of the first file, where it has one."""
    first = opened.inspection.headers[0]
    found = opened.sources[0].reader.headers.cached(first.key)
    tags = None if found is None else file_tags(found)
    text = None if tags is None else tags.description
    return text if text is not None and "<OME" in text[:2000] else None
