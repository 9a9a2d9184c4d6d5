"""The metrics as text, as /metrics serves it, without prometheus_client's writer.

That writer takes some microseconds a line, which blocks the process for 150 ms and more at 1,000
policies. This one writes all lines of a policy at once, and caches them while its numbers do not
change. It follows the text format of Prometheus (version 0.0.4) and OpenMetrics 1.0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from ..metric_types import Metric
from ..state_types import compiled
from ..telemetry.exemplars import Kept, all_of_them, with_told
from ..telemetry.policy_samples import DURATION
from ..telemetry.schema import Key, Row
from .catalogue import known, name_and_type
from .scrape import Series

_ESCAPED: Final = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})

# Separates the runs of lines of one family in the text of a row: no line begins like this.
_RUN: Final = "\n|"


def render(shown: Sequence[Series], *, openmetrics: bool = False) -> str:
    """Return all samples as text, without an end marker."""
    text = _Text(openmetrics=openmetrics)
    for metric in known():
        text.family(metric)
    traced = all_of_them() if openmetrics else {}
    for each in shown:
        shape = text.shape(each.keys)
        kept = traced.get(each.labels.get("policy", ""), {})
        if openmetrics and each.traces:
            kept = with_told(kept, each.traces)
        values = each.values
        if kept:
            chunks = shape.chunks(each.labels, values, _hung(each.keys, kept))
        else:
            of, chunks = each.chunks
            if of is not values:
                chunks = shape.chunks(each.labels, values, {})
                each.chunks = values, chunks
        _spread(shape.runs, chunks)
    return text.whole()


def _appended(runs: list[list[str]], chunks: tuple[str, ...]) -> None:
    """Append each text of a row to the pieces of its run."""
    for pieces, chunk in zip(runs, chunks, strict=True):
        pieces.append(chunk)


_spread: Final[Callable[[list[list[str]], tuple[str, ...]], None]] = (
    compiled.spread if compiled else _appended
)


class _Text:
    """The text of a scrape, family by family."""

    def __init__(self, *, openmetrics: bool) -> None:
        self._open = openmetrics
        self._pieces: dict[str, list[str]] = {}
        self._headings: dict[str, str] = {}
        self._shapes: dict[int, _Shape] = {}

    def family(self, metric: Metric) -> list[str]:
        """Return the pieces of a metric's family, and create its heading."""
        name, kind = name_and_type(metric)
        pieces = self._pieces.get(name)
        if pieces is None:
            pieces = self._pieces[name] = []
            shown = name
            if not self._open:
                shown += {"counter": "_total", "info": "_info"}.get(kind, "")
                kind = "gauge" if kind == "info" else kind
            meaning = metric.help.replace("\\", r"\\").replace("\n", r"\n")
            self._headings[name] = f"\n# HELP {shown} {meaning}\n# TYPE {shown} {kind}"
        return pieces

    def shape(self, keys: list[Key]) -> _Shape:
        """Return the shape of rows of one schema."""
        shape = self._shapes.get(id(keys))
        if shape is None:
            families = [self.family(metric) for metric, _ in keys]
            shape = self._shapes[id(keys)] = _Shape(keys, families)
        return shape

    def whole(self) -> str:
        """Return the text of the families that have samples, each with its heading."""
        bodies = ((name, "".join(pieces)) for name, pieces in self._pieces.items())
        text = "".join(self._headings[name] + body for name, body in bodies if body)
        return text[1:] + "\n" if text else ""


class _Shape:
    """How to write rows of one schema: a row in one go, then split into runs by family."""

    def __init__(self, keys: list[Key], families: list[list[str]]) -> None:
        self.runs: list[list[str]] = []  # the pieces of each run's family
        self._heads: list[str] = []  # the beginnings of lines, up to the row's own labels
        self._plain: tuple[str, ...] = ()  # the same without what separates runs
        self._ends: tuple[int, ...] = ()  # of the runs: the position after the last head
        self._said: dict[tuple[int, ...], tuple[list[int], list[str], str]] = {}
        for (metric, values), pieces in zip(keys, families, strict=True):
            own = _labels(zip(metric.labels, values, strict=True)) + "," if values else ""
            head = f"\nresilient_{metric.name}{{{own}"
            if not self.runs or self.runs[-1] is not pieces:
                head = _RUN + head if self.runs else head
                self.runs.append(pieces)
            self._heads.append(head)
        begins = [at for at, head in enumerate(self._heads) if head.startswith(_RUN)]
        self._plain = tuple(head.removeprefix(_RUN) for head in self._heads)
        self._ends = (*begins, len(self._heads)) if keys else ()

    def chunks(self, labels: dict[str, str], values: Row, hung: dict[int, str]) -> tuple[str, ...]:
        """Return the lines of a row, a piece for each run; NaN has no line."""
        if compiled is not None and labels and not hung:
            middle = f"{_labels(labels.items())}}} "
            return compiled.lines(self._plain, self._ends, middle, values)  # type: ignore[no-any-return]
        silent = tuple([n for n, value in enumerate(values) if value != value])  # noqa: PLR0124
        places, heads, rest = self._without(silent)
        said = [values[place] for place in places] if silent else values
        parts = ["", f"{_labels(labels.items())}}} ", ""] * len(places)
        parts[::3] = heads
        parts[2::3] = map(_texts.__getitem__, said)
        if hung:
            parts[2::3] = [f"{_texts[values[n]]}{hung.get(n, '')}" for n in places]
        text = "".join(parts) + rest
        if not labels:  # removes an empty brace or comma
            text = text.replace("{} ", " ").replace(",} ", "} ")
        return tuple(text.split(_RUN))

    def _without(self, silent: tuple[int, ...]) -> tuple[list[int], list[str], str]:
        """Return the positions of values, the heads of their lines, and the rest."""
        found = self._said.get(silent)
        if found is None:
            places, heads, ends = list[int](), list[str](), ""
            for place, head in enumerate(self._heads):
                if place not in silent:
                    places.append(place)
                    heads.append(ends + head)
                    ends = ""
                elif head.startswith(_RUN):
                    ends += _RUN
            found = self._said[silent] = places, heads, ends
        return found


class _Texts(dict[float, str]):
    """Numbers as text; the text of frequent ones is cached."""

    def __missing__(self, value: float) -> str:
        value = float(value) + 0.0  # -0.0 is the same key as 0.0
        text = repr(value)
        if 0 <= value < _OFTEN and value.is_integer():
            self[value] = text
        return text


_OFTEN: Final = 10_000
_texts: Final = _Texts()


def _labels(pairs: Any) -> str:
    return ",".join(f'{name}="{str(value).translate(_ESCAPED)}"' for name, value in pairs)


def _hung(keys: list[Key], kept: Kept) -> dict[int, str]:
    """Return the exemplars of the newest slow and failed calls, by sample index."""
    buckets = [place for place, (metric, _) in enumerate(keys) if metric is DURATION[0]]
    return {
        buckets[bucket]: f" # {{{_labels(labels.items())}}} {seconds!r} {at:.3f}"
        for bucket, (labels, seconds, at) in kept.items()
        if bucket < len(buckets)
    }
