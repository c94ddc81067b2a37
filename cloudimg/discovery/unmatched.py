"""What a listing has beside the files of a pattern: counted by kind, with advice. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from cloudimg.discovery.index_names import INDEX_NAME, MOST_NAMES
from cloudimg.discovery.names import keep_first
from cloudimg.errors import UnmatchedFilesError, counted
from cloudimg.errors.notes import Note
from cloudimg.pattern import Pattern, advise

IMAGE_NAME = re.compile(
    r"(?i)(?:.*/)?[^/.][^/]*\.(?:tiff?|btf|tf[28]|svs|lsm|stk|ndpi|scn|bif|qptiff|flex|gel)",
    re.DOTALL,
)
"""Names of image files, by their extension; hidden files do not match."""
_COMPANION_NAME = re.compile(
    r"(?i)(?:.*/)?[^/.][^/]*\.(?:xml|ome|htd|mlf|mes|mrf|nd|json|txt|csv|tsv|ini|log|ya?ml|xlsx?|md|pdf"
    r"|tfw|aux|prj)",
    re.DOTALL,
)
"""Names of files that say something of images; hidden files do not match."""
UNMATCHED = "unmatched-files"
"""Kind of the note about them, which `repr` and `info` show as a line of its own."""
_NOT_LOOKED_AT = "folder-not-listed"
"""Kind of the note of a copy of which it is not known what its folder holds beside its files."""
OF_LISTING = (UNMATCHED, _NOT_LOOKED_AT)
"""Kinds of notes that are about a listing, and not about files."""
_EXAMPLES = 5
_SHOWN_COMPANIONS = 20
_COMPANIONS = 1000
_SHOWN_KINDS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Unmatched:
    """Objects that were listed but do not match the pattern."""

    where: str
    """URL of the folder that was listed, or the text with which the listed URLs begin."""
    is_narrow: bool
    """Whether only names that begin with the stem of the pattern were listed, not its folder."""
    below: str = ""
    """What was not looked at below the folder, as text in parentheses."""
    leaves_out: bool = False
    """Whether names that the fields of the pattern do not match were not listed, either."""
    n_objects: int = 0
    """Number of objects."""
    n_images: int = 0
    """Number of them with the extension of an image, or that of the pattern."""
    kinds: tuple[tuple[str, int], ...] = ()
    """Extensions, and the number of objects with each, most first."""
    examples: tuple[str, ...] = ()
    """URLs of the first few, images first."""
    companions: tuple[str, ...] = ()
    """URLs of the first files that say something of images, such as index files."""
    companion_names: tuple[str, ...] = ()
    """Names of them, of many more only the first ones."""
    folder: str = ""
    """What these names begin with, without the slash after it."""
    n_companions: int = 0
    """Number of these files."""
    advice: str = ""
    """What to write to match some of them, if that is known."""

    @property
    def scope(self) -> str:
        """What was listed, as text; what was not looked at is named too."""
        if self.is_narrow:
            but = " but those that its fields leave out" if self.leaves_out else ""
            return (
                f"names that begin with {self.where}{but}; the rest of the folder was not looked at"
            )
        return f"{self.where}{self.below}"

    @property
    def hint(self) -> str:
        """`advice` as the end of a message; empty without advice."""
        return f"; {self.advice}" if self.advice else ""

    def error(self, shown: str) -> UnmatchedFilesError:
        """The error for a copy that would leave out images.

        Parameters
        ----------
        shown : str
            URL of the pattern, without secrets.
        """
        return UnmatchedFilesError(
            f"{shown} leaves out {counted(self.n_images, 'image file')} of {self.where}: beside its"
            f" files there are {self.summary}, such as {', '.join(self.examples)}{self.hint}."
            " Change the pattern, leave files out with exclude=, or pass allow_unmatched=True to"
            " copy only what it matches",
            url=shown,
        )

    def note(self) -> Note:
        """What was left out, as a note for the image and its copy."""
        return Note(
            f"{self.summary} among {self.scope} do not match the pattern{self.hint}",
            kind=UNMATCHED,
            n_files=self.n_objects,
            urls=self.examples,
        )

    def not_looked_at(self) -> Note | None:
        """The note for a copy if the rest of the folder was not listed; None if it was."""
        if not self.is_narrow:
            return None
        return Note(
            f"only names that begin with {self.where} were listed, so it is not known what else the"
            " folder holds; cloudimg.migrate lists all of it, and refuses to leave image files out",
            kind=_NOT_LOOKED_AT,
            n_files=1,
            urls=(),
        )

    def newer_images(self, n_before: int) -> Note | None:
        """The note that there are more image files than when a copy was made; None if not.

        Parameters
        ----------
        n_before : int
            Number of image files that the copy left out.
        """
        n_newer = self.n_images - n_before
        if n_newer <= 0:
            return None
        more = counted(n_newer, "more image file does", "more image files do")
        return Note(
            f"{more} not match the pattern than when this copy was made ({self.n_images} now,"
            f" {n_before} then): {self.summary} among {self.scope}",
            kind="newer-unmatched-files",
            n_files=n_newer,
            urls=self.examples,
        )

    @property
    def summary(self) -> str:
        """Numbers by kind, such as ``1,798 .tif and 3 .xml``."""
        shown = [f"{n:,} {kind}" for kind, n in self.kinds[:_SHOWN_KINDS]]
        rest = sum(n for _, n in self.kinds[_SHOWN_KINDS:])
        if rest:
            shown.append(f"{rest:,} others")
        return " and ".join(filter(None, (", ".join(shown[:-1]), shown[-1]))) if shown else "none"


class UnmatchedCounter:
    """Counts what a listing has beside the files of a pattern.

    Parameters
    ----------
    pattern : Pattern
    display : callable
        Returns the URL of a name, for messages.
    """

    def __init__(self, pattern: Pattern, display: Callable[[str], str]) -> None:
        self._pattern = pattern
        self._display = display
        self._own_kind = _kind(pattern.text).lower()
        self._folder = pattern.stem.rpartition("/")[0]
        """What lies in hidden folders below it is hidden."""
        self._kinds: Counter[str] = Counter()
        self._images: list[str] = []
        self._others: list[str] = []
        self.index_files: list[str] = []
        """Names of index files, which say something about the images."""
        self._companions: list[str] = []
        self.n_objects = 0
        self._n_images = self._n_companions = 0

    def add(self, name: str) -> None:
        """Count a name that does not match; markers of folders are not counted."""
        if name.endswith("/"):
            return
        kind = _kind(name)
        self.n_objects += 1
        self._kinds[kind] += 1
        if INDEX_NAME.fullmatch(name):
            keep_first(self.index_files, name, MOST_NAMES)
        is_hidden = "/." in f"/{name.removeprefix(self._folder)}"
        is_own = kind.lower() == self._own_kind and kind.startswith(".")
        is_image = not is_hidden and (is_own or IMAGE_NAME.fullmatch(name) is not None)
        self._n_images += is_image
        if not is_image and not is_hidden and _COMPANION_NAME.fullmatch(name):
            self._n_companions += 1
            keep_first(self._companions, name, _COMPANIONS)
        keep_first(self._images if is_image else self._others, name, _EXAMPLES)

    def build(
        self, where: str, *, is_narrow: bool, below: str = "", leaves_out: bool = False
    ) -> Unmatched:
        """Return what was counted; see `Unmatched` for the parameters."""
        return Unmatched(
            where=where,
            is_narrow=is_narrow,
            below=below,
            leaves_out=leaves_out,
            n_objects=self.n_objects,
            n_images=self._n_images,
            kinds=tuple(sorted(self._kinds.items(), key=lambda item: (-item[1], item[0]))),
            examples=tuple(map(self._display, (self._images + self._others)[:_EXAMPLES])),
            companions=tuple(map(self._display, self._companions[:_SHOWN_COMPANIONS])),
            companion_names=tuple(self._companions),
            folder=self._folder,
            n_companions=self._n_companions,
            advice=advise(self._pattern, self._images),
        )


def _kind(name: str) -> str:
    """The extension of a name."""
    stem, dot, extension = name.rpartition("/")[2].rpartition(".")
    is_extension = dot and stem and re.fullmatch(r"[A-Za-z]\w{0,7}|\d?[a-z]\w{0,6}", extension)
    return f".{extension}" if is_extension else "without extension"
