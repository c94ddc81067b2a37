"""What to write instead of a field that does not match some names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cloudimg.errors import PatternError
from cloudimg.pattern.directives import directives_of
from cloudimg.pattern.elapsed import PREFIX, UNITS
from cloudimg.pattern.language import Pattern, compile_pattern
from cloudimg.pattern.tokens import Token, tokenize

_WIDER = {"int": ("d", "f", "s"), "float": ("g", "s"), "str": (), "time": (), "elapsed": ()}
"""Formats that match more than a field of some kind, from narrow to wide."""
_NUMBERS = ("d", "f", "g")
"""Formats of numbers, from narrow to wide."""


def advise(pattern: Pattern, names: Sequence[str]) -> str:
    """Return how to write a pattern so that it matches some names, empty if no such way is known.

    Parameters
    ----------
    pattern : Pattern
    names : sequence of str
        Names that the pattern does not match.
    """
    best, most = "", 0
    for text, advice in _alternatives(pattern):
        try:
            split = compile_pattern(text).split
        except PatternError:
            continue
        matching = [name for name in names if split(name) is not None]
        # Texts match nearly everything, and are no numbers.
        if len(matching) > most and not (best and ":s}" in advice):
            best, most = f"{advice} to match {matching[0].rpartition('/')[2]!r}", len(matching)
    return best


def _alternatives(pattern: Pattern) -> Iterator[tuple[str, str]]:
    """Yield patterns that match more, from narrow to wide, and what is different in them."""
    by_spec: dict[str, dict[str, str]] = {}
    for token in tokenize(pattern.text):
        for spec in _wider_specs(token):
            assert token.field is not None
            source = f"{{{token.field.name}:{spec}}}"
            by_spec.setdefault(spec, {})[token.source] = source
            text = pattern.text.replace(token.source, source)
            yield text, f"write {source} instead of {token.source}"
    for spec in (spec for spec in _NUMBERS if len(by_spec.get(spec, ())) > 1):
        text, changes = pattern.text, by_spec[spec]
        for narrow, wide in changes.items():
            text = text.replace(narrow, wide)
        yield (
            text,
            f"write {' and '.join(f'{changes[each]} instead of {each}' for each in changes)}",
        )
    swapped = _either_case(pattern.text)
    if swapped != pattern.text:
        ending = swapped[len(pattern.text.rpartition(".")[0]) :]
        yield swapped, f"write {ending} at the end"


def _wider_specs(token: Token) -> tuple[str, ...]:
    if token.field is None:
        return ()
    if token.field.kind == "time" and UNITS.keys() >= set(directives_of(token.spec)):
        return (PREFIX + token.spec,)
    wider = _WIDER[token.field.kind]
    return wider[wider.index(token.spec) + 1 :] if token.spec in wider else wider


def _either_case(text: str) -> str:
    """The text with an extension that may be in upper or in lower case."""
    stem, dot, extension = text.rpartition(".")
    if not dot or not extension.isalnum() or not extension.isascii():
        return text
    either = "".join(
        f"[{char.lower()}{char.upper()}]" if char.isalpha() else char for char in extension
    )
    return f"{stem}.{either}"
