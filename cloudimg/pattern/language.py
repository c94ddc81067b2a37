"""The compiled pattern: takes URLs apart into texts of fields, and joins such texts to a URL."""

from __future__ import annotations

import functools
import itertools
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from cloudimg.errors import ArgumentError, PatternError
from cloudimg.errors.arrival import raised_where_used
from cloudimg.pattern.assembly import assemble, check_neighbours
from cloudimg.pattern.fields import Field, Label, read_label
from cloudimg.pattern.regex import FLAGS, MAX_URL_CHARS, REGEX_ERRORS, may_contain, width_of
from cloudimg.pattern.tokens import Token, error_at, tokenize

# What must not be shown: user and password, and the values in a query (signatures, tokens).
_SECRETS = re.compile(r"(://)[^/@]+(?=@)|([?&][^=&/{}]*=)[^&{}]+")


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
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
    _regex: re.Pattern[str] = field(compare=False)
    _line: re.Pattern[str] | None = field(compare=False)  # a line; None where a match has several
    _checks: tuple[int, ...] = field(compare=False)  # occurrences whose values can refuse a match

    def __repr__(self) -> str:
        shown = _SECRETS.sub(r"\1\2***", self.text)
        return f"Pattern({shown!r})"

    def __reduce__(self) -> tuple[object, ...]:
        return _arrived, (self.text,)

    @property
    def is_literal(self) -> bool:
        """Whether there are neither fields nor wildcards."""
        return not self.occurrences and not self.has_wildcards

    def split(self, url: str) -> tuple[str, ...] | None:
        """Return the raw text of every occurrence, or None where `url` does not match.

        Occurrences of one field must agree by value ("002" and "2" do), and times must exist.
        """
        match = self._regex.fullmatch(url) if len(url) <= MAX_URL_CHARS else None
        if match is None:
            return None
        texts = match.groups()
        return texts if not self._checks or self._agree(texts) else None

    def split_all(self, urls: Sequence[str]) -> list[tuple[str, ...] | None]:
        """Return `split` of each URL, in less time for many."""
        if self._checks or max(map(len, urls), default=0) > MAX_URL_CHARS:
            return [self.split(url) for url in urls]
        matches = map(self._regex.fullmatch, urls)
        return [None if match is None else match.groups() for match in matches]

    def split_columns(self, urls: Sequence[str]) -> list[Sequence[str]] | None:
        """Return the texts of every occurrence by URL, in less time for thousands of URLs.

        None where some do not match, or only `split` can tell.
        """
        text = "\n".join(urls)
        if self._line is None or text.count("\n") != len(urls) - 1:
            return None
        found = self._line.findall(text)
        if len(found) != len(urls) or max(map(len, urls)) > MAX_URL_CHARS:
            return None
        return list(zip(*found, strict=True)) if len(self.occurrences) > 1 else [found]

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
            The text is not a value of that field.
        """
        return read_label(self.occurrences[occurrence], text)

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


@functools.lru_cache(maxsize=256)  # a worker unpickles the same pattern with every task
def compile_pattern(text: str) -> Pattern:
    """Compile a pattern.

    Raises
    ------
    PatternError
        A syntax error; the message has the position and what to write instead.
    """
    tokens = tokenize(text)
    if not tokens:
        raise PatternError("an empty pattern matches nothing: write a URL with fields such as {c}")
    check_neighbours(tokens)
    literals, occurrences = _literals_and_fields(tokens)
    try:
        regex = re.compile(assemble(range(len(tokens)), tokens, ("**", "*")), FLAGS)
    except REGEX_ERRORS as error:
        raise PatternError(f"the fields do not form a regular expression: {error}") from error
    counts = Counter(each.name for each in occurrences)
    checks = tuple(
        i
        for i, each in enumerate(occurrences)
        if counts[each.name] > 1 or each.kind in ("time", "elapsed") or not width_of(each.regex)[0]
    )
    return Pattern(
        text=text,
        fields=tuple(counts),
        occurrences=tuple(occurrences),
        stem=tokens[0].source if tokens[0].is_literal else "",
        has_wildcards=any(token.regex and not token.field for token in tokens),
        _literals=tuple(literals),
        _regex=regex,
        _line=_as_line(regex, tokens) if occurrences and not checks else None,
        _checks=checks,
    )


def _as_line(regex: re.Pattern[str], tokens: Sequence[Token]) -> re.Pattern[str] | None:
    """The regex of a pattern for texts of many lines; None if a URL may have several lines."""
    if any(may_contain(token.regex or re.escape(token.source), "\n") for token in tokens):
        return None
    return re.compile(f"^(?:{regex.pattern})$", FLAGS | re.MULTILINE)


@raised_where_used
def _arrived(text: str) -> Pattern:
    return compile_pattern(text)


def escape(text: str) -> str:
    """Return the pattern that matches exactly this text."""
    return re.sub(r"[{}]", r"\g<0>\g<0>", re.sub(r"[\[*?]", r"[\g<0>]", text))


def _literals_and_fields(tokens: Sequence[Token]) -> tuple[list[str], list[Field]]:
    """The fields of a pattern, and the literal texts around them, one more than there are fields.

    Raises
    ------
    PatternError
        Two fields of one name are of different kinds.
    """
    literals, occurrences, kinds = [""], [], dict[str, str]()
    for token in tokens:
        if token.is_literal:
            literals[-1] += token.source
        elif token.field:
            literals.append("")
            occurrences.append(token.field)
            first_kind = kinds.setdefault(token.field.name, token.field.kind)
            if first_kind != token.field.kind:
                problem = f"this is {token.field.kind}, but the same name was {first_kind} before"
                raise error_at(token.at, token.source, problem, "use another name")
    return literals, occurrences
