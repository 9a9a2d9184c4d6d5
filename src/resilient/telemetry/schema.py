"""The schema of a policy's row of numbers, and the addition of rows of several processes.

A row is a list of floats, NaN where there is no value. It is this process's own, or was read from
the page of another process, which may have other guards or another version of this library: so
numbers are matched by name, never by position.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterable, Sequence
from math import floor, inf, isfinite, isnan, nan
from typing import Any, Final

from ..engine.counters import DURATION_SUM, IN_PROGRESS, LINE, ROW
from ..metric_types import Metric
from ..state_types import compiled
from ..validation import clean

Key = tuple[Metric, tuple[str, ...]]
Keys = tuple[Key, ...]
Row = Sequence[float]  # kept as a tuple, which the garbage collector need not track

WORDS: Final = ("line", "fallback", "thread")  # the optional groups of counts
_MOST: Final = 10_000  # schemas that are kept; only broken pages can lead to more

_GRAIN: Final = 2.0**20  # parts of a second, to which sums are rounded

_NAME: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]{0,99}")
_COUNT: Final = re.compile(r"[a-z_]{1,50}(:[a-z0-9_.]{1,50})?")
_KINDS: Final = frozenset({"counter", "gauge", "part"})
_WAYS: Final = {"sum": 0, "max": 1, "min": 2, "mean": 3}
MEAN: Final = _WAYS["mean"]  # weighted by the next number

_lock: threading.Lock = threading.Lock()
_layouts: Final[dict[str, RowSchema]] = {}
_by_parts: Final[dict[tuple[Any, ...], RowSchema]] = {}
_metrics: Final[dict[str, Metric]] = {}
_taken: Final[set[str]] = set()  # families whose samples come only from the heads of rows
_INFO: Final = frozenset({"build_info", "policy_info"})
_PARTS: Final = ("_total", "_bucket", "_count", "_sum", "_created", "_info")


class RowSchema:
    """The order of the numbers in a row: the counts of a policy, its refusals, and samples."""

    __slots__ = (
        "exported", "heads", "line", "momentary", "passing", "refused_at", "rising", "tail",
        "text", "ways", "words",
    )  # fmt: skip

    def __init__(
        self, *, words: tuple[str, ...] | None, refusing: tuple[str, ...], tail: Keys
    ) -> None:
        self.words: tuple[str, ...] = words or ()
        self.line: bool = "line" in self.words
        counts: tuple[str, ...] = () if words is None else ROW
        if self.line:
            counts += LINE
        self.refused_at: dict[str, int] = {k: len(counts) + n for n, k in enumerate(refusing)}
        self.heads: int = len(counts) + len(refusing)  # how many numbers precede the samples
        self.tail: Keys = tail
        # By position, how to put numbers together.
        self.ways: bytes = bytes(self.heads) + bytes([_WAYS[metric.over] for metric, _ in tail])
        # What ends with a process: the places of what goes on in it, and of what it has now.
        self.passing: list[int] = [n for n, name in enumerate(counts) if name in IN_PROGRESS]
        self.momentary: list[int] = []
        self.rising: list[int] = []
        for place, (metric, _) in enumerate(tail, self.heads):
            if metric.kind == "counter":
                self.rising.append(place)
            else:
                (self.passing if metric.over == "sum" else self.momentary).append(place)
        self.exported: Any = None  # what `telemetry.policy_samples` derives from it, once
        self.text: str = json.dumps(
            {
                "counts": counts,
                "words": None if words is None else list(words),
                "refusing": list(refusing),
                "tail": [
                    [m.name, m.kind, m.over, m.help, dict(zip(m.labels, values, strict=True))]
                    for m, values in tail
                ],
            },
            separators=(",", ":"),
        )

    @property
    def refusing(self) -> tuple[str, ...]:
        """The kinds of the guards that may refuse."""
        return tuple(self.refused_at)

    def __len__(self) -> int:
        return self.heads + len(self.tail)


def forked() -> None:
    """Renew the lock in a forked child: another thread of the parent may have held it."""
    global _lock  # noqa: PLW0603
    if _lock.locked():
        _lock = threading.Lock()


def layout(
    *, words: tuple[str, ...] | None, refusing: tuple[str, ...] = (), tail: Keys = ()
) -> RowSchema:
    """Return the schema of such a row, the same object each time; no words means no counts."""
    parts = words, refusing, tail
    quick = _by_parts.get(parts)
    if quick is not None:
        return quick
    same = tuple((_same(metric), labels) for metric, labels in tail)
    made = RowSchema(words=words, refusing=refusing, tail=same)
    with _lock:
        if len(_by_parts) >= _MOST:
            return _layouts.get(made.text, made)
        _by_parts[parts] = known = _layouts.setdefault(made.text, made)
        return known


def parsed(text: str) -> tuple[RowSchema, list[int] | None]:
    """Return the schema that another process wrote, and the positions of our numbers in its rows.

    Returns:
        The schema, and None if the positions are the same here; -1 stands for a missing number.

    Raises:
        ValueError: the text is no schema.
    """
    known = _layouts.get(text)
    if known is not None:
        return known, None
    try:
        found, names = _parsed(json.loads(text))
        at = {name: place for place, name in enumerate(names)}
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise ValueError(f"not a layout: {error!r}") from None
    ours: list[Any] = [*json.loads(found.text)["counts"], *range(len(found) - _counted(found))]
    return found, None if names == ours else [at.get(name, -1) for name in ours]


def _parsed(said: dict[str, Any]) -> tuple[RowSchema, list[Any]]:
    words = None if said["words"] is None else tuple(w for w in WORDS if w in said["words"])
    refusing = tuple(_word(kind) for kind in said["refusing"])
    counts = [_word(name, _COUNT) for name in said["counts"]]
    if len(set(refusing)) < len(refusing) or len(set(counts)) < len(counts):
        raise ValueError("a name is there twice")
    tail: list[Key] = []
    for name, kind, over, meaning, labels in said["tail"]:
        odd = kind not in _KINDS or over not in _WAYS or {"policy", "flag"} & set(labels)
        if odd or not _sound(_word(name), kind):
            raise ValueError(f"no metric is like {name}")
        if over != "mean" and tail and tail[-1][0].over == "mean" and kind != "part":
            raise ValueError(f"{tail[-1][0].name} has no weight")
        labels = {_word(label): clean(value) for label, value in labels.items()}
        metric = _same(
            Metric(_word(name), kind, clean(" ".join(str(meaning).split())), *labels, over=over)
        )
        tail.append((metric, tuple(labels.values())))
    if tail and tail[-1][0].over == "mean":
        raise ValueError(f"{tail[-1][0].name} has no weight")
    if (words is None) == bool(counts) or len(set(tail)) < len(tail):
        raise ValueError("counts without words, or a sample that is there twice")
    found = layout(words=words, refusing=refusing, tail=tuple(tail))
    return found, [*counts, *range(len(refusing) + len(tail))]


def _word(said: Any, form: re.Pattern[str] = _NAME) -> str:
    if not isinstance(said, str) or form.fullmatch(said) is None:
        raise ValueError(f"not a name: {said!r}")
    return said


def _sound(name: str, kind: str) -> bool:
    """Return True if a sample of that name can be exported beside ours."""
    if kind == "counter":
        return name.endswith("_total") and name.removesuffix("_total") not in _taken
    return name in _INFO or not (name in _taken or name.endswith(_PARTS))


def reserve(metrics: Iterable[Metric]) -> None:
    """Reserve the families of metrics for the heads of rows."""
    for metric in metrics:
        _taken.add(metric.name)
        _taken.update(metric.name.removesuffix(part) for part in _PARTS)


def _counted(found: RowSchema) -> int:
    return found.heads - len(found.refused_at)


def _same(metric: Metric) -> Metric:
    """Return one object for all equal metrics, ours and those of other processes."""
    return _metrics.setdefault(f"{metric.name} {metric.kind} {metric.over} {metric.labels}", metric)


# -- adding up ---------------------------------------------


def add(rows: list[tuple[RowSchema, Row]]) -> tuple[RowSchema, Row]:
    """Return the sum of at least one row."""
    if len(rows) == 1:
        return rows[0]
    whole = rows[0][0]
    if any(each is not whole for each, _ in rows):
        whole = _union([each for each, _ in rows])
        rows = [(whole, _moved(row, each, whole)) for each, row in rows]
    return whole, _sums([row for _, row in rows], whole.ways)


def _added(rows: list[Row], ways: bytes) -> list[float]:
    """Return the sum of rows, each column by its way; NaN stands for nothing."""
    row: list[float] = list(map(sum, zip(*rows, strict=True)))
    if isnan(sum(row)):
        row = [sum(_said(list(column))) for column in zip(*rows, strict=True)]
    for place, way in enumerate(ways):
        column = [each[place] for each in rows] if way else []
        if way == MEAN:
            row[place] = _mean(column, [each[place + 1] for each in rows])
        elif way:
            row[place] = (max if way == _WAYS["max"] else min)(_said(column))
    return row


_Sum = Callable[[list[Row], bytes], list[float]]
_sums: Final[_Sum] = _added if compiled is None else compiled.sum_rows


def _said(column: list[float]) -> list[float]:
    """Return the numbers that are not NaN; one NaN if there are none."""
    if not isnan(sum(column)):
        return column
    return [value for value in column if not isnan(value)] or [nan]


def _mean(column: list[float], weights: list[float]) -> float:
    pairs = zip(column, weights, strict=True)
    known = [(value, weight) for value, weight in pairs if not isnan(value) and weight > 0]
    weight = sum(weight for _, weight in known)
    return sum(value * weight for value, weight in known) / weight if weight else nan


def _union(layouts: list[RowSchema]) -> RowSchema:
    words = tuple(word for word in WORDS if any(word in each.words for each in layouts))
    refusing = tuple(dict.fromkeys(kind for each in layouts for kind in each.refusing))
    tail = tuple(dict.fromkeys(key for each in layouts for key in _pairs(each.tail)))
    flat = tuple(key for pair in tail for key in pair)
    counted = any(_counted(each) for each in layouts)
    return layout(words=words if counted else None, refusing=refusing, tail=flat)


def _pairs(tail: Keys) -> list[Keys]:
    """Return the samples, each mean together with its weight."""
    found: list[Keys] = []
    for place, key in enumerate(tail):
        if key[0].kind != "part":
            weighted = key[0].over == "mean"
            found.append(tail[place : place + 1 + weighted])
    return found


def _moved(row: Row, old: RowSchema, new: RowSchema) -> list[float]:
    """Return a row in a wider schema."""
    counted = _counted(old)
    moved = [*row[:counted], *([0.0] * (_counted(new) - counted))]
    refused = {kind: row[at] for kind, at in old.refused_at.items()}
    said = dict(zip(old.tail, row[old.heads :], strict=True))
    moved += [refused.get(kind, 0.0) for kind in new.refused_at]
    return moved + [said.get(key, nan) for key in new.tail]


def exact(found: RowSchema, row: list[float]) -> list[float]:
    """Round the sums of durations down, in place, so that the order of addition does not matter.

    To Prometheus, a sum that falls by its last digit is a counter that was reset. Counts that are
    negative or infinite, which only a corrupt page can have, become zero.
    """
    heads = row[: found.heads]
    if heads and not (min(heads) >= 0 and max(heads) < inf):
        row[: found.heads] = [n if 0 <= n < inf else 0.0 for n in heads]
    for place in found.rising:
        if row[place] < 0:
            row[place] = 0.0
    if _counted(found):
        for place in (DURATION_SUM, len(ROW)) if found.line else (DURATION_SUM,):
            if isfinite(row[place]):
                row[place] = floor(row[place] * _GRAIN) / _GRAIN
    return row


def counters(found: RowSchema, row: Row) -> list[float]:
    """Return the numbers that outlive a row's process: its counters, but nothing in progress."""
    kept = list(row)
    for place in found.passing:
        kept[place] = nan if isnan(kept[place]) else 0.0
    for place in found.momentary:
        kept[place] = nan
    return kept
