"""How the blocks of a policy are run: by which pipeline, and on which compiled path."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..deadline import Deadline
from ..guards.sorting import time_limits
from .compiled import path_of
from .pipeline import Pipeline, Pipelines


def nothing() -> None:
    """Stand for the body of a block."""


def not_compiled() -> None:
    """Enter a block where no path does it."""


class BlockPlan:
    """What all blocks of a policy share.

    Attributes:
        sync_enter: return a pass for a sync block, or None where the interpreter has to admit it;
            None before the first block.
        async_enter: the same for an async block on asyncio.
        sync_leave: book a pass whose block went well; return False where Python has to do that.
        async_leave: the same for an async block.
    """

    __slots__ = ("_pipelines", "async_enter", "async_leave", "sync_enter", "sync_leave")

    def __init__(self, pipelines: Pipelines) -> None:
        self._pipelines = pipelines
        self.sync_enter: Callable[[], Any] | None = None
        self.async_enter: Callable[[], Any] | None = None
        self.sync_leave: Callable[[Any, None], bool]
        self.async_leave: Callable[[Any, None], bool]

    def sync_pipeline(self) -> Pipeline:
        """Return the pipeline of sync blocks.

        Raises:
            TypeError: a timeout can't bound them.
        """
        for guard in time_limits(self._pipelines.guards):
            if guard.sync != "cooperative":
                raise TypeError(
                    f"{self._pipelines.core.name}: a with block runs where it stands and can't be "
                    'bounded from outside; use timeout(..., sync="cooperative"), or an async with '
                    "block"
                )
        return self._pipelines.of("cooperative")

    def async_pipeline(self) -> Pipeline:
        """Return the pipeline of async blocks."""
        return self._pipelines.of("async")

    def first_sync(self) -> Any:
        """Enter the first sync block."""
        from .sync.functions import SyncEnds

        path, pipeline = None, self.sync_pipeline()
        if pipeline.fast_detached:
            path = path_of(pipeline, nothing, SyncEnds(pipeline, nothing), None, None, Deadline)
        self.sync_enter = enter = not_compiled if path is None else path.enter_here
        self.sync_leave = path.leave if path is not None else _never
        return enter()

    def first_async(self) -> Any:
        """Enter the first async block."""
        from .aio.functions import AsyncEnds
        from .aio.timers import TimeoutEntry

        path, pipeline = None, self.async_pipeline()
        if pipeline.fast_detached:
            ends = AsyncEnds(pipeline, nothing)
            path = path_of(pipeline, nothing, ends, None, None, TimeoutEntry)
        self.async_enter = enter = not_compiled if path is None else path.enter
        self.async_leave = path.leave if path is not None else _never
        return enter()


def _never(entered: Any, value: None) -> bool:
    return False
