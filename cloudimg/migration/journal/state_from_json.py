"""Check the plan of a migration as it was read: each field by itself, and all of them together.

The identity of a migration is a digest of what decides which pixels are written. It is computed
again from what was read, so that a plan with another source, other cells or another codec is not
taken for the one that commit records and end mark name.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from cloudimg.errors import ArgumentError
from cloudimg.errors.checked_json import (
    SHA256,
    checked_bool,
    checked_choice,
    checked_int,
    checked_ints,
    checked_list,
    checked_mapping,
    checked_number,
    checked_object,
    checked_optional_text,
    checked_plain,
    checked_text,
    checked_texts,
)
from cloudimg.migration.encode.codecs import codec_from_spec
from cloudimg.migration.journal.destination import as_json
from cloudimg.migration.journal.layout import FORMAT
from cloudimg.migration.journal.record_from_json import PLAN_ID
from cloudimg.migration.metadata.edits import is_json
from cloudimg.migration.metadata.facts import ImageFacts
from cloudimg.migration.plan.check_plan import check_plan
from cloudimg.migration.plan.plan import Plan
from cloudimg.migration.plan.request import WriteRequest
from cloudimg.opening.selection import Selection

_FIELDS = ("format", "state", "id", "plan", "request", "source", "facts")
_OPTIONAL = ("files", "fence", "began_as", "grown_from")
_OF_ALL = ("kind", "dims", "shape", "dtype", "fingerprint")
_OF_IMAGES = ("urls", "open", "is_list", "has_own_reader")
_OF_OLDER = ("endpoint", "arrangement", "files", "is_table", "is_zarr")
"""Fields that images have, unless an older version wrote the plan; the last ones, if a table in
memory listed the files, and if they are documents of a Zarr."""
_OF_FILES = ("n_files", "n_excluded", "n_unmatched_images", "lists_folder")
_MOST_DIMS = 32
_MOST_URLS = 2**24
_DTYPE = re.compile(r"[<>|][biufc][0-9]{1,2}")
_MOST_OPTIONS = 64
_MOST_OF_OPTION = 4096
"""Length of a pattern, and of a glob of files to leave out."""
_NOT_FINITE = re.compile("nan|-?inf")
_MOST_CODECS = 16
_MOST_OF_DOCUMENT = 2**26
_MOST_OF_CODEC = 2**26
"""Greatest parameter of a codec, the dictionary of lzma's highest preset (64 MiB)."""
CONTINUED = ("fingerprint", "open")
"""Fields of the source that change when files are replaced before the copy is finished."""
GROWN = (*CONTINUED, "shape", "arrangement", "files")
"""Fields of the source that change when a copy grows."""


def identity_of(plan: Any, request: Any, source: Mapping[str, Any]) -> str:
    """Digest of everything that decides which pixels are written, each as JSON.

    The endpoint is left out, since one source may be reached by several names of its server.
    """
    named = {name: value for name, value in source.items() if name != "endpoint"}
    return hashlib.sha256(as_json([plan, request, named])).hexdigest()[:32]


def checked_state(content: Any) -> dict[str, Any]:
    """The fields of `State`, except its end mark, from its JSON.

    Raises
    ------
    ValueError
        If a field is missing or unknown, or has another type or size than it can have, or if it is
        not the plan of a migration that could have been made.
    """
    _check_fields(content)
    plan = Plan.from_json(content["plan"])
    request = WriteRequest.from_json(content["request"])
    is_older = content["format"] != FORMAT
    _check_together(content, plan, is_older=is_older)
    # Whoever goes on with the migration stores them again, under the identity of these bytes.
    if not is_older and as_json(request.to_json()) != as_json(content["request"]):
        raise ValueError("request is not in the form in which it is stored")
    return {
        "plan": plan,
        "request": request,
        "source": content["source"],
        "facts": ImageFacts.from_json(content["facts"]),
        "id": content["id"],
        "files_sha256": content.get("files", ""),
        "fences": content.get("fence") != "none",
        "format": content["format"],
        "began_as": content.get("began_as"),
        "grown_from": _checked_growth(content.get("grown_from"), plan),
    }


def _checked_growth(stored: Any, plan: Plan) -> tuple[int, ImageFacts, Any] | None:
    """The fields of `GrownFrom`."""
    if stored is None:
        return None
    checked_object(stored, "grown_from", required=("length", "facts"), optional=("written",))
    if plan.grow is None:
        raise ValueError("grown_from is of a plan that does not grow")
    length = plan.levels[0].shape[plan.dims.index(plan.grow)]
    least = checked_int(stored["length"], "grown_from.length", least=1, greatest=length)
    written = stored.get("written")
    if written is not None:
        _check_documents(written, "grown_from.written")
    return least, ImageFacts.from_json(stored["facts"]), written


