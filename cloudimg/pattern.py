"""The pattern language: URLs with named fields and wildcards. Pure text, no I/O.

text -> tokens (literal, wildcard, field) -> one anchored regular expression.

Matching is deterministic and close to linear. A ``{name:s}`` stops at the first place where what
follows it matches; a wildcard takes the least that lets the rest match, and once the text between
two wildcards has been found that place is final. Patterns in which two neighbours could share
characters in several ways are refused when compiled.
"""

from __future__ import annotations

import datetime
import functools
import itertools
import operator
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from re import _parser  # type: ignore[attr-defined]  # the only way to the width of a regex
from typing import SupportsFloat, SupportsIndex

import numpy as np

from cloudimg.errors import ArgumentError, PatternError

Label = int | float | str | datetime.datetime

_FLAGS = re.ASCII | re.DOTALL
# No store has longer keys (S3 and GCS stop at 1,024 bytes), and int() refuses 4,300 digits.
_MAX_URL_CHARS = 4096
_REGEX_ERRORS = (re.error, OverflowError, RecursionError)  # what re.compile raises


@dataclass(frozen=True, slots=True)
class Field:
    """One occurrence of a field in a pattern."""

    name: str
    """The axis that it names."""
    regex: str
    """What its text must match."""
    kind: str
    """``"int"``, ``"float"``, ``"str"`` or ``"time"``."""
    format: str
    """The strftime format for kind ``"time"``, else empty."""


@dataclass(frozen=True, slots=True, repr=False)
class Pattern:
    """A compiled pattern; equal, hashed and pickled by its text. Made by `compile_pattern`."""

    text: str
    """The pattern as it was written."""
    fields: tuple[str, ...] = field(compare=False)
    """Distinct names in the order of their first appearance."""
    occurrences: tuple[Field, ...] = field(compare=False)
    """One per occurrence, so that repeated fields appear again."""
    stem: str = field(compare=False)
    """The literal text before the first field or wildcard, unescaped: the prefix to list by."""
    has_wildcards: bool = field(compare=False)
    """Whether the pattern matches text that no field keeps."""
    _literals: tuple[str, ...] = field(compare=False)  # around the fields, one more than those
    _specs: tuple[str, ...] = field(compare=False)  # what stands after the ":" of each occurrence
    _regex: re.Pattern[str] = field(compare=False)
    _checks: tuple[int, ...] = field(compare=False)  # occurrences whose values can refuse a match

    def __repr__(self) -> str:
        shown = _SECRETS.sub(r"\1\2***", self.text)
        return f"Pattern({shown!r})"

    def __reduce__(self) -> tuple[object, ...]:
        return compile_pattern, (self.text,)

    @property
    def is_literal(self) -> bool:
        """Whether there are neither fields nor wildcards."""
        return not self.occurrences and not self.has_wildcards

    def split(self, url: str) -> tuple[str, ...] | None:
        """Return the raw text of every occurrence, or None where `url` does not match.

        Occurrences of one field must agree by value ("002" and "2" do), and times must exist.
        """
        found = self._regex.fullmatch(url) if len(url) <= _MAX_URL_CHARS else None
        if found is None:
            return None
        texts = found.groups()
        return texts if not self._checks or self._agree(texts) else None

    def _agree(self, texts: tuple[str, ...]) -> bool:
        seen: dict[str, Label] = {}
        for occurrence in self._checks:
            try:
                value = self.value(occurrence, texts[occurrence])
            except ArgumentError:
                return False
            if value == "" or seen.setdefault(self.occurrences[occurrence].name, value) != value:
                return False
        return True

    def value(self, occurrence: int, text: str) -> Label:
        """Return the label that `text` stands for at an occurrence.

        Raises
        ------
        ArgumentError
            The text is no value of that field.
        """
        found = self.occurrences[occurrence]
        try:
            if found.kind == "int":
                return int(text)
            if found.kind == "float":
                return float(text)
            if found.kind == "time":
                return _read_time(text, found.format)
        except (ValueError, OverflowError) as error:
            raise ArgumentError(f"{text[:50]!r} is no value of field {found.name!r}") from error
        return text

    def join(self, texts: Sequence[str]) -> str:
        """Return the URL that `split` takes apart into `texts`."""
        if self.has_wildcards:
            raise ArgumentError(f"{self!r} has wildcards: its URLs come only from a listing")
        if len(texts) != len(self.occurrences):
            raise ArgumentError(
                f"{self!r} has {len(self.occurrences)} places for texts, got {len(texts)}"
            )
        pairs = zip(self._literals, (*texts, ""), strict=True)
        return "".join(itertools.chain.from_iterable(pairs))

    def values(self, url: str) -> dict[str, Label] | None:
        """Return the labels in `url` by field name, or None where it does not match."""
        texts = self.split(url)
        if texts is None:
            return None
        labels: dict[str, Label] = {}
        for occurrence, text in enumerate(texts):
            labels.setdefault(self.occurrences[occurrence].name, self.value(occurrence, text))
        return labels

    def format(self, labels: Mapping[str, Label]) -> str:
        """Return the canonical URL for `labels`; `values` of it gives the same labels.

        Raises
        ------
        ArgumentError
            There are wildcards, a label is missing, or it cannot be written so that it is read
            back. Labels of other names are ignored.
        """
        missing = [name for name in self.fields if name not in labels]
        if missing:
            raise ArgumentError(f"no label for {', '.join(missing)} of {self!r}: got {[*labels]}")
        texts = [
            _write(found, spec, labels[found.name])
            for found, spec in zip(self.occurrences, self._specs, strict=True)
        ]
        url = self.join(texts)
        # Texts that fit one by one may still be cut elsewhere: "a_b" in {x:s}_{y:s}.
        read = self.values(url)
        if read is None or any(read[name] != labels[name] for name in self.fields):
            raise ArgumentError(
                f"{self!r} cannot hold { {name: labels[name] for name in self.fields} }:"
                f" the URL would be read back as {read}"
            )
        return url


