"""The command ``cloudimg info``: facts as text for people, or as JSON."""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cloudimg.cli.session import Session
from cloudimg.discovery.unmatched import UNMATCHED
from cloudimg.errors import CloudimgError, counted
from cloudimg.errors.file_report import FileReport
from cloudimg.errors.notes import Note

_PROPOSALS_SHOWN = 10
_ZARRS_SHOWN = 5
_CERTAINTY = {"likely": "likely", "guess": "a guess"}
_LABELS_CHARS = 60
_SAMPLES_SHOWN = 6
_SAID_WITH = ("stage_unit", "stage_flip", "acquired_offset")
"""Facts that are the unit, the direction or the zone of others."""


def report(url: str, session: Session, **options: Any) -> Iterator[str]:
    """Yield lines to print, each as soon as it is known.

    Raises
    ------
    CloudimgError
    """
    from cloudimg.api.descriptions import inspect_url, open_proposal
    from cloudimg.image.facts import image_facts

    options["progress"] = session.progress
    facts = inspect_url(url, **options)
    session.result(facts)
    if facts["kind"] == "image":
        yield from image_lines(facts)
        return
    yield from folder_lines(facts)  # useful even if the first proposal does not open
    if not facts["proposals"]:  # a Zarr
        if facts["image_problem"] is not None:
            yield f"  {facts['image_problem']}"
        return
    proposal = facts["proposals"][0]
    try:
        facts["image"] = image_facts(open_proposal(proposal, options), proposal["pattern"])
    except CloudimgError as error:
        session.result({"image_problem": str(error)})
        error.message = f"the first proposal does not open: {error.message}"
        raise
    session.result(facts)
    yield from image_lines(facts["image"])


def folder_lines(facts: Mapping[str, Any]) -> list[str]:
    """Format the facts of a folder as text, without those of its image."""
    n_objects, n_images, proposals = facts["objects"], facts["images"], facts["proposals"]
    lines = [
        facts["url"],
        f"  {counted(n_objects, 'object')}, {n_images or 'none'} named like images",
    ]
    if facts["truncated"]:
        lines.append("  more objects follow, which the patterns may not cover")
    lines += _zarr_lines(facts["zarrs"])
    if proposals:
        lines.append("proposed patterns")
    for proposal in proposals[:_PROPOSALS_SHOWN]:
        lines.append(f"  {counted(proposal['files'], 'file')}  {proposal['pattern']}")
        lines += [f"      {name:<9} {text}" for name, text in _proposal_rows(proposal)]
    if len(proposals) > _PROPOSALS_SHOWN:
        lines.append(f"  and {len(proposals) - _PROPOSALS_SHOWN} more")
    return lines


def _zarr_lines(zarrs: Sequence[str]) -> list[str]:
    if not zarrs:
        return []
    if "" in zarrs:
        return ["  a Zarr group without an image: open an image or an array in it by its own URL"]
    shown = ", ".join(zarrs[:_ZARRS_SHOWN]) + (", ..." if len(zarrs) > _ZARRS_SHOWN else "")
    return [f"  {counted(len(zarrs), 'Zarr group or array', 'Zarr groups or arrays')}: {shown}"]