def _check_documents(stored: Any, where: str) -> None:
    """Check documents of a copy, as text by their keys."""
    if not isinstance(stored, dict):
        raise ValueError(f"{where} is not an object")
    for key, text in stored.items():
        checked_text(text, f"{where}.{key}", most=_MOST_OF_DOCUMENT)
        if is_json(key) and not isinstance(json.loads(text), dict):
            raise ValueError(f"{where}.{key} is not a document")


def _check_fields(content: Any) -> None:
    """Check the fields that are taken as they are."""
    checked_object(content, "the plan", required=_FIELDS, optional=_OPTIONAL)
    checked_text(content["id"], "id", pattern=PLAN_ID)
    checked_choice(content["state"], "state", ("planned",))
    if "files" in content:
        checked_text(content["files"], "files", pattern=SHA256)
    if "fence" in content:
        checked_choice(content["fence"], "fence", ("none",))
    _check_source(content["source"])
    if "began_as" in content:
        _check_beginning(content["began_as"], content["source"])


def _check_beginning(began_as: Any, source: Mapping[str, Any]) -> None:
    """Check what the source was when the migration was planned."""
    has_grown = isinstance(began_as, dict) and "shape" in began_as
    checked_object(began_as, "began_as", required=GROWN if has_grown else CONTINUED)
    checked_text(began_as["fingerprint"], "began_as.fingerprint", most=256)
    _check_options(began_as["open"], "began_as.open")
    if has_grown:
        n_dims = len(source["dims"])
        checked_ints(began_as["shape"], "began_as.shape", n=n_dims, least=1)
        checked_text(began_as["arrangement"], "began_as.arrangement", most=256)
        _check_counts(began_as["files"], "began_as.files")


def _check_source(source: Any) -> None:
    checked_mapping(source, "source", most=64)
    for name in _OF_ALL:
        if name not in source:
            raise ValueError(f"source has no {name}")
    kind = checked_choice(source["kind"], "source.kind", ("image", "array"))
    dims = checked_texts(source["dims"], "source.dims", most=_MOST_DIMS, characters=256)
    if len(set(dims)) < len(dims):
        raise ValueError("source.dims has a name twice")
    checked_ints(source["shape"], "source.shape", n=len(dims), least=1)
    checked_text(source["dtype"], "source.dtype", pattern=_DTYPE)
    try:
        np.dtype(source["dtype"])
    except TypeError:
        raise ValueError("source.dtype is not a type of numbers") from None
    checked_text(source["fingerprint"], "source.fingerprint", most=256)
    if kind == "array":
        checked_object(source, "source", required=_OF_ALL, optional=("identity",))
        checked_optional_text(source.get("identity"), "source.identity")
        return
    checked_object(source, "source", required=(*_OF_ALL, *_OF_IMAGES), optional=_OF_OLDER)
    urls = checked_texts(source["urls"], "source.urls", most=_MOST_URLS)
    is_list = checked_bool(source["is_list"], "source.is_list")
    if not urls or (len(urls) > 1 and not is_list):
        raise ValueError(f"source.urls has {len(urls)} URLs")
    checked_bool(source["has_own_reader"], "source.has_own_reader")
    for name in ("is_table", "is_zarr"):
        checked_bool(source.get(name, False), f"source.{name}")
    checked_optional_text(source.get("endpoint"), "source.endpoint")
    checked_text(source.get("arrangement", ""), "source.arrangement", most=256)
    _check_options(source["open"], "source.open")
    _check_counts(source.get("files", {}), "source.files")


def _check_counts(files: Any, where: str) -> None:
    """Check how many files were listed."""
    for name in checked_object(files, where, optional=_OF_FILES):
        if name == "lists_folder":
            checked_bool(files[name], f"{where}.{name}")
        else:
            checked_int(files[name], f"{where}.{name}")


def _check_options(options: Any, where: str) -> None:
    """Options of `open`: their types and sizes, because errors of opening repeat them.

    Those that this version does not know only need to be plain.
    """
    checked_plain(checked_mapping(options, where, most=_MOST_OPTIONS), where)
    for name in ("series", "fill_value"):
        if name not in options:
            raise ValueError(f"{where} has no {name}")
    for name, value in options.items():
        if value is not None and name in _OPTIONS:
            _OPTIONS[name](value, f"{where}.{name}")


def _check_fill(value: Any, where: str) -> None:
    """A number: complex as a pair, NaN and infinities as text; see `to_plain`."""
    for part in checked_list(value, where, n=2) if isinstance(value, list) else [value]:
        if isinstance(part, str):
            checked_text(part, where, pattern=_NOT_FINITE)
        elif not isinstance(part, bool):
            checked_number(part, where)


