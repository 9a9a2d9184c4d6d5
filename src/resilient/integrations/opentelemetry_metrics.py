"""The metrics of this process in OpenTelemetry: observable instruments read them on collection."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from math import isnan
from typing import Final
from weakref import WeakKeyDictionary

from opentelemetry.metrics import (
    CallbackOptions,
    Meter,
    MeterProvider,
    Observation,
    get_meter_provider,
)

from ..admin.registry import registry
from ..metric_types import Metric
from ..pages.format import Entry
from ..pages.process_entries import entry_of, own_entries
from ..prometheus.catalogue import known
from ..prometheus.scrape import OF_SCRAPES, SeriesLimiter
from ..telemetry.policy_samples import HISTOGRAMS, INFO, exported, row_of

_PACKAGE: Final = __name__.partition(".")[0]
_FOLDED, _EVER = OF_SCRAPES[:2]  # the others are about other processes


class Reading:
    """One reading of all counts, which the instruments of one collection share."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._begin()

    def _begin(self) -> None:
        self._pid, self._lock = os.getpid(), threading.Lock()
        self._places = SeriesLimiter(self._limit)
        self._asked: set[str] = set()
        self._found: dict[str, list[Observation]] | None = None

    def of(self, name: str) -> list[Observation]:
        """Return a metric's observations; a second request for a metric starts a new reading."""
        if self._pid != os.getpid():  # forked: the counts restarted; the lock may be held
            self._begin()
        with self._lock:
            if self._found is None or name in self._asked:
                self._found = self._read()
                self._asked.clear()
            self._asked.add(name)
            return self._found.pop(name, [])

    def _read(self) -> dict[str, list[Observation]]:
        """Read this process's own counts: each process exports its own; the backend adds up."""
        found: dict[str, list[Observation]] = {}
        policies = [entry_of(core, *row_of(core), 0.0) for core in registry.cores()]
        for entry in [*self._places.shown(policies), *own_entries()]:
            keys, values = exported(entry.layout)
            own = {} if entry.kind == "process" else _labels(entry)
            for (metric, labels), value in zip(keys, values(entry.row), strict=True):
                if not isnan(value):
                    more = zip(map(_attribute, metric.labels), labels, strict=True)
                    seen = Observation(float(value), {**own, **dict(more)})
                    found.setdefault(metric.name, []).append(seen)
        for entry in self._places.known:
            found.setdefault(INFO.name, []).append(Observation(1.0, _info(entry)))
        found[_FOLDED.name] = [Observation(float(self._places.folded))]
        found[_EVER.name] = [Observation(float(self._places.ever))]
        return found


def _labels(entry: Entry) -> dict[str, str]:
    return {"resilient.flag" if entry.kind == "flag" else "resilient.policy": entry.name}


def _info(entry: Entry) -> dict[str, str]:
    tier = entry.about.get("tier")
    owner = str(entry.about.get("owner") or "")
    own = {"resilient.owner": owner, "resilient.tier": "" if tier is None else str(tier)}
    return {**_labels(entry), **own}


def _attribute(label: str) -> str:
    return label if label == "le" else f"resilient.{label}"


def named(metric: Metric) -> tuple[str, str]:
    """Return a metric's name and unit in OpenTelemetry; the name does not contain the unit."""
    name, part = metric.name.removesuffix("_total"), ""
    if metric in HISTOGRAMS:
        name, _, part = name.rpartition("_")
    unit = "s" if name.endswith("_seconds") else "1" if name.endswith("_ratio") else ""
    name = f"resilient.{name.removesuffix('_seconds')}"
    return (f"{name}.{part}", unit if part == "sum" else "") if part else (name, unit)


class Export:
    """The instruments of one provider, made once: OpenTelemetry can't remove them."""

    def __init__(self) -> None:
        self.reading: Reading | None = None
        self._made: set[str] = set()

    def make(self, meter: Meter) -> None:
        """Make the missing instruments."""
        for metric in known():
            if metric.kind == "part" or metric.name in self._made:
                continue
            self._made.add(metric.name)
            create: Callable[..., object] = meter.create_observable_gauge
            if metric.kind == "counter":
                create = meter.create_observable_counter
            elif metric.over == "sum":
                create = meter.create_observable_up_down_counter
            name, unit = named(metric)
            create(name, [self._observer(metric.name)], unit=unit, description=metric.help)

    def _observer(self, name: str) -> Callable[[CallbackOptions], list[Observation]]:
        def observe(_: CallbackOptions) -> list[Observation]:
            reading = self.reading
            return [] if reading is None else reading.of(name)

        return observe


_exports: Final[WeakKeyDictionary[MeterProvider, Export]] = WeakKeyDictionary()
_global: Final[list[Export]] = []  # the global provider's; at first that may be its stand-in


def export_of(given: MeterProvider | None) -> Export:
    provider = get_meter_provider() if given is None else given
    export = _exports.get(provider)
    if provider is get_meter_provider():
        export = export or (_global[0] if _global else Export())
        _global[:] = [export]
    export = _exports[provider] = export or Export()
    export.make(provider.get_meter(_PACKAGE, str(vars(sys.modules[_PACKAGE])["__version__"])))
    return export