# What must not be shown: user and password, and the values in a query (signatures, tokens).
_SECRETS = re.compile(r"(://)[^/@]+(?=@)|([?&][^=&/{}]*=)[^&{}]+")


def _write(found: Field, spec: str, label: Label) -> str:
    """Return the canonical text of a label in a field."""
    text = ""
    try:
        if found.kind == "int" and isinstance(label, SupportsIndex):
            text = str(operator.index(label)).zfill(_width(found.regex)[0])
        elif found.kind == "float" and isinstance(label, SupportsFloat):
            if spec == "f":  # never with an exponent
                text = np.format_float_positional(float(label), trim="0")
            else:
                text = repr(float(label)) if spec == "g" else format(float(label), spec)
        elif found.kind == "time" and isinstance(label, datetime.datetime):
            text = _write_time(label, spec)
        elif found.kind == "str" and isinstance(label, str):
            text = label
    except (ValueError, OverflowError):
        pass  # told below, as for a text that does not fit
    if not text or not re.fullmatch(found.regex, text, _FLAGS):
        raise ArgumentError(
            f"field {found.name!r} ({found.kind}, {spec or 'digits'}) cannot hold {label!r}"
        )
    return text


# ------------------------------------------------------------------------------------------ tokens


@dataclass(frozen=True, slots=True)
class _Token:
    source: str  # as written in the pattern; for a literal the text that it stands for
    at: int
    regex: str
    star: str = ""  # "*" or "**"
    field: Field | None = None
    spec: str = ""

    @property
    def is_literal(self) -> bool:
        return not self.regex

    @property
    def is_variable(self) -> bool:
        return not self.is_literal and len(set(_width(self.regex))) == 2

    @property
    def is_number(self) -> bool:
        return self.field is not None and self.field.kind in ("int", "float")


