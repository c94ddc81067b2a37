"""Whole TIFFs of many kinds, of which every pixel is known: what faults are then made in.

Each is small, and all its planes differ, so that a plane is recognized wherever it turns up.
"""

from __future__ import annotations

import functools
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import imagecodecs
import numpy as np
import tifffile
from PIL import Image as Pillow

from tests.support.flavours import (
    ASCII,
    LONG,
    RATIONAL,
    STRIP_OFFSETS,
    SUBIFDS,
    TILE_OFFSETS,
    Array,
    Block,
    Picture,
    Tag,
    ascii_tag,
    assemble,
    picture,
)

Levels = tuple[Array, ...]
"""The planes of each level of an image: n, y, x and samples, where there are any."""
Made = tuple[bytes, tuple[Levels, ...]]


@dataclass(frozen=True, slots=True)
class Original:
    """A whole file."""

    name: str
    data: bytes
    images: tuple[Levels, ...]
    """What it shows, in the order of cloudimg; the image that is opened by default is first."""

    @property
    def file_name(self) -> str:
        return "file.ome.tif" if b"<OME" in self.data else "file.tif"


@functools.cache
def originals() -> dict[str, Callable[[], Original]]:
    """All of them by name; each is made when it is first asked for."""
    kinds: dict[str, Callable[[], Made]] = {
        **{f"pages {name}": functools.partial(_pages, name) for name in PAGES},
        **{f"tiles {name}": functools.partial(_tiles, name) for name in _TILED},
        **{f"pages {name} by Pillow": functools.partial(_pillow, name) for name in _PILLOW},
        "rgb planar": _planar,
        "palette": _palette,
        "sparse tiles": _sparse,
        "volume": _volume,
        "two images": _two_images,
        "pyramid in SubIFDs": functools.partial(_pyramid, "directory first"),
        "pyramid in SubIFDs, big": functools.partial(
            _pyramid, "pixels first", bigtiff=True, byteorder=">"
        ),
        "pyramid of pages": _overviews,
        "imagej": functools.partial(_imagej, "TZCYX"),
        "imagej, one IFD": functools.partial(_imagej, "TZCYX", truncate=True),
        "imagej, one IFD and axis": functools.partial(_imagej, "TYX", truncate=True),
        "imagej deflate": functools.partial(_imagej, "TZCYX", compression="zlib"),
        "imagej, directories last": functools.partial(_imagej, "ZYX", "directories last"),
        "stk": _stk,
        "shaped": functools.partial(_shaped),
        "shaped, one IFD": functools.partial(_shaped, truncate=True),
        "shaped deflate": functools.partial(_shaped, compression="zlib", rowsperstrip=9),
        "ome by tifffile": functools.partial(_ome),
        "ome by tifffile, tiles": functools.partial(
            _ome, tile=(16, 16), compression="zlib", bigtiff=True
        ),
        "ome pyramid": _ome_pyramid,
        "ome two images": _ome_two_images,
        "ome plane by plane": functools.partial(_ome_by_hand, "directory first"),
        "ome pixels first": functools.partial(_ome_by_hand, "pixels first"),
        "ome directories last": functools.partial(_ome_by_hand, "directories last", order=">"),
    }
    return {name: functools.cache(functools.partial(_made, name, kinds[name])) for name in kinds}


_UUID = rb"(?<=urn:uuid:)[0-9a-f-]{36}"
"""tifffile makes one up; a file is a function of its name."""


def _made(name: str, make: Callable[[], Made]) -> Original:
    data, images = make()
    return Original(name, re.sub(_UUID, b"0" * 36, data), images)


