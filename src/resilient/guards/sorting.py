"""Which of some guards take part in what."""

from __future__ import annotations

from collections.abc import Iterable

from .base import Guard
from .facets import Admission, Answers, Changeable, TimeLimit


def time_limits(guards: Iterable[Guard]) -> list[TimeLimit]:
    """Return those that bound time, outermost first."""
    return [guard for guard in guards if isinstance(guard, TimeLimit)]


def changeable_options(guard: Guard) -> tuple[str, ...]:
    """Return the names of the options that can change at run time."""
    return guard.changeable if isinstance(guard, Changeable) else ()


def answering(guards: Iterable[Guard]) -> list[Answers]:
    """Return those that answer for the guards inside them, as a switch does not."""
    found = (guard for guard in guards if isinstance(guard, Answers))
    return [guard for guard in found if not isinstance(guard, Admission)]
