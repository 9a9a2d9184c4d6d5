"""The values of copies that race: unended work, and answers that nobody gets."""

from __future__ import annotations

import contextlib
from typing import Any, Final

from ..knowledge.libraries import is_answer
from . import settlement
from .call import LASTS, Call, Step

EXITS: Final = (KeyboardInterrupt, SystemExit)


def go_on_as(call: Call, copy: Call) -> Step:
    """Go on as a copy whose body returned work that has not ended."""
    first = copy.floor + 1
    call.tickets[first:] = copy.tickets[first:]
    copy.tickets = [None] * len(copy.tickets)
    copy.counted = True
    call.value, call.deadline, call.ran = copy.value, copy.deadline, copy.ran
    call.started, call.limits = copy.started, copy.limits
    call.level, call.lasted = call.innermost, True
    return LASTS


def give_up(copy: Call) -> None:
    """End a copy whose body returned work that has not ended, and that nobody wants."""
    value, copy.value = copy.value, None
    settlement.abort(copy)
    for name in ("cancel", "close"):
        stop = getattr(value, name, None)
        if stop is not None:
            with contextlib.suppress(Exception):
                stop()
            return


def unwanted(copy: Call) -> Any:
    """Return a known client's answer that nobody gets: it may hold a connection."""
    value, copy.value = copy.value, None
    if not isinstance(copy.error, EXITS):
        copy.error = None
    return value if is_answer(value) else None
