"""The priority of the work at hand, in the context: what is refused first where there is too much.

After the criticality of requests in Beyer et al., *Site Reliability Engineering*, 2016, chapter 21.
"""

from __future__ import annotations

from contextlib import nullcontext
from contextvars import ContextVar, Token
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

current: Final[ContextVar[int]] = ContextVar("resilient_priority", default=NORMAL)


class priority:
    """Say how important the calls inside are, also to the services that they ask.

    A `concurrency_limit` that has to refuse refuses the least important first. The level is in the
    context: tasks and worker threads that begin inside have it, and the clients and middlewares of
    `resilient.integrations` carry it from one service to the next.

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

    __slots__ = ("_level", "_tokens")

    def __init__(self, level: Level) -> None:
        self._level = LEVELS.index(one_of("level", level, LEVELS))
        self._tokens: list[Token[int]] = []

    @staticmethod
    def now() -> Level:
        """Return the level of the work at hand."""
        level: Level = LEVELS[current.get()]
        return level

    def __enter__(self) -> Self:
        self._tokens.append(current.set(self._level))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        current.reset(self._tokens.pop())


def carried() -> Level | None:
    """Return what a request should say; None where it need not say anything."""
    return None if current.get() == NORMAL else priority.now()


def of_request(said: object) -> AbstractContextManager[Any]:
    """Return a context with the priority that a request says; another word says nothing."""
    level: Any = said.decode("latin-1") if isinstance(said, bytes) else said
    return priority(level) if level in LEVELS else nullcontext()
