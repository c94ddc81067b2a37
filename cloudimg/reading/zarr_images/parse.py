"""Parse the metadata of a Zarr: an image of OME-Zarr with its levels, or a plain array."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cloudimg.errors import (
    CloudimgError,
    CorruptFileError,
    NotFoundError,
    UnsupportedFormatError,
)
from cloudimg.errors.checked_json import damage
from cloudimg.errors.notes import Remark
from cloudimg.reading.zarr_images.array_metadata import StoredArray
from cloudimg.reading.zarr_images.attributes import KIND, attributes_of, coordinates_of, times_of
from cloudimg.reading.zarr_images.documents import Node, node_of, read_node, read_nodes
from cloudimg.reading.zarr_images.level import ZarrLevel
from cloudimg.reading.zarr_images.multiscale import Multiscale
from cloudimg.storage import Blob, Store
from cloudimg.tiff import IMAGE, FileImage, ParsedImage

_DAMAGED = (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError)
_PLAIN = ("t", "c", "z", "y", "x")
"""Axes of arrays whose dimensions have no names, the last ones last."""
_OWN = "cloudimg"
_ABOVE_IMAGE = (1, 3)
"""How many folders above an image of a collection, or of a plate, the root is."""


def parse_zarr(store: Store, key: str, blob: Blob, *, series: int, limit_bytes: int) -> ParsedImage:
    """Parse the image that a metadata document stands for.

    Parameters
    ----------
    store : Store
    key : str
        Key of the document, see `cloudimg.reading.zarr_images.documents`.
    blob : Blob
        Its content.
    series : int
        Number of the image, where a group has several.
    limit_bytes : int
        Bound on the decoded size of a chunk.

    Raises
    ------
    CorruptFileError, UnsupportedFormatError, LimitError, StorageError
    """
    node = node_of(store, key, blob)
    if node.array is not None:
        return _of_array(store, node, limit_bytes)
    images = node.ome.get("multiscales")
    if not isinstance(images, list) or not images:
        raise _no_image(store, node)
    if series >= len(images):
        raise CorruptFileError(
            f"{_url(store, node)} has {len(images)} images, and series={series} is not one of them",
            url=_url(store, node),
        )
    return _of_group(store, node, images, series, limit_bytes)


def _url(store: Store, node: Node) -> str:
    return store.location.display(node.folder)


def _no_image(store: Store, node: Node) -> CloudimgError:
    url = _url(store, node)
    return UnsupportedFormatError(
        f"{url} is a Zarr group without an image of OME-Zarr (its attributes have no multiscales):"
        " open one of the images or arrays below it by its own URL",
        url=url,
    )


def _of_array(store: Store, node: Node, limit_bytes: int) -> ParsedImage:
    """A plain array."""
    stored = _stored(store, node, limit_bytes)
    level = ZarrLevel(store, node, stored)
    level.check_codecs()
    names: Any = stored.dimension_names
    if names is None:
        names = node.attributes.get("_ARRAY_DIMENSIONS")
    dims = _plain_dims(names, len(stored.shape))
    attrs: dict[str, Any] = {
        "kind": KIND,
        "compression": stored.compression,
        "fill_value": stored.fill_value,
    }
    return ParsedImage(dims=dims, levels=(level,), attrs=attrs, coords={}, depends_on_name=False)


def _plain_dims(names: Any, n_dims: int) -> tuple[str, ...]:
    """Axes of a plain array: the names of its dimensions, or else the last of t, c, z, y, x."""
    if isinstance(names, list | tuple) and all(isinstance(each, str) and each for each in names):
        plain = [each.lower() if len(each) == 1 else each for each in names]
        if len(plain) == n_dims == len(set(plain)):
            return tuple(plain)
    further = tuple(f"axis{i}" for i in range(n_dims - len(_PLAIN)))
    return (*further, *_PLAIN[max(0, len(_PLAIN) - n_dims) :])


def _of_group(
    store: Store, node: Node, images: Sequence[Any], series: int, limit_bytes: int
) -> ParsedImage:
    """An image of OME-Zarr."""
    url = _url(store, node)
    try:
        multiscale = Multiscale.of(images[series])
    except UnsupportedFormatError as exc:
        raise UnsupportedFormatError(f"{url} cannot be read: {exc}", url=url) from exc
    except _DAMAGED as exc:
        raise CorruptFileError(
            f"the metadata of OME-Zarr of {url} are damaged (multiscales[{series}]): {damage(exc)}",
            url=url,
        ) from exc
    levels, stored, remarks = _levels(store, node, multiscale, limit_bytes)
    lengths = dict(zip(multiscale.dims, stored.shape, strict=True))
    own = _own_attributes(store, node)
    attrs = {
        **attributes_of(multiscale, node.ome, own, lengths.get("c", 1)),
        "kind": KIND,
        "compression": stored.compression,
        "fill_value": stored.fill_value,
    }
    coords = coordinates_of(own, lengths)
    if "t" in lengths and "t" not in coords:
        times = times_of(multiscale, lengths["t"])
        coords |= {} if times is None else {"t": times}
    return ParsedImage(
        dims=multiscale.dims,
        levels=levels,
        attrs=attrs,
        coords=coords,
        depends_on_name=False,
        remarks=remarks,
        images=_images(images, stored),
    )


def _images(images: Sequence[Any], stored: StoredArray) -> tuple[FileImage, ...]:
    """All images of a group, if it has several."""
    if len(images) < 2:
        return ()
    names = [each.get("name") if isinstance(each, Mapping) else "" for each in images]
    return tuple(
        FileImage(number, IMAGE, str(name or "")[:255], stored.shape, str(stored.dtype))
        for number, name in enumerate(names)
    )


def _levels(
    store: Store, node: Node, multiscale: Multiscale, limit_bytes: int
) -> tuple[tuple[ZarrLevel, ...], StoredArray, tuple[Remark, ...]]:
    """Levels up to the first one that is missing, level 0 as it is stored, and what was noticed.

    Raises
    ------
    NotFoundError, CorruptFileError, UnsupportedFormatError, LimitError, StorageError
    """
    nodes = read_nodes(store, node, multiscale.paths)
    found: list[tuple[Node, StoredArray]] = []
    remarks: tuple[Remark, ...] = ()
    for path, each in zip(multiscale.paths, nodes, strict=True):
        if each is None or each.array is None:
            if not found:
                url = store.location.display(f"{node.folder}/{path}")
                raise CorruptFileError(
                    f"{_url(store, node)} lists the array {url}, which does not exist", url=url
                )
            text = f"lists the array {path}, which does not exist: it has levels before that only"
            remarks = (Remark("level-missing", text),)
            break
        found.append((each, _stored(store, each, limit_bytes)))
    first = found[0][1]
    for each, stored in found:
        if len(stored.shape) != len(multiscale.dims) or stored.dtype != first.dtype:
            raise CorruptFileError(
                f"the array {store.location.display(each.folder)} has the shape {stored.shape} and"
                f" the type {stored.dtype}, which do not fit the axes"
                f" {', '.join(multiscale.dims)} and the type {first.dtype} of the image",
                url=_url(store, node),
            )
    levels = tuple(ZarrLevel(store, each, stored) for each, stored in found)
    levels[0].check_codecs()
    return levels, first, remarks


def _stored(store: Store, node: Node, limit_bytes: int) -> StoredArray:
    assert node.array is not None
    url = store.location.display(node.folder)
    return StoredArray.of(node.array, node.zarr_format, url, limit_bytes)


def own_attributes(node: Node) -> Mapping[str, Any]:
    """Attributes of a group that are cloudimg's; empty if it is no copy."""
    own = node.attributes.get(_OWN)
    return own if isinstance(own, Mapping) else {}


def _own_attributes(store: Store, node: Node) -> Mapping[str, Any]:
    """The same of an image; of one of a collection, those of the collection, which all share."""
    own = own_attributes(node)
    if "labels" not in own:
        return own
    for n_above in _ABOVE_IMAGE:
        above = node.folder.rsplit("/", n_above)[0]
        try:
            root = read_node(store, above)
        except (CorruptFileError, NotFoundError):
            root = None
        if root is not None and "provenance" in own_attributes(root):
            return own_attributes(root)
    return own