@functools.lru_cache(maxsize=256)  # a worker unpickles the same pattern with every task
def compile_pattern(text: str) -> Pattern:
    """Compile a pattern.

    Raises
    ------
    PatternError
        A syntax error; the message has the position and what to write instead.
    """
    tokens = _tokenize(text)
    if not tokens:
        raise PatternError("an empty pattern matches nothing: write a URL with fields such as {c}")
    _check_neighbours(tokens)
    literals, found, kinds = [""], [], dict[str, str]()
    for token in tokens:
        if token.is_literal:
            literals[-1] += token.source
        elif token.field:
            literals.append("")
            found.append(token.field)
            known = kinds.setdefault(token.field.name, token.field.kind)
            if known != token.field.kind:
                problem = f"this is {token.field.kind}, but the same name was {known} before"
                raise _error(token.at, token.source, problem, "use another name")
    try:
        regex = re.compile(_assemble(range(len(tokens)), tokens, ("**", "*")), _FLAGS)
    except _REGEX_ERRORS as error:
        raise PatternError(f"the fields do not form a regular expression: {error}") from error
    times = Counter(each.name for each in found)
    return Pattern(
        text=text,
        fields=tuple(kinds),
        occurrences=tuple(found),
        stem=tokens[0].source if tokens[0].is_literal else "",
        has_wildcards=any(token.regex and not token.field for token in tokens),
        _literals=tuple(literals),
        _specs=tuple(token.spec for token in tokens if token.field),
        _regex=regex,
        _checks=tuple(
            i
            for i, each in enumerate(found)
            if times[each.name] > 1 or each.kind == "time" or not _width(each.regex)[0]
        ),
    )


def _error(at: int, piece: str, problem: str, instead: str) -> PatternError:
    # Only the piece: the whole pattern may hold a password.
    return PatternError(f"{problem}, at position {at} ({piece[:40]!r}): {instead}")


@functools.lru_cache(maxsize=1024)
def _width(regex: str) -> tuple[int, int]:
    low, high = _parser.parse(regex, _FLAGS).getwidth()
    return low, high


def _tokenize(text: str) -> list[_Token]:
    """Return the tokens of a pattern, adjacent literals as one."""
    tokens: list[_Token] = []
    at = 0
    while at < len(text):
        token, at = _next_token(text, at)
        if token.is_literal and tokens and tokens[-1].is_literal:
            before = tokens.pop()
            token = replace(before, source=before.source + token.source)
        tokens.append(token)
    return tokens


_PLAIN = re.compile(r"[^{}*?\[]+")
_SET = re.compile(r"\[(!?)(\]?[^\]]*)\]")


def _next_token(text: str, at: int) -> tuple[_Token, int]:
    """Return the token at a position and where it ends."""
    plain = _PLAIN.match(text, at)
    if plain:
        return _Token(plain[0], at, ""), plain.end()
    if text[at : at + 2] in ("{{", "}}"):
        return _Token(text[at], at, ""), at + 2
    match text[at]:
        case "}":
            raise _error(at, text[at:], "a '}' without a '{'", "write }} for the character")
        case "{":
            return _read_field(text, at)
        case "[":
            return _read_set(text, at)
        case "*":
            return _read_stars(text, at)
    # In an http URL it begins the query; in a chained URL each part has its own scheme.
    if text[:at].rpartition("::")[2].startswith(("http://", "https://")):
        return _Token("?", at, ""), at + 1
    return _Token("?", at, "[^/]"), at + 1


def _read_stars(text: str, at: int) -> tuple[_Token, int]:
    end = at + len(text[at:]) - len(text[at:].lstrip("*"))
    whole = text[at - 1 : at] in ("", "/") and text[end : end + 1] in ("", "/")
    if end == at + 1:  # as in fsspec, a whole component is not empty
        return _Token("*", at, "[^/]+?" if whole else "[^/]*?", star="*"), end
    if end > at + 2 or not whole:
        raise _error(at, text[at:], "'**' must be a whole folder name", "write **/ or *")
    if end == len(text):
        return _Token("**", at, ".*?", star="**"), end
    return _Token("**/", at, "(?:.+?/)??", star="**"), end + 1


def _read_set(text: str, at: int) -> tuple[_Token, int]:
    found = _SET.match(text, at)
    if not found or not found[2]:
        raise _error(at, text[at:], "a '[' without its set", "write [[] for the character")
    negated, body = found.groups()
    if set(body) & set("{}/"):
        raise _error(
            at, found[0], "a set of characters holds '{', '}' or '/'", "write [[] for a plain '['"
        )
    if len(body) == 1 and not negated:
        return _Token(body, at, ""), found.end()
    items = ""
    for low, high, single in re.findall("(.)-(.)|(.)", body, re.DOTALL):
        if low > high:
            raise _error(at, found[0], f"the range {low}-{high} is empty", f"write {high}-{low}")
        items += re.escape(single) if single else f"{re.escape(low)}-{re.escape(high)}"
    return _Token(found[0], at, f"[^/{items}]" if negated else f"(?!/)[{items}]"), found.end()