def _proposal_rows(proposal: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """How sure a proposal is, what its fields are, and what it leaves out."""
    if proposal["layout"]:
        yield "known", f"{proposal['layout']}, see {proposal['source']}"
    elif roles := proposal["roles"]:
        fields = [f"{field} ({why or 'nothing says what it is'})" for field, why in roles.items()]
        yield _CERTAINTY[proposal["certainty"]], ", ".join(fields)
    if axes := proposal["axes"]:
        missing = proposal["missing"]
        lacking = f"; {counted(missing, 'file is', 'files are')} missing" if missing else ""
        yield "axes", f"{', '.join(f'{name} {n}' for name, n in axes.items())}{lacking}"
    beside = [f"{n} {what}" for what, n in proposal["excluded"].items()]
    if beside:
        globs = " ".join(f"--exclude {shlex.quote(glob)}" for glob in proposal["exclude"])
        yield "left out", f"{', '.join(beside)}, by {globs}"
    if proposal["left_out"]:
        yield "left out", f"{counted(proposal['left_out'], 'file')} that it does not match"
    if proposal["problem"]:
        yield "problem", proposal["problem"]


def image_lines(facts: Mapping[str, Any]) -> list[str]:
    """Format the facts of an image as text."""
    lines = [facts["url"]]
    for name, values in _rows(facts):
        for value in values:
            lines.append(f"  {name:<11}{value}")
            name = ""
    return lines


def _rows(facts: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    """Names of facts and their values, one text per line; a name without values is left out."""
    from dask.utils import format_bytes

    levels, files, stored = facts["levels"], facts["files"], facts["stored_nbytes"]
    size = format_bytes(facts["nbytes"]) + " decoded"
    size += f", {format_bytes(stored)} stored" if stored is not None else ""
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
        ("colours", _colours(facts)),
        ("files", [str(files["count"])]),
        ("missing", _examples(files["missing"], missing)),
        ("bad", _bad(files["report"])),
        ("excluded", [str(n)] if (n := files["report"]["n_excluded"]) else []),
        ("listed", [files["listed"]] if files["listed"] else []),
        ("unmatched", _unmatched(files)),
        ("canvas", _canvas(facts["canvas"])),
        ("on Earth", _on_earth(facts["on_earth"])),
        ("values", _values(facts["values"])),
        ("pixel size", [", ".join(pixels)] if pixels else []),
        ("time step", [f"{step:.4g} s"] if step is not None else []),
        ("facts", _coordinates(facts["coordinates"])),
        ("channels", [_abridged(facts["channel_names"])] if facts["channel_names"] else []),
        ("series", _series(facts)),
        ("notes", _notes(facts)),
    ]


def _on_earth(place: Mapping[str, Any] | None) -> list[str]:
    """The reference system and the corner of the first pixel."""
    if place is None:
        return []
    at = place["transform"]
    corner = [f"corner x {at[2]:.12g}, y {at[5]:.12g}"] if at else ["no transform"]
    return [", ".join([place["crs"] or "no reference system", *corner])]


def _values(values: Mapping[str, Any]) -> list[str]:
    """What makes values of pixels."""
    nodata = values["nodata"]
    parts = [] if nodata is None else [f"nodata {nodata}"]
    for name in ("scale", "offset"):
        numbers = sorted(set(values[name] or ()))
        parts += [f"{name} {' '.join(f'{n:.6g}' for n in numbers)}"] if numbers else []
    return [", ".join(parts)] if parts else []


def _canvas(canvas: Mapping[str, Any] | None) -> list[str]:
    """The canvas on which files have places of their own."""
    if canvas is None:
        return []
    axes = f" along {', '.join(canvas['axes'])}" if canvas["axes"] else ""
    return [f"{_times(canvas['shape'])}, on which files{axes} have places of their own"]


def _coordinates(facts: Mapping[str, Any]) -> list[str]:
    """A line for each fact of files: its name, the axes along which it varies, and its values."""
    rows = []
    for name, each in facts.items():
        if name in _SAID_WITH and not each["dims"]:
            continue  # it is said with the values
        zone = "UTC" if name == "acquired" and "acquired_offset" in facts else ""
        lacking = each["n_values"] - each["n_known"]
        gaps = f" (not known of {lacking} of {each['n_values']})" if lacking else ""
        dims = f"({', '.join(each['dims'])})" if each["dims"] else ""
        rows.append((name, dims, f"{_extent(each)} {each['unit'] or zone}".rstrip() + gaps))
    widths = [max((len(row[i]) for row in rows), default=0) for i in range(2)]
    return [f"{name:<{widths[0]}} {dims:<{widths[1]}}  {text}" for name, dims, text in rows]


def _extent(coordinate: Mapping[str, Any]) -> str:
    """The least and the greatest value of a coordinate, or its texts."""
    values, ends = coordinate["values"], coordinate["range"]
    if ends is None:
        return _abridged(values) if values is not None else "more than 1000 texts"
    least, greatest = (f"{end:.6g}" if isinstance(end, float) else str(end) for end in ends)
    return least if least == greatest else f"{least} ... {greatest}"


def _notes(facts: Mapping[str, Any]) -> list[str]:
    """The notes, except those that have a row of their own."""
    return [str(Note.from_json(note)) for note in facts["notes"] if note["kind"] != UNMATCHED]


def _bad(stored: Mapping[str, Any]) -> list[str]:
    """Bad files by kind, with examples; missing ones have a row of their own."""
    lines = []
    for each in FileReport.from_json(stored).kinds:
        if each.kind != "missing":
            shown = "; ".join(f"{file.url}: {file.text}" for file in each.examples)
            more = ", ..." if each.n_files > len(each.examples) else ""
            lines.append(f"{each.n_files} {each.kind}: {shown}{more}")
    if lines and not stored["is_complete"]:
        lines.append("only a few headers were read; --validate all reads all of them")
    return lines


def _series(facts: Mapping[str, Any]) -> list[str]:
    """Which of several images of the file this is."""
    from cloudimg.tiff import FileImage, place_among

    images = [FileImage(**each) for each in facts["images"]]
    return [place_among(images, facts["series"])] if images else []


def _colours(facts: Mapping[str, Any]) -> list[str]:
    """Colour space of the pixels, and the samples if some mean something else."""
    space, samples = facts["color_space"], facts["samples"]
    if space is None:
        return []
    further = ", ..." if len(samples) > _SAMPLES_SHOWN else ""
    names = ", ".join(samples[:_SAMPLES_SHOWN]) + further
    return [f"{space} ({names})" if samples else space]


def _axes(facts: Mapping[str, Any]) -> list[str]:
    width = max(map(len, facts["dims"]))
    rows = []
    for dim, length in zip(facts["dims"], facts["shape"], strict=True):
        labels = facts["labels"].get(dim, [])
        row = f"{dim:<{width}} {length:>6}  {_abridged(labels)}".rstrip()
        files = f" ({counted(len(labels), 'file')})" if 0 < len(labels) < length else ""
        rows.append(row + files)
    return rows


def _unmatched(files: Mapping[str, Any]) -> list[str]:
    """Numbers by kind, examples, and advice."""
    rows = _examples(files["unmatched"], files["unmatched_examples"])
    if rows:
        rows[0] += f": {', '.join(f'{n} {kind}' for kind, n in files['unmatched_kinds'].items())}"
    return [*rows, files["advice"]] if files["advice"] else rows


def _examples(count: int, examples: Sequence[str]) -> list[str]:
    if not count:
        return []
    rest = [f"and {count - len(examples)} more"] if count > len(examples) else []
    return [str(count), *(f"  {text}" for text in [*examples, *rest])]


def _abridged(labels: Sequence[Any]) -> str:
    """Join all labels if they are short, else the first few and the last."""
    texts = [str(label) for label in labels]
    if sum(len(text) + 1 for text in texts) <= _LABELS_CHARS:
        return " ".join(texts)
    ends = itertools.accumulate(len(text) + 1 for text in texts[:4])
    shown = max(1, sum(end <= _LABELS_CHARS // 2 for end in ends))
    return " ".join([*texts[:shown], "...", texts[-1]] if len(texts) > 2 else texts)


def _times(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))
