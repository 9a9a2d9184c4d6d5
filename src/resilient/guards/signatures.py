"""Check that one function can be called with the arguments of another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..callables import label


def check_signature(
    what: str,
    answer: Callable[..., Any],
    fn: Callable[..., Any],
    *,
    with_error: bool = False,
    follow: bool = True,
) -> None:
    """Raise a TypeError if answer can't be called with the arguments of fn, or of what fn wraps."""
    import inspect

    try:
        theirs = inspect.signature(fn, follow_wrapped=follow)
        mine = inspect.signature(answer)
    except (TypeError, ValueError):  # a builtin without a signature
        return
    if any(
        each.kind in (each.VAR_POSITIONAL, each.VAR_KEYWORD) for each in theirs.parameters.values()
    ):
        return  # fn accepts any arguments, so those of a call can't be known
    for optional in (False, True):
        args, kwargs = _sample(theirs, optional=optional)
        try:
            mine.bind(*(["error"] if with_error else []), *args, **kwargs)
        except TypeError as fault:
            first = "the error and " if with_error else ""
            raise TypeError(
                f"{what} {label(answer)}{mine} can't be called with {first}the arguments of "
                f"{label(fn)}{theirs}: {fault}"
            ) from None


def _sample(signature: Any, *, optional: bool) -> tuple[list[str], dict[str, str]]:
    """Return arguments for a signature: only the required ones, or all that it names."""
    args: list[str] = []
    kwargs: dict[str, str] = {}
    for parameter in signature.parameters.values():
        if parameter.default is not parameter.empty and not optional:
            continue
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            args.append(parameter.name)
        elif parameter.kind == parameter.KEYWORD_ONLY:
            kwargs[parameter.name] = parameter.name
    return args, kwargs
