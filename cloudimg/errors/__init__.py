"""Every error that cloudimg raises on purpose; `notes` has what is noticed without being one.

::

    CloudimgError
    ├── ArgumentError          an invalid argument (also ValueError)
    │   ├── PatternError       a pattern with a syntax error
    │   ├── UnknownArgumentError  a keyword argument that does not exist (also TypeError)
    │   └── OccupiedError      the destination holds something else than what is to be written
    ├── GridError              the files do not form one image
    │   ├── NoMatchError       nothing matches the pattern (also FileNotFoundError)
    │   ├── DuplicateIndexError  two files have the same index
    │   ├── MissingFilesError  the grid has holes and missing="raise"
    │   ├── UnmatchedFilesError  a copy would leave out images beside those of the pattern
    │   └── MismatchError      a file's shape, dtype or axes differ from the first file's
    │       └── BadFilesError  a report of all bad files: `BadFilesError.report`
    ├── StorageError           a request to a store failed (also OSError)
    │   ├── NotFoundError      no such object or bucket (also FileNotFoundError)
    │   │   └── FolderError    a folder that is not known to be one image
    │   ├── AccessDeniedError  403, 401, no credentials (also PermissionError)
    │   ├── CertificateError   the certificate of a server is not trusted
    │   ├── ArchivedError      the object is in an archive, from which it must be restored first
    │   ├── NoRoomError        a quota or a disk is full, or the object is too large
    │   ├── WrongRegionError   the bucket is in another region or at another endpoint
    │   ├── NotConditionalError  the store cannot create an object only if it is absent
    │   ├── ServerError        5xx, throttling, connection reset, timeout: after all retries
    │   ├── ChangedError       the object changed while it was being read
    │   └── LeaseError         another migration writes to the same destination
    ├── ProblemsError          the command line found problems, or left some
    ├── DamagedCopyError       a finished copy lacks objects, or has others among its own
    ├── ClusterError           a Dask cluster failed, rather than a store or a file
    └── FormatError            the file is not an image that cloudimg can decode
        ├── NotTiffError       not a TIFF
        │   └── EmptyFileError  a file of 0 bytes
        ├── CorruptFileError   truncated or contradictory content
        │   └── TruncatedFileError  the file ends too early
        ├── UnsupportedFormatError  valid, but no decoder exists for it
        └── LimitError         decoding would exceed a limit

All of them pickle with all their attributes and notes, so that they reach the client from a Dask
worker.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cloudimg.errors.file_report import FileReport


class CloudimgWarning(UserWarning):
    """Something that is not an error, but makes a result other than one may expect."""


class ChunkCostWarning(CloudimgWarning):
    """Chunks of a user's choice make reading fetch more bytes, or wait more often, than needed."""


class CloudimgError(Exception):
    """Base of all errors of cloudimg.

    Parameters
    ----------
    message : str
        What happened and what to do about it.
    url : str, optional
        The object concerned, without credentials.
    byte_range : tuple of int, optional
        Half-open range of bytes of that object.
    cause : str, optional
        Redacted text of the exception that a library raised, where that exception may hold
        credentials and is therefore not kept as ``__cause__``.
    """

    bad_file: str | None = None
    """Kind of bad file that raises this error, see `cloudimg.FileReport`. None if the file is not
    to blame: a store failed, or a limit of this process was exceeded."""
    file_version: int = 0
    """Version of a bad file whose header could not be read, as commit records have it; 0 if it is
    not known."""

    def __init__(
        self,
        message: str,
        *,
        url: str | None = None,
        byte_range: tuple[int, int] | None = None,
        cause: str | None = None,
    ) -> None:
        self.message = message
        self.url = url
        self.byte_range = byte_range
        self.cause = cause
        super().__init__(message)

    def __str__(self) -> str:
        where = []
        if self.url is not None and self.url not in self.message:
            where.append(self.url)
        if self.byte_range is not None:
            where.append(f"bytes {self.byte_range[0]}-{self.byte_range[1]}")
        return f"{self.message} [{', '.join(where)}]" if where else self.message

    def __reduce__(self) -> tuple[Any, ...]:
        arguments = (type(self), self.message, self.url, self.byte_range, self.cause)
        kept = ("__notes__", "bad_file", "file_version", "report")
        state = {name: vars(self)[name] for name in kept if name in vars(self)}
        return _rebuild, arguments, state or None


def _rebuild(*state: Any) -> CloudimgError:
    try:
        cls, message, url, byte_range, cause = state
        error: CloudimgError = cls(message, url=url, byte_range=byte_range, cause=cause)
        str(error)
    except Exception:  # noqa: BLE001 - whatever another version sends: Dask only logs what is raised
        return ClusterError("an error arrived that another version of cloudimg has made")
    return error


