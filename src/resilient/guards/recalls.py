"""The facet of a guard that answers with what it kept. Provisional."""

from __future__ import annotations

from typing import Any

from .asked import Asked, Stale
from .base import Guard, NoAnswer
from .facets import Answers, Keeps


class Recalls(Keeps, Answers):
    """It answers with what it kept: `recall` is asked in place of `recover`."""

    def recall(self, asked: Asked) -> Stale:
        """Return what it kept of such a call, and how old that is.

        Raises:
            NoAnswer: it kept nothing of it, or what it kept is too old. What else it raises is
                logged once, and is no answer either.
        """
        raise NotImplementedError

    def recover(self, error: Exception, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        raise NoAnswer


Guard._facet_of["recall"] = Recalls
