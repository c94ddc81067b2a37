"""From the text of a pattern to its tokens: literals, wildcards and fields."""

from __future__ import annotations

import functools
import re
from dataclasses import KW_ONLY, dataclass, replace

from cloudimg.errors import PatternError
from cloudimg.pattern.elapsed import PREFIX, elapsed_regex
from cloudimg.pattern.fields import Field
from cloudimg.pattern.regex import ATOM, Fail, user_regex, width_of
from cloudimg.pattern.times import time_regex

_PLAIN = re.compile(r"[^{}*?\[]+")
_SET = re.compile(r"\[(!?)(\]?[^\]]*)\]")
_NAME = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)([:}])")
_PADDED = re.compile(r"0([1-9]\d?)d", re.ASCII)
_DECIMALS = re.compile(r"\.(\d{1,2})f", re.ASCII)
_VISIBLE = (
    r"(?!\.)(?:[^/]|/(?!\.))"  # path without hidden files and folders, with a repeat after it
)
_ALL_DIGITS = re.compile(r"(?:(?:\\d|\[0-9\])(?:[*+?]|\{[\d,]+\})?[?+]?)+", re.ASCII)
_SIMPLE = {
    "": ("int", r"\d+"),
    "d": ("int", r"[-+]?\d+"),
    "s": ("str", "[^/]+"),
    "f": ("float", r"[-+]?\d+(?:\.\d+)?"),
    "g": ("float", r"[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?"),
}


@dataclass(frozen=True, slots=True)
class Token:
    """One piece of a pattern."""

    source: str  # as written in the pattern; for a literal the text that it stands for
    at: int
    regex: str
    _: KW_ONLY
    star: str = ""  # "*" or "**"
    field: Field | None = None
    spec: str = ""
    begins_name: bool = False  # of a file or folder

    @property
    def is_literal(self) -> bool:
        return not self.regex

    @property
    def is_variable(self) -> bool:
        return not self.is_literal and len(set(width_of(self.regex))) == 2

    @property
    def is_number(self) -> bool:
        return self.field is not None and self.field.kind in ("int", "float", "elapsed")


def error_at(at: int, piece: str, problem: str, instead: str) -> PatternError:
    """Return an error about a piece, not the whole pattern, which may hold a password."""
    return PatternError(f"{problem}, at position {at} ({piece[:40]!r}): {instead}")


def tokenize(text: str) -> list[Token]:
    """Return the tokens of a pattern, adjacent literals as one."""
    tokens: list[Token] = []
    at = 0
    while at < len(text):
        token, at = _next_token(text, at)
        if token.is_literal and tokens and tokens[-1].is_literal:
            before = tokens.pop()
            token = replace(before, source=before.source + token.source)
        tokens.append(token)
    return tokens


def escape_brackets(text: str) -> str:
    """Return the pattern in which brackets outside of fields are literal characters.

    Raises
    ------
    PatternError
        A syntax error that has nothing to do with brackets.
    """
    parts, at = [], 0
    while at < len(text):
        _, end = ("", at + 1) if text[at] == "[" else _next_token(text, at)
        parts.append("[[]" if text[at] == "[" else text[at:end])
        at = end
    return "".join(parts)


def _next_token(text: str, at: int) -> tuple[Token, int]:
    """Return the token at a position and where it ends."""
    plain = _PLAIN.match(text, at)
    if plain:
        return Token(plain[0], at, ""), plain.end()
    if text[at : at + 2] in ("{{", "}}"):
        return Token(text[at], at, ""), at + 2
    match text[at]:
        case "}":
            raise error_at(at, text[at:], "a '}' without a '{'", "write }} for the character")
        case "{":
            return _read_field(text, at)
        case "[":
            return _read_set(text, at)
        case "*":
            return _read_stars(text, at)
    # In an http URL it begins the query; in a chained URL each part has its own scheme.
    if text[:at].rpartition("::")[2].startswith(("http://", "https://")):
        return Token("?", at, ""), at + 1
    return Token("?", at, "[^/.]" if _begins_name(text, at) else "[^/]"), at + 1


def _begins_name(text: str, at: int) -> bool:
    """Whether a file or folder name begins here; wildcards match no dot there, as in a shell.

    Files such as ``._x.tif``, which macOS writes beside ``x.tif``, are not images.
    """
    return text[at - 1 : at] in ("", "/")


