"""What the columns of a table of files mean, and their values. Pure.

=====================  ===========================================================================
URL                    ``url``, ``key``, ``href`` or ``path``, or the column that the user names;
                       ``bucket`` and ``key`` in inventories of S3
size, version          ``size_bytes`` or ``size``; ``etag`` or ``e_tag``
page                   ``page``, the number of the page if a row is a page of a file
facts                  the names of `cloudimg.discovery.fact_kinds.FACTS`
axes                   all others: labels; ``axis.NAME`` has the index along the axis ``NAME``
=====================  ===========================================================================
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cloudimg.discovery.fact_kinds import FACTS, TEXT
from cloudimg.discovery.table_values import is_text
from cloudimg.errors import ArgumentError

AXIS = "axis."
"""What the name of a column with indices along an axis begins with."""
LABEL = "label."
"""What the name of a column with labels begins with, where the name of the axis means another."""
HEADER = "header"
"""Name of the column with the bytes of headers, in tables that `cloudimg.index` stores."""
_URLS = ("url", "key", "href", "path")
_SIZES = ("size_bytes", "size")
_ETAGS = ("etag", "e_tag")
RESERVED = (*_URLS, *_SIZES, *_ETAGS, "page", "bucket")
"""Names of columns that are not axes."""
_FLAGS = ("islatest", "isdeletemarker")
_OF_STAC = {"stac_version", "assets", "geometry"}
_BESIDE = re.compile(r"__index_level_\d+__|header")
"""Columns without meaning here, such as the numbers of rows that pandas adds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Roles:
    """Which column of a table means what; an empty name where there is none."""

    url: str
    """Name of the column, or the path of a value in a column of structures: ``assets.red.href``."""
    bucket: str = ""
    size: str = ""
    etag: str = ""
    page: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Columns with labels, by axis."""
    indices: Mapping[str, str] = field(default_factory=dict)
    """Columns with indices, by axis."""
    facts: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    """Columns of an inventory that say whether a row is the object as it is now."""

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of the axes, in the order of the columns."""
        return tuple(dict.fromkeys((*self.indices, *self.labels)))

    @property
    def is_inventory(self) -> bool:
        """Whether it is an inventory of a bucket, which has names only."""
        return bool(self.bucket)

    @property
    def of_grid(self) -> list[str]:
        """The columns that say which file is where."""
        names = (self.url, self.bucket, self.size, self.etag, self.page)
        labels, indices = self.labels.values(), self.indices.values()
        return list(dict.fromkeys([*filter(None, names), *labels, *indices, *self.flags]))


def choose_roles(
    schema: Any, *, url: str | None, axes: Mapping[str, str], has_pattern: bool
) -> Roles:
    """Decide what the columns of a table mean.

    Parameters
    ----------
    schema : pyarrow.Schema
    url : str, optional
        The column with the URLs, if the user names it.
    axes : mapping
        The user's ``axes=``: the columns among its keys are the axes, and there are no others.
    has_pattern : bool
        Whether a pattern gives axes to the URLs.

    Raises
    ------
    ArgumentError
        If the table lacks the column that the user names, or several columns may have the URLs.
    """
    names = _names_in(schema)
    chosen = {column: axis for column, axis in axes.items() if column in names}
    roles = _without_axes(schema, names, url, chosen)
    _check_types(schema, roles)
    if has_pattern:
        return roles
    if roles.is_inventory:
        raise ArgumentError(
            "an inventory has the names of files and no axes: pass pattern=, such as"
            ' "s3://bucket/exp/img_{t}_{z}.tif"'
        )
    if chosen:
        for name in chosen:
            _refuse_type(name, schema.field(name).type)
        return replace(roles, labels={axis: name for name, axis in chosen.items()})
    if _OF_STAC & set(names):
        raise ArgumentError(
            f"the table is a catalogue with the columns {_shown(names)}, and nothing says which of"
            ' them are axes: pass axes=, such as {"datetime": "t"}, or pattern= for the URLs'
        )
    return _with_axes(roles, schema, names)


def _without_axes(
    schema: Any, names: Sequence[str], url: str | None, chosen: Mapping[str, str]
) -> Roles:
    by_lower = {name.lower(): name for name in names}
    of_urls = _url_column(schema, names, by_lower, url)
    is_inventory = "bucket" in by_lower and of_urls == by_lower.get("key") and url is None
    return Roles(
        url=of_urls,
        bucket=by_lower["bucket"] if is_inventory else "",
        size=_first(by_lower, _SIZES, chosen),
        etag=_first(by_lower, _ETAGS, chosen),
        page=_first(by_lower, ("page",), chosen),
        facts=tuple(name for name in FACTS if name in names and name not in chosen),
        flags=tuple(n for n in names if is_inventory and n.lower().replace("_", "") in _FLAGS),
    )


