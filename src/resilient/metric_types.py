"""The types of metrics and samples, independent of Prometheus."""

from __future__ import annotations

from typing import Literal


class Metric:
    """One metric family; its exported name begins with ``resilient_``, its labels with ``policy``.

    Attributes:
        kind: ``"counter"``, ``"gauge"``, or ``"part"``: not exported, the weight of the mean
            before it.
        over: how to combine the numbers of several processes.
        present: when its series exist, in the words of the docs.
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