def _read_stars(text: str, at: int) -> tuple[Token, int]:
    end = at + len(text[at:]) - len(text[at:].lstrip("*"))
    begins = _begins_name(text, at)
    whole = begins and text[end : end + 1] in ("", "/")
    if end == at + 1:  # as in fsspec, a whole component is not empty
        regex = "[^/]+?" if whole else "[^/]*?"
        return Token("*", at, rf"(?!\.){regex}" if begins else regex, star="*"), end
    if end > at + 2 or not whole:
        raise error_at(at, text[at:], "'**' must be a whole folder name", "write **/ or *")
    if end == len(text):
        return Token("**", at, rf"{_VISIBLE}*?", star="**"), end
    return Token("**/", at, rf"(?:{_VISIBLE}+?/)??", star="**"), end + 1


def _read_set(text: str, at: int) -> tuple[Token, int]:
    found = _SET.match(text, at)
    if not found or not found[2]:
        raise error_at(at, text[at:], "a '[' without its set", "write [[] for the character")
    negated, body = found.groups()
    if set(body) & set("{}/"):
        raise error_at(
            at, found[0], "a set of characters holds '{', '}' or '/'", "write [[] for a plain '['"
        )
    if len(body) == 1 and not negated:
        return Token(body, at, ""), found.end()
    items = ""
    for low, high, single in re.findall("(.)-(.)|(.)", body, re.DOTALL):
        if low > high:
            raise error_at(at, found[0], f"the range {low}-{high} is empty", f"write {high}-{low}")
        items += re.escape(single) if single else f"{re.escape(low)}-{re.escape(high)}"
    never = "/." if _begins_name(text, at) else "/"
    regex = f"[^{never}{items}]" if negated else f"(?![{never}])[{items}]"
    return Token(found[0], at, regex), found.end()


def _read_field(text: str, at: int) -> tuple[Token, int]:
    found = _NAME.match(text, at)
    if not found:
        raise error_at(at, text[at:], "a field needs a name", "write {c} or {c:03d}, {{ for a '{'")
    end = found.end() - 1 if found[2] == "}" else _end_of_field(text, found.end(), at)
    spec, source = text[found.end() : end], text[at : end + 1]
    fail = functools.partial(error_at, at, source)
    if found[1] == "s":
        raise fail(
            "the axis s holds the samples of a colour",
            "write {site}, {field} or another name; {c} is for channels",
        )
    if found[2] == ":" and not spec:
        raise fail("nothing after the ':'", f"write {{{found[1]}}}")
    # Two fields side by side are cut by width; elsewhere index 1000 must not vanish.
    beside = text[end + 1 :].startswith("{") and not text[end + 1 :].startswith("{{")
    kind, regex = _kind_and_regex(spec, beside, fail)
    made = Field(found[1], regex, kind, spec if kind in ("time", "elapsed") else "")
    begins = _begins_name(text, at)
    return Token(source, at, regex, field=made, spec=spec, begins_name=begins), end + 1


def _kind_and_regex(spec: str, beside: bool, fail: Fail) -> tuple[str, str]:
    """The kind of a field and its regex; `beside` another field, without text between them."""
    if spec in _SIMPLE:
        return _SIMPLE[spec]
    if padded := _PADDED.fullmatch(spec):
        exact, longer = f"\\d{{{padded[1]}}}", f"[1-9]\\d{{{padded[1]},}}"
        return "int", exact if beside else f"(?:{longer}|{exact})"
    if decimals := _DECIMALS.fullmatch(spec):
        fraction = f"\\.\\d{{{decimals[1]}}}" if int(decimals[1]) else ""
        return "float", rf"[-+]?\d+{fraction}"
    if spec.startswith(PREFIX):
        return "elapsed", elapsed_regex(spec, fail)
    if re.search("%[-_^#]?[A-Za-z%]", spec):
        return "time", time_regex(spec, fail)
    return "int" if _ALL_DIGITS.fullmatch(spec) else "str", user_regex(spec, fail)


def _end_of_field(text: str, start: int, at: int) -> int:
    """Return where the '}' is that closes the field which began at `at`."""
    depth = 0
    for atom in ATOM.finditer(text, start):
        if atom[0] == "{":
            depth += 1
        elif atom[0] == "}":
            if not depth:
                return atom.start()
            depth -= 1
    raise error_at(at, text[at:], "a '{' that is never closed", "write {{ for the character")
