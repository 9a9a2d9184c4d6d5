"""The metrics as text: what is served at /metrics, without prometheus_client's writer.

Its writer takes some microseconds a line, which is 150 ms and more at 1,000 policies, in which the
process does nothing else. This one writes a policy's lines of one family in one piece, and keeps
them for as long as its numbers do not change. It follows the text format of Prometheus (version
0.0.4) and OpenMetrics 1.0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from .catalogue import known, name_and_type
from .exemplars import Kept, all_of_them
from .measures import Metric
from .measuring import DURATION
from .rows import Key
from .scraping import Shown

_ESCAPED: Final = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})

# For each run of samples of one family: the pieces of the family's text, where the run ends, and
# the beginnings of its lines, up to the row's own labels.
_Shape = list[tuple[list[str], int, list[str]]]


def render(shown: Sequence[Shown], *, openmetrics: bool = False) -> str:
    """Return all samples as text, without an end."""
    text = _Text(openmetrics=openmetrics)
    for metric in known():
        text.family(metric)
    traced = all_of_them() if openmetrics else {}
    for each in shown:
        shape = text.shape(each.keys)
        kept = traced.get(each.labels.get("policy", ""))
        if kept:
            chunks = _chunks(each, shape, _hung(each.keys, kept))
        elif each.chunks is None:
            chunks = each.chunks = _chunks(each, shape, {})
        else:
            chunks = each.chunks
        for (pieces, _, _), chunk in zip(shape, chunks, strict=True):
            pieces.append(chunk)
    return text.whole()


class _Text:
    """The text of a scrape, family by family."""

    def __init__(self, *, openmetrics: bool) -> None:
        self._open = openmetrics
        self._pieces: dict[str, list[str]] = {}
        self._headings: dict[str, str] = {}
        self._shapes: dict[int, _Shape] = {}

    def family(self, metric: Metric) -> list[str]:
        """Return the pieces of a metric's family, which has a heading from now on."""
        name, kind = name_and_type(metric)
        pieces = self._pieces.get(name)
        if pieces is None:
            pieces = self._pieces[name] = []
            shown = name
            if not self._open:
                shown += {"counter": "_total", "info": "_info"}.get(kind, "")
                kind = "gauge" if kind == "info" else kind
            meaning = metric.help.replace("\\", r"\\").replace("\n", r"\n")
            self._headings[name] = f"# HELP {shown} {meaning}\n# TYPE {shown} {kind}\n"
        return pieces

    def shape(self, keys: list[Key]) -> _Shape:
        """Return where the samples of a row go: the same for all rows of one layout."""
        shape = self._shapes.get(id(keys))
        if shape is None:
            shape = self._shapes[id(keys)] = []
            for place, (metric, values) in enumerate(keys, 1):
                pieces = self.family(metric)
                own = _labels(zip(metric.labels, values, strict=True)) if values else ""
                head = f"resilient_{metric.name}{{{own}{',' if own else ''}"
                if shape and shape[-1][0] is pieces:
                    shape[-1] = pieces, place, [*shape[-1][2], head]
                else:
                    shape.append((pieces, place, [head]))
        return shape

    def whole(self) -> str:
        """Return the text: the families that have samples, each with its heading."""
        bodies = ((name, "".join(pieces)) for name, pieces in self._pieces.items())
        return "".join(self._headings[name] + body for name, body in bodies if body)


def _labels(pairs: Any) -> str:
    return ",".join(f'{name}="{str(value).translate(_ESCAPED)}"' for name, value in pairs)


def _chunks(each: Shown, shape: _Shape, hung: dict[int, str]) -> list[str]:
    """Return the lines of a row, in one piece for each run; NaN says nothing and has no line."""
    end = _labels(each.labels.items()) + "} "
    chunks: list[str] = []
    first = 0
    for _, stop, heads in shape:
        values = each.values[first:stop]
        lines = [
            f"{head}{end}{value!r}{hung.get(place, '')}\n" if hung else f"{head}{end}{value!r}\n"
            for place, (head, value) in enumerate(zip(heads, values, strict=True), first)
            if value == value  # noqa: PLR0124
        ]
        chunks.append("".join(lines))
        first = stop
    if not each.labels:  # a brace or comma is left with nothing in it
        return [chunk.replace("{} ", " ").replace(",} ", "} ") for chunk in chunks]
    return chunks


def _hung(keys: list[Key], kept: Kept) -> dict[int, str]:
    """Return what hangs on which sample: the newest slow and failed calls, on their buckets."""
    buckets = [place for place, (metric, _) in enumerate(keys) if metric is DURATION[0]]
    return {
        buckets[bucket]: f" # {{{_labels(labels.items())}}} {seconds!r} {at:.3f}"
        for bucket, (labels, seconds, at) in kept.items()
        if bucket < len(buckets)
    }
