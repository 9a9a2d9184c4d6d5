"""Calls of a client that outlive the frame that began them: entries, and work that goes on."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

from ...deadline import GRAIN, current
from ...engine import interpreter, settlement
from ...engine.call import DO_RUN, Step, value_or_raise
from ...engine.context_managers import EnteringCall
from ...engine.detached_call import DetachedCall
from ...engine.pipeline import Pipeline
from ...engine.slot_leases import Lease
from ...engine.sync.driver import drive
from ...engine.time_limits import binding


class Entry:
    """The guarded entry of a handed-out context manager, and its slot."""

    __slots__ = ("_call", "_lease")

    def __init__(self, plan: Pipeline, fn: Callable[[], Any]) -> None:
        self._call = call = EnteringCall(plan, fn, (), {})
        self._lease: Lease | None = None
        call.handle = []
        call.final = True

    def run(self) -> Any:
        """Enter, in this thread, which also exits."""
        drive(self._call, interpreter.start)
        return self._entered()

    async def arun(self) -> Any:
        """Enter, in this task."""
        from ...engine.aio.driver import drive

        await drive(self._call, interpreter.start)
        return self._entered()

    def _entered(self) -> Any:
        call = self._call
        if call.counted:
            return value_or_raise(call)
        self._lease = Lease(call.core)
        value, call.value = call.value, None
        return value

    def left(self) -> None:
        """Release the slot."""
        if self._lease is not None:
            self._lease.end()
        settlement.leave(self._call)


class Lasting(DetachedCall):
    """A call that outlives the frame that began it, such as a future's; no fallback answers it."""

    __slots__ = ()
    error: BaseException | None

    def __init__(self, plan: Pipeline) -> None:
        super().__init__(plan, Lasting, (), {})
        self.final = True

    def began_at(self, step: Step) -> Lasting:
        """Return self once admitted, with its deadline; raise the refusal otherwise."""
        if step != DO_RUN:
            value_or_raise(self)
        binding(self, len(self.tickets))
        return self

    @contextmanager
    def within(self) -> Generator[None]:
        """Set its deadline in the context while the body starts the work."""
        own = self.deadline
        if own is not None:
            current.set(own)
        try:
            yield
        finally:
            if own is not None and current.get() is own:
                current.set(own.outer)

    def end(self, error: BaseException | None) -> BaseException | None:
        """Count its outcome, once; return its error, or the timeout's if the deadline was up."""
        own = self.deadline
        if own is not None and isinstance(error, Exception) and own.now() >= own.when - GRAIN:
            error = own.error()
        if self.counted:
            return error
        if own is not None:
            own.open = False
        if error is None:
            interpreter.returned(self, None)
        else:
            interpreter.raised(self, error)
            error = self.error or error
        self.error = None
        return error