def planes(n: int, dtype: str = "uint16", shape: tuple[int, ...] = (44, 52)) -> Array:
    """Planes that all differ, smooth enough to compress."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    if dtype == "bool":
        return np.stack([(x // (3 + i) + y // 5) % 2 == 0 for i in range(n)])
    top = 200 if np.dtype(dtype).itemsize == 1 else 3000
    waves = [np.abs(np.sin(x / (5 + i)) + np.cos(y / (7 + i))) / 2 for i in range(n)]
    grey = np.stack(waves) * top
    if len(shape) == 3:
        grey = np.stack([np.roll(grey, 9 * s, 1) for s in range(shape[2])], -1)
    return grey.astype(dtype)


# Layouts

LAYOUTS = ("directory first", "pixels first", "directories last", "directories first")
"""How directories and pixels follow one another: as tifffile writes them, libtiff (a directory
between the pixels of two pages), ImageJ and Bio-Formats, GDAL (cloud-optimized)."""


def _blocks(n: int, layout: str) -> Sequence[Block]:
    if layout == "directory first":
        return [(i, part) for i in range(n) for part in ("directory", "values", "pixels")]
    if layout == "pixels first":
        return [(i, part) for i in range(n) for part in ("pixels", "values", "directory")]
    headers: list[Block] = [(i, part) for i in range(n) for part in ("directory", "values")]
    pixels: list[Block] = [(i, "pixels") for i in range(n)]
    return headers + pixels if layout == "directories first" else pixels + headers


def laid_out(data: bytes, layout: str) -> bytes:
    """The same directories and segments in another layout."""
    with tifffile.TiffFile(io.BytesIO(data), _multifile=False) as tiff:
        chain = [_picture(page.aspage()) for page in tiff.pages]
        order, is_big = tiff.byteorder, tiff.is_bigtiff
    blocks = _blocks(len(chain) + sum(len(one.subs) for one in chain), layout)
    return assemble(chain, order=order, big=is_big, blocks=blocks).data


def _picture(page: Any) -> Picture:
    file, tags, segments = page.parent.filehandle, {}, []
    for tag in page.tags:
        file.seek(tag.valueoffset)
        tags[tag.code] = Tag(int(tag.dtype), file.read(tag.valuebytecount), declared=tag.count)
    for code in (STRIP_OFFSETS, 279, TILE_OFFSETS, 325, SUBIFDS):
        tags.pop(code, None)
    for at, count in zip(page.dataoffsets, page.databytecounts, strict=True):
        file.seek(at)
        segments.append(file.read(count))
    subs = [_picture(sub.aspage()) for sub in page.pages] if page.subifds else []
    return Picture(tags, segments, page.is_tiled, subs)


# Pages without a description

PAGES: dict[str, dict[str, Any]] = {
    "plain": {},
    "plain 8 bits": {"dtype": "uint8", "layout": "pixels first"},
    "plain strips": {"rowsperstrip": 9, "layout": "pixels first"},
    "plain big": {"bigtiff": True, "layout": "pixels first"},
    "plain float": {"dtype": "float32", "layout": "directories last", "byteorder": ">"},
    "deflate": {"compression": "zlib", "layout": "pixels first"},
    "deflate strips": {
        "compression": "zlib",
        "predictor": True,
        "rowsperstrip": 9,
        "layout": "directories last",
        "byteorder": ">",
    },
    "lzw": {"compression": "lzw", "predictor": True, "layout": "pixels first", "byteorder": ">"},
    "zstd": {"compression": "zstd", "layout": "directories first", "bigtiff": True},
    "zstd float": {"compression": "zstd", "predictor": 3, "dtype": "float32"},
    "packbits": {"compression": "packbits", "dtype": "uint8", "layout": "pixels first"},
    "lzma": {"compression": "lzma", "rowsperstrip": 9, "layout": "directories last"},
    "lerc": {"compression": "lerc", "dtype": "float32", "layout": "pixels first"},
    "png": {"compression": "png", "layout": "pixels first"},
    "jpeg": {"compression": "jpeg", "dtype": "uint8", "layout": "pixels first"},
    "jpeg rgb": {"compression": "jpeg", "dtype": "uint8", "is_rgb": True, "rowsperstrip": 16},
    "jpeg xr": {"compression": "jpegxr", "dtype": "uint8", "layout": "directories last"},
    "jpeg 2000": {"compression": "jpeg2000", "layout": "pixels first"},
    "jpeg xl": {"compression": "jpegxl", "dtype": "uint8"},
    "webp": {"compression": "webp", "dtype": "uint8", "is_rgb": True, "layout": "pixels first"},
    "rgb": {"dtype": "uint8", "is_rgb": True, "layout": "pixels first"},
    "bits": {"dtype": "bool", "layout": "pixels first"},
}
_LOSSY = {"jpeg", "jpegxr", "webp"}


def _pages(name: str, **more: Any) -> Made:
    options = {"rowsperstrip": 44, **PAGES.get(name, {}), **more}
    dtype, layout = options.pop("dtype", "uint16"), options.pop("layout", "directory first")
    is_rgb = options.pop("is_rgb", False)
    pixels = planes(5, dtype, (44, 52, 3) if is_rgb else (44, 52))
    options |= {"photometric": "rgb" if is_rgb else "minisblack", "metadata": None}
    made = laid_out(_written([(plane, options) for plane in pixels]), layout)
    return made, ((_decoded(made) if options.get("compression") in _LOSSY else pixels,),)


_TILED: dict[str, dict[str, Any]] = {
    "plain": {"layout": "pixels first"},
    "deflate": {"compression": "zlib", "layout": "pixels first", "byteorder": ">"},
    "lzw": {"compression": "lzw", "layout": "directories last"},
    "jpeg": {"compression": "jpeg", "dtype": "uint8", "is_rgb": True, "layout": "pixels first"},
    "webp": {"compression": "webp", "dtype": "uint8", "is_rgb": True},
    "jpeg 2000": {"compression": "jpeg2000", "dtype": "uint8", "layout": "directories first"},
    "lerc": {"compression": "lerc", "dtype": "float32", "layout": "directories first"},
}


def _tiles(name: str) -> Made:
    return _pages("", **{"tile": (16, 16), "rowsperstrip": None, **_TILED[name]})


def _written(pages: Sequence[tuple[Array, dict[str, Any]]]) -> bytes:
    """By tifffile; options of the file itself are taken from those of the first page."""
    file = io.BytesIO()
    of_file = {name: pages[0][1].get(name) for name in ("bigtiff", "byteorder", "imagej", "ome")}
    with tifffile.TiffWriter(file, **{k: v for k, v in of_file.items() if v is not None}) as tiff:
        for pixels, options in pages:
            tiff.write(pixels, **{k: v for k, v in options.items() if k not in of_file})
    return file.getvalue()


def _decoded(data: bytes) -> Array:
    """Pages that were written with loss, by tifffile's decoder."""
    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        return np.stack([page.asarray() for page in tiff.pages])


