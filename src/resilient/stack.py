"""Room on the stack for work that must not be left half done.

Near the end of the stack a call of any function may raise RecursionError. So a section that calls
deeper than one step asks for `room` first, and has changed nothing if there is none; what could not
be done goes to the policy's outbox, for a shorter stack.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from .state_types import compiled

_SECTION: Final = 16  # depth of the longest path through a section
_CALL: Final = 28  # depth of a call that the interpreter admits and ends


def _end() -> None:
    return


def _longer(way: Callable[[], None], steps: int) -> Callable[[], None]:
    def step() -> None:
        way()

    return step if steps == 1 else _longer(step, steps - 1)


if compiled is not None:
    compiled.set_room(_SECTION, _CALL)

# Without a counter: a recursion that counts down costs half as much again.
room: Final[Callable[[], None]] = _longer(_end, _SECTION) if compiled is None else compiled.room
"""Raise RecursionError if the stack is too short for a section."""

room_for_call: Final[Callable[[], None]] = (
    _longer(room, _CALL - _SECTION) if compiled is None else compiled.room_for_call
)
"""Raise RecursionError if the stack is too short for a call to begin and end."""
