"""`cloudimg info`: what is at a URL, as facts for programs and as text for people.

A URL is an image, or a folder whose names suggest one. Facts are plain JSON values; sizes are in
bytes. Keys are only ever added. Of an image:

==================  ==============================================================================
``kind``            ``"image"``
``url``             as it was given, without credentials
``dims``            names of the axes
``shape``           their lengths
``dtype``           as NumPy writes it, such as ``"uint16"``
``labels``          by dim, what names and headers call its positions; of a dim along which files
                    are concatenated one label per file; times as in ISO 8601
``nbytes``          decoded size of level 0
``stored_nbytes``   size of all files, null where the store does not tell
``chunks``          ``shape`` of the usual Dask chunk and the ``count`` of all
``levels``          ``shape``, ``downsampling`` and ``segment`` (tile or strip, by dim) of each
``compression``     as tifffile names it
``files``           ``count``; ``missing`` and ``missing_examples`` (labels by axis); ``unmatched``
                    and ``unmatched_examples`` (URLs that begin like the pattern)
``pixel_size``      by dim ``value`` and ``unit``
``channel_names``   empty where the file does not say them
``time_step_s``     null where the file does not say it
==================  ==============================================================================

Of a folder:

==================  ==============================================================================
``kind``            ``"folder"``
``url``             as it was given, without credentials
``objects``         how many names were looked at
``truncated``       whether there are more
``images``          how many of them are names of images
``proposals``       ``pattern`` and how many ``files`` it covers, most first
``image``           the facts of the first proposal, null where it does not open
==================  ==============================================================================
"""

from __future__ import annotations

import datetime
import itertools
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cloudimg import api
from cloudimg.coords import human
from cloudimg.errors import CloudimgError, NoMatchError, NotFoundError, NotTiffError, PatternError
from cloudimg.pattern import compile_pattern, propose
from cloudimg.storage import Location, Store, redact, split_url

Facts = dict[str, Any]
Progress = Callable[[str, int], None]
"""Is told what is being done or counted, and how far the count is."""

