"""Write a picture as a PNG file."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING

from cloudimg.errors import ArgumentError, NoRoomError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


def refuse_unwritable(path: str) -> None:
    """Check before any work that a file can be written.

    Raises
    ------
    ArgumentError
        If it cannot.
    """
    folder = Path(path).absolute().parent
    target = Path(path) if Path(path).exists() else folder
    if not folder.is_dir() or not os.access(target, os.W_OK) or Path(path).is_dir():
        raise ArgumentError(f"cannot write {path}: no such folder, or no permission")


def write_png(path: str, pixels: npt.NDArray[np.uint8]) -> None:
    """Write a picture (y, x or y, x, RGB or RGBA), replacing an existing file.

    Raises
    ------
    ArgumentError, NoRoomError
    """
    import imagecodecs

    try:
        Path(path).write_bytes(imagecodecs.png_encode(pixels))
    except OSError as exc:
        kind = NoRoomError if exc.errno in (errno.ENOSPC, errno.EDQUOT) else ArgumentError
        raise kind(f"cannot write {path}: {exc.strerror}") from exc
