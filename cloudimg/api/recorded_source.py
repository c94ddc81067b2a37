"""The source that the plan of a copy names: which options reach it, and who may open it.

Options belong to one store. Those of a copy are used for its source only if both are in one store,
that is of one protocol at one endpoint; the plan records the endpoint of the source for that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from cloudimg.discovery.find_files import locate
from cloudimg.discovery.table_content import is_table
from cloudimg.errors import ArgumentError, CorruptFileError
from cloudimg.migration.deletion import Opening
from cloudimg.migration.journal.destination import Destination, open_destination
from cloudimg.migration.journal.inspecting import load, load_any
from cloudimg.migration.journal.state import State
from cloudimg.migration.run.source_files import shown_urls
from cloudimg.opening.on_cluster import on_cluster
from cloudimg.opening.options import URL, StorageOptions, URLs
from cloudimg.storage import Location, Store, endpoint_of, unsigned

if TYPE_CHECKING:
    from cloudimg.distributed.run import Client


def urls_of_source(recorded: Mapping[str, Any], named: URLs | None) -> tuple[URLs, bool]:
    """URLs of a source, and whether they differ from those that it was copied from.

    Parameters
    ----------
    recorded : mapping
        `State.source`.
    named : str, path or sequence of them, optional
        URLs that the user gave; None: those that the plan names.

    Raises
    ------
    ArgumentError
        If the source cannot be opened by a URL, or if the plan has only a part of the URL.
    """
    if recorded["kind"] != "image":
        raise ArgumentError("the copy was made of an array: pass the array as against_source=")
    if recorded["has_own_reader"]:
        raise ArgumentError(
            "the copy was made with a custom reader (imread=): pass"
            " against_source=cloudimg.open(...)"
        )
    urls: list[str] = recorded["urls"]
    if named is not None:
        # They may have been signed anew.
        was, is_now = (list(map(unsigned, each)) for each in (urls, shown_urls(named)))
        return named, was != is_now
    if any("***" in url for url in urls):
        raise ArgumentError(
            "the source's URL contained credentials, which are not stored: pass source= with it"
        )
    return urls if recorded["is_list"] else urls[0], False


def options_of_source(
    copy: Store, location: Location, recorded: str | None, given: StorageOptions | None
) -> Mapping[str, Any]:
    """Options for the store of a source.

    Parameters
    ----------
    copy : Store
        The store of the copy.
    location : Location
        Where the source is.
    recorded : str, optional
        The endpoint from which the source was read when it was copied; None if unknown.
    given : mapping, optional
        The options for the source that the user gave; ``{}`` counts as given.

    Raises
    ------
    ArgumentError
        If the source is not in the store of the copy, and cannot be found without options.
    """
    if given is not None:
        return given
    of_copy = endpoint_of(copy.location, copy.options)
    usual = endpoint_of(location, {})
    # Whatever the plan says, the options of the copy never go to another server.
    with_those = endpoint_of(location, copy.options)
    if of_copy is not None and of_copy == with_those == (recorded or usual):
        return copy.options
    if recorded is not None and recorded != usual:
        raise ArgumentError(
            f"the source was read from {recorded}, which neither the configuration nor the options"
            " of the copy lead to: pass source_options= with its endpoint and credentials"
        )
    if recorded is None and of_copy is not None and of_copy == with_those != usual:
        raise ArgumentError(
            f"the plan does not say whether the source is at {of_copy}, as the copy is, or at"
            f" {usual or 'another endpoint'}: pass source_options= with its endpoint, or"
            " source_options={} for that of the configuration"
        )
    return {name: value for name, value in copy.options.items() if name == "max_rate"}


@on_cluster(urls=["url"])
def unnamed_place(
    url: URL,
    storage_options: StorageOptions | None,
    source_options: StorageOptions | None,
    *,
    client: Client | None = None,
) -> str | None:
    """Where the source of a copy is, if only the writer of the copy chose that place.

    A source on local disks counts as named by the user, as does one in the bucket or on the host of
    the copy, and one at an endpoint in `source_options`.

    Parameters
    ----------
    url : str or path
        The copy.
    storage_options, source_options : mapping, optional
        The options that the user gave for the copy and for its source.
    client : distributed.Client, optional
        Cluster of which a worker reads the plan of the copy.

    Returns
    -------
    str or None
        Bucket and server, or host; None if the user need not be asked.

    Raises
    ------
    ArgumentError, CorruptFileError, StorageError
    """
    copy = open_destination(url, storage_options)
    found = load_any(copy)
    if isinstance(found, State):
        return place_beyond(copy.store, found.source, source_options)
    for each in found.copies(copy):  # each names a source of its own
        with suppress(ArgumentError, CorruptFileError):
            place = place_beyond(copy.store, load(each).source, source_options)
            if place is not None:
                return place
    return None


def place_beyond(
    copy: Store, source: Mapping[str, Any], source_options: StorageOptions | None
) -> str | None:
    """The same, of a copy in a store whose plan has a source."""
    if source["kind"] != "image":
        return None
    if source.get("is_table") or is_table(source["urls"][0]):
        # Wherever a table lies, its rows may lead anywhere.
        name = "beside its plan" if source.get("is_table") else source["urls"][0]
        return f"the stores that the table {name} names"
    return _place_of_files(copy, source, source_options)


def _place_of_files(
    copy: Store, source: Mapping[str, Any], source_options: StorageOptions | None
) -> str | None:
    location, _ = locate(source["urls"])
    is_plain = not (location.before or location.after)
    if is_plain and location.protocol in ("file", "memory"):
        return None
    usual = endpoint_of(location, {})
    at = source.get("endpoint") or usual
    if source_options is not None:
        at = endpoint_of(location, source_options)
        if at is not None and at != usual:
            return None
    of_copy = endpoint_of(copy.location, copy.options)
    if at is not None and at == of_copy and location == copy.location:
        return None
    shown, host = location.display(location.root), at and at.partition("://")[2]
    # Where the URL begins with the server, and not with a bucket, it says all.
    is_host = host is None or host == location.root.rpartition("@")[2].lower()
    return shown if is_host else f"{shown} at {host}"


def ask_for_source(
    copy: Destination,
    state: State,
    source_options: StorageOptions | None,
    confirm: Callable[[Opening], bool] | None,
) -> None:
    """Ask before files are opened, tagged or moved that only the writer of a copy has chosen.

    Raises
    ------
    ArgumentError
        If the answer is no, or if nobody can be asked.
    """
    place = place_beyond(copy.store, state.source, source_options)
    if place is None or (confirm is not None and confirm(Opening(copy.url, place))):
        return
    raise ArgumentError(
        f"{copy.url} says that it was made of files in {place}: pass source= with their URL to have"
        " them used with your rights"
    )
