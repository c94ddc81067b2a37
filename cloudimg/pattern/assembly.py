"""From tokens to one regular expression that matches in close to linear time.

A ``{name:s}`` stops at the first place where what follows it matches; a wildcard takes the least
that lets the rest match, and once the text between two wildcards has been found that place is
final. Tokens of which two neighbours could share characters in several ways are refused.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

from cloudimg.pattern.regex import FLAGS, width_of
from cloudimg.pattern.tokens import Token, error_at


def check_neighbours(tokens: Sequence[Token]) -> None:
    """Refuse two tokens of variable width that could share characters in several ways."""
    left: Token | None = None
    for token in tokens:
        if token.is_variable:
            if left and (left.field or token.field):
                raise error_at(
                    token.at,
                    left.source + token.source,
                    f"nothing separates {left.source} from {token.source},"
                    " which are both of variable width",
                    r"put other text between them or fix a width, as in {c:\d{3}}",
                )
            left = None if token.source == "**/" else token
        elif left and _separates(left, token):
            left = None


def _separates(left: Token, token: Token) -> bool:
    """Whether a text or a token of fixed width shows where the token to the left ends."""
    if token.is_literal:
        return not (left.is_number and token.source.isdecimal())
    width = width_of(token.regex)[0]
    texts = [char * width for char in ("0123456789" if left.is_number else "aZ_")]
    fits = [re.fullmatch(token.regex, text, FLAGS) is not None for text in texts]
    return bool(left.star) or not (any(fits) if left.is_number else all(fits))


def _in_context(token: Token, following: Sequence[Token]) -> str:
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
    visible = r"(?!\.)" if token.begins_name else ""  # as for wildcards
    return f"({visible}(?>(?:(?!{end})[^/])+))"


def _ends_surely(token: Token, following: Sequence[Token]) -> bool:
    """Whether the place where a token starts fixes the place where it ends, and no "/" is in it."""
    if token.field is None or token.spec == "s":
        return True
    if token.is_variable:
        # Digits end at the first other character, if that is what must follow.
        after = following[0].source if following and following[0].is_literal else "0"
        return token.is_number and after[0] not in "0123456789.eE"
    return "/" not in token.spec


def assemble(chosen: Sequence[int], tokens: Sequence[Token], stars: Sequence[str]) -> str:
    """Join the regexes; where stars follow each other the earlier ones are never tried again.

    The first place for the text between two stars is as good as any later one, as the second star
    can take what lies between; keeping it makes several stars linear instead of polynomial. It
    holds for "**" first, whose sections are whole folders, then for "*" inside each section.
    """
    if not stars:
        return "".join(_in_context(tokens[i], tokens[i + 1 :]) for i in chosen)
    starts = [at for at, i in enumerate(chosen) if tokens[i].star == stars[0]]
    regex = assemble(chosen[: starts[0]] if starts else chosen, tokens, stars[1:])
    for start, end in itertools.zip_longest(starts, starts[1:]):
        section = chosen[start + 1 : end]
        body = tokens[chosen[start]].regex + assemble(section, tokens, stars[1:])
        sure = end and all(_ends_surely(tokens[i], tokens[i + 1 : i + 2]) for i in section)
        regex += f"(?>{body})" if sure else body
    return regex
