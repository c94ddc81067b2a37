"""Errors as the command line tells them: lines on stderr, and the key ``error`` of ``--json``."""

from __future__ import annotations

import argparse
import traceback
from collections.abc import Callable, Iterator
from typing import Any

from cloudimg.cli.exit_codes import advice_on, code_of
from cloudimg.cli.messages import option_names, printable, speak_options
from cloudimg.errors import BadFilesError, CloudimgError

Hide = Callable[[str], str]


def failure_lines(error: Exception, args: argparse.Namespace, hide: Hide) -> Iterator[str]:
    """Lines that say what failed and why; the first ones, with ``--debug``, the traceback."""
    if args.debug:
        yield hide("".join(traceback.format_exception(error)))
        if isinstance(error, CloudimgError) and error.cause is not None:
            yield hide(f"caused by: {error.cause}")
    yield f"cloudimg: error: {hide(printable(_message(error, args, hide)))}"
    if isinstance(error, BadFilesError):
        lines = str(error.report).splitlines()
        if vars(args).get("report", "") is None and any(
            each.n_files > len(each.examples) for each in error.report.kinds
        ):
            lines.append("--report FILE writes a list of all of them")
        yield from (hide(printable(line)) for line in lines)


def failure(error: Exception, args: argparse.Namespace, hide: Hide) -> dict[str, Any]:
    """An error as a JSON object, without secrets."""
    code = code_of(error)
    report = getattr(error, "report", None)
    url, cause = getattr(error, "url", None), getattr(error, "cause", None)
    return {
        "kind": type(error).__name__,
        "message": hide(_message(error, args, hide)),
        "url": None if url is None else hide(url),
        "cause": None if cause is None else hide(cause),
        "exit_code": code,
        "advice": advice_on(code),
        "report": None if report is None else report.to_json(),
    }


def plain_failure(kind: str, message: str, code: int) -> dict[str, Any]:
    """The same where the library raised no error: for a wrong command line, or a signal."""
    return {
        "kind": kind,
        "message": message,
        "url": None,
        "cause": None,
        "exit_code": code,
        "advice": advice_on(code),
        "report": None,
    }


def _message(error: Exception, args: argparse.Namespace, hide: Hide) -> str:
    what = hide(str(error))
    if not isinstance(error, CloudimgError):
        return f"unexpected {type(error).__name__}: {what} (a bug; --debug shows where)"
    given = (getattr(args, name, None) for name in ("url", "out", "labels_of"))
    urls = (error.url, *given)
    return speak_options(what, option_names(args), [hide(url) for url in urls if url])