# ------------------------------------------------------------------------------------------ fields

_NAME = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)([:}])")
# The pieces of a regex: an escape, a class, or one character. Braces count only in the last.
_ATOM = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|.", re.DOTALL)
_PADDED = re.compile(r"0([1-9]\d?)d", re.ASCII)
_DECIMALS = re.compile(r"\.(\d{1,2})f", re.ASCII)
_FORMAT_LIKE = re.compile(r"(?!\.+\Z)[ <>=^#,_.\d-]*[bcdeEfFgGnosxX]?", re.ASCII)
_ALL_DIGITS = re.compile(r"(?:(?:\\d|\[0-9\])(?:[*+?]|\{[\d,]+\})?[?+]?)+", re.ASCII)
_Fail = Callable[[str, str], PatternError]  # from what is wrong and what to write instead
_SIMPLE = {
    "": ("int", r"\d+"),
    "d": ("int", r"-?\d+"),
    "s": ("str", "[^/]+"),
    "f": ("float", r"-?\d+(?:\.\d+)?"),
    "g": ("float", r"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?"),
}


def _read_field(text: str, at: int) -> tuple[_Token, int]:
    found = _NAME.match(text, at)
    if not found:
        raise _error(at, text[at:], "a field needs a name", "write {c} or {c:03d}, {{ for a '{'")
    end = found.end() - 1 if found[2] == "}" else _end_of_field(text, found.end(), at)
    spec, source = text[found.end() : end], text[at : end + 1]
    fail = functools.partial(_error, at, source)
    if found[2] == ":" and not spec:
        raise fail("nothing after the ':'", f"write {{{found[1]}}}")
    # Two fields side by side are cut by width; elsewhere index 1000 must not vanish.
    beside = text[end + 1 :].startswith("{") and not text[end + 1 :].startswith("{{")
    kind, regex = _SIMPLE.get(spec, ("", ""))
    if padded := _PADDED.fullmatch(spec):
        exact, longer = f"\\d{{{padded[1]}}}", f"[1-9]\\d{{{padded[1]},}}"
        kind, regex = "int", exact if beside else f"(?:{longer}|{exact})"
    elif decimals := _DECIMALS.fullmatch(spec):
        kind, regex = "float", r"-?\d+" + (f"\\.\\d{{{decimals[1]}}}" if int(decimals[1]) else "")
    elif re.search("%[-_^#]?[A-Za-z%]", spec):
        kind, regex = "time", _time_regex(spec, fail)
    elif not kind:
        kind, regex = "int" if _ALL_DIGITS.fullmatch(spec) else "str", _user_regex(spec, fail)
    made = Field(found[1], regex, kind, spec if kind == "time" else "")
    return _Token(source, at, regex, field=made, spec=spec), end + 1


def _end_of_field(text: str, start: int, at: int) -> int:
    """Return where the '}' is that closes the field which began at `at`."""
    depth = 0
    for atom in _ATOM.finditer(text, start):
        if atom[0] == "{":
            depth += 1
        elif atom[0] == "}":
            if not depth:
                return atom.start()
            depth -= 1
    raise _error(at, text[at:], "a '{' that is never closed", "write {{ for the character")


