"""Which methods of a client are guarded, and by which policy."""

# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false
# pyright: reportUnknownMemberType=false, reportUnknownLambdaType=false
from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any, Final, TypeVar

from ... import validation
from ..guard_stack import GuardStack
from .subclients import GUARDED, is_client, public_names

T = TypeVar("T")

# Methods that release something are never refused: a refused close would leak its resource.
RELEASES: Final = frozenset({
    "abort", "aclose", "cancel", "close", "close_all", "detach", "disconnect", "dispose",
    "invalidate", "release", "rollback", "shutdown", "stop", "terminate", "__aexit__", "__exit__",
})  # fmt: skip

_PATTERNS: Final = 'names or patterns of its methods, such as ["get_*", "movies.find"]'


class Selection:
    """The names and patterns given to one `Policy.wrap`.

    A pattern without a dot matches a method's own name, anywhere in the client, or a part with all
    its methods; one with a dot matches ``part.method``, where the part has the name of the
    attribute or method that hands it out.
    """

    __slots__ = ("only", "per_call", "unless")

    def __init__(
        self,
        only: tuple[str, ...] | None,
        unless: tuple[str, ...],
        per_call: tuple[tuple[str, GuardStack], ...],
    ) -> None:
        self.only: tuple[str, ...] | None = only
        self.unless: tuple[str, ...] = unless
        self.per_call: tuple[tuple[str, GuardStack], ...] = per_call

    @property
    def is_chosen(self) -> bool:
        """Whether the user has named methods at all."""
        return self.only is not None or bool(self.unless or self.per_call)

    def policy_of(self, holder: str, name: str, usual: T) -> GuardStack | T | None:
        """Return the policy that guards a method, `usual` if no pattern names one, or None."""
        path = f"{holder}.{name}"
        named = next((each for pattern, each in self.per_call if _fits(pattern, name, path)), None)
        if any(_fits(pattern, name, path) for pattern in self.unless):
            return None
        if self.only is not None and named is None:
            return usual if any(_fits(pattern, name, path) for pattern in self.only) else None
        if named is None and name in RELEASES:
            return None
        return usual if named is None else named

    def leaves(self, holder: str, name: str) -> bool:
        """Return whether what an attribute hands out stays as it is."""
        path = f"{holder}.{name}"
        return any(_fits(pattern, name, path) for pattern in self.unless)

    def check(self, policy: str, client: Any) -> None:
        """Raise a ValueError, which lists the names, if a pattern matches nothing."""
        known = _paths(client)
        dynamic = hasattr(type(client), "__getattr__")
        for option, patterns in (
            ("only", self.only or ()), ("unless", self.unless),
            ("per_call", [pattern for pattern, _ in self.per_call]),
        ):  # fmt: skip
            for pattern in patterns:
                if dynamic or any(_fits(pattern, path.split(".")[-1], path) for path in known):
                    continue
                holder = pattern.partition(".")[0]
                handing = [path for path in known if fnmatchcase(path, holder)]
                if "." in pattern and any(not _is_known(path, known) for path in handing):
                    continue  # what a method will hand out is not known yet
                _refuse(f"{policy}: {option}", pattern, sorted(known))


def _fits(pattern: str, name: str, path: str) -> bool:
    if "." in pattern:
        return fnmatchcase(path.removeprefix("."), pattern)
    holder = path.partition(".")[0]  # the name of a part means all of it
    return fnmatchcase(name, pattern) or (holder != "" and fnmatchcase(holder, pattern))


def _is_known(part: str, known: set[str]) -> bool:
    return any(path.startswith(f"{part}.") for path in known)


def _paths(client: Any) -> set[str]:
    """Return what a pattern can name: a client's methods, and those of the parts it holds."""
    paths = set(public_names(client))
    paths |= {name for base in type(client).__mro__ for name in GUARDED & base.__dict__.keys()}
    for name, value in vars(client).items() if hasattr(client, "__dict__") else ():
        if not name.startswith("_") and is_client(value):
            paths |= {name, *(f"{name}.{inner}" for inner in public_names(value))}
    return paths


def _refuse(what: str, pattern: str, known: list[str]) -> None:
    near = validation.nearest(pattern, known)
    shown = ", ".join(known[:40]) + (f" and {len(known) - 40} more" if len(known) > 40 else "")
    hint = f" (did you mean {near!r}?)" if near else ""
    raise ValueError(
        f"{what} must be {_PATTERNS}; {pattern!r} matches none{hint} of these: {shown}"
    )


def patterns(name: str, given: object) -> tuple[str, ...] | None:
    """Return names or patterns as a tuple; a single str is one pattern."""
    if given is None:
        return None
    if isinstance(given, str):
        given = (given,)
    if isinstance(given, Mapping) or not isinstance(given, Iterable):
        validation.refuse_type(name, given, _PATTERNS)
    found = tuple(given)
    for each in found:
        if type(each) is not str or not each:
            validation.refuse_type(name, each, _PATTERNS)
    if not found:
        validation.refuse(name, given, _PATTERNS + "; an empty list would guard nothing"
                      if name == "only" else _PATTERNS)  # fmt: skip
    return found
