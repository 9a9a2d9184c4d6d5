"""How attempts end, and who decides it: the outcome codes, `Judge` and `Result`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Final, Generic, Literal, TypeVar, cast

from .callables import kind_of
from .knowledge.frameworks import steers
from .knowledge.libraries import failed_answer
from .locks import tally
from .validation import refuse, refuse_type

SUCCESS: Final = 0
FAILURE: Final = 1
IGNORED: Final = 2
CANCELLED: Final = 3
REFUSED: Final = 4
OUTCOMES: Final = ("success", "failure", "ignored", "cancelled", "refused")
CALLERS: Final = 5  # a judge's verdict: ignored, and the caller's own doing

Served = Literal["full", "degraded", "error", "caller_error"]
SERVED: Final = ("full", "degraded", "error", "caller_error")

T_co = TypeVar("T_co", covariant=True)

OnError = type[BaseException] | tuple[type[BaseException], ...] | Callable[[Exception], bool]
OnResult = Callable[[Any], bool]


class Result(Generic[T_co]):
    """How a call ended, as data; ``try_call`` and ``atry_call`` return it.

    Attributes:
        value: the returned value, or None if the call failed.
        error: the exception that a plain call would have raised, or the one that a fallback
            answered; None when the function itself answered.
        served: ``"full"``, ``"degraded"`` (a fallback answered), ``"error"``, or
            ``"caller_error"``: an exception that is the caller's own doing, as an ``ignore=`` says.
        elapsed: seconds from the call to its end.
        attempts: how many attempts began; 0 if a guard let none begin.
        stale_for: how many seconds old the answer is, where a guard answered with a value from
            before; else None.
        why_no_retry: why the last attempt, a failure, was not followed by another; None if it was
            a success, or if no guard asks again after such a failure.
    """

    __slots__ = ("attempts", "elapsed", "error", "served", "stale_for", "value", "why_no_retry")

    def __init__(
        self,
        value: T_co,
        error: Exception | None,
        served: Served,
        elapsed: float,
        *,
        attempts: int = 1,
        why_no_retry: str | None = None,
        stale_for: float | None = None,
    ) -> None:
        self.value: T_co = value
        self.error: Exception | None = error
        self.served: Served = served
        self.elapsed: float = elapsed
        self.attempts: int = attempts
        self.why_no_retry: str | None = why_no_retry
        self.stale_for: float | None = stale_for

    def __repr__(self) -> str:
        more = [f", attempts={self.attempts}"] if self.attempts > 1 else []
        more += [] if self.stale_for is None else [f", stale_for={self.stale_for:.6f}"]
        return (
            f"Result(value={self.value!r}, error={self.error!r}, served={self.served!r}, "
            f"elapsed={self.elapsed:.6f}{''.join(more)})"
        )


class Judge:
    """Decides whether an exception or a value is a failure, by a guard's three options.

    ``on`` and ``ignore`` are exception types or a predicate of the exception, ``failed_result`` a
    predicate of the value. If a predicate raises, the default applies; `faults` counts such errors.
    """

    __slots__ = ("_ignore", "_on", "failed_result", "faults", "on_fault")
    decides_on_values: ClassVar[bool] = False  # also on those that a wrapped client's own judge

    def __init__(
        self,
        on: OnError | None = None,
        ignore: OnError | None = None,
        failed_result: OnResult | None = None,
    ) -> None:
        self._on = _matcher("on", on)
        self._ignore = _matcher("ignore", ignore)
        self.failed_result: Callable[[Any], bool] | None = (
            None if failed_result is None else _predicate("failed_result", failed_result)
        )
        self.faults: int = 0
        self.on_fault: Callable[[Exception], None] | None = None

    @classmethod
    def of(
        cls, on: OnError | None, ignore: OnError | None, failed_result: OnResult | None
    ) -> Judge:
        """Return a judge with these options; the shared default judge without any."""
        given = on is not None or ignore is not None or failed_result is not None
        return cls(on, ignore, failed_result) if given else DEFAULT_JUDGE

    @property
    def asks(self) -> bool:
        """Whether it has a predicate, which may raise."""
        given = (self._on, self._ignore, self.failed_result)
        return any(each is not None and not isinstance(each, _Types) for each in given)

    @property
    def chooses(self) -> bool:
        """Whether ``on`` says what a failure is."""
        return self._on is not None

    def options(self) -> dict[str, Any]:
        """Return the options it was made with."""
        return {
            name: given.types if isinstance(given, _Types) else given
            for name, given in (
                ("on", self._on), ("ignore", self._ignore), ("failed_result", self.failed_result)
            )
        }  # fmt: skip

    def of_error(self, error: Exception) -> int:
        """Return FAILURE or IGNORED for an exception; a group is ignored if every leaf is."""
        return FAILURE if self.weigh(error) == FAILURE else IGNORED

    def weigh(self, error: Exception) -> int:
        """Return FAILURE, IGNORED, or CALLERS for an ignored exception of the caller's own doing.

        CALLERS are those that ``ignore`` names, and those that steer a framework unless ``on``
        names them; but not those that ``on`` merely leaves out.
        """
        if isinstance(error, ExceptionGroup):
            # Types may name the group's own class; a predicate sees only the leaves.
            if isinstance(self._ignore, _Types) and self._ignore(cast("object", error)):
                return CALLERS
            group = cast("ExceptionGroup[Exception]", error)
            seen = {self.weigh(leaf) for leaf in group.exceptions}
            return next(each for each in (FAILURE, IGNORED, CALLERS) if each in seen)
        if self._ignore is not None and self._ask(self._ignore, error, default=False):
            return CALLERS
        if self._on is not None and self._ask(self._on, error, default=True):
            return FAILURE
        if steers(error):
            return CALLERS
        return FAILURE if self._on is None else IGNORED

    def of_value(self, value: object) -> int:
        """Return SUCCESS or FAILURE for a returned value."""
        if self.failed_result is None:
            return FAILURE if failed_answer(value) else SUCCESS
        return FAILURE if self._ask(self.failed_result, value, default=False) else SUCCESS

    def _ask(self, predicate: Callable[[Any], bool], subject: object, *, default: bool) -> bool:
        if isinstance(predicate, _Types):
            return isinstance(subject, predicate.types)
        try:
            return bool(predicate(subject))
        except Exception as fault:
            with tally:
                self.faults += 1
            if self.on_fault is not None:
                self.on_fault(fault)
            return default


class _Types:
    """A matcher for exception types, the most frequent kind."""

    __slots__ = ("types",)

    def __init__(self, types: tuple[type[BaseException], ...]) -> None:
        self.types = types

    def __call__(self, error: object) -> bool:
        return isinstance(error, self.types)


_ALLOWED = "an exception type, a tuple of them, or a predicate of the exception"


def _matcher(name: str, given: OnError | None) -> Callable[[Any], bool] | None:
    if given is None:
        return None
    # Checked before callable(): every class is callable, and a metaclass may do anything.
    if isinstance(given, (type, tuple)):
        kinds = cast("tuple[object, ...]", given if isinstance(given, tuple) else (given,))
        if not kinds:
            refuse(name, kinds, _ALLOWED + ", not an empty tuple")
        for kind in kinds:
            if not (isinstance(kind, type) and issubclass(kind, BaseException)):
                refuse_type(name, kind, _ALLOWED)  # pyright: ignore[reportUnknownArgumentType]
            if not issubclass(kind, Exception) and kind is not BaseExceptionGroup:
                refuse(
                    name,
                    kind,
                    _ALLOWED + "; cancellation and exit are never failures, so only "
                    "subclasses of Exception can be named",
                )
        return _Types(cast("tuple[type[BaseException], ...]", kinds))
    return _predicate(name, given)


def _predicate(name: str, given: object) -> Callable[[Any], bool]:
    if isinstance(given, type) or not callable(given):
        refuse_type(
            name, given, _ALLOWED if name != "failed_result" else "a predicate of the value"
        )
    if kind_of(given) != "sync":
        refuse_type(name, given, "a plain function: a predicate can't be async or a generator")
    if str(type(given).__module__).partition(".")[0] == "tenacity":
        refuse_type(name, given, "exception types, or a function of the exception, or for "
                    "failed_result of the value: tenacity's take its own state")  # fmt: skip
    return cast("Callable[[Any], bool]", given)


DEFAULT_JUDGE: Final = Judge()
