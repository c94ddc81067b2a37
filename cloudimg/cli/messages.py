"""Messages in terms of the command's options, without control characters and secrets."""

from __future__ import annotations

import argparse
import ast
import json
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

# ------------------------------------------------------------------------- options in messages

_KEYWORDS = (
    "against_source", "align", "allow_differences", "allow_unmatched", "axes", "bad", "blend",
    "chunks", "codec", "companions", "compression", "downsampling", "dry_run", "exclude", "execute",
    "factors", "flip", "grow", "index", "index_files", "job", "labels_of", "layout", "level",
    "levels", "listing", "max_bytes", "max_mem", "max_rate", "missing", "move_to", "name",
    "new_documents", "overview", "overwrite", "part", "pattern", "pixel_size", "place", "plate",
    "probe", "project", "replace_edits", "resume", "rgb", "sample", "segments", "select", "series",
    "shards", "size", "source", "source_options", "tag", "target_options", "undo", "url_column",
    "validate", "workers", "yes", "zarr_format",
)  # fmt: skip
"""Keyword arguments of the library that some command has as an option of the same name."""
_IN_OTHER_WORDS = {
    " (and fill_value=)": "",
    " or dims=": "",
    ", or a list, [url], to read this file alone": "",
    ' or series="all" to migrate to copy': " or --series all to copy",
    'series="all" is for cloudimg.migrate': "--series all is for cloudimg migrate",
    ": scan() lists them": "",
    "cloudimg.repair ": "cloudimg repair ",
    "cloudimg.retire(..., undo=True)": "cloudimg retire --undo",
    "pass resume=True": "leave out --no-resume",
    "the same call without part=": "the same command without --part",
    "pass the array as against_source=": "use cloudimg.verify in Python",
    "pass the array as from_source=": "use cloudimg.repair in Python",
    "pass from_source=cloudimg.open(...)": (
        "use cloudimg.repair(..., from_source=cloudimg.open(...)) in Python"
    ),
    "pass against_source=cloudimg.open(...)": (
        "use cloudimg.verify(..., against_source=cloudimg.open(...)) in Python"
    ),
}
"""Advice of the library that no option can follow, and what the command line says instead."""
_FIXED = {
    "rgb=True": "--rgb",
    "against_source=True": "--against-source",
    "allow_unmatched=True": "--allow-unmatched",
    "companions=True": "--companions",
    "execute=True": "--execute",
    "index_files=False": "--no-index-files",
    "max_bytes=math.inf": "--yes",
    "new_documents=True": "--new-documents",
    "overview=True": "--overview",
    "overwrite=True": "--overwrite",
    "plate=False": "--no-plate",
    "plate=True": "--plate",
    "replace_edits=True": "--replace-edits",
    "resume=False": "--no-resume",
    "segments=True": "--segments",
    "undo=True": "--undo",
    "yes=True": "--yes",
}
_FIELD = re.compile(r"\{(\w+)[:}]")
_WORD_START = r"(?<![\w/.,&?%#=-])"  # not within a word, a path, or the query of a URL
_PLAIN_VALUE = re.compile(r"-?(?>\w+(?:[.*]+\w+)*)(?!\()")  # 3, True, 2**30; not f(x)
_STRING = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"")
_INFO_CALL = re.compile(rf"cloudimg\.info\(({_STRING.pattern})\)")
_CLOSING = {"{": "}", "[": "]"}
_NO_VALUE = re.compile(r"[\s,;:.?)]|$")


def option_names(args: argparse.Namespace) -> dict[str, str]:
    """Options of a command by the name of the library's argument that each one sets.

    Leaves out names that are fields of the URL's pattern: ``level=3`` is then a label of a file.
    """
    given = vars(args)
    fields = _FIELD.findall(given.get("url", ""))
    names = {
        name: "--" + name.replace("_", "-")
        for name in _KEYWORDS
        if name in given and name not in fields
    }
    if "price" in given:
        names["prices"] = "--price"
    if "url_options_name" in given:
        of_stores = [given["url_options_name"]]
        of_stores += [names[n] for n in ("source_options", "target_options") if n in names]
        names["storage_options"] = " or ".join(of_stores)
        names.setdefault("source_options", of_stores[0])
    return names


