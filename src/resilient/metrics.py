"""The counts of every policy as Prometheus metrics, read at each scrape.

Nothing is exported per call: a scrape copies the plain numbers of each policy in its critical
section (`measuring`). prometheus_client is imported where it is needed, so that importing this
module does not choose the moment at which its multiprocess mode is decided.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final, cast
from weakref import WeakKeyDictionary, WeakSet

from . import checks, metrics_hook
from .drive.core import Core
from .events import bus
from .guards.base import Guard
from .measures import Metric, Sample
from .measuring import HISTOGRAMS, INFO, OF_POLICIES, Key, measure
from .registry import registry as policies

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client import Metric as Family

__all__ = ("MAX_POLICIES", "OTHER", "register", "unregister")

MAX_POLICIES: Final = 1000
OTHER: Final = "_other"  # the policies beyond max_policies, summed

_POLICIES: Final = Metric("policies", "gauge", "Policies that exist.")
_FOLDED: Final = Metric("policies_in_other", "gauge", 'Policies added up in policy="_other".')
_EVER: Final = Metric("policies_folded_total", "counter", "Policies that were ever put there.")
_BROKEN: Final = Metric("listener_errors_total", "counter", "Listeners that raised.")
_DROPPED: Final = Metric("events_dropped_total", "counter", "Events too many to be delivered.")
_BUILD: Final = Metric("build_info", "gauge", "Always 1; the version in use.", "version")
_OF_PROCESS: Final = (_POLICIES, _FOLDED, _EVER, _BROKEN, _DROPPED, _BUILD)

_PACKAGE: Final = __name__.rpartition(".")[0]


# -- one scrape ----------------------------------------------------------------------


class _Shape:
    """A set of series, which all policies with the same guards have in common."""

    __slots__ = ("keys", "lines")

    def __init__(self, keys: tuple[Key, ...]) -> None:
        self.keys = keys
        self.lines: dict[str, list[tuple[int, str, dict[str, str]]]] = {}  # of each family
        for place, (metric, values) in enumerate(keys):
            labels = dict(zip(metric.labels, values, strict=True))
            family, _ = _name_and_type(metric)
            self.lines.setdefault(family, []).append((place, f"resilient_{metric.name}", labels))


class _Rows:
    """The numbers of all policies, and families made of them one after the other.

    A policy is one list of numbers here, and the samples of a family live for a moment: 50,000
    objects at once would cost more in garbage collection than in everything else.
    """

    def __init__(self) -> None:
        self._rows: list[tuple[dict[str, str], _Shape, list[float]]] = []
        self._shapes: dict[tuple[Key, ...], _Shape] = {}

    def add(self, labels: dict[str, str], samples: list[Sample]) -> None:
        """Add what is to be shown under some labels."""
        self._rows.append((labels, *self.compact(samples)))

    def compact(self, samples: list[Sample]) -> tuple[_Shape, list[float]]:
        """Return samples as numbers and what they mean."""
        keys = tuple([(metric, labels) for metric, labels, _ in samples])
        shape = self._shapes.get(keys)
        if shape is None:
            shape = self._shapes[keys] = _Shape(keys)
        return shape, [value for _, _, value in samples]

    def families(self) -> Iterator[Family]:
        """Yield the families that have samples."""
        from prometheus_client.samples import Sample as Line

        # Made as plain tuples are, in half the time.
        new: Callable[[type[Line], tuple[Any, ...]], Line] = cast("Any", tuple).__new__
        rest = Line("", {}, 0.0)[3:]
        used = (metric for shape in self._shapes.values() for metric, _ in shape.keys)
        for family in _families((*_known(), *used)):
            add = family.samples.append
            for own, shape, values in self._rows:
                for place, name, labels in shape.lines.get(family.name, ()):
                    add(new(Line, (name, {**labels, **own}, values[place], *rest)))
            if family.samples:
                yield family


def _known() -> list[Metric]:
    """Return every metric that there may be: ours, and those that modules of guards declare."""
    found = dict.fromkeys(OF_POLICIES)
    kinds: list[type[Guard]] = [Guard]
    for kind in kinds:
        kinds += kind.__subclasses__()
        module = vars(sys.modules[kind.__module__])
        found.update((each, None) for each in module.values() if isinstance(each, Metric))
    return [*found, *_OF_PROCESS]


def _families(metrics: Iterable[Metric]) -> list[Family]:
    from prometheus_client import Metric as Family

    families: dict[str, Family] = {}
    for metric in metrics:
        name, kind = _name_and_type(metric)
        if name not in families:
            families[name] = Family(name, metric.help, kind)
    return list(families.values())


def _name_and_type(metric: Metric) -> tuple[str, str]:
    name = f"resilient_{metric.name}"
    if metric in HISTOGRAMS:
        return name.rpartition("_")[0], "histogram"
    if name.endswith("_info"):
        return name.removesuffix("_info"), "info"
    return name.removesuffix("_total"), metric.kind


# -- the policies beyond the limit ---------------------------------------------------


class _Places:
    """Which policies have series of their own, and what the others have counted together."""

    def __init__(self, limit: int) -> None:
        self.pid = os.getpid()
        self.ever = 0
        self._limit = limit
        self._lock = threading.Lock()
        self._shown: WeakSet[Core] = WeakSet()
        # What each had counted when it was last read. When it dies, that stays in the sum.
        self._read: WeakKeyDictionary[Core, tuple[_Shape, list[float]]] = WeakKeyDictionary()
        self._sums: dict[Key, float] = {}

    def split(self, cores: list[Core]) -> tuple[list[Core], list[Core]]:
        """Return the policies to show and those to fold; none changes sides while it lives."""
        with self._lock:
            shown = [core for core in cores if core in self._shown]
            folded = [core for core in cores if core in self._read]
            for core in cores if len(shown) + len(folded) < len(cores) else ():
                if core in self._shown or core in self._read:
                    continue
                if len(shown) < self._limit and core.name != OTHER:
                    shown.append(core)
                    self._shown.add(core)
                else:
                    folded.append(core)
                    self._read[core] = _Shape(()), []
                    self.ever += 1
            return shown, folded

    def fold(
        self, core: Core, samples: list[Sample], rows: _Rows, gauges: dict[Key, float]
    ) -> None:
        """Add up a policy; a counter never goes back, whichever scrape read it first."""
        with self._lock:
            shape, values = self._read[core]
            before = dict(zip(shape.keys, values, strict=True))
            for place, (metric, labels, value) in enumerate(samples):
                key = metric, labels
                if metric.kind == "counter":
                    old = before.get(key, 0.0)
                    self._sums[key] = self._sums.get(key, 0.0) + max(value - old, 0.0)
                    samples[place] = metric, labels, max(value, old)
                elif metric is not INFO and not metric.name.endswith("_ratio"):
                    gauges[key] = gauges.get(key, 0.0) + value
            self._read[core] = rows.compact(samples)

    def folded(self, gauges: dict[Key, float]) -> list[Sample]:
        """Return what all the folded policies have counted, living or not."""
        with self._lock:
            sums = {**self._sums, **gauges, (INFO, ("", "")): 1.0}
        return [(*key, value) for key, value in sums.items()]


class _Collector:
    """What prometheus_client asks at each scrape."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._places = _Places(limit)

    def describe(self) -> list[Family]:
        """Return the families without samples, so that registering is cheap and finds clashes."""
        return _families(_known())

    def collect(self) -> Iterator[Family]:
        """Read every policy, and yield the families that have samples."""
        if self._places.pid != os.getpid():  # forked: counts began anew, and a lock may be held
            self._places = _Places(self._limit)
        rows, places, cores = _Rows(), self._places, policies.cores()
        shown, folded = places.split(cores)
        for core in shown:
            rows.add({"policy": core.name}, measure(core))
        if places.ever:
            gauges: dict[Key, float] = {}
            for core in folded:
                places.fold(core, measure(core), rows, gauges)
            rows.add({"policy": OTHER}, places.folded(gauges))
        process: list[Sample] = [
            (_POLICIES, (), len(cores)),
            (_FOLDED, (), len(folded)),
            (_EVER, (), places.ever),
            (_BROKEN, (), bus.listener_errors),
            (_DROPPED, (), bus.dropped),
            (_BUILD, (str(vars(sys.modules[_PACKAGE])["__version__"]),), 1),
        ]
        rows.add({}, process)
        return rows.families()


