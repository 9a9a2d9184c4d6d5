"""The last good answer: when a call fails, answer with what it returned before, and say how old."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy as shallow
from typing import TYPE_CHECKING, Any, ClassVar, Final, cast

from ... import validation
from ...callables import PLAIN_VALUES, kind_of, label
from ...errors import FlagOffError
from ...knowledge.libraries import is_answer
from ...metric_types import Metric, Sample
from ...outcomes import FAILURE, IGNORED, REFUSED, Judge, OnError, OnResult
from ..asked import Asked, Stale
from ..base import RECOVER, Guard, NoAnswer
from ..facets import Changeable, Peered, Restorable, Switch
from ..recalls import Recalls
from ..signatures import check_signature
from .keys import key_of, shared_key
from .memory import Memory
from .report import (
    ERROR,
    FAULT,
    GIVEN,
    HANDED_OUT,
    METRICS,
    MISSING,
    ONE_TIME,
    TOO_OLD,
    UNHASHABLE,
    WRITE,
    Counts,
)

if TYPE_CHECKING:
    from datetime import timedelta

ENTRIES: Final = 1000  # kept by default
_MUTABLE: Final = frozenset({list, dict, set})
_COPIED: Final = (list, dict, set, bytearray)
_ERRORS: Final = 400  # and above: statuses of HTTP that say what went wrong
_LATEST: Final = 60.0  # seconds by which another host's clock may be ahead
_READ_ONCE: Final = ("__next__", "__anext__", "__await__")


class _NoFlags(Judge):
    """Leaves a flag that is off alone: who turns a feature off wants it off, not as it was."""

    __slots__ = ()

    def weigh(self, error: Exception) -> int:
        return IGNORED if isinstance(error, FlagOffError) else super().weigh(error)


class LastGood(Recalls, Changeable, Peered, Restorable):
    """Answers with what was returned before; made by `resilient.last_good`."""

    kind: ClassVar[str] = "last_good"
    rank: ClassVar[float | None] = 12
    metrics: ClassVar[tuple[Metric, ...]] = METRICS
    changeable: ClassVar[tuple[str, ...]] = ("max_age", "max_entries")
    adds_counts: tuple[str, ...] = ("fallback",)
    answer: str = "its last good value"
    misplaced = "The guards outside would take its old answers for successes of the dependency."

    def __init__(
        self,
        *,
        max_age: float | timedelta,
        max_entries: int | None,
        key: Callable[..., Any] | None,
        copy: Callable[[Any], Any] | None,
        cache: Any,
        on: OnError | None,
        ignore: OnError | None,
        failed_result: OnResult | None,
    ) -> None:
        super().__init__()
        self.max_age: float = validation.duration("max_age", max_age)
        if cache is not None:
            _check_cache(cache, key, max_entries)
        for name, given in (("key", key), ("copy", copy)):
            if given is not None and (not callable(given) or kind_of(given) != "sync"):
                validation.refuse_type(name, given, "a plain function")
        most = ENTRIES if max_entries is None else validation.count("max_entries", max_entries)
        self._key, self._copy = key, copy
        self._cache: Any = cache
        self.values: Memory = Memory(most, self.max_age)
        self.counts: Counts = Counts()
        self._writing: set[Any] = set()  # keys that somebody writes to a cache of the user's
        self.judge: Judge = _NoFlags(on, ignore, failed_result)
        self.is_blind: bool = on is None and ignore is None
        self._switches: tuple[Switch, ...] = ()

    def check_signature(self, fn: Callable[..., Any]) -> None:
        """Raise if `key` can't be called with the arguments of fn."""
        if self._key is not None:
            check_signature("key", self._key, fn, follow=False)

    # -- the life of a call ---------------------------------------------

    def settle(
        self, ticket: int, now: float, outcome: int, duration: float, reason: str, held: bool
    ) -> float | None:
        if outcome not in (FAILURE, REFUSED) or any(each.is_off() for each in self._switches):
            return None
        return RECOVER

    def keep(self, value: Any, asked: Asked) -> None:
        if asked.writes or asked.handed_out:
            self.counts.left(WRITE if asked.writes else HANDED_OUT)
            return
        if type(value) not in PLAIN_VALUES and not self._can_stay(value):
            return
        try:
            key = self._key_of(asked)
            kept = self._copied(value)
            if self._cache is None:
                self.values[key] = kept, asked.now
            else:
                self._write(key, kept, asked)
        except _UnhashableError:
            self.counts.left(UNHASHABLE)
            raise
        except Exception:
            self.counts.left(FAULT)
            raise

    def _can_stay(self, value: Any) -> bool:
        """Return whether a value is worth keeping; say why not."""
        kind = cast("type[object]", type(value))
        if is_answer(value):  # of HTTP: an error of the server's is not kept, whose ever it is
            status = getattr(value, "status_code", None) or getattr(value, "status", 0)
            if isinstance(status, int) and status >= _ERRORS:
                self.counts.left(ERROR)
                return False
        unread = getattr(value, "_content", None) is False  # of requests, with stream=True
        if unread or any(hasattr(kind, name) for name in _READ_ONCE):
            self.counts.left(ONE_TIME)
            raise TypeError(f"{kind.__name__} can be read once: what is kept must be read again")
        return True

    def recall(self, asked: Asked) -> Stale:
        if asked.writes or asked.handed_out:
            raise NoAnswer
        try:
            found, now = self._find(asked)
            if found is None:
                self.counts.answered(MISSING, asked.now)
                raise NoAnswer
            value, kept_at = found
            if not now - kept_at >= -_LATEST:
                raise ValueError(f"the cache has a value of the future: {kept_at!r}")
            age = max(0.0, now - kept_at)
            if age > self.max_age:
                self.counts.answered(TOO_OLD, asked.now)
                raise NoAnswer
            answer = Stale(self._copied(value), age)
        except NoAnswer:
            raise
        except _UnhashableError:
            self.counts.answered(MISSING, asked.now)
            raise NoAnswer from None
        except Exception:
            self.counts.answered(FAULT, asked.now)
            raise
        self.counts.answered(GIVEN, asked.now, age)
        return answer

    def _find(self, asked: Asked) -> tuple[Any, float]:
        key = self._key_of(asked)
        if self._cache is None:
            return self.values.get(key), asked.now
        return self._cache.get(key), asked.epoch()

    def _write(self, key: Any, kept: Any, asked: Asked) -> None:
        """Write to the user's cache, which may take its time: one caller at a time for a key."""
        if key in self._writing:
            return
        try:
            self._writing.add(key)
            self._cache[key] = kept, asked.epoch()
        finally:
            self._writing.discard(key)

    def _key_of(self, asked: Asked) -> Any:
        if self._cache is None or self._key is None:
            key = key_of(asked, self._key)
        else:
            key = shared_key(asked, self._key)
        try:
            hash(key)
        except TypeError as error:
            raise _UnhashableError(
                f"{error}: key=... says what such a call is told apart by"
            ) from None
        return key

    def _copied(self, value: Any) -> Any:
        if self._copy is not None:
            return self._copy(value)
        if type(value) in _MUTABLE:
            return value.copy()
        return shallow(cast("Any", value)) if isinstance(value, _COPIED) else value

    def meet(self, guards: tuple[Guard, ...]) -> None:
        self._switches = tuple(guard for guard in guards if isinstance(guard, Switch))

    def replaces(self, old: Guard) -> None:
        if not isinstance(old, LastGood):
            return
        self.counts = old.counts
        if all(mine == theirs for mine, theirs in zip(self._what(), old._what(), strict=True)):
            self.values = old.values  # what is kept is the policy's
            self.values.max_age = max(self.values.max_age, self.max_age)

    def _what(self) -> tuple[Any, ...]:
        """Return the options by which values of one guard may stand for those of another."""
        said = self.judge.options()["failed_result"]
        return self.values.most, self._key, self._copy, id(self._cache), said

    # -- the operator and the process ---------------------------------------------

    def options(self) -> dict[str, Any]:
        return {
            "max_age": self.max_age,
            "max_entries": self.values.most if self._cache is None else None,
            "key": self._key,
            "copy": self._copy,
            "cache": self._cache,
            **self.judge.options(),
        }

    def take_over(self, new: Guard, now: float) -> None:
        assert isinstance(new, LastGood)
        self.max_age, self.values.most = new.max_age, new.values.most
        self.values.max_age = new.max_age

    def after_fork(self, now: float, own: int) -> None:
        self.counts.clear()
        self._writing = set()

    def save(self) -> dict[str, Any]:
        return {"memory": self.values.saved(), "counts": self.counts.saved()}

    def restore(self, saved: dict[str, Any]) -> None:
        self.values.put(saved["memory"])
        self.counts.put(saved["counts"])

    # -- showing ---------------------------------------------

    def describe(self) -> str:
        kept = f"{self.values.most:,} at most" if self._cache is None else "in a given cache"
        return (
            f"answers with the last good value of the same call, at most {self.max_age:g} s old "
            f"({kept}), when the rest fails or refuses"
        )

    def live(self, now: float) -> str:
        given = self.counts.answers[GIVEN]
        kept = "" if self._cache is not None else f"{len(self.values)} kept, "
        return f"{kept}{given} given" if kept or given else ""

    def snapshot(self, now: float) -> dict[str, Any]:
        told = {name: value for name, value in self.options().items() if value is not None}
        for name in ("key", "copy"):
            if name in told:
                told[name] = label(told[name])
        if self._cache is not None:
            told["cache"] = label(cast("object", type(self._cache)))
        entries = len(self.values) if self._cache is None else None
        return {"guard": self.kind, "options": told, "entries": entries, **self.counts.data(now)}

    def measure(self, now: float) -> list[Sample]:
        return self.counts.samples(now, len(self.values) if self._cache is None else None)


class _UnhashableError(TypeError):
    """The arguments of a call can't be hashed."""


def _check_cache(cache: Any, key: object, max_entries: object) -> None:
    allowed = "an object with get(key) and cache[key] = (value, kept_at), such as a dict"
    for name in ("get", "__setitem__"):
        method = getattr(cache, name, None)
        if not callable(method):
            validation.refuse_type("cache", cache, allowed)
        if kind_of(method) != "sync":
            validation.refuse_type("cache", cache, f"{allowed}; an async one can't be asked here")
    if max_entries is not None:
        validation.refuse(
            "max_entries", max_entries, "left out beside cache=, which has its own bound"
        )
    if key is None and type(cache) is not dict:
        raise TypeError(
            "last_good with a cache of its own needs key=: without it calls are told apart by "
            "objects of this process, which mean nothing elsewhere"
        )
