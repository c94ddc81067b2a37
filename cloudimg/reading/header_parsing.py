"""Parse the header of a TIFF as a reader's context asks for it, or reuse that of an equal file."""

from __future__ import annotations

from cloudimg.reading.read_context import ReadContext
from cloudimg.settings import Settings, settings
from cloudimg.tiff import (
    DecodeLimits,
    ParsedImage,
    ParseRequest,
    SparseFile,
    Template,
    parse_tiff,
)

_MOST_HELD_BYTES = 16 * 2**20
"""Of headers for which more was fetched and is held, only what the parser read is kept."""
_templates: dict[ParseRequest, Template] = {}
"""Header parsed last, by request; one is enough because files of one archive are read together."""
_requests: dict[bool, tuple[ReadContext, Settings, ParseRequest]] = {}
"""The request made last, and what it was made from: to make one anew takes longer than to parse a
small file."""


def limits_of_process() -> DecodeLimits:
    """Limits of this process on what headers may declare."""
    chosen = settings()
    return DecodeLimits(
        header_bytes=chosen.max_header_bytes, segment_bytes=chosen.max_segment_bytes
    )


def parse_request(context: ReadContext, *, metadata: bool) -> ParseRequest:
    """What of a file is parsed, with all of its metadata or with what is compared alone."""
    chosen, latest = settings(), _requests.get(metadata)
    if latest is not None and latest[0] is context and latest[1] is chosen:
        return latest[2]
    compares = context.compares_facts and not metadata
    request = ParseRequest(
        series=context.series,
        ignore_siblings=context.ignore_siblings,
        palette=context.palette,
        metadata=metadata or compares,
        only_compared=compares,
        member=context.member,
        limits=limits_of_process(),
    )
    _requests[metadata] = context, chosen, request
    return request


def parse_header(file: SparseFile, request: ParseRequest, *, url: str, name: str) -> ParsedImage:
    """Parse a TIFF, or reuse the result of the file parsed last if the headers are equal.

    Results also depend on the extension of a file; where they depend on more of its name, they do
    not match as a template.

    Raises
    ------
    StorageError, FormatError
    """
    suffix = name.rpartition(".")[2]
    template = _templates.get(request)
    parsed = template.matching(file, suffix, url) if template is not None else None
    if parsed is None:
        parsed = parse_tiff(file, request, url=url, name=name)
        reads = file.take_reads()
        _templates[request] = Template(parsed, file, suffix, reads)
        if min(file.fetched_bytes, file.held_bytes) > _MOST_HELD_BYTES:
            file.keep_only((0, file.size_bytes), reads)
    return parsed
