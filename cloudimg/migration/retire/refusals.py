"""Which copies can take the place of their originals. Pure.

A copy that was filled, or that holds a part of its files only, cannot; neither can one about whose
files or objects too little is known.
"""

from __future__ import annotations

from cloudimg.errors import ArgumentError, counted
from cloudimg.errors.notes import Note
from cloudimg.migration.journal.layout import FORMAT
from cloudimg.migration.journal.state import State
from cloudimg.storage import Location

_STORES = ("s3", "gs", "file")
_MADE_WITH = {
    ("missing", "fill"): "hold fill values",
    ("bad", "fill"): "hold fill values",
    ("place", "stage"): "lack parts of files",
    ("align", "outer"): "lack parts of files",
    ("align", "inner"): "lack parts of files",
}
"""Options of `open` of copies that do not hold all pixels of their files, and what these may do."""
_FURTHER_IMAGES = "further-images"
"""Kind of the note on files with images beside the one that was copied."""


def refuse_copy(state: State, url: str, location: Location) -> None:
    """Refuse to retire the originals of a copy that cannot take their place.

    Parameters
    ----------
    state : State
        What the copy says of itself.
    url : str
        URL of the copy, without credentials.
    location : Location
        The store of the originals.

    Raises
    ------
    ArgumentError
        With the reason.
    """
    why = _why_not(state) or _why_not_there(location)
    if why:
        raise ArgumentError(f"the originals of {url} cannot be retired: {why}", url=url)


def refuse_array(state: State, url: str) -> None:
    """Refuse a copy that was not made of files."""
    if state.source["kind"] != "image":
        raise ArgumentError(
            f"the originals of {url} cannot be retired: it was made of an array, not of files",
            url=url,
        )


def _why_not(state: State) -> str:
    if not state.is_done:
        return "the copy is not finished; run the same migration again to continue it"
    if not state.is_current:
        return (
            f"its journal has format {state.format}, which does not say which versions of files"
            f" were copied; migrate again, which writes format {FORMAT}"
        )
    if not state.fences:
        return (
            "its store did not refuse to create objects that exist, so another writer may have"
            " changed the copy unseen"
        )
    return _why_not_all_pixels(state)


def _why_not_all_pixels(state: State) -> str:
    given, files = state.source["open"], state.source.get("files", {})
    again = "migrate again without it"
    for (name, value), what in _MADE_WITH.items():
        if given.get(name) == value:
            return f'it was made with {name}="{value}", so it may {what}; {again}'
    if state.source.get("is_zarr"):
        return "it was made of a Zarr, whose pixels are in more objects than the one that is listed"
    if state.source["has_own_reader"]:
        return "it was made with a reader of yours (imread=), with which no other can be compared"
    if given.get("palette") == "rgb":
        return f'it holds colours instead of the files\' indices (palette="rgb"); {again}'
    if given.get("rgb"):
        return f"its colours are converted (rgb=True), and so differ from the files'; {again}"
    if given.get("exclude") or files.get("n_excluded"):
        n = counted(files.get("n_excluded", 0), "file was", "files were")
        return f"{n} left out of it (exclude=); {again}"
    if given.get("select"):
        return f"it holds a part of the image (select=); {again}"
    if given.get("series"):
        return f"it holds one of several images of each file (series={given['series']})"
    further = [
        note for note in state.notes if isinstance(note, Note) and note.kind == _FURTHER_IMAGES
    ]
    if further:
        return f"files have further images, which it does not hold: {further[0]}"
    return ""


def _why_not_there(location: Location) -> str:
    if location.protocol in _STORES and not (location.before or location.after):
        return ""
    return (
        f"they are in {location.display(location.root)}, where files can neither be tagged nor"
        " moved; that is possible in S3, in Google Cloud Storage and on local disks"
    )