class ArgumentError(CloudimgError, ValueError):
    """An argument is invalid."""


class PatternError(ArgumentError):
    """A URL pattern with a syntax error."""


class UnknownArgumentError(ArgumentError, TypeError):
    """A keyword argument that the function does not have."""


class OccupiedError(ArgumentError):
    """The destination holds something else, or a migration with another plan."""


class GridError(CloudimgError):
    """The files do not form one image."""


class NoMatchError(GridError, FileNotFoundError):
    """Nothing matches the pattern."""


class DuplicateIndexError(GridError):
    """Two files have the same index."""


class MissingFilesError(GridError):
    """The grid has holes and ``missing="raise"``."""

    report: FileReport | None = None
    """All missing files, where they were found when the image was opened."""


class UnmatchedFilesError(GridError):
    """A copy would leave out image files that lie beside those of the pattern."""


class MismatchError(GridError):
    """A file differs from the first one in shape, dtype, axes or facts about the image."""

    bad_file: str | None = "mismatch"


class BadFilesError(MismatchError):
    """Some files cannot be read, or do not fit the others."""

    bad_file = None
    report: FileReport
    """All bad files by kind."""


class StorageError(CloudimgError, OSError):
    """A request to a store failed."""


class NotFoundError(StorageError, FileNotFoundError):
    """No such object or bucket."""


class FolderError(NotFoundError):
    """A folder stands where a file is expected, and is not known to be one image."""


class AccessDeniedError(StorageError, PermissionError):
    """The store refused: no credentials, wrong ones, or no permission."""


class CertificateError(StorageError):
    """The certificate of a server, or of a proxy in between, is not trusted."""


class ArchivedError(StorageError):
    """The object is in an archive, such as S3 Glacier, and can be read once it is restored."""


class NoRoomError(StorageError):
    """The store or disk is full, a quota is used up, or the object is too large."""


class WrongRegionError(StorageError):
    """The bucket is in another region, or at another endpoint, than the request was sent to."""


class NotConditionalError(StorageError):
    """The store does not know conditions, such as to create an object only if it is absent."""


class ServerError(StorageError):
    """A server error, throttling, connection reset or timeout, after all retries."""

    is_answered: bool = True
    """Whether the server answered. What was requested without an answer may still happen."""
    is_throttled: bool = False
    """Whether the server refused the request because there were too many."""
    came: Any = None
    """Within the storage package: the `Blob` that came before an answer broke off."""


class ChangedError(StorageError):
    """The object changed while it was being read."""


class LeaseError(StorageError):
    """Another migration writes to the same destination."""


class ProblemsError(CloudimgError):
    """A command found problems, or left some; functions in Python return a false result then."""


class DamagedCopyError(CloudimgError):
    """A finished copy lacks objects, or has damaged ones or others among its own."""


class ClusterError(CloudimgError):
    """A Dask cluster failed, rather than a store or a file."""


class FormatError(CloudimgError):
    """The file is not an image that cloudimg can decode."""

    bad_file: str | None = "corrupt"


class NotTiffError(FormatError):
    """Not a TIFF."""

    bad_file = "not-an-image"


class EmptyFileError(NotTiffError):
    """A file of 0 bytes."""

    bad_file = "empty"


class CorruptFileError(FormatError):
    """Truncated or contradictory content."""


class TruncatedFileError(CorruptFileError):
    """The file ends too early."""

    bad_file = "truncated"


class UnsupportedFormatError(FormatError):
    """A valid file for which no decoder exists."""

    bad_file = "unsupported"


class LimitError(FormatError):
    """Decoding would take more memory or requests than the limits allow."""

    bad_file = None


# ---------------------------------------------------------------------------- parts of messages


def counted(n: int, one: str, several: str | None = None) -> str:
    """A number and what it counts: ``1 cell``, ``2 cells``.

    Parameters
    ----------
    n : int
    one, several : str
        What follows the number if it is 1, and otherwise; by default `one` with an s.
    """
    return f"{n} {one if n == 1 else several or one + 's'}"


def duration(seconds: float) -> str:
    """A duration in words: ``5 s``, ``2 min 05 s``, ``1 h 02 min``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def joined_messages(errors: Sequence[CloudimgError], most: int) -> str:
    """Return the first messages of several errors as one text, with the number of the others."""
    shown = "; ".join(error.message for error in errors[:most])
    return shown + (f"; and {len(errors) - most} more" if len(errors) > most else "")