MAX_NAMES = 100_000
"""Names that are looked at in a folder: enough to see its patterns, and a hundred requests."""
_EXAMPLES = 5
_PROPOSALS_SHOWN = 10
_LABELS_CHARS = 60
_IMAGE_NAME = re.compile(
    r"(?i)(?:.*/)?[^/.][^/]*\.(?:tiff?|btf|tf[28]|svs|lsm|stk|ndpi|scn|bif|qptiff|flex|gel)",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Folder:
    """What the names below a folder suggest."""

    url: str = field(repr=False)
    n_objects: int
    """How many names were looked at."""
    is_truncated: bool
    """Whether there are more."""
    n_images: int
    proposals: tuple[tuple[str, int], ...] = field(repr=False)
    """Patterns to open and how many files each covers, most first."""

    def facts(self) -> Facts:
        """The folder as JSON values, without its image."""
        return {
            "kind": "folder",
            "url": redact(self.url),
            "objects": self.n_objects,
            "truncated": self.is_truncated,
            "images": self.n_images,
            "proposals": [{"pattern": redact(p), "files": n} for p, n in self.proposals],
            "image": None,
        }


def report(url: str, *, as_json: bool, progress: Progress, **options: Any) -> Iterator[str]:
    """Make the lines to print, each as soon as it is known; see `inspect`."""
    found = inspect(url, progress=progress, **options)
    if not isinstance(found, Folder):
        yield from _as_json(found) if as_json else image_lines(found)
        return
    facts = found.facts()
    if not as_json:
        yield from folder_lines(facts)  # which help even where the first proposal is no image
    best = found.proposals[0][0]
    try:
        facts["image"] = image_facts(api.open(best, progress=progress, **options), best)
    except CloudimgError as error:
        if as_json:
            yield from _as_json(facts)
        error.message = f"the first proposal does not open: {error.message}"
        raise
    yield from _as_json(facts) if as_json else image_lines(facts["image"])


def _as_json(facts: Facts) -> list[str]:
    return json.dumps(facts, indent=2, allow_nan=False).split("\n")


def inspect(url: str, *, progress: Progress, **options: Any) -> Facts | Folder:
    """Look at what is at a URL.

    Parameters
    ----------
    url : str
        A pattern, a file or a folder.
    progress : callable
    **options
        The other arguments of `cloudimg.open`.

    Returns
    -------
    dict or Folder
        The facts of an image; or the folder, whose first proposal is not opened yet.

    Raises
    ------
    CloudimgError
    """
    location, key, is_folder = _parse(url)
    store = Store(location, options.get("storage_options"))
    if is_folder:
        return _list_folder(store, url, key, progress)
    try:
        return image_facts(api.open(url, progress=progress, **options), url)
    except (NotFoundError, NotTiffError) as error:
        if key is None or (isinstance(error, NotTiffError) and not _may_be_page(location, key)):
            raise
        try:
            return _list_folder(store, url, key, progress)
        except (NoMatchError, NotFoundError):
            raise error from None


def _parse(url: str) -> tuple[Location, str | None, bool]:
    """The location of a URL, its key where it is no pattern, and whether it must be a folder."""
    location, key = split_url(url)
    if location.protocol == "file" and Path(key).is_dir():
        return location, key, True
    try:
        pattern = compile_pattern(location.pattern_text(key))
    except PatternError:
        return location, None, False  # opening it tells better what is wrong
    if not pattern.is_literal:
        return location, None, False
    key = location.key_of(pattern.stem)
    return location, key, key.endswith("/") or key == location.root


def _may_be_page(location: Location, key: str) -> bool:
    """Whether what is no TIFF may be the page of links that a web server has for a folder."""
    return location.protocol in ("http", "https") and "." not in key.rpartition("/")[2]


def _list_folder(store: Store, url: str, key: str | None, progress: Progress) -> Folder:
    location = store.location
    folder = (key or "").rstrip("/")
    # A web server's links lead anywhere, also upwards: only the page itself is read.
    depth = 1 if location.protocol in ("http", "https") else None
    texts: list[str] = []
    for batch in store.list_objects(folder, folder + "/", depth):
        texts += [location.pattern_text(e.key) for e in batch if not e.key.endswith("/")]
        progress("names looked at", len(texts))
        if len(texts) > MAX_NAMES:
            break
    n_objects = min(len(texts), MAX_NAMES)
    images = [text for text in texts[:n_objects] if _IMAGE_NAME.fullmatch(text)]
    proposals = [
        (f"{location.before}{pattern}{location.after}", covered)
        for pattern, covered in propose(images or texts[:n_objects])
    ]
    if not proposals:
        raise NoMatchError(f"nothing lies below {redact(url)}", url=redact(url))
    return Folder(url, n_objects, len(texts) > MAX_NAMES, len(images), tuple(proposals))


# ------------------------------------------------------------------------------------------- facts


def image_facts(image: api.Image, url: str) -> Facts:
    """Facts of an image that was opened from a URL."""
    attrs = image.attrs
    n_unmatched, unmatched = image.unmatched
    units = attrs.get("pixel_size_unit", {})
    return {
        "kind": "image",
        "url": redact(url),
        "dims": list(image.dims),
        "shape": list(image.shape),
        "dtype": str(image.dtype),
        "labels": _labels(image),
        "nbytes": image.nbytes,
        "stored_nbytes": image.stored_nbytes,
        "chunks": {
            "shape": [Counter(lengths).most_common(1)[0][0] for lengths in image.chunks],
            "count": math.prod(len(lengths) for lengths in image.chunks),
        },
        "levels": [
            {
                "shape": list(level.shape),
                "downsampling": list(level.downsampling),
                "segment": dict(level.segment),
            }
            for level in image.levels
        ],
        "compression": attrs.get("compression"),
        "files": {
            "count": image.n_files,
            "missing": image.n_missing,
            "missing_examples": [
                {axis: _plain(label) for axis, label in labels.items()}
                for labels in itertools.islice(image.missing, _EXAMPLES)
            ],
            "unmatched": n_unmatched,
            "unmatched_examples": list(unmatched[:_EXAMPLES]),
        },
        "pixel_size": {
            dim: {"value": float(size), "unit": units.get(dim)}
            for dim, size in attrs.get("pixel_size", {}).items()
            if math.isfinite(size)
        },
        "channel_names": list(attrs.get("channel_names", [])),
        "time_step_s": _plain(attrs.get("time_step_s")),
    }


def _labels(image: api.Image) -> dict[str, list[Any]]:
    coords = image.coords
    labels = {}
    for dim in image.dims:
        values = coords.get(f"{dim}_label")
        if values is not None:  # of each position the label of its file; here each file once
            values = values[np.flatnonzero(np.append(True, values[1:] != values[:-1]))]
        else:
            values = coords.get(dim)
        if values is not None:
            labels[dim] = [_plain(value) for value in values.tolist()]
    return labels


def _plain(value: Any) -> Any:
    """A value as JSON has it."""
    if isinstance(value, datetime.datetime):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, int | float | str | None) else str(value)


