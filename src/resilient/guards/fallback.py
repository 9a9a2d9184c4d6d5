"""The fallback: give a lesser answer instead of an error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Final

from .. import validation
from ..callables import STREAMS, kind_of, label
from ..outcomes import FAILURE, REFUSED, Judge, OnError, OnResult
from .base import RECOVER
from .facets import Answers
from .signatures import check_signature

UNSET: Final[Any] = object()


class Fallback(Answers):
    """Answers refusals, timeouts and failures; made by `resilient.fallback`."""

    kind: ClassVar[str] = "fallback"
    rank: ClassVar[float | None] = 10
    unique: ClassVar[bool] = False
    adds_counts: tuple[str, ...] = ("fallback",)
    misplaced = "The guards outside would take its answers for successes of the dependency."

    def __init__(
        self,
        fn: Callable[..., Any] | None,
        *,
        value: Any,
        with_error: bool,
        on: OnError | None,
        ignore: OnError | None,
        failed_result: OnResult | None,
    ) -> None:
        super().__init__()
        if (fn is None) == (value is UNSET):
            raise TypeError("fallback needs a function or value=..., and not both")
        if fn is not None and not callable(fn):
            validation.refuse_type("fn", fn, "a function; a plain answer is given as value=...")
        self.fn = fn
        self.with_error: bool = validation.flag("with_error", with_error)
        if fn is None and with_error:
            validation.refuse("with_error", with_error, "False where value=... is given")
        self._value = value
        # At construction, outside every lock: repr is foreign code.
        self.answer: str = validation.shown(value) if fn is None else label(fn)
        self._copy: Callable[[Any], Any] | None = None
        if isinstance(value, (list, dict, set)):  # two callers must not share one mutable answer
            from copy import copy

            self._copy = copy
        self.judge: Judge = Judge.of(on, ignore, failed_result)
        self.is_blind: bool = on is None and ignore is None and not with_error
        kind = "sync" if fn is None else kind_of(fn)
        self.only_async: bool = kind in ("async", "async generator")
        self.only_streams: bool = kind in STREAMS

    def check_signature(self, fn: Callable[..., Any]) -> None:
        """Raise if the fallback can't be called with the arguments of fn."""
        if self.fn is not None:
            check_signature("fallback", self.fn, fn, with_error=self.with_error)

    def settle(
        self, ticket: int, now: float, outcome: int, duration: float, reason: str, held: bool
    ) -> float | None:
        return RECOVER if outcome in (FAILURE, REFUSED) else None

    def recover(self, error: Exception, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self.fn is None:
            return self._value if self._copy is None else self._copy(self._value)
        if self.with_error:
            return self.fn(error, *args, **kwargs)
        return self.fn(*args, **kwargs)

    def shortcut(self) -> tuple[Callable[..., Any] | None, Any]:
        if self.with_error or type(self).recover is not _RECOVER or "recover" in vars(self):
            return None, None
        return self.fn, self._value if self.fn is None and self._copy is None else None

    def options(self) -> dict[str, Any]:
        return {
            "fn": self.fn,
            "value": self._value,
            "with_error": self.with_error,
            **self.judge.options(),
        }

    def describe(self) -> str:
        if self.fn is None:
            return f"answers {self.answer} when the rest fails or refuses"
        return f"calls {self.answer} when the rest fails or refuses"

    def snapshot(self, now: float) -> dict[str, Any]:
        options = {"answer": self.answer, "with_error": self.with_error}
        return {"guard": self.kind, "options": options}


_RECOVER: Final = Fallback.recover  # a class, a mixin or a test may put another in its place
