"""The expressions of alert rules: series, and the labels that keep apart what a selector names."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Final

from .inventory import Policy
from .rule_file import Rule

OWN: Final = 'served!="caller_error"'  # a caller's own error is outside every budget
MINIMUM: Final = 100  # calls in the long window that a ratio needs at least
_WINDOWS: Final = (300, 1800, 3600, 7200, 21_600, 86_400, 259_200)


class Expressions:
    """PromQL over the series of a selector; a scale multiplies all times, for tests."""

    def __init__(self, selector: str, scale: float) -> None:
        self._selector = selector
        self.scale: float = scale
        # Keep the labels of the selector: they separate its series from others.
        named = [
            label for label in re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selector) if label != "job"
        ]
        self.by: str = ", ".join(["job", *named])

    def span(self, seconds: float) -> str:
        """Return seconds as a span of time."""
        return f"{max(1, round(seconds * self.scale))}s" if self.scale != 1 else _words(seconds)

    def series(self, name: str, **labels: str) -> str:
        """Return the series of a metric that have these labels."""
        said = [f"{label}={json.dumps(value)}" for label, value in labels.items()]
        inside = ",".join([*said, *([self._selector] if self._selector else [])])
        return f"resilient_{name}{{{inside}}}" if inside else f"resilient_{name}"

    def served(self, *labels: str) -> str:
        """Return the series of what callers got, by matchers of labels."""
        inside = ",".join([*labels, *([self._selector] if self._selector else [])])
        return f"resilient_served_total{{{inside}}}"

    def recordings(self) -> Iterator[Rule]:
        """Yield the rules that record ratios over each window."""
        for seconds in _WINDOWS:
            span = self.span(seconds)
            rate = f"resilient:served:rate{_words(seconds)}"
            served = self.served(OWN)
            yield {"record": rate, "expr": f"sum by ({self.by}, policy) (rate({served}[{span}]))"}
            for word in ("error", "degraded"):
                bad = self.series("served_total", served=word)
                yield {
                    "record": f"resilient:{word}_ratio:rate{_words(seconds)}",
                    "expr": f"sum by ({self.by}, policy) (rate({bad}[{span}])) / ({rate} > 0)",
                }

    def burns(
        self, policy: Policy, served: str, budget: float, pairs: tuple[tuple[float, int, int], ...]
    ) -> str:
        """Return the expression that is true while a budget burns too fast in both windows."""
        inside = [f"policy={json.dumps(policy.name)}", *([self._selector] * bool(self._selector))]
        at = f"{{{','.join(inside)}}}"
        parts: list[str] = []
        for speed, long, short in pairs:
            limit = f"{min(speed * budget, 0.99):g}"
            calls = f"{long * self.scale:g}"
            parts.append(
                f"(resilient:{served}_ratio:rate{_words(long)}{at} > {limit} and "
                f"resilient:{served}_ratio:rate{_words(short)}{at} > {limit} and "
                f"resilient:served:rate{_words(long)}{at} * {calls} >= {MINIMUM})"
            )
        return "\nor\n".join(parts)


def _words(seconds: float) -> str:
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "m")):
        if seconds % size == 0:
            return f"{seconds // size:g}{unit}"
    return f"{seconds:g}s"
