"""A guarded generator on a compiled path, until a step is not usual: then another flow goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from ..deadline import current
from .compiled import taken
from .detached_call import DetachedCall
from .policy_state import PolicyState

Ways = tuple[PolicyState, Callable[..., bool]]  # and what books a pass
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
        "_began", "_called", "_entered", "_item", "_rest", "_source", "_spent", "_ways", "sent",
        "thrown",
    )  # fmt: skip

    def __init__(self, ways: Ways, entered: Any, called: Called) -> None:
        self._ways = ways
        self._entered = entered
        self._called = called
        self._began: float = entered.began  # the step that runs, or the last one
        self._spent: float | None = None  # in all steps before it; None before the first item
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

    def _is_usual(self) -> bool:
        """Return whether another step may be taken here; note when it begins."""
        if self._rest is not None or self.thrown is not None or self._ways[0].gate:
            return False
        outer, own = current.get(), self._entered.deadline
        if outer is not None and (outer.open or outer.outer is not None):
            return False
        self._began = now = self._ways[0].now()
        return own is None or now < own.when

    def _is_booked(self, value: Any) -> bool:
        """Book the end of the generator, and return True; False where that is not usual."""
        idle = self._began - self._entered.began - (self._spent or 0.0)
        if not self._ways[1](self._entered, value, idle):
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
        call = taken(DetachedCall, self._entered, *self._called)
        self._rest = rest = self._new_rest(call, self._source)
        # After an item no fallback can answer.
        call.active_seconds, call.final = self._spent or 0.0, self._spent is not None
        self._source = None
        return rest