_PILLOW = {"group3": "bool", "group4": "bool", "tiff_adobe_deflate": "uint8", "raw": "uint8"}


def _pillow(compression: str) -> Made:
    """By libtiff through Pillow."""
    pixels, file = planes(4, _PILLOW[compression]), io.BytesIO()
    first, *rest = [Pillow.fromarray(plane) for plane in pixels]
    first.save(file, "TIFF", save_all=True, append_images=rest, compression=compression)
    return file.getvalue(), ((pixels,),)


# One page, or several levels and images


def _planar() -> Made:
    pixels = planes(3, "uint8")
    options = {"photometric": "rgb", "planarconfig": "separate", "metadata": None}
    data = _written([(pixels, {**options, "compression": "zlib", "rowsperstrip": 9})])
    return laid_out(data, "pixels first"), ((np.moveaxis(pixels, 0, -1)[None],),)


def _palette() -> Made:
    pixels = planes(2, "uint8")
    colours = np.arange(768, dtype=np.uint16).reshape(3, 256) * 85
    options = {"photometric": "palette", "colormap": colours, "metadata": None}
    return _written([(plane, options) for plane in pixels]), ((pixels,),)


def _sparse() -> Made:
    """The tiles of the first row are not stored."""
    pixels = planes(1)
    pixels[0, :16] = 0
    tiles = [pixels[0, y : y + 16, x : x + 16] for y in (16, 32) for x in (0, 16, 32, 48)]
    padded = [np.pad(one, [(0, 16 - n) for n in one.shape]) for one in tiles]
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as tiff:
        segments = [*4 * [b""], *(imagecodecs.zlib_encode(one.tobytes()) for one in padded)]
        options = {"shape": (44, 52), "dtype": "uint16", "tile": (16, 16), "compression": "zlib"}
        tiff.write(iter(segments), **options, metadata=None)
    return file.getvalue(), ((pixels,),)


def _volume() -> Made:
    pixels = planes(6)
    options = {"volumetric": True, "tile": (2, 16, 16), "compression": "zlib", "metadata": None}
    return _written([(pixels, options)]), ((pixels,),)


def _two_images() -> Made:
    first, second = planes(4), planes(2, "uint8", (20, 30))
    options = {"metadata": None}
    data = _written([(plane, options) for plane in (*first, *second)])
    return laid_out(data, "pixels first"), ((first,), (second,))


def _pyramid(layout: str, **more: Any) -> Made:
    """Two pages, each with two levels in SubIFDs."""
    levels = (planes(2), planes(2)[:, ::2, ::2], planes(2)[:, ::4, ::4])
    options = {"tile": (16, 16), "compression": "zlib", "metadata": None, **more}
    pages = []
    for i in range(2):
        pages.append((levels[0][i], {**options, "subifds": 2}))
        pages += [(one[i], {**options, "subfiletype": 1}) for one in levels[1:]]
    return laid_out(_written(pages), layout), (levels,)


