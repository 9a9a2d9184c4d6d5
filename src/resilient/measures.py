"""What a guard or policy can show as a metric, without a word about Prometheus."""

from __future__ import annotations

from typing import Literal


class Metric:
    """One metric family; ``resilient_`` goes before its name, and ``policy`` before its labels."""

    __slots__ = ("help", "kind", "labels", "name")

    def __init__(
        self, name: str, kind: Literal["counter", "gauge"], help: str, *labels: str
    ) -> None:
        self.name: str = name
        self.kind = kind
        self.help: str = help
        self.labels: tuple[str, ...] = labels


Sample = tuple[Metric, tuple[str, ...], float]
