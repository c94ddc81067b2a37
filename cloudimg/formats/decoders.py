"""Decoders of whole files: imagecodecs and imageio behind one signature.

A decoder takes a binary file and its URL and returns an array. It raises whatever its library
raises; `cloudimg.formats.decode` turns that into one kind of error. Libraries are imported at first
use, because most programs read only TIFF. Where a library decodes a truncated file without an
error, the end of the file is checked here.
"""

from __future__ import annotations

import importlib.util
import io
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from cloudimg.errors import UnsupportedFormatError
from cloudimg.formats import sizes
from cloudimg.formats.plain import read_plain_bmp

Array = npt.NDArray[Any]

_IMAGEIO_PLUGINS = ("pillow", "pydicom", "SPE", "rawpy", "FITS", "ITK", "opencv", "pyav")
"""Those that decode given bytes. Others take screenshots, load FreeImage or start ffmpeg."""
_PAGED = frozenset({".webp", ".fli", ".flc", ".dcx"})
"""Of these, imageio returns only the first image by default."""
_POSTSCRIPT = (b"%!PS", b"\xc5\xd0\xd3\xc6")


def read_by_imagecodecs(file: BinaryIO, url: str, *, codec: str) -> Array:
    """Decode by the codec of imagecodecs that has this name."""
    return _imagecodecs(codec, file.read(), url)


def _imagecodecs(codec: str, data: bytes, url: str) -> Array:
    import imagecodecs

    constants = getattr(imagecodecs, codec, None)
    if constants is None or not constants.available:
        raise UnsupportedFormatError(
            f"{url} needs the codec {codec}, which imagecodecs {imagecodecs.__version__} was built "
            f"without; install a build that has it, or register a reader of your own: "
            f"cloudimg.register_format({codec.lower()!r}, read, extensions=[...])",
            url=url,
        )
    decoded: Array = getattr(imagecodecs, f"{codec.lower()}_decode")(data)
    return decoded


def read_png(file: BinaryIO, url: str) -> Array:
    """Decode PNG; libpng itself would return only the first image of an animation."""
    data = file.read()
    return _imagecodecs("APNG" if sizes.png_frames(data) > 1 else "PNG", data, url)


def read_jpeg(file: BinaryIO, url: str) -> Array:
    """Decode JPEG and JPEG-LS: samples as stored, the orientation of EXIF is not applied."""
    data = file.read()
    frame = sizes.jpeg_frame(data)
    if frame is None:
        raise ValueError("no frame header comes before the pixels")
    # imagecodecs' "JPEG" would go on, where libjpeg refuses, to a codec that is not memory-safe.
    # libjpeg fills what is missing with grey. Pixels have no FF D9, previews come before the frame.
    if data.find(b"\xff\xd9", frame.offset) < 0:
        raise ValueError("the end-of-image marker is missing; is it truncated?")
    return _imagecodecs("JPEGLS" if frame.is_ls else "JPEG8", data, url)


def refuse_jpeg_xr(file: BinaryIO, url: str) -> Array:
    """Say how to read JPEG XR: the one decoder there is writes where damaged headers say."""
    raise UnsupportedFormatError(
        f"{url} is JPEG XR, whose decoder may take the process down where a file is damaged; if you"
        f" trust your files, cloudimg.register_format('JPEG XR', lambda file, url:"
        f" imagecodecs.jpegxr_decode(file.read()), extensions=['.jxr', '.wdp'])",
        url=url,
    )


def read_qoi(file: BinaryIO, url: str) -> Array:
    """Decode QOI, whose decoder repeats the last pixel where bytes are missing."""
    data = file.read()
    if bytes(7) + b"\x01" not in data[14:]:
        raise ValueError("the end marker is missing; is it truncated?")
    return _imagecodecs("QOI", data, url)


def read_webp(file: BinaryIO, url: str) -> Array:
    """Decode WebP; animations go to imageio, as imagecodecs does not compose their frames."""
    data = file.read()
    if data[12:16] == b"VP8X" and data[20] & 0x02:
        return read_by_imageio(io.BytesIO(data), url, extension=".webp")
    return _imagecodecs("WEBP", data, url)


def read_bmp(file: BinaryIO, url: str) -> Array:
    """Decode BMP; files other than plain pixels go to imageio."""
    data = file.read()
    pixels = read_plain_bmp(data)
    return read_by_imageio(io.BytesIO(data), url, extension=".bmp") if pixels is None else pixels


def known_to_imageio(name: str) -> str | None:
    """The extension of a name if imageio is installed and may decode such files."""
    if importlib.util.find_spec("imageio") is None:
        return None
    from imageio.config import known_extensions

    parts = name.lower().split(".")[1:]
    # Of `a.nii.gz`, `.nii.gz` is tried before `.gz`.
    for start in range(len(parts)):
        extension = "." + ".".join(parts[start:])
        plugins = _plugins(known_extensions.get(extension, ()))
        if plugins:
            return extension
    return None


def _plugins(formats: Any) -> list[str]:
    """Names of plugins for formats of imageio; empty for TIFF, which is read elsewhere."""
    names = [name for known in formats for name in known.priority]
    if not names or "tifffile" in names or "TIFF" in names:
        return []
    # imageio does not list all that Pillow reads.
    return [*dict.fromkeys([name for name in names if name in _IMAGEIO_PLUGINS] + ["pillow"])]


def read_by_imageio(file: BinaryIO, url: str, *, extension: str) -> Array:
    """Decode by the first installed plugin of imageio that accepts the file.

    `imageio.imread` would try plugins of other formats, some of which start programs. Plugins
    that only read named files (ITK, opencv) get a temporary one from imageio.
    """
    if importlib.util.find_spec("imageio") is None:
        raise UnsupportedFormatError(
            f"{url} needs imageio: pip install 'cloudimg-dask[formats]'", url=url
        )
    import imageio.v3 as iio
    from imageio.config import known_extensions, known_plugins
    from imageio.core.request import InitializationError

    data = file.read()
    if data.startswith(_POSTSCRIPT):
        raise UnsupportedFormatError(
            f"{url} is PostScript, which is a program; cloudimg does not run it", url=url
        )
    refusals = []
    for name in _plugins(known_extensions[extension]):
        try:
            plugin: Any = known_plugins[name].plugin_class
            opened = iio.imopen(io.BytesIO(data), "r", plugin=plugin, extension=extension)
        except ImportError:
            refusals.append(f"{name} is not installed")
            continue
        except OSError as exc:
            is_other = isinstance(exc.__cause__, InitializationError)
            refusals.append(
                f"{name} does not know the format" if is_other else f"{name}: {exc.__cause__}"
            )
            continue
        with opened:
            return np.asarray(opened.read(index=...) if extension in _PAGED else opened.read())
    raise UnsupportedFormatError(
        f"no plugin of imageio reads {url} ({'; '.join(refusals)})", url=url
    )
