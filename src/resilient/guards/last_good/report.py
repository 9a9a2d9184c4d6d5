"""What a last good answer says of itself: its metrics, its data."""

from __future__ import annotations

from typing import Any, Final

from ...locks import tally
from ...metric_types import Metric, Sample

GIVEN: Final = "given"
MISSING: Final = "missing"
TOO_OLD: Final = "too_old"
UNHASHABLE: Final = "unhashable"
ONE_TIME: Final = "one_time"
WRITE: Final = "write"
HANDED_OUT: Final = "handed_out"
ERROR: Final = "error"
FAULT: Final = "fault"
ANSWERS: Final = (GIVEN, MISSING, TOO_OLD, FAULT)
REASONS: Final = (UNHASHABLE, ONE_TIME, WRITE, HANDED_OUT, ERROR, FAULT)
_WINDOW: Final = 60.0  # seconds

_ANSWERS: Final = Metric(
    "last_good_answers_total", "counter", "Calls that the last good answer was to answer, by what "
    "it had for them.", "answer",
)  # fmt: skip
_AGE: Final = Metric(
    "last_good_age_seconds_total", "counter", "The ages of all answers that were given, added up.",
)  # fmt: skip
_OLDEST: Final = Metric(
    "last_good_oldest_seconds", "gauge", "The greatest age of an answer that was given in the last "
    "minute or two.", over="max",
)  # fmt: skip
_NOT_KEPT: Final = Metric(
    "last_good_not_kept_total", "counter", "Good values that were not kept, by the reason.",
    "reason",
)  # fmt: skip
_ENTRIES: Final = Metric(
    "last_good_entries", "gauge", "Values that are kept.", present="without cache="
)
METRICS: Final = (_ANSWERS, _AGE, _OLDEST, _NOT_KEPT, _ENTRIES)


class Counts:
    """What was answered, and what was not kept; the views of a policy share it."""

    __slots__ = ("_before", "_began", "_newest", "answers", "not_kept", "seconds")

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Begin anew, in a forked child."""
        self.answers: dict[str, int] = dict.fromkeys(ANSWERS, 0)
        self.not_kept: dict[str, int] = dict.fromkeys(REASONS, 0)
        self.seconds: float = 0.0
        # The greatest age of this window of time, and of the one before.
        self._began = self._newest = self._before = 0.0

    def saved(self) -> tuple[Any, ...]:
        """Return the counts for `put`."""
        ages = self._began, self._newest, self._before
        return dict(self.answers), dict(self.not_kept), self.seconds, *ages

    def put(self, saved: tuple[Any, ...]) -> None:
        """Set the counts that `saved` returned."""
        self.answers, self.not_kept = dict(saved[0]), dict(saved[1])
        self.seconds, self._began, self._newest, self._before = saved[2:]

    def answered(self, answer: str, now: float, age: float = 0.0) -> None:
        """Count what it had for a call."""
        with tally:
            self.answers[answer] += 1
            if answer == GIVEN:
                self.seconds += age
                passed = now - self._began
                if passed >= _WINDOW:
                    self._before = self._newest if passed < 2 * _WINDOW else 0.0
                    self._began, self._newest = now, 0.0
                self._newest = max(self._newest, age)

    def left(self, reason: str) -> None:
        """Count a value that was not kept."""
        with tally:
            self.not_kept[reason] += 1

    def oldest(self, now: float) -> float:
        """Return the greatest age that was given in the last minute or two."""
        passed = now - self._began
        if passed >= 2 * _WINDOW:
            return 0.0
        return self._newest if passed >= _WINDOW else max(self._newest, self._before)

    def data(self, now: float) -> dict[str, Any]:
        """Return the counts as plain data."""
        return {
            "answers": dict(self.answers),
            "not_kept": dict(self.not_kept),
            "oldest": self.oldest(now),
        }

    def samples(self, now: float, entries: int | None) -> list[Sample]:
        """Return the counts as samples of metrics."""
        found: list[Sample] = [(_ANSWERS, (word,), n) for word, n in self.answers.items()]
        found += [(_AGE, (), self.seconds), (_OLDEST, (), self.oldest(now))]
        found += [(_NOT_KEPT, (word,), n) for word, n in self.not_kept.items()]
        if entries is not None:
            found.append((_ENTRIES, (), entries))
        return found