def speak_options(
    text: str, options: Mapping[str, str], verbatim: Iterable[str | None] = ()
) -> str:
    """Rewrite Python's keyword arguments in a message as options of a command.

    ``missing="fill"`` becomes ``--missing fill``, and ``index={"c": 0}`` ``--index c=0``.

    Parameters
    ----------
    text : str
        A message of the library.
    options : mapping
        See `option_names`; other keyword arguments stay as they are.
    verbatim : iterable of str
        Parts of the text that stay as they are, such as URLs; None is ignored.
    """
    for python, command_line in _IN_OTHER_WORDS.items():
        text = text.replace(python, command_line)
    text = _INFO_CALL.sub(lambda call: f"cloudimg info {_quoted(call[1])}", text)
    kept = "|".join(re.escape(part) for part in sorted(filter(None, verbatim), key=len)[::-1])
    fixed = "|".join(map(re.escape, _FIXED))
    names = "|".join(map(re.escape, options)) or r"(?!)"
    token = re.compile(
        rf"(?P<kept>{kept or '(?!)'})"
        rf"|{_WORD_START}(?:(?P<fixed>{fixed})\b|(?P<name>{names})=|(?P<word>\w+_options)\b)"
    )
    parts, at = [], 0
    while match := token.search(text, at):
        parts.append(text[at : match.start()])
        at = match.end()
        if match["fixed"] and match["fixed"].partition("=")[0] in options:
            parts.append(_FIXED[match["fixed"]])
        elif match["word"] in options:
            parts.append(options[match["word"]])
        elif match["name"]:
            value, at = _value(text, at)
            option = options[match["name"]]
            shown = None if value is None else _as_argument(match["name"], option, value)
            parts.append(match[0] if shown is None else f"{option}{shown}")
            at = match.end() if shown is None else at
        else:
            parts.append(match[0])
    return "".join([*parts, text[at:]])


def _quoted(python: str) -> str:
    """A string in Python's notation as a word of a shell."""
    return shlex.quote(ast.literal_eval(python))


_NOTHING = object()


def _value(text: str, start: int) -> tuple[Any, int]:
    """The value in Python's notation that begins at a position, and where it ends.

    `_NOTHING` where a keyword is named without a value; None if it is not Python.
    """
    if _NO_VALUE.match(text, start):
        return _NOTHING, start
    if match := _STRING.match(text, start):
        return ast.literal_eval(match[0]), match.end()
    if match := _PLAIN_VALUE.match(text, start):
        return match[0], match.end()
    if text[start] in _CLOSING:
        for closing in re.finditer(_CLOSING[text[start]], text[start:]):
            stop = start + closing.end()
            try:
                return ast.literal_eval(text[start:stop]), stop
            except (ValueError, SyntaxError, TypeError):
                continue  # a bracket within a string or an inner value
    return None, start


def _as_argument(name: str, option: str, value: Any) -> str | None:
    """What follows an option on the command line; None where it has no such form."""
    if value is _NOTHING:
        return ""
    if value in ("True", "False"):
        return None  # an option without a value, and not one of `_FIXED`
    if name == "allow_differences":
        return f" {' '.join(value)}"
    if isinstance(value, list) and name != "codec":
        if name not in ("exclude", "factors"):
            return None
        # The option is given once per glob or step.
        return f" {option}".join(str(_as_argument(name, option, each)) for each in value)
    if not isinstance(value, Mapping | list):
        return f" {shlex.quote(str(value))}"
    if name == "codec" or name.endswith("_options"):
        return f" {shlex.quote(json.dumps(value, default=lambda _: '...'))}"
    pairs = [
        f"{key}={each}"
        for key, values in dict(value).items()
        for each in (values if isinstance(values, list) else [values])
    ]
    return " " + (" " if name == "axes" else ",").join(pairs)


# ----------------------------------------------------------------------------- text and secrets

_SECRET_NAME = re.compile(
    r"(?i)key|secret|token|password|passwd|credential|sas|connection_string|cookie|authorization"
)
_PASSWORD = re.compile(r"//[^/\s@:]*:([^/\s@]+)@")
_SHORTEST_SECRET = 6  # characters: replacing shorter texts would garble messages


def printable(text: str) -> str:
    """Escape control characters: the name of an object may hold codes that a terminal obeys."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def secrets_in(name: str, value: Any) -> Iterator[str]:
    """Values of options that no message may repeat, whichever library made the message."""
    if isinstance(value, Mapping):
        for inner, each in value.items():
            yield from secrets_in(f"{name} {inner}", each)
    elif _SECRET_NAME.search(name) and len(str(value)) >= _SHORTEST_SECRET:
        yield str(value)


def passwords_in(text: str) -> Iterator[str]:
    """Passwords of the addresses in a text, such as ``tls://me:password@host:1``.

    Examples
    --------
    >>> list(passwords_in("tls://me:password@host:1"))
    ['password']
    """
    yield from (each for each in _PASSWORD.findall(text) if len(each) >= _SHORTEST_SECRET)