def _overviews() -> Made:
    """As GDAL writes it: reduced images follow in the chain, all directories come first."""
    levels = (planes(1), planes(1)[:, ::2, ::2], planes(1)[:, ::4, ::4])
    options = {"tile": (16, 16), "compression": "zlib", "metadata": None}
    pages = [(one[0], {**options, "subfiletype": int(i > 0)}) for i, one in enumerate(levels)]
    return laid_out(_written(pages), "directories first"), (levels,)


# Described stacks


def _imagej(axes: str, layout: str = "", **options: Any) -> Made:
    shape = {"T": 3, "Z": 2, "C": 2}
    lengths = [shape[letter] for letter in axes[:-2]]
    pixels = planes(int(np.prod(lengths)))
    stack = pixels.reshape(*lengths, *pixels.shape[1:])
    data = _written([(stack, {"imagej": True, "metadata": {"axes": axes}, **options})])
    # ImageJ's order is that of the pages, t z c; cloudimg's is t c z.
    if axes == "TZCYX":
        pixels = np.swapaxes(stack, 1, 2).reshape(pixels.shape)
    return laid_out(data, layout) if layout else data, ((pixels,),)


def _stk() -> Made:
    """MetaMorph: the only directory describes the first plane, and UIC tags count the others."""
    pixels = planes(5)
    count = range(len(pixels))
    distances = [v for i in count for v in (3, 2, 2_455_000, 1000 * i, 2_455_000, 1000 * i)]
    page = picture(
        pixels[0],
        t270=Tag(ASCII, b"plane\0" * len(pixels)),
        t33628=Tag(LONG, (0, 1, 1, 0), 2),
        t33629=Tag(RATIONAL, distances, len(pixels)),
        t33630=Tag(RATIONAL, [v for i in count for v in (500 + i, 1)]),
    )
    return assemble([page]).data + pixels[1:].tobytes(), ((pixels,),)


def _shaped(**options: Any) -> Made:
    pixels = planes(6)
    stack = pixels.reshape(3, 2, *pixels.shape[1:])
    return _written([(stack, {"metadata": {"axes": "TCYX"}, **options})]), ((pixels,),)


def _ome(**options: Any) -> Made:
    pixels = planes(6)
    stack = pixels.reshape(3, 2, *pixels.shape[1:])
    return _written([(stack, {"ome": True, "metadata": {"axes": "TCYX"}, **options})]), ((pixels,),)


def _ome_pyramid() -> Made:
    levels = (planes(3), planes(3)[:, ::2, ::2])
    options = {"ome": True, "tile": (16, 16), "compression": "zlib", "metadata": {"axes": "ZYX"}}
    pages = [(levels[0], {**options, "subifds": 1}), (levels[1], {**options, "subfiletype": 1})]
    return _written(pages), (levels,)


def _ome_two_images() -> Made:
    first, second = planes(4), planes(2, "uint8", (20, 30))
    options = {"ome": True, "metadata": {"axes": "TYX"}}
    return _written([(first, options), (second, options)]), ((first,), (second,))


def _ome_by_hand(layout: str, order: str = "<") -> Made:
    """As Bio-Formats describes it, one TiffData a plane; with room for more in the text."""
    pixels = planes(6)
    data = "".join(
        f'<TiffData FirstC="{i % 2}" FirstT="{i // 2}" FirstZ="0" IFD="{i}" PlaneCount="1"/>'
        for i in range(6)
    )
    xml = (
        '<?xml version="1.0" encoding="UTF-8"?><OME xmlns="http://www.openmicroscopy.org/Schemas/'
        'OME/2016-06"><Image ID="Image:0"><Pixels BigEndian="false" DimensionOrder="XYCZT"'
        ' ID="Pixels:0" SizeC="2" SizeT="3" SizeX="52" SizeY="44" SizeZ="1" Type="uint16">'
        '<Channel ID="Channel:0:0" SamplesPerPixel="1"/>'
        f'<Channel ID="Channel:0:1" SamplesPerPixel="1"/>{data}{" " * 400}</Pixels></Image></OME>'
    )
    stored = pixels.astype(f"{order}u2")
    chain = [
        picture(plane, t270=ascii_tag(xml if i == 0 else "")) for i, plane in enumerate(stored)
    ]
    blocks = _blocks(len(chain), layout)
    return assemble(chain, order=order, blocks=blocks).data, ((pixels,),)
