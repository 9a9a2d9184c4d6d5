"""The priority of the work at hand, in the context: what is refused first where there is too much.

After the criticality of requests in Beyer et al., *Site Reliability Engineering*, 2016, chapter 21.
"""

from __future__ import annotations

from contextlib import nullcontext
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, Literal

from .validation import one_of

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from types import TracebackType
    from typing import Self

Level = Literal["critical", "high", "normal", "low"]
LEVELS: Final = ("critical", "high", "normal", "low")
NORMAL: Final = LEVELS.index("normal")
HEADER: Final = "x-request-priority"  # of HTTP, and of gRPC's metadata


# The blocks that are open, innermost last: each with its level and what opened it. No token is
# kept, as a generator's block may be left in another order or context than it was entered.
_Blocks = tuple[tuple[int, object], ...]
_blocks: Final[ContextVar[_Blocks]] = ContextVar("resilient_priority", default=())


def level_now() -> int:
    """Return the place of the level of the work at hand in `LEVELS`."""
    blocks = _blocks.get()
    return blocks[-1][0] if blocks else NORMAL


class priority:
    """Say how important the calls inside are, also to the services that they ask.

    A `concurrency_limit` that has to refuse refuses the least important first. The level is in the
    context: tasks, and worker threads of our policies, that begin inside have it, and the clients
    and middlewares of `resilient.integrations` carry it from one service to the next.

    Args:
        level: ``"critical"``, ``"high"``, ``"normal"`` or ``"low"``. Work that says nothing is
            normal.

    Raises:
        ValueError: there is no such level.

    Example:
        >>> import resilient
        >>> with resilient.priority("low"):
        ...     resilient.priority.now()
        'low'
    """

    __slots__ = ("_level",)

    def __init__(self, level: Level) -> None:
        self._level = LEVELS.index(one_of("level", level, LEVELS))

    @staticmethod
    def now() -> Level:
        """Return the level of the work at hand."""
        level: Level = LEVELS[level_now()]
        return level

    def __enter__(self) -> Self:
        _blocks.set((*_blocks.get(), (self._level, self)))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        blocks = _blocks.get()
        for place in range(len(blocks) - 1, -1, -1):
            if blocks[place][1] is self:
                _blocks.set(blocks[:place] + blocks[place + 1 :])
                return


def carried() -> Level | None:
    """Return what a request should say; None where it need not say anything."""
    return None if level_now() == NORMAL else priority.now()


class OfRequest:
    """The priority of a request, round each step of its answer; what one opens, the next has."""

    def __init__(self, level: str) -> None:
        self._mine: _Blocks = ((LEVELS.index(level), self),)
        self._before: _Blocks = ()

    def __enter__(self) -> None:
        self._before = _blocks.get()
        _blocks.set(self._mine)

    def __exit__(self, *_: object) -> None:
        self._mine = _blocks.get()
        _blocks.set(self._before)


def of_request(said: object) -> AbstractContextManager[Any]:
    """Return a context with the priority that a request says; another word says nothing."""
    level: Any = said.decode("latin-1") if isinstance(said, bytes) else said
    return OfRequest(level) if level in LEVELS else nullcontext()