def _user_regex(spec: str, fail: _Fail) -> str:
    """Return the user's regex without its groups, and without "/" where it does not name it."""
    if _FORMAT_LIKE.fullmatch(spec):
        raise fail("an unknown format", "write {c:03d}, {c:d}, {v:.2f}, {v:g} or {w:s}")
    atoms = _ATOM.findall(spec)
    bare = "".join(atom if len(atom) == 1 else "_" for atom in atoms)
    if re.search(r"\(\?[P(]", bare) or any(re.fullmatch(r"\\[1-9]", atom) for atom in atoms):
        raise fail("named groups and references have no place here", "write (?:...)")
    regex = ""
    for atom, after in itertools.zip_longest(atoms, atoms[1:]):
        if atom == "(" and after != "?":
            atom = "(?:"  # the groups of the whole regex are the fields
        elif "/" not in spec and _takes_slash(atom):
            atom = "[^/]" if atom == "." else f"(?:(?!/){atom})"
        regex += atom
    try:
        re.compile(spec, _FLAGS)  # alone, so that "a)(b" cannot borrow our parentheses
        regex = f"(?:{regex})" if "|" in regex else regex
        shortest, longest = _width(f"(?:{regex})")
        re.compile(f"(?:{regex})", _FLAGS)
    except _REGEX_ERRORS as error:
        raise fail(
            f"not a regular expression ({error})", "write one, with flags as (?i:...)"
        ) from error
    if not longest or shortest > _MAX_URL_CHARS:
        raise fail("it can match only an empty or an endless text", r"write {c} or {c:\d+}")
    return regex


def _takes_slash(atom: str) -> bool:
    if len(atom) < 3:
        return atom in (".", r"\D", r"\W", r"\S")
    try:
        return re.fullmatch(atom, "/", _FLAGS) is not None
    except re.error:
        return False  # compiling the whole will tell


# ------------------------------------------------------------------------------------------- times

# English whatever the locale is: names of files do not change with the reader's language.
_MONTHS, _DAYS = (
    names.split()
    for names in (
        "January February March April May June July August September October November December",
        "Monday Tuesday Wednesday Thursday Friday Saturday Sunday",
    )
)
_TIMES = {
    **dict.fromkeys("mdHMSIy", r"\d{2}"),
    **{"Y": r"\d{4}", "j": r"\d{3}", "f": r"\d{6}", "z": r"[+-]\d{4}", "p": "AM|PM", "%": "%"},
    **{"B": "|".join(_MONTHS), "b": "|".join(name[:3] for name in _MONTHS)},
    **{"A": "|".join(_DAYS), "a": "|".join(name[:3] for name in _DAYS)},
}
_DIRECTIVE = re.compile("%([-_^#]?.?)", re.DOTALL)


def _time_regex(spec: str, fail: _Fail) -> str:
    letters = [letter for letter in _DIRECTIVE.findall(spec) if letter != "%"]
    unknown = [letter for letter in letters if letter not in _TIMES]
    if unknown:
        known = " ".join(f"%{letter}" for letter in _TIMES)
        raise fail(f"%{unknown[0]} is not supported", f"write some of {known}")
    if len(set(letters)) < len(letters):
        raise fail("a directive appears twice", "write two fields of one name")
    return _time_groups(spec, "(?:")[1]


@functools.lru_cache(maxsize=256)
def _time_groups(spec: str, opening: str) -> tuple[list[str], str]:
    """Return the directives and a regex with a group for each, opened as told."""
    texts = _DIRECTIVE.split(spec)  # text and directive in turn
    regex = "".join(
        f"{opening}{_TIMES[text]})" if i % 2 else re.escape(text) for i, text in enumerate(texts)
    )
    return texts[1::2], regex


@functools.lru_cache(maxsize=65536)  # many files share few times
def _read_time(text: str, spec: str) -> datetime.datetime:
    """Return the time; ValueError or OverflowError where there is none such."""
    letters, regex = _time_groups(spec, "(")
    found = re.fullmatch(regex, text, _FLAGS)
    if found is None:
        raise ValueError(text)
    texts = dict(zip(letters, found.groups(), strict=True))
    number = {letter: int(part) for letter, part in texts.items() if part.isdecimal()}
    if "y" in number:
        number.setdefault("Y", number["y"] + (1900 if number["y"] > 68 else 2000))
    if "I" in number:
        number.setdefault("H", number["I"] % 12 + 12 * (texts.get("p") == "PM"))
    if month := texts.get("b", texts.get("B")):
        number.setdefault("m", 1 + [name[:3] for name in _MONTHS].index(month[:3]))
    year, month_number, day = (
        number.get(letter, low) for letter, low in (("Y", 1900), ("m", 1), ("d", 1))
    )
    hour, minute, second, microsecond = (number.get(letter, 0) for letter in "HMSf")
    time = datetime.datetime(year, month_number, day, hour, minute, second, microsecond)
    if "j" in number and "m" not in number:
        time += datetime.timedelta(number["j"] - 1)
    if "z" in texts:
        time = time.replace(tzinfo=datetime.datetime.strptime(texts["z"], "%z").tzinfo)
    # A wrong weekday, day 366 of a common year, two years that differ.
    if not set(letters) <= set("YmdHMSf") and _write_time(time, spec) != text:
        raise ValueError(text)
    return time


