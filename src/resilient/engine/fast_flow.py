"""A guarded generator on a compiled path, until a step is not usual: then another flow goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from .compiled import taken
from .detached_call import DetachedCall

Leave = Callable[[Any, Any], bool]
Called = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]


class Steps(Protocol):
    """A guarded stream, as its consumer drives it."""

    sent: Any
    thrown: BaseException | None

    def step(self) -> bool:
        """Advance to the next item; return False at the end."""
        ...

    def taken(self) -> Any:
        """Return the item, and drop the reference to it."""

    def close(self, reason: GeneratorExit) -> None:
        """End the stream early."""

    def end(self) -> Any:
        """Return what the stream returned, or raise the error that it ended with."""


class FastFlow:
    """What both colours have in common. It has the interface of the flow that goes on.

    Attributes:
        sent: what the consumer has sent, for the next step.
        thrown: what it has thrown.
    """

    __slots__ = (
        "_called", "_entered", "_given", "_item", "_leave", "_rest", "_source", "sent", "thrown",
    )  # fmt: skip

    def __init__(self, leave: Leave, entered: Any, called: Called) -> None:
        self._leave = leave
        self._entered = entered
        self._called = called
        self._given = False  # an item: no fallback can answer any more
        self._source: Any = None  # the generator, from its first step on
        self._rest: Any = None  # the flow that goes on
        self._item: Any
        self.sent: Any = None
        self.thrown: BaseException | None = None

    def _new_rest(self, call: DetachedCall, source: Any) -> Any:
        """Return a flow that goes on with the generator."""
        raise NotImplementedError

    def taken(self) -> Any:
        """Return the item, and drop the reference to it."""
        if self._rest is not None:
            return self._rest.taken()
        item, self._item = self._item, None
        return item

    def end(self) -> Any:
        """Return what the stream returned, or raise the error that it ended with."""
        return self.taken() if self._rest is None else self._rest.end()

    def _is_booked(self, value: Any) -> bool:
        """Book the end of the generator, and return True; False where that is not usual."""
        if not self._leave(self._entered, value):
            return False
        self._source, self._item = None, value
        return True

    def _slow(self) -> Any:
        """Return the flow that goes on, told of what the consumer gave."""
        rest = self._go_over() if self._rest is None else self._rest
        rest.sent, self.sent = self.sent, None
        rest.thrown, self.thrown = self.thrown, None
        return rest

    def _go_over(self) -> Any:
        """Have a flow go on that the interpreter judges, and return it."""
        entered = self._entered
        call = taken(DetachedCall, entered, *self._called)
        self._rest = rest = self._new_rest(call, self._source)
        call.active_seconds, call.final = entered.spent, self._given
        self._source = None
        return rest
