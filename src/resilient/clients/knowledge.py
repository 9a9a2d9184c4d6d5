"""What may be known of a library whose client is wrapped; the edge of the package fills it in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from ..outcomes import IGNORED, Judge
from .proxy import is_proxy


class Knowledge:
    """What `Policy.wrap` assumes of a client: here, of one that nothing is known of."""

    judge: ClassVar[Judge | None] = None  # whose errors and values: beside the guards' own
    # Its own timeouts, which are the policy's where the deadline is up.
    timeouts: ClassVar[tuple[type[Exception], ...]] = ()

    def free(self, cls: type, name: str) -> bool:
        """Tell whether a method does no I/O, so that it needs no guard."""
        return False

    def is_data(self, cls: type) -> bool:
        """Tell whether instances of a class are data, and no part of the client."""
        return False

    def is_part(self, cls: type) -> bool:
        """Tell whether instances of a class talk to the dependency, as the client does."""
        return False

    def prepare(self, client: Any) -> None:
        """Make a client's own time limits follow the deadline, where it has such limits."""


class HandingJudge(Judge):
    """A judge to whom a call that only hands out a part of the client says nothing of its health.

    A connection from a pool is such a part: that it was given says nothing of who is at its end.
    """

    __slots__ = ()

    def of_value(self, value: object) -> int:
        return IGNORED if is_proxy(value) else super().of_value(value)


def _nothing(_: type) -> Knowledge:
    return Knowledge()


class Source:
    """Where knowledge comes from; a floor above sets it."""

    of: Callable[[type], Knowledge] = staticmethod(_nothing)


source = Source()