def _write_time(time: datetime.datetime, spec: str) -> str:
    def part(found: re.Match[str]) -> str:
        match found[1]:
            case "Y":
                return f"{time.year:04}"  # strftime does not pad it everywhere
            case "p":
                return "AM" if time.hour < 12 else "PM"
            case "B" | "b" as letter:
                return _MONTHS[time.month - 1][: 3 if letter == "b" else None]
            case "A" | "a" as letter:
                return _DAYS[time.weekday()][: 3 if letter == "a" else None]
        return time.strftime(found[0])

    return _DIRECTIVE.sub(part, spec)


# --------------------------------------------------------------------------------------- the regex


def _check_neighbours(tokens: Sequence[_Token]) -> None:
    """Refuse two tokens of variable width that could share characters in several ways."""
    left: _Token | None = None
    for token in tokens:
        if token.is_variable:
            if left and (left.field or token.field):
                raise _error(
                    token.at,
                    left.source + token.source,
                    f"nothing separates {left.source} from {token.source},"
                    " which are both of variable width",
                    r"put other text between them or fix a width, as in {c:\d{3}}",
                )
            left = None if token.source == "**/" else token
        elif left and _separates(left, token):
            left = None


def _separates(left: _Token, token: _Token) -> bool:
    """Whether a text or a token of fixed width shows where the token to the left ends."""
    if token.is_literal:
        return not (left.is_number and token.source.isdecimal())
    width = _width(token.regex)[0]
    texts = [char * width for char in ("0123456789" if left.is_number else "aZ_")]
    fits = [re.fullmatch(token.regex, text, _FLAGS) is not None for text in texts]
    return bool(left.star) or not (any(fits) if left.is_number else all(fits))


def _in_context(token: _Token, following: Sequence[_Token]) -> str:
    """Return the regex of a token where it stands, with a group for a field."""
    if token.field is None:
        return token.regex or re.escape(token.source)
    if token.spec != "s":
        return f"({token.regex})"
    # Its text goes to the first place where the next tokens match, up to a literal or the end.
    end = ""
    for other in following:
        if other.is_literal or other.is_variable:
            end += "" if other.regex else re.escape(other.source)
            break
        end += other.regex
    else:
        end += r"\Z"
    return f"((?>(?:(?!{end})[^/])+))"


def _ends_surely(token: _Token, following: Sequence[_Token]) -> bool:
    """Whether the place where a token starts fixes the place where it ends, and no "/" is in it."""
    if token.field is None or token.spec == "s":
        return True
    if token.is_variable:
        # Digits end at the first other character, if that is what must follow.
        after = following[0].source if following and following[0].is_literal else "0"
        return token.is_number and after[0] not in "0123456789.eE"
    return "/" not in token.spec


def _assemble(chosen: Sequence[int], tokens: Sequence[_Token], stars: Sequence[str]) -> str:
    """Join the regexes; where stars follow each other the earlier ones are never tried again.

    The first place for the text between two stars is as good as any later one, as the second star
    can take what lies between; keeping it makes several stars linear instead of polynomial. It
    holds for "**" first, whose sections are whole folders, then for "*" inside each section.
    """
    if not stars:
        return "".join(_in_context(tokens[i], tokens[i + 1 :]) for i in chosen)
    starts = [at for at, i in enumerate(chosen) if tokens[i].star == stars[0]]
    regex = _assemble(chosen[: starts[0]] if starts else chosen, tokens, stars[1:])
    for start, end in itertools.zip_longest(starts, starts[1:]):
        section = chosen[start + 1 : end]
        body = tokens[chosen[start]].regex + _assemble(section, tokens, stars[1:])
        sure = end and all(_ends_surely(tokens[i], tokens[i + 1 : i + 2]) for i in section)
        regex += f"(?>{body})" if sure else body
    return regex