def _names_in(schema: Any) -> list[str]:
    names = [name for name in schema.names if not _BESIDE.fullmatch(name)]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ArgumentError(f"the table has two columns named {twice!r}: rename one")
    return names


def _with_axes(roles: Roles, schema: Any, names: Sequence[str]) -> Roles:
    """The roles with all other columns as axes, except those of structures and lists."""
    url = roles.url if roles.url in names else roles.url.partition(".")[0]
    known = {url, roles.size, roles.etag, roles.page, *roles.facts}
    labels, indices = {}, {}
    for name in names:
        if name in known or name.lower() in _URLS:
            continue
        if name.startswith(AXIS):
            _refuse_other_type(name, schema.field(name).type, _is_whole, "whole numbers")
            indices[name.removeprefix(AXIS)] = name
        elif not _is_nested(schema.field(name).type):
            _refuse_type(name, schema.field(name).type)
            labels[name.removeprefix(LABEL)] = name
    return replace(roles, labels=labels, indices=indices)


def _url_column(
    schema: Any, names: Sequence[str], by_lower: Mapping[str, str], url: str | None
) -> str:
    if url is not None:
        if url in names or _leaf_type(schema, url) is not None:
            return url
        raise ArgumentError(
            f"url_column={url!r} is not a column of the table, which has {_shown(names)}"
        )
    found = [by_lower[name] for name in _URLS if name in by_lower]
    if not found:
        raise ArgumentError(
            f"the table has no column with URLs: it has {_shown(names)}. Name one of them url, or"
            ' pass url_column=, such as url_column="assets.red.href"'
        )
    if len(found) > 1:
        raise ArgumentError(
            f"each of the columns {', '.join(found)} could have the URLs: pass"
            f" url_column={found[0]!r} or another one"
        )
    return found[0]


def _leaf_type(schema: Any, path: str) -> Any:
    """Type of a value in a column of structures; None if there is none."""
    head, *rest = path.split(".")
    if head not in schema.names:
        return None
    kind = schema.field(head).type
    for name in rest:
        index = kind.get_field_index(name) if str(kind).startswith("struct") else -1
        if index < 0:
            return None
        kind = kind.field(index).type
    return kind


def _first(by_lower: Mapping[str, str], names: Sequence[str], chosen: Mapping[str, str]) -> str:
    found = (by_lower[name] for name in names if name in by_lower)
    return next((name for name in found if name not in chosen), "")


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")


def _is_nested(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_nested(kind) or pa.types.is_null(kind)) or "binary" in str(kind)


def _check_types(schema: Any, roles: Roles) -> None:
    """Check the columns whose values could not be taken for what their names say.

    Raises
    ------
    ArgumentError
    """
    of_urls = _leaf_type(schema, roles.url) if roles.url not in schema.names else None
    of_texts = [name for name in roles.facts if FACTS[name].type == TEXT]
    for name in filter(None, (roles.url, roles.bucket, roles.etag, *of_texts)):
        kind = of_urls if of_urls is not None and name == roles.url else schema.field(name).type
        _refuse_other_type(name, kind, _is_like_text, "texts")
    for name in filter(None, (roles.size, roles.page)):
        _refuse_other_type(name, schema.field(name).type, _is_whole, "whole numbers")


def _is_like_text(kind: Any) -> bool:
    import pyarrow as pa

    return is_text(kind) or pa.types.is_primitive(kind) or str(kind) in ("binary", "large_binary")


def _is_whole(kind: Any) -> bool:
    import pyarrow as pa

    tests = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, is_text)
    return any(test(kind) for test in tests)


def _refuse_other_type(name: str, kind: Any, test: Callable[[Any], bool], expected: str) -> None:
    import pyarrow as pa

    of_values = kind.value_type if pa.types.is_dictionary(kind) else kind
    if not (pa.types.is_null(kind) or test(of_values)):
        raise ArgumentError(
            f"the column {name!r} of the table has the type {kind}, where {expected} should be:"
            " convert it, or rename it"
        )


def _refuse_type(name: str, kind: Any) -> None:
    import pyarrow as pa

    is_kind = pa.types
    of_values = kind.value_type if is_kind.is_dictionary(kind) else kind
    tests: Sequence[Callable[[Any], bool]] = (
        is_kind.is_integer,
        is_kind.is_floating,
        is_kind.is_timestamp,
        is_kind.is_date,
        is_kind.is_duration,
        is_text,
    )
    if not any(test(of_values) for test in tests):
        raise ArgumentError(
            f"the column {name!r} of the table has the type {kind}, which cannot be an axis: leave"
            " it out, or make it numbers, texts or times"
        )