def _check_texts(value: Any, where: str) -> None:
    for each in [value] if isinstance(value, str) else checked_list(value, where):
        checked_text(each, where, most=_MOST_OF_OPTION)


def _check_axes(value: Any, where: str) -> None:
    for name, axis in checked_mapping(value, where, most=_MOST_DIMS).items():
        checked_text(name, where, most=256)
        checked_text(axis, where, most=256)


def _check_select(value: Any, where: str) -> None:
    Selection.from_json(value)


_OPTIONS: Mapping[str, Callable[[Any, str], object]] = {
    "pattern": partial(checked_text, most=_MOST_OF_OPTION),
    "url_column": partial(checked_text, most=_MOST_OF_OPTION),
    "axes": _check_axes,
    "dims": partial(checked_texts, most=_MOST_DIMS, characters=256),
    "mosaic": checked_bool,  # of older versions, see `options_of_plan`
    "place": partial(checked_choice, choices=("index", "stage", "stack")),
    "blend": partial(checked_choice, choices=("last", "mean")),
    "flip": partial(checked_choice, choices=("x", "y", "xy", "none")),
    "align": partial(checked_choice, choices=("outer", "inner")),
    "index_files": checked_bool,
    "series": partial(checked_int, greatest=2**31),
    "missing": partial(checked_choice, choices=("raise", "fill")),
    "bad": partial(checked_choice, choices=("raise", "fill")),
    "exclude": _check_texts,
    "fill_value": _check_fill,
    "select": _check_select,
    "rgb": checked_bool,
    "palette": partial(checked_choice, choices=("index", "rgb")),
    "allow_differences": partial(checked_texts, most=_MOST_OPTIONS, characters=256),
}


def _check_together(content: Mapping[str, Any], plan: Plan, *, is_older: bool) -> None:
    """Check that the fields fit each other, and that the identity is that of the content.

    Parameters
    ----------
    content : mapping
        After `_check_fields`.
    plan : Plan
    is_older : bool
        Whether an older version wrote the plan. If it was continued with other files there, it
        does not say what it began as, and its identity cannot be computed again.

    Raises
    ------
    ValueError
    """
    check_plan(plan, content["source"])
    if plan.grow != content["request"].get("grow"):
        raise ValueError("plan.grow is not that of the request")
    _check_codec(plan.codec)
    invalid = ""
    try:
        codec_from_spec(plan.codec, np.dtype(plan.dtype))
    except ArgumentError as exc:
        invalid = exc.message
    if invalid:
        raise ValueError(f"plan.codec: {invalid}")
    began_as = content.get("began_as", {})
    source, planned = {**content["source"], **began_as}, content["plan"]
    if "shape" in began_as:
        planned = _at_beginning(plan, content["source"], began_as["shape"]).to_json()
    if not is_older and content["id"] != identity_of(planned, content["request"], source):
        raise ValueError("id is not that of its plan, request and source")


def _at_beginning(plan: Plan, source: Mapping[str, Any], shape: Sequence[int]) -> Plan:
    """The plan of a copy as it was before the copy grew.

    Raises
    ------
    ValueError
        If something else than the length of the growing axis was different.
    """
    dims = list(source["dims"])
    if plan.grow not in dims:
        raise ValueError("began_as.shape is of a plan that does not grow")
    axis = dims.index(plan.grow)
    now = source["shape"]
    if [*shape[:axis], now[axis], *shape[axis + 1 :]] != now or shape[axis] > now[axis]:
        raise ValueError("began_as.shape is not a shape from which the source's can have grown")
    return plan.grown(shape[axis])


def _check_codec(spec: Mapping[str, Any]) -> None:
    """Check the sizes in the parameters of codecs, which make a codec to try them."""
    chain = checked_object(spec, "plan.codec", required=("chain",))["chain"]
    for i, link in enumerate(checked_list(chain, "plan.codec.chain", most=_MOST_CODECS)):
        where = f"plan.codec.chain[{i}]"
        checked_object(link, where, required=("name", "configuration"))
        checked_text(link["name"], f"{where}.name", most=256)
        values = [checked_mapping(link["configuration"], f"{where}.configuration", most=32)]
        for value in _nested(checked_plain(values, where)):
            if isinstance(value, int) and not isinstance(value, bool):
                checked_int(value, where, least=-(2**31), greatest=_MOST_OF_CODEC)


def _nested(value: Any) -> Iterator[Any]:
    """All values in lists and objects, and in those in them."""
    if isinstance(value, list | Mapping):
        # "id" names a filter of lzma; some of them have 63 bits.
        named = value.items() if isinstance(value, Mapping) else enumerate(value)
        for name, each in named:
            if name != "id" or not isinstance(each, int):
                yield from _nested(each)
    else:
        yield value