def natural_key(text: str) -> tuple[tuple[str | tuple[int, str], ...], str]:
    """Return a sort key for natural order, "z2" before "z10"; distinct texts never tie."""
    # Digits by length and text: int() refuses long ones. Texts and digits alternate from a text
    # on, so like meets like; the whole text apart decides between "z2" and "z02".
    parts: list[str | tuple[int, str]] = []
    for i, part in enumerate(re.split("([0-9]+)", text)):
        stripped = part.lstrip("0")
        parts.append((len(stripped), stripped) if i % 2 else part)
    return tuple(parts), text


# --------------------------------------------------------------------------------------- proposals

_WORDS = {
    "c": "c ch channel w wavelength",
    "t": "t time timepoint",
    "z": "z slice",
    "f": "f fov field site s",
    "p": "p pos",
    "r": "r row",
    "x": "x",
    "y": "y",
}
_AXES = {word: axis for axis, words in _WORDS.items() for word in words.split()}
_PIECE = re.compile(
    r"(?<![0-9A-Za-z])(?:"
    r"(?P<guid>[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12})|(?P<well>[A-P][0-9]{2})"
    r")(?![0-9A-Za-z])"
    r"|(?P<digits>[0-9]+)|(?P<word>(?:[A-Za-z]|[^\x00-\x7f])+)"
    r"|(?P<gap>[^0-9A-Za-z\x80-\U0010ffff]+)"
)
_Piece = tuple[str, str]  # its kind, and its text where that is the same in the whole group
_Skeleton = tuple[_Piece, ...]
_Rows = list[tuple[str, ...]]  # for every key the texts of the other pieces


def propose(keys: Sequence[str]) -> list[tuple[str, int]]:
    """Return patterns that cover `keys`, each with how many it matches, most first.

    Digits that vary become fields, named by the letters that touch them; wells such as B03 and
    words of which every one has the same numbers become text fields, GUIDs become ``*``. The rest
    stays literal.
    """
    groups: dict[_Skeleton, _Rows] = {}
    for key in keys:
        if not 0 < len(key) <= _MAX_URL_CHARS:
            continue  # matches no pattern
        pieces = [(found.lastgroup or "", found[0]) for found in _PIECE.finditer(key)]
        skeleton = tuple((k, text if k in ("word", "gap") else "") for k, text in pieces)
        row = tuple(text for kind, text in pieces if kind not in ("word", "gap"))
        groups.setdefault(skeleton, []).append(row)
    covered: Counter[str] = Counter()
    for skeleton, rows in _merge_words(groups).items():
        text = _pattern_of(skeleton, rows)
        split = compile_pattern(text).split
        covered[text] += sum(split(_key_of(skeleton, row)) is not None for row in rows)
    proposals = [(text, count) for text, count in covered.items() if count]
    return sorted(proposals, key=lambda proposal: (-proposal[1], natural_key(proposal[0])))


def _key_of(skeleton: _Skeleton, row: tuple[str, ...]) -> str:
    texts = iter(row)
    return "".join(text or next(texts) for _, text in skeleton)


def _merge_words(groups: dict[_Skeleton, _Rows]) -> dict[_Skeleton, _Rows]:
    """Merge groups that differ in one word and have the same numbers, or one key each."""
    while True:
        alike: dict[tuple[int, _Skeleton, frozenset[tuple[str, ...]] | None], list[_Skeleton]] = {}
        for skeleton, rows in groups.items():
            numbers = frozenset(rows) if len(rows) > 1 else None
            for i in _free_words(skeleton):
                blank = (*skeleton[:i], ("name", ""), *skeleton[i + 1 :])
                alike.setdefault((i, blank, numbers), []).append(skeleton)
        merged: dict[_Skeleton, _Rows] = {}
        left = dict(groups)
        for (i, blank, _), members in sorted(alike.items(), key=lambda item: -len(item[1])):
            if len(members) < 2 or any(member not in left for member in members):
                continue
            column = sum(not text for _, text in blank[:i])
            for member in members:
                for row in left.pop(member):
                    row = (*row[:column], member[i][1], *row[column:])
                    merged.setdefault(blank, []).append(row)
        if not merged:
            return groups
        groups = left
        for blank, rows in merged.items():
            groups.setdefault(blank, []).extend(rows)


