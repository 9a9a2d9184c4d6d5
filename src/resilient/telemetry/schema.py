"""The schema of a policy's row of numbers.

A row is a list of floats, NaN where there is no value. It is this process's own, or was read from
the page of another process, which may have other guards or another version of this library: so
numbers are matched by name, never by position.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterable, Sequence
from typing import Any, Final

from ..engine.counters import DURATION_SUM, IN_PROGRESS, LINE, ROW
from ..metric_types import Metric
from ..validation import clean

Key = tuple[Metric, tuple[str, ...]]
Keys = tuple[Key, ...]
Row = Sequence[float]  # kept as a tuple, which the garbage collector need not track

WORDS: Final = ("line", "fallback", "thread")  # the optional groups of counts
_MOST: Final = 10_000  # schemas that are kept; only broken pages can lead to more

# What a number from a page may be: anything, nothing below 0, or a count; seconds are rounded too.
RISING: Final = 1
COUNTED: Final = 2
SECONDS: Final = 3

_NAME: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]{0,99}")
_COUNT: Final = re.compile(r"[a-z_]{1,50}(:[a-z0-9_.]{1,50})?")
_KINDS: Final = frozenset({"counter", "gauge", "part"})
WAYS: Final = {"sum": 0, "max": 1, "min": 2, "mean": 3}
MEAN: Final = WAYS["mean"]  # weighted by the next number

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
        "cleaning", "exported", "heads", "line", "momentary", "passing", "refused_at", "tail",
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
        self.ways: bytes = bytes(self.heads) + bytes([WAYS[metric.over] for metric, _ in tail])
        # What ends with a process: the places of what goes on in it, and of what it has now.
        self.passing: list[int] = [n for n, name in enumerate(counts) if name in IN_PROGRESS]
        self.momentary: list[int] = []
        cleaning = bytearray([COUNTED] * self.heads) + bytes(len(tail))
        for place, (metric, _) in enumerate(tail, self.heads):
            if metric.kind == "counter":
                cleaning[place] = RISING
            else:
                (self.passing if metric.over == "sum" else self.momentary).append(place)
        if counts:
            cleaning[DURATION_SUM] = SECONDS
            if self.line:
                cleaning[len(ROW)] = SECONDS
        self.cleaning: bytes = bytes(cleaning)  # by position, what `exact` does
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
    def counted(self) -> int:
        """How many numbers are the counts of the policy itself."""
        return self.heads - len(self.refused_at)

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
    ours: list[Any] = [*json.loads(found.text)["counts"], *range(len(found) - found.counted)]
    return found, None if names == ours else [at.get(name, -1) for name in ours]


def _parsed(said: dict[str, Any]) -> tuple[RowSchema, list[Any]]:
    words = None if said["words"] is None else tuple(w for w in WORDS if w in said["words"])
    refusing = tuple(_word(kind) for kind in said["refusing"])
    counts = [_word(name, _COUNT) for name in said["counts"]]
    if len(set(refusing)) < len(refusing) or len(set(counts)) < len(counts):
        raise ValueError("a name is there twice")
    tail: list[Key] = []
    for name, kind, over, meaning, labels in said["tail"]:
        odd = kind not in _KINDS or over not in WAYS or {"policy", "flag"} & set(labels)
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


def _same(metric: Metric) -> Metric:
    """Return one object for all equal metrics, ours and those of other processes."""
    return _metrics.setdefault(f"{metric.name} {metric.kind} {metric.over} {metric.labels}", metric)
