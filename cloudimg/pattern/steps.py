"""What URLs that match a pattern begin with: up to each text that stands between two fields."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from cloudimg.pattern.assembly import assemble
from cloudimg.pattern.fields import Field
from cloudimg.pattern.language import Pattern
from cloudimg.pattern.regex import FLAGS, may_contain
from cloudimg.pattern.tokens import Token, tokenize


@dataclass(frozen=True, slots=True)
class Step:
    """The beginning of URLs up to one text between two fields, and with it."""

    literal: str
    """The text with which it ends."""
    regex: re.Pattern[str] | None
    """Matches all beginnings that end at the first place of that text behind those of the step
    before, if URLs of the pattern begin so; None where they may begin in other ways."""
    is_narrow: bool
    """Whether what stands before the text was written as an expression, such as ``[12]``."""
    occurrences: tuple[Field, ...]
    """Those before the text."""


def steps_of(pattern: Pattern, *, with_end: bool = False) -> Iterator[Step]:
    """Yield the steps behind the stem of a pattern; only `with_end` up to the text that ends it."""
    tokens = tokenize(pattern.text)
    is_sure, start = True, 0
    for i, token in enumerate(tokens if with_end else tokens[:-1]):
        if not token.is_literal or i == 0:
            continue
        before = tokens[start + (start > 0 or tokens[0].is_literal) : i]
        is_sure = is_sure and all(_ends_at(each, token, each is before[-1]) for each in before)
        regex = assemble(range(i + 1), tokens[: i + 1], ("**", "*")) if is_sure else None
        yield Step(
            literal=token.source,
            regex=None if regex is None else re.compile(regex, FLAGS),
            is_narrow=any(map(_is_narrow, before)),
            occurrences=tuple(each.field for each in tokens[:i] if each.field),
        )
        start = i


def _ends_at(token: Token, literal: Token, is_next: bool) -> bool:
    """Whether no text of a token has the beginning of the literal text that follows."""
    if token.spec == "s" and is_next:
        return True  # it ends at the first place of what follows
    return not may_contain(token.regex, literal.source[0])


def _is_narrow(token: Token) -> bool:
    if token.field is None:
        return not token.star
    return token.field.kind == "str" and token.spec != "s"