def _free_words(skeleton: _Skeleton) -> list[int]:
    """Return where words stand free, except for the extension of the file."""
    kinds = ["gap", *(kind for kind, _ in skeleton), "gap"]
    last = len(skeleton) - 1
    return [
        i
        for i, (kind, _) in enumerate(skeleton)
        if kind == "word"
        and kinds[i] == kinds[i + 2] == "gap"
        and not (i == last > 0 and skeleton[i - 1][1].endswith("."))
    ]


@dataclass(slots=True)
class _Column:
    """The texts of one varying piece, and the field that it becomes."""

    name: str
    spec: str
    values: tuple[str, ...] | tuple[int, ...]


def _pattern_of(skeleton: _Skeleton, rows: _Rows) -> str:
    """Return the pattern of one group of keys."""
    names = _axis_names(skeleton)
    columns = zip(*rows, strict=True)
    parts: list[str | _Column] = []
    for (kind, literal), name in zip(skeleton, names, strict=True):
        texts = (literal,) if literal else next(columns)
        if len(set(texts)) == 1:
            parts.append(_escape(texts[0]))
        elif kind == "guid":
            parts.append("*")
        elif kind == "well":
            letters = {text[0] for text in texts}
            axis = _AXES.get(min(letters).lower()) if len(letters) == 1 else None
            if axis:  # not wells at all: C01, C02 are channels
                parts += [min(letters), _number_column(axis, [text[1:] for text in texts])]
            else:
                parts.append(_Column("well", r":[A-P]\d{2}", texts))
        elif kind == "name":
            parts.append(_Column("name", ":s", texts))
        else:
            parts.append(_number_column(name, texts))
    chosen = _choose_names([part for part in parts if isinstance(part, _Column)])
    return "".join(
        part if isinstance(part, str) else f"{{{chosen[part.values]}{part.spec}}}" for part in parts
    )


def _escape(literal: str) -> str:
    return re.sub(r"[{}]", r"\g<0>\g<0>", re.sub(r"[\[*?]", r"[\g<0>]", literal))


def _number_column(name: str, texts: Sequence[str]) -> _Column:
    width = min(len(text) for text in texts)
    padded = any(text[0] == "0" and len(text) > 1 for text in texts)
    # The longer ones may follow on from 999; with a zero in front they would not be canonical.
    regular = all(len(text) == width or text[0] != "0" for text in texts)
    spec = f":0{width}d" if padded and regular and width < 100 else ""
    return _Column(name, spec, tuple(int(text) for text in texts))


def _choose_names(columns: Sequence[_Column]) -> dict[tuple[object, ...], str]:
    """Return the name by values: columns that always move together are one field."""
    wanted: dict[tuple[object, ...], str] = {}
    for column in columns:
        wanted[column.values] = wanted.get(column.values) or column.name
    chosen: dict[tuple[object, ...], str] = {}
    for values, name in wanted.items():
        name = name or "n"
        unique = (f"{name}{i}" if i > 1 else name for i in itertools.count(1))
        chosen[values] = next(each for each in unique if each not in chosen.values())
    return chosen


def _axis_names(skeleton: _Skeleton) -> list[str]:
    """Return for every piece the axis that the letters around it name, or an empty text.

    The letters before the digits count first (Z01); letters after them (3t) where none are before
    or where no other digits follow these letters; then a word one separator before (TimePoint_1).
    """
    # Padded so that looking three to the left of the first piece finds nothing, too.
    words = [text.lower() if kind == "word" else "" for kind, text in skeleton] + [""] * 3
    kinds = [kind for kind, _ in skeleton] + [""] * 3
    names = [""] * len(skeleton)
    taken = -1  # the word that named the digits before it
    for i in range(len(skeleton)):
        if kinds[i] != "digits":
            continue
        before, after = "" if taken == i - 1 else words[i - 1], words[i + 1]
        if before in _AXES:
            names[i] = _AXES[before]
        elif after in _AXES and not (before and kinds[i + 2] == "digits"):
            names[i], taken = _AXES[after], i + 1
        elif words[i - 2] in _AXES and kinds[i - 3] != "digits":
            names[i] = _AXES[words[i - 2]] if skeleton[i - 1][1] in tuple("_-= /") else ""
    return names
