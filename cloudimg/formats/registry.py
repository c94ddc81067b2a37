"""Formats by name, magic bytes and extension: those built in and those that users add."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import KW_ONLY, dataclass
from functools import partial
from typing import Any, BinaryIO

import numpy.typing as npt

from cloudimg.errors import ArgumentError
from cloudimg.formats import decoders, plain, sizes

ReadFunction = Callable[[BinaryIO, str], npt.NDArray[Any]]
"""Called with a seekable binary file and its URL; returns an array."""

HEAD_BYTES = 64
"""First bytes of a file that magic bytes are looked for in."""


@dataclass(frozen=True, slots=True)
class Format:
    """How files of one format are recognized and read; pickles if `read` does."""

    name: str
    read: ReadFunction
    extensions: tuple[str, ...]
    """In lower case, with the dot; ``.nii.gz`` counts as one."""
    magic: tuple[tuple[int, bytes], ...]
    """Offsets and the bytes there; any one of them identifies the format."""
    _: KW_ONLY
    measure: Callable[[bytes], sizes.Factors | None] | None = None
    """Returns factors of the decoded size in bytes that a header declares; None: unknown."""
    sample_counts: tuple[int, ...] | None = (3, 4)
    """See `cloudimg.formats.dims_of`."""

    def claims(self, name: str, head: bytes) -> bool:
        """Whether a file of this name and these first bytes is of this format."""
        if self.magic:
            return any(head[at : at + len(magic)] == magic for at, magic in self.magic)
        return name.lower().endswith(self.extensions)


def register_format(
    name: str,
    read: ReadFunction,
    *,
    extensions: str | Iterable[str] = (),
    magic: bytes | Iterable[bytes | tuple[int, bytes]] = (),
) -> None:
    """Add a file format, for this process.

    A registered format wins over the built-in ones; of two that match, the longer magic bytes or
    extension decide, then the one registered last. A format of the same name is replaced.

    Parameters
    ----------
    name : str
        For messages.
    read : callable
        Called with a seekable binary file and the URL; returns an array with two axes or more. It
        runs on Dask workers, several calls at a time, so it must pickle and be thread-safe.
    extensions : str or iterable of str
        Such as ``".nd2"`` or ``".img.gz"``; case does not matter.
    magic : bytes or iterable of bytes or of (offset, bytes)
        First bytes of files of the format, or bytes at an offset within the first 64 bytes.

    Raises
    ------
    ArgumentError
        If nothing identifies the format, or an argument is wrong.

    Examples
    --------
    >>> import cloudimg
    >>> import numpy as np
    >>> def read_frame(file, url):
    ...     return np.frombuffer(file.read(), "<u2").reshape(16, 24)
    >>> cloudimg.register_format("camera", read_frame, extensions=".raw")
    >>> cloudimg.open("s3://lab/raw/frame_{t}.raw").shape
    (3, 16, 24)
    """
    if not isinstance(name, str) or not name:
        raise ArgumentError(f"name={name!r} must be a string that is not empty")
    if not callable(read):
        raise ArgumentError(f"read={read!r} must be callable with a binary file and a URL")
    texts = [extensions] if isinstance(extensions, str) else list(extensions)
    marks = [magic] if isinstance(magic, bytes) else list(magic)
    if not texts and not marks:
        raise ArgumentError(f"format {name!r} needs extensions or magic bytes")
    added = Format(name, read, tuple(map(_as_extension, texts)), tuple(map(_as_magic, marks)))
    _registered.pop(name, None)
    _registered[name] = added


def _as_extension(text: Any) -> str:
    if not isinstance(text, str) or not text.strip(".") or "/" in text:
        raise ArgumentError(f"extension {text!r} must be a string such as '.img'")
    return "." + text.lower().removeprefix(".")


def _as_magic(mark: Any) -> tuple[int, bytes]:
    match (0, mark) if isinstance(mark, bytes) else mark:
        case (int(offset), bytes(found)) if offset >= 0 and found:
            if offset + len(found) <= HEAD_BYTES:
                return offset, found
    raise ArgumentError(
        f"magic {mark!r} must be bytes, or an offset and bytes, in the first {HEAD_BYTES} bytes"
    )


def find_format(name: str, head: bytes) -> Format | None:
    """Find the format of a file that is not a TIFF.

    Registered formats come first. Among them, and then among the built-in ones, magic bytes win
    over extensions, because files are renamed. Formats that only imageio knows are found by their
    extension.

    Parameters
    ----------
    name : str
        Name, key or path of the file.
    head : bytes
        Its first `HEAD_BYTES` or more; fewer of a shorter file.
    """
    file_name = name.rsplit("/", 1)[-1].lower()
    for formats in (tuple(reversed(_registered.values())), _BUILT_IN):
        found = _by_magic(formats, head) or _by_extension(formats, file_name)
        if found is not None:
            return found
    extension = decoders.known_to_imageio(file_name)
    if extension is None:
        return None
    read = partial(decoders.read_by_imageio, extension=extension)
    return Format(f"{extension} (imageio)", read, (extension,), ())


def _by_magic(formats: tuple[Format, ...], head: bytes) -> Format | None:
    matches = [
        (len(mark), known)
        for known in formats
        for offset, mark in known.magic
        if head[offset : offset + len(mark)] == mark
    ]
    return max(matches, key=lambda match: match[0])[1] if matches else None


def _by_extension(formats: tuple[Format, ...], file_name: str) -> Format | None:
    matches = [
        (len(extension), known)
        for known in formats
        for extension in known.extensions
        if file_name.endswith(extension)
    ]
    return max(matches, key=lambda match: match[0])[1] if matches else None


def _brands(*names: bytes) -> tuple[tuple[int, bytes], ...]:
    return tuple((4, b"ftyp" + name) for name in names)


def _codec(name: str) -> ReadFunction:
    return partial(decoders.read_by_imagecodecs, codec=name)


_PIXELS_OR_PAGES = (2, 3, 4)
"""The last axis holds samples in one image, with alpha or without, and columns in a grey stack."""

_registered: dict[str, Format] = {}
_BUILT_IN = (
    Format(
        "PNG",
        decoders.read_png,
        (".png", ".apng"),
        ((0, b"\x89PNG\r\n\x1a\n"),),
        measure=sizes.png,
        sample_counts=_PIXELS_OR_PAGES,
    ),
    Format(
        "JPEG",
        decoders.read_jpeg,
        (".jpg", ".jpeg", ".jpe", ".jfif", ".jls", ".ljpg"),
        ((0, b"\xff\xd8\xff"),),
        measure=sizes.jpeg,
        sample_counts=None,
    ),
    Format(
        "JPEG 2000",
        _codec("JPEG2K"),
        (".jp2", ".j2k", ".jpx", ".jpf", ".j2c", ".jpc", ".jph", ".jhc"),
        ((0, b"\0\0\0\x0cjP  \r\n\x87\n"), (0, b"\xff\x4f\xff\x51")),
        measure=sizes.jpeg2000,
        sample_counts=None,
    ),
    Format(
        "JPEG XL",
        _codec("JPEGXL"),
        (".jxl",),
        ((0, b"\xff\x0a"), (0, b"\0\0\0\x0cJXL \r\n\x87\n")),
        measure=sizes.jpeg_xl,
        sample_counts=_PIXELS_OR_PAGES,
    ),
    Format("JPEG XR", decoders.refuse_jpeg_xr, (".jxr", ".wdp", ".hdp"), ((0, b"II\xbc"),)),
    Format(
        "WebP",
        decoders.read_webp,
        (".webp",),
        ((8, b"WEBPVP8"),),
        measure=sizes.webp,
        sample_counts=None,
    ),
    Format(
        "AVIF",
        _codec("AVIF"),
        (".avif", ".avifs"),
        _brands(b"avif", b"avis"),
        measure=sizes.heif,
        sample_counts=_PIXELS_OR_PAGES,
    ),
    Format(
        "HEIF",
        _codec("HEIF"),
        (".heic", ".heif", ".hif"),
        _brands(b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"),
        measure=sizes.heif,
        sample_counts=_PIXELS_OR_PAGES,
    ),
    Format(
        "BMP",
        decoders.read_bmp,
        (".bmp", ".dib"),
        ((0, b"BM"),),
        measure=sizes.bmp,
        sample_counts=None,
    ),
    Format(
        "GIF",
        _codec("GIF"),
        (".gif",),
        ((0, b"GIF87a"), (0, b"GIF89a")),
        measure=sizes.gif,
        sample_counts=None,
    ),
    Format(
        "QOI", decoders.read_qoi, (".qoi",), ((0, b"qoif"),), measure=sizes.qoi, sample_counts=None
    ),
    Format(
        "Radiance HDR",
        _codec("RGBE"),
        (".hdr", ".rgbe"),
        ((0, b"#?RADIANCE"), (0, b"#?RGBE")),
        measure=sizes.rgbe,
        sample_counts=None,
    ),
    Format(
        "PNM",
        plain.read_pnm,
        (".pgm", ".ppm", ".pnm"),
        tuple((0, b"P%d%c" % (kind, gap)) for kind in (2, 3, 5, 6) for gap in b" \n\r\t"),
        measure=sizes.pnm,
        sample_counts=None,
    ),
    Format("NPY", plain.read_npy, (".npy",), ((0, b"\x93NUMPY"),), measure=sizes.npy),
)
