"""Files that a user leaves out by globs: `exclude=`. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from cloudimg.discovery.names import keep_first
from cloudimg.errors import NoMatchError, counted
from cloudimg.errors.notes import N_EXAMPLES, Note


class Exclusion:
    """Leaves out names that match globs, and counts them.

    A glob without ``/`` is compared with the name of a file, ``*_thumb.tif``; one with ``/`` with
    the last parts of its URL, ``thumbs/*.tif``. ``*`` and ``?`` match no ``/``, ``**`` does.
    The query of a URL is not compared.

    Parameters
    ----------
    globs : str or sequence of str, optional
    """

    def __init__(self, globs: str | Sequence[str] | None) -> None:
        self._globs = [globs] if isinstance(globs, str) else list(globs or ())
        regex = "|".join(map(_regex, self._globs))
        self._regex = re.compile(rf"(?s:(?:.*/)?(?:{regex}))") if self._globs else None
        self.n_excluded = 0
        """Number of names that were left out."""
        self.examples: list[str] = []
        """The first few of them."""

    def __bool__(self) -> bool:
        return self._regex is not None

    def note(self, display: Callable[[str], str]) -> Note | None:
        """What was left out, as a note for the image and its copy; None if nothing was.

        Parameters
        ----------
        display : callable
            Returns the URL of a name, for messages.
        """
        if not self.n_excluded:
            return None
        files = counted(self.n_excluded, "file is", "files are")
        globs = self._globs[0] if len(self._globs) == 1 else self._globs
        return Note(
            f"{files} left out by exclude={globs!r}",
            kind="excluded-files",
            n_files=self.n_excluded,
            urls=map(display, self.examples),
        )

    def error(self, display: Callable[[str], str]) -> NoMatchError:
        """The error where all files were left out; see `note`."""
        return NoMatchError(
            f"exclude= leaves out all {self.n_excluded} files, such as {display(self.examples[0])}"
        )

    def excludes(self, name: str) -> bool:
        """Whether a name is left out; it is then counted."""
        if self._regex is None:
            return False
        without_query = name.partition("?")[0]
        if not (self._regex.fullmatch(name) or self._regex.fullmatch(without_query)):
            return False
        self.n_excluded += 1
        keep_first(self.examples, name, N_EXAMPLES)
        return True


def _regex(glob: str) -> str:
    """A regular expression for a glob, as in a shell with ``**``."""
    parts = re.split(r"(\*\*/|\*+|\?|\[[!^]?\]?[^]]*\])", glob.lstrip("/"))
    return "".join(map(_part, parts))


def _part(part: str) -> str:
    if part == "**/":
        return "(?:.*/)?"
    if part.startswith("*"):
        return ".*" if len(part) > 1 else "[^/]*"
    if part == "?":
        return "[^/]"
    if part.startswith("[") and part.endswith("]") and len(part) > 2:
        inside = part[1:-1]
        negated = inside[0] in "!^" and len(inside) > 1
        escaped = re.sub(r"([\\\[\]&~|^])", r"\\\1", inside[negated:])
        return f"(?!/)[{'^' if negated else ''}{escaped}]"
    return re.escape(part)
