"""Build the functions that users call in place of their async ones."""

from __future__ import annotations

from asyncio import _get_running_loop
from collections.abc import Callable
from functools import partial
from typing import Any

from ...deadline import leave
from ...state_types import compiled
from ..attempts import inside_async
from ..call import Call, value_or_raise
from ..compiled import RAISE, Ends, Frameless, path_of
from ..fast_failure import Fails, failing
from ..frames import has_call
from ..keeping import Fn, Keeper, keeper
from ..pipeline import Pipeline
from . import trio_calls
from .timers import TimeoutEntry, TimeoutQueue, wheel_of
from .twins import call, fail, finish, interpreted, is_slow, lifted, run, timed, untimed
from .waker import task_in

__all__ = ("call", "guard", "run")


def guard(
    pipeline: Pipeline, fn: Callable[..., Any], quick: Frameless | None = None
) -> Callable[..., Any]:
    """Return an async function that calls fn through the pipeline."""
    if not pipeline.fast:
        return interpreted(pipeline, fn)
    body, ends = inside_async(pipeline, fn), AsyncEnds(pipeline, fn)
    keep = keeper(pipeline, fn)
    path = path_of(pipeline, body, ends, keep, None, TimeoutEntry)
    if path is None:
        return ends.twin()
    return _through(path, body, ends, keep, quick if body is fn else None)


class AsyncEnds(Ends):
    """What a compiled path leaves to Python, of an async function."""

    __slots__ = ()

    def __init__(self, pipeline: Pipeline, fn: Fn) -> None:
        super().__init__(pipeline, fn)
        if compiled is not None:
            compiled.set_up_asyncio(_get_running_loop, task_in)

    def twin(self) -> Fn:
        pipeline, fn = self.pipeline, self.fn
        body = inside_async(pipeline, fn)
        if pipeline.single is None:
            return untimed(pipeline, body, fn)
        other = trio_calls.choosing(
            partial(trio_calls.twin, pipeline, body, fn), lambda: interpreted(pipeline, fn)
        )
        return timed(pipeline, body, fn, other)

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

    async def ended(
        self,
        entered: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        error: BaseException,
        fails: Fails | None,
    ) -> Any:
        """End a call whose body raised, and return its answer; RAISE if its error stands."""
        if fails is not None and self.failed(entered, fails, error):
            return RAISE
        done = await self._raised(entered, args, kwargs, error)
        if done.error is error:
            done.error = None
            return RAISE
        return value_or_raise(done)

    async def _raised(
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


def _through(
    path: Any, body: Fn, ends: AsyncEnds, keep: Keeper | None, quick: Frameless | None
) -> Fn:
    """Return an async function that enters and leaves a compiled path."""
    enter, booked, fails = path.enter, path.leave, failing(ends.pipeline)
    other = path.twin
    if ends.pipeline.single is not None:
        other = trio_calls.choosing(partial(trio_calls.through, path, body, ends, keep), path.twin)
    plain: set[type] | None = None
    hand: Fn = body  # not called
    if quick is not None:
        body, plain, hand = quick.fn, quick.plain, quick.hand

    async def guarded(*args: Any, **kwargs: Any) -> Any:
        entered = enter()
        if entered is None:
            return await other()(*args, **kwargs)
        try:
            value = await (body(*args, **kwargs) if kwargs else body(*args))
            if plain is not None and type(value) not in plain:
                value = hand(args[0], value, args[1:], kwargs)
        except BaseException as error:
            try:
                answer = await ends.ended(entered, args, kwargs, error, fails)
            except BaseException:
                entered.give_back()  # if nobody has booked it: a traceback may keep it for long
                raise
            if answer is RAISE:
                raise
            return answer
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
