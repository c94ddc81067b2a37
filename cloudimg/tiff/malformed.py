"""Tell exceptions that a malformed file causes from those that a bug of this package causes."""

from __future__ import annotations

import struct

MALFORMED = (
    ValueError,  # also tifffile's TiffFileError and OmeXmlError, UnicodeError, JSONDecodeError
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    NameError,  # a local variable that tifffile sets only for tags it expects
    AssertionError,
    RuntimeError,  # also the errors of imagecodecs, and RecursionError
    MemoryError,  # an array of a size that no machine can allocate
    SyntaxError,  # also ElementTree.ParseError
    struct.error,
)
"""What tifffile and its decoders raise for malformed files."""


def is_bug(exc: BaseException) -> bool:
    """Whether an exception is a bug of this package, not caused by the file.

    tifffile runs into a missing attribute or name where a file lacks a tag or declares an
    unexpected type. The code of this package does not.
    """
    if not isinstance(exc, AttributeError | NameError):
        return False
    traceback = exc.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    if traceback is None:
        return False
    module = str(traceback.tb_frame.f_globals.get("__name__", ""))
    return module.partition(".")[0] == __name__.partition(".")[0]
