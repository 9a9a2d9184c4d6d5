"""What a guard or policy can show as a metric, without a word about Prometheus."""

from __future__ import annotations

from typing import Literal


class Metric:
    """One metric family; ``resilient_`` goes before its name, and ``policy`` before its labels.

    Attributes:
        kind: ``"counter"``, ``"gauge"``, or ``"part"``: not exported, the weight of the mean that
            stands before it.
        over: how the numbers of several processes become one.
        present: when its series are there, in the words of the docs.
    """

    __slots__ = ("help", "kind", "labels", "name", "over", "present")

    def __init__(
        self,
        name: str,
        kind: Literal["counter", "gauge", "part"],
        help: str,
        *labels: str,
        over: Literal["sum", "max", "min", "mean"] = "sum",
        present: str = "",
    ) -> None:
        self.name: str = name
        self.kind = kind
        self.help: str = help
        self.labels: tuple[str, ...] = labels
        self.over = over
        self.present: str = present


Sample = tuple[Metric, tuple[str, ...], float]
