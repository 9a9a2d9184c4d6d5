"""How the blocks of a policy are run: by which pipeline, and on which compiled path."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..deadline import Deadline
from ..guards.sorting import time_limits
from .compiled import Ends, path_of
from .pipeline import Pipeline, Pipelines

Enter = Callable[[], Any]
Leave = Callable[[Any, None], bool]


def _nothing() -> None:
    """Stand for the body of a block."""


def _not_compiled() -> None:
    """Enter a block where no path does it."""


class BlockPlan:
    """What all blocks of a policy share.

    Attributes:
        sync: return a pass for a sync block, or None where the interpreter has to admit it. It is
            None before the first block.
        tasks: the same for an async block.
        leave: book a pass whose block went well; return False where Python has to do that.
    """

    __slots__ = ("_pipelines", "leave", "sync", "tasks")

    def __init__(self, pipelines: Pipelines) -> None:
        self._pipelines = pipelines
        self.sync: Enter | None = None
        self.tasks: Enter | None = None
        self.leave: Leave  # once a pass was given

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

    def first_sync(self) -> Enter:
        """Return what enters a sync block, for the first one."""
        from .sync.functions import SyncEnds

        path = self._path(SyncEnds, self.sync_pipeline(), Deadline)
        self.sync = enter = _not_compiled if path is None else path.enter_here
        return enter

    def first_async(self) -> Enter:
        """Return what enters an async block, for the first one."""
        from .aio.functions import AsyncEnds
        from .aio.timers import TimeoutEntry

        path = self._path(AsyncEnds, self.async_pipeline(), TimeoutEntry)
        self.tasks = enter = _not_compiled if path is None else path.enter
        return enter

    def _path(self, ends: Callable[..., Ends], pipeline: Pipeline, deadline: type[Deadline]) -> Any:
        path = None
        if pipeline.fast_detached:
            end = ends(pipeline, _nothing)
            path = path_of(pipeline, _nothing, end, None, None, deadline, detached=True)
        if path is not None:
            self.leave = path.leave  # the same for every path; before anybody can enter
        return path