# -- registering ---------------------------------------------------------------------

_lock: Final = threading.Lock()
_registered: Final[WeakKeyDictionary[Any, _Collector]] = WeakKeyDictionary()


def register(
    registry: CollectorRegistry | None = None, *, max_policies: int = MAX_POLICIES
) -> Callable[[], None]:
    """Export every policy's metrics on a registry of prometheus_client.

    The default registry needs no call: that is done when the application imports prometheus_client.
    A registry has them once; a second call takes the place of the first.

    Args:
        registry: where. Default `prometheus_client.REGISTRY`.
        max_policies: how many policies have series of their own, in the order of their making; the
            others are added up in ``policy="_other"``. Default 1000.

    Returns:
        A function that takes them off the registry again; calling it twice does no harm.

    Raises:
        ValueError: max_policies is not from 1 to 1,000,000, or the registry has a metric of such a
            name from elsewhere.
        TypeError: registry is not a registry.

    Example:
        >>> from prometheus_client import CollectorRegistry
        >>> from resilient import metrics
        >>> mine = CollectorRegistry()
        >>> unregister = metrics.register(mine)
        >>> mine.get_sample_value("resilient_policies_in_other")
        0.0
        >>> unregister()
    """
    from prometheus_client import REGISTRY, CollectorRegistry

    where = REGISTRY if registry is None else registry
    if not isinstance(where, CollectorRegistry):
        checks.refuse_type("registry", where, "a CollectorRegistry of prometheus_client")
    collector = _Collector(checks.count("max_policies", max_policies))
    if where is REGISTRY:
        metrics_hook.cancel()
    with _lock:
        _take_off(where)
        where.register(collector)
        _registered[where] = collector

    def undo() -> None:
        with _lock:
            if _registered.get(where) is collector:
                _take_off(where)

    return undo


def unregister() -> None:
    """Take the metrics off `prometheus_client.REGISTRY`, or see to it that they never get there.

    Policies count on; `register` exports them again.

    Example:
        >>> from resilient import metrics
        >>> metrics.unregister()
        >>> unregister = metrics.register()
    """
    metrics_hook.cancel()
    client = sys.modules.get("prometheus_client")
    if client is not None:
        with _lock:
            _take_off(client.REGISTRY)


def _take_off(registry: CollectorRegistry) -> None:
    collector = _registered.pop(registry, None)
    if collector is not None:
        try:
            registry.unregister(collector)
        except KeyError:  # whoever empties a registry for their tests was there before
            return
