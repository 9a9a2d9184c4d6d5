"""Build the functions that users call in place of their async ones."""

from __future__ import annotations

from asyncio import _get_running_loop
from collections.abc import Callable
from typing import Any

from ...deadline import leave
from ...state_types import compiled
from ..attempts import inside_async
from ..call import Call, value_or_raise
from ..compiled import Ends, path_of
from ..fast_failure import Fails, failing
from ..frames import has_call
from ..keeping import Fn, Keeper, keeper
from ..pipeline import Pipeline
from .timers import TimeoutEntry, TimeoutQueue, wheel_of
from .twins import call, fail, finish, interpreted, is_slow, lifted, run, timed, untimed
from .waker import task_in

__all__ = ("call", "guard", "run")


def guard(pipeline: Pipeline, fn: Callable[..., Any]) -> Callable[..., Any]:
    """Return an async function that calls fn through the pipeline."""
    if not pipeline.fast:
        return interpreted(pipeline, fn)
    body, ends = inside_async(pipeline, fn), AsyncEnds(pipeline, fn)
    keep = keeper(pipeline, fn)
    path = path_of(pipeline, body, ends, keep, None, TimeoutEntry)
    return ends.twin() if path is None else _through(path, body, ends, keep)


class AsyncEnds(Ends):
    """What a compiled path leaves to Python, of an async function."""

    __slots__ = ()

    def __init__(self, pipeline: Pipeline, fn: Fn) -> None:
        super().__init__(pipeline, fn)
        if compiled is not None:
            compiled.set_up_asyncio(_get_running_loop, task_in)

    def twin(self) -> Fn:
        make = untimed if self.pipeline.single is None else timed
        return make(self.pipeline, inside_async(self.pipeline, self.fn), self.fn)

    def timers(self, loop: Any, seconds: float) -> TimeoutQueue:
        """Return the queue of a loop's calls with a time limit."""
        return wheel_of(loop, seconds)

    def is_unusual(self, value: object) -> bool:
        return is_slow(self.pipeline.odd, value)

    async def returned(
        self, entered: Any, args: tuple[Any, ...], kwargs: dict[str, Any], value: Any
    ) -> Any:
        """End a call whose value came late, or needs the interpreter."""
        if entered.deadline is not None:
            lifted(entered.deadline)
        return await finish(self.taken(entered, args, kwargs), value)

    def failed(self, entered: Any, fails: Fails, error: BaseException) -> bool:
        """Book a plain failure; return False where it is not plain."""
        own = entered.deadline
        if own is not None:
            entered.lift()
            leave(own)
            if own.fired:
                return False
            own.task = None
        return fails(entered, entered.tickets, entered.began, error)

    async def raised(
        self, entered: Any, args: tuple[Any, ...], kwargs: dict[str, Any], error: BaseException
    ) -> Call:
        """End a call whose body raised, and return it."""
        own = entered.deadline
        if own is not None:
            entered.lift()
            leave(own)
        return await fail(
            self.pipeline,
            self.fn,
            args,
            kwargs,
            entered.tickets,
            entered.began,
            own,
            error,
            entered,
        )


def _through(path: Any, body: Fn, ends: AsyncEnds, keep: Keeper | None) -> Fn:
    """Return an async function that enters and leaves a compiled path."""
    enter, booked, twin = path.enter, path.leave, path.twin
    fails = failing(ends.pipeline)

    async def guarded(*args: Any, **kwargs: Any) -> Any:
        entered = enter()
        if entered is None:
            return await twin()(*args, **kwargs)
        try:
            value = await (body(*args, **kwargs) if kwargs else body(*args))
        except BaseException as error:
            try:
                plain = fails is not None and ends.failed(entered, fails, error)
                done = None if plain else await ends.raised(entered, args, kwargs, error)
            except BaseException:
                entered.give_back()  # if nobody has booked it: a traceback may keep it for long
                raise
            if done is None:
                raise
            if done.error is error:
                done.error = None
                raise
            return value_or_raise(done)
        try:
            if not booked(entered, value):
                return await ends.returned(entered, args, kwargs, value)
        except BaseException:
            entered.give_back()
            raise
        if keep is not None:
            keep(value, args, kwargs, entered.ended)
        return value

    return has_call(guarded, entered="entered")
