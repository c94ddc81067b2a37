"""Keyword arguments of public functions: list them in signatures and refuse unknown ones."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any, ParamSpec, TypeVar, cast

from cloudimg.errors import UnknownArgumentError

P = ParamSpec("P")
R = TypeVar("R")
_LEAST_SIMILARITY = 0.6
_SIMILARITY_MARGIN = 0.1
"""Names that are less similar than the most similar one by more than this are not meant."""


def takes_keywords(
    options: type | None = None, defaults: Mapping[str, Any] | None = None
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorate a public function to refuse unknown keywords.

    The signature lists the keys of the `TypedDict` of ``**options``, so that editors and `help`
    show them. The error for an unknown keyword names the closest ones.

    Parameters
    ----------
    options : type, optional
        `TypedDict` of ``**options``.
    defaults : mapping, optional
        Default values that the signature shows for these keys; None for those not listed.
    """
    defaults = defaults or {}

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)
        parameters = [
            parameter
            for parameter in signature.parameters.values()
            if parameter.kind is not inspect.Parameter.VAR_KEYWORD
        ]
        if options is not None:
            parameters += [
                inspect.Parameter(
                    name,
                    inspect.Parameter.KEYWORD_ONLY,
                    default=defaults.get(name),
                    # As it is written; the names in it are imported for type checkers only.
                    annotation=getattr(kind, "__forward_arg__", kind),
                )
                for name, kind in options.__annotations__.items()
            ]
        known = [parameter.name for parameter in parameters]

        @functools.wraps(function)
        def checked(*args: P.args, **kwargs: P.kwargs) -> R:
            refuse_unknown(kwargs, known, function.__qualname__)
            return function(*args, **kwargs)

        cast(Any, checked).__signature__ = signature.replace(parameters=parameters)
        return checked

    return decorate


def refuse_unknown(given: Collection[str], known: Collection[str], function: str) -> None:
    """Refuse keyword arguments that a function does not have.

    Parameters
    ----------
    given : collection of str
    known : collection of str
    function : str
        Name of the function, for the message.

    Raises
    ------
    UnknownArgumentError
    """
    for name in given:
        if name not in known:
            closest = " or ".join(f"{each}=" for each in close_matches(name, known))
            advice = f"did you mean {closest}?" if closest else f"it has {', '.join(known)}"
            raise UnknownArgumentError(f"{function}() has no argument {name}=; {advice}")


def close_matches(name: str, known: Collection[str]) -> list[str]:
    """At most three names that one may have meant, the most similar first; often only one."""
    similarity = {each: difflib.SequenceMatcher(None, each, name).ratio() for each in known}
    least = max(_LEAST_SIMILARITY, max(similarity.values(), default=0) - _SIMILARITY_MARGIN)
    close = [each for each in known if similarity[each] >= least]
    return sorted(close, key=similarity.__getitem__, reverse=True)[:3]
