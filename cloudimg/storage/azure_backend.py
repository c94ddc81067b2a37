"""The fast backend of Azure Blob Storage: obstore reads and lists, adlfs writes.

Azure says in its answer to a PUT which bytes arrived, and compares them with the MD5 that is sent
with them. obstore neither sends that nor shows the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import obstore
from obstore.store import AzureStore

from cloudimg.errors import ServerError
from cloudimg.storage import azure_options
from cloudimg.storage.base import Blob, Entry, NotMappableError
from cloudimg.storage.obstore_backend import NO_RETRIES, ObstoreBackend, client_options, version_of
from cloudimg.storage.obstore_errors import FOREIGN
from cloudimg.storage.pages import foreign_key

_BATCH = 1000


class AzureBackend(ObstoreBackend):
    """One container.

    Parameters
    ----------
    options : mapping
        Options of adlfs.
    root : str
        First part of the keys: the container, or ``container@account.dfs.core.windows.net``.
    display : callable
        Returns the URL of a key, for messages.

    Raises
    ------
    NotMappableError
        If obstore cannot express the options.
    """

    def __init__(
        self, options: Mapping[str, Any], root: str, display: Callable[[str], str]
    ) -> None:
        super().__init__(display)
        settings = azure_options.translate(options, root)
        if settings is None:
            raise NotMappableError
        credential: Any = settings.credential
        # All of these are passed, because obstore takes from the environment what is not. A
        # function that returns the credential is stronger than any variable.
        self._store = AzureStore(
            settings.container,
            account_name=settings.account,
            endpoint=settings.endpoint,
            skip_signature=credential is None,
            credential_type="auto",
            use_emulator=False,
            use_fabric_endpoint=False,
            credential_provider=None if credential is None else lambda: credential,
            client_options=client_options(allow_http=settings.endpoint.startswith("http://")),  # type: ignore[arg-type]
            retry_config=NO_RETRIES,
        )
        self._root = root

    def _path(self, key: str) -> str:
        path = self._inside(key)
        if path.startswith("/") or path.endswith("/") or "//" in path:
            raise NotMappableError
        return path

    def _inside(self, key: str) -> str:
        """The path of a key in the container."""
        return key[len(self._root) + 1 :]

    def get(self, key: str, start: int | None, stop: int | None) -> Blob:
        if start is None or start >= 0:
            return super().get(key, start, stop)
        # Azure has no requests for the last bytes.
        size = self.info(key).size_bytes or 0
        return super().get(key, max(0, size + start), size)

    def list_objects(
        self, folder: str, stem: str, depth: int | None, *, n_below: int = 0
    ) -> Iterator[list[Entry]]:
        # The order of accounts with folders is not that of keys, so that a listing that breaks off
        # must begin anew: nothing is returned before all of it is there.
        entries = sorted(
            (
                Entry(f"{self._root}/{meta['path']}", meta["size"], version_of(meta))
                for meta in self._listed(folder, depth if n_below == 0 else None)
            ),
            key=lambda entry: entry.key,
        )
        if any(entry.size_bytes == 0 for entry in entries):
            raise NotMappableError  # it may be a folder, which only the metadata tell
        found = [entry for entry in entries if entry.key.startswith(stem)]
        for i in range(0, len(found), _BATCH):
            yield found[i : i + _BATCH]

    def _listed(self, folder: str, depth: int | None) -> list[Any]:
        """What obstore says of the objects in a folder, and unless `depth` is 1 below it."""
        prefix = self._inside(folder).rstrip("/")
        try:
            if depth == 1:
                listed = list(obstore.list_with_delimiter(self._store, prefix or None)["objects"])
            else:
                pages = obstore.list(self._store, prefix=prefix or None, chunk_size=_BATCH)
                listed = [meta for page in pages for meta in page]
        except FOREIGN as exc:
            failure = self._translate(exc, folder)
        else:
            inside = (meta["path"] for meta in listed if meta["path"] != prefix)
            problem = foreign_key(inside, f"{prefix}/" if prefix else "")
            if problem is None:
                return listed
            url = self._display(folder)
            failure = ServerError(f"cannot list {url}: {problem}", url=url)
        raise failure