# -------------------------------------------------------------------------------------------- text


def folder_lines(facts: Mapping[str, Any]) -> list[str]:
    """The facts of a folder for people, without its image."""
    n_objects, n_images, proposals = facts["objects"], facts["images"], facts["proposals"]
    by_name = f"{_count(n_images, 'image')} by name" if n_images else "no names of images"
    lines = [facts["url"], f"  {_count(n_objects, 'object')}; {by_name}"]
    if facts["truncated"]:
        lines.append("  and more objects, not looked at: patterns may be too narrow for them")
    lines.append("proposed patterns")
    for proposal in proposals[:_PROPOSALS_SHOWN]:
        lines.append(f"  {_count(proposal['files'], 'file')}  {proposal['pattern']}")
    if len(proposals) > _PROPOSALS_SHOWN:
        lines.append(f"  and {len(proposals) - _PROPOSALS_SHOWN} more")
    return lines


def image_lines(facts: Mapping[str, Any]) -> list[str]:
    """The facts of an image for people."""
    lines = [facts["url"]]
    for name, values in _rows(facts):
        for value in values:
            lines.append(f"  {name:<11}{value}")
            name = ""
    return lines


def _rows(facts: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    """Names and what stands beside them, a text per line; without any the name is left out."""
    levels, files, stored = facts["levels"], facts["files"], facts["stored_nbytes"]
    size = human(facts["nbytes"]) + " decoded"
    size += f", {human(stored)} stored" if stored is not None else ""
    pixels = [f"{dim} {v['value']:.4g} {v['unit'] or ''}" for dim, v in facts["pixel_size"].items()]
    chunks, step = facts["chunks"], facts["time_step_s"]
    missing = [" ".join(f"{k}={v}" for k, v in gap.items()) for gap in files["missing_examples"]]
    return [
        ("axes", _axes(facts)),
        ("shape", [_times(facts["shape"])]),
        ("dtype", [facts["dtype"]]),
        ("bytes", [size]),
        ("chunks", [f"{chunks['count']} of {_times(chunks['shape'])}"]),
        ("levels", [_times(level["shape"]) for level in levels] if len(levels) > 1 else []),
        ("segment", [", ".join(f"{d} {n}" for d, n in levels[0]["segment"].items())]),
        ("compressed", [str(facts["compression"])]),
        ("files", [str(files["count"])]),
        ("missing", _examples(files["missing"], missing)),
        ("unmatched", _examples(files["unmatched"], files["unmatched_examples"])),
        ("pixel size", [", ".join(pixels)] if pixels else []),
        ("time step", [f"{step:.4g} s"] if step is not None else []),
        ("channels", [_abridged(facts["channel_names"])] if facts["channel_names"] else []),
    ]


def _axes(facts: Mapping[str, Any]) -> list[str]:
    width = max(map(len, facts["dims"]))
    rows = []
    for dim, length in zip(facts["dims"], facts["shape"], strict=True):
        labels = facts["labels"].get(dim, [])
        row = f"{dim:<{width}} {length:>6}  {_abridged(labels)}".rstrip()
        rows.append(row + (f" ({len(labels)} files)" if 0 < len(labels) < length else ""))
    return rows


def _examples(count: int, examples: Sequence[str]) -> list[str]:
    if not count:
        return []
    rest = [f"and {count - len(examples)} more"] if count > len(examples) else []
    return [str(count), *(f"  {text}" for text in [*examples, *rest])]


def _abridged(labels: Sequence[Any]) -> str:
    """All labels if they are short, else the first ones and the last."""
    texts = [str(label) for label in labels]
    if sum(len(text) + 1 for text in texts) <= _LABELS_CHARS:
        return " ".join(texts)
    ends = itertools.accumulate(len(text) + 1 for text in texts[:4])
    shown = max(1, sum(end <= _LABELS_CHARS // 2 for end in ends))
    return " ".join([*texts[:shown], "...", texts[-1]] if len(texts) > 2 else texts)


def _times(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"
