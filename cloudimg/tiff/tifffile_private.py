"""The private names of tifffile that cloudimg uses; tests/test_private_apis.py holds them."""

from __future__ import annotations

import os
from typing import IO, Any


def open_alone(file: IO[bytes] | str | os.PathLike[str], **options: Any) -> Any:
    """Open a file as `tifffile.TiffFile` whose series consist of its own pages only.

    Uses the argument ``_multifile`` of `tifffile.TiffFile`, "internal use" in its documentation.
    There is no public one: by default tifffile opens the other files that OME-XML names, and
    ``is_ome=False`` would ignore the OME-XML of a file that stands alone too. Seen from 2026.2.24
    to 2026.11.8.

    Parameters
    ----------
    file : file object, str or path
    **options
        Public arguments of `tifffile.TiffFile`.
    """
    import tifffile

    return tifffile.TiffFile(file, _multifile=False, **options)
