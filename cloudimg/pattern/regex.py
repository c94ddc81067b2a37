"""The regular expressions of fields: their flags and widths, and which ones a user may write."""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Callable, Sequence

from cloudimg.errors import PatternError
from cloudimg.pattern.regex_parser import FINAL, REPEATS, parse, parts, width

FLAGS = re.ASCII | re.DOTALL
# No store has longer keys (S3 and GCS stop at 1,024 bytes), and int() refuses 4,300 digits.
MAX_URL_CHARS = 4096
REGEX_ERRORS = (re.error, OverflowError, RecursionError)  # what re.compile raises
# The pieces of a regex: an escape, a class, or one character. Braces count only in the last.
ATOM = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|.", re.DOTALL)
Fail = Callable[[str, str], PatternError]  # from what is wrong and what to write instead

_FORMAT_LIKE = re.compile(r"(?!\.+\Z)[ <>=^#,_.\d-]*[bcdeEfFgGnosxX]?", re.ASCII)


@functools.lru_cache(maxsize=1024)
def width_of(regex: str) -> tuple[int, int]:
    """Return how many characters a regex takes, at least and at most."""
    return width(regex, FLAGS)


def may_contain(regex: str, char: str) -> bool:
    """Whether a text that a regex matches may have a character; True where that is not sure."""
    return any(_takes(atom, char) for atom in set(ATOM.findall(regex)))


def _takes(atom: str, char: str) -> bool:
    try:
        return re.fullmatch(atom, char, FLAGS | re.IGNORECASE) is not None or atom == char
    except re.error:
        return atom == char  # an operator, or a character


def user_regex(spec: str, fail: Fail) -> str:
    """Return the user's regex without its groups, and without "/" where it does not name it."""
    if _FORMAT_LIKE.fullmatch(spec):
        raise fail("an unknown format", "write {c:03d}, {c:d}, {v:.2f}, {v:g} or {w:s}")
    atoms = ATOM.findall(spec)
    bare = "".join(atom if len(atom) == 1 else "_" for atom in atoms)
    if re.search(r"\(\?[P(]", bare) or any(re.fullmatch(r"\\[1-9]", atom) for atom in atoms):
        raise fail("named groups and references are not allowed", "write (?:...)")
    regex = _without_groups(atoms, keeps_slash="/" in spec)
    try:
        re.compile(spec, FLAGS)  # alone, so that "a)(b" cannot borrow our parentheses
        regex = f"(?:{regex})" if "|" in regex else regex
        shortest, longest = width_of(f"(?:{regex})")
        re.compile(f"(?:{regex})", FLAGS)
    except REGEX_ERRORS as error:
        raise fail(
            f"not a regular expression ({error})", "write one, with flags as (?i:...)"
        ) from error
    if not longest or shortest > MAX_URL_CHARS:
        raise fail("it can match only an empty or an endless text", r"write {c} or {c:\d+}")
    if _nests_repeats(spec):
        raise fail(
            "a repeat inside a repeat can try a text in endlessly many ways",
            "write one, as in [a-z_]+, or make the inner one possessive, with one more '+',"
            " as in (?:[a-z]++_)+",
        )
    return regex


def _without_groups(atoms: Sequence[str], *, keeps_slash: bool) -> str:
    """Return the regex of atoms: groups capture nothing, and by default none matches "/"."""
    regex = ""
    for atom, after in itertools.zip_longest(atoms, atoms[1:]):
        if atom == "(" and after != "?":
            atom = "(?:"  # the groups of the whole regex are the fields
        elif not keeps_slash and _takes_slash(atom):
            atom = "[^/]" if atom == "." else f"(?:(?!/){atom})"
        regex += atom
    return regex


def _nests_repeats(regex: str) -> bool:
    """Whether a repeat stands in another, as in ``(a+)+``: both could share out a text anew.

    A repeat with a fixed number or of one at most has no choice, and there is none left in what
    `FINAL` names, as it is never entered again.
    """
    pending = [(parse(regex, FLAGS), False)]  # parts, and whether a repeat is around them
    while pending:
        part, inside = pending.pop()
        for op, value in part:
            repeats = op in REPEATS and value[1] > max(value[0], 1)
            if repeats and inside:
                return True
            around = repeats or (inside and op not in FINAL)
            pending += [(each, around) for each in parts(value)]
    return False


def _takes_slash(atom: str) -> bool:
    if len(atom) < 3:
        return atom in (".", r"\D", r"\W", r"\S")
    try:
        return re.fullmatch(atom, "/", FLAGS) is not None
    except re.error:
        return False  # compiling the whole regex reports it
