"""The compiled pattern: URLs taken apart into labels and put together from them."""

from __future__ import annotations

import functools
import itertools
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cloudimg.errors import ArgumentError, PatternError
from cloudimg.pattern.assembly import assemble, check_neighbours
from cloudimg.pattern.fields import Field, Label, read_label, write_label
from cloudimg.pattern.regex import FLAGS, MAX_URL_CHARS, REGEX_ERRORS, width_of
from cloudimg.pattern.tokens import error_at, tokenize

# What must not be shown: user and password, and the values in a query (signatures, tokens).
_SECRETS = re.compile(r"(://)[^/@]+(?=@)|([?&][^=&/{}]*=)[^&{}]+")


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
        found = self._regex.fullmatch(url) if len(url) <= MAX_URL_CHARS else None
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
            write_label(found, spec, labels[found.name])
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
                raise error_at(token.at, token.source, problem, "use another name")
    try:
        regex = re.compile(assemble(range(len(tokens)), tokens, ("**", "*")), FLAGS)
    except REGEX_ERRORS as error:
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
            if times[each.name] > 1 or each.kind == "time" or not width_of(each.regex)[0]
        ),
    )
