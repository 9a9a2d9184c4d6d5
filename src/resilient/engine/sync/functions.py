"""Build the functions that users call in place of their sync ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...deadline import Deadline
from ...state_types import compiled
from ..attempts import inside
from ..call import value_or_raise
from ..compiled import RAISE, Ends, Frameless, path_of
from ..fast_failure import failing
from ..keeping import Fn, keeper
from ..pipeline import Pipeline
from .threads import threaded
from .twins import call, fail, finish, interpreted, run, timed, untimed

__all__ = ("call", "guard", "run")


def guard(
    pipeline: Pipeline, fn: Callable[..., Any], quick: Frameless | None = None
) -> Callable[..., Any]:
    """Return a function that calls fn through the pipeline."""
    if pipeline.fast_threaded:
        return threaded(pipeline, inside(pipeline, fn), fn)
    if not pipeline.fast:
        return interpreted(pipeline, fn)
    body, ends = inside(pipeline, fn), SyncEnds(pipeline, fn)
    if quick is not None and body is fn:
        body = quick.fn
    path = path_of(pipeline, body, ends, keeper(pipeline, fn), failing(pipeline), Deadline)
    return ends.twin() if path is None else _through(path)


def _through(path: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that calls a compiled path, without a frame where Python allows that."""

    def guarded(*args: Any, **kwargs: Any) -> Any:
        return path(*args, **kwargs)

    quick: Callable[..., Any] = compiled.quicken(guarded)
    return quick


class SyncEnds(Ends):
    """What a compiled path leaves to Python, of a plain function."""

    __slots__ = ()

    def twin(self) -> Fn:
        make = untimed if self.pipeline.single is None else timed
        return make(self.pipeline, inside(self.pipeline, self.fn), self.fn)

    def returned(
        self, entered: Any, args: tuple[Any, ...], kwargs: dict[str, Any], value: Any
    ) -> Any:
        """End a call whose value came late, or needs the interpreter."""
        return finish(self.taken(entered, args, kwargs), value)

    def raised(
        self, entered: Any, args: tuple[Any, ...], kwargs: dict[str, Any], error: BaseException
    ) -> Any:
        """End a call whose body raised: raise, or return a value, or RAISE for the same error."""
        done = fail(
            self.pipeline, self.fn, args, kwargs, entered.tickets, entered.began, entered.deadline,
            error, entered,
        )  # fmt: skip
        if done.error is error:
            done.error = None
            return RAISE
        return value_or_raise(done)
