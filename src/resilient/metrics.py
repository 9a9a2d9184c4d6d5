"""The counts of every policy as Prometheus metrics, read at each scrape.

Nothing is exported per call: a scrape copies the plain numbers of each policy in its critical
section (`measuring`). prometheus_client is imported where it is needed, so that importing this
module does not choose the moment at which its multiprocess mode is decided.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, cast
from weakref import WeakKeyDictionary

from . import checks, metrics_hook
from .events import bus
from .flags.flag_metrics import OF_FLAGS, measure_flags
from .guards.base import Guard
from .measures import Metric, Sample
from .measuring import HISTOGRAMS, OF_POLICIES, OTHER, Key, Keys, Places, measure
from .registry import registry as policies

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client import Metric as Family
    from prometheus_client.samples import Sample as Line

__all__ = ("MAX_POLICIES", "register", "unregister")

MAX_POLICIES: Final = 1000

_POLICIES: Final = Metric("policies", "gauge", "Policies that exist.")
_FOLDED: Final = Metric("policies_in_other", "gauge", 'Policies added up in policy="_other".')
_EVER: Final = Metric("policies_folded_total", "counter", "Policies that were ever put there.")
_BROKEN: Final = Metric("listener_errors_total", "counter", "Listeners that raised.")
_DROPPED: Final = Metric("events_dropped_total", "counter", "Events too many to be delivered.")
_BUILD: Final = Metric("build_info", "gauge", "Always 1; the version in use.", "version")
_OF_PROCESS: Final = (_POLICIES, _FOLDED, _EVER, _BROKEN, _DROPPED, _BUILD)

_PACKAGE: Final = __name__.rpartition(".")[0]

# For each family: where the value stands in a list of numbers, the sample's name, its labels.
# Policies with the same guards have the same one.
_Shape = dict[str, list[tuple[int, str, dict[str, str]]]]
_Row = tuple[dict[str, str], _Shape, list[float]]


# -- one scrape ----------------------------------------------------------------------


def _shape_of(keys: Keys) -> _Shape:
    shape: _Shape = {}
    for place, (metric, values) in enumerate(keys):
        labels = dict(zip(metric.labels, values, strict=True))
        family, _ = _name_and_type(metric)
        shape.setdefault(family, []).append((place, f"resilient_{metric.name}", labels))
    return shape


class _Lines(Sequence["Line"]):
    """The samples of one family, each made when it is asked for.

    At 1,000 policies there are 50,000: as objects of a list they would cost more in garbage
    collection than in everything else that is done for them here.
    """

    def __init__(self, family: str, rows: list[_Row]) -> None:
        self._rows = [(own, row[family], values) for own, row, values in rows if family in row]

    def __iter__(self) -> Iterator[Line]:
        from prometheus_client.samples import Sample as Line

        make = cast("Any", tuple).__new__  # a third of what the constructor of a named tuple costs
        rest = Line("", {}, 0.0)[3:]
        for own, lines, values in self._rows:
            for place, name, labels in lines:
                yield make(Line, (name, {**labels, **own}, values[place], *rest))

    def __len__(self) -> int:
        return sum(len(lines) for _, lines, _ in self._rows)

    def __getitem__(self, place: Any) -> Any:
        lines: list[Any] = list(self)
        return lines[place]


class _Scrape:
    """The numbers of all policies: one list for each, and its meaning shared by many."""

    def __init__(self) -> None:
        self._rows: list[_Row] = []
        self._shapes: dict[Keys, _Shape] = {}

    def add(self, labels: dict[str, str], samples: list[Sample]) -> None:
        """Take in what is to be shown under some labels."""
        keys = tuple([(metric, values) for metric, values, _ in samples])
        shape = self._shapes.get(keys)
        if shape is None:
            shape = self._shapes[keys] = _shape_of(keys)
        self._rows.append((labels, shape, [value for _, _, value in samples]))

    def families(self) -> Iterator[Family]:
        """Yield the families that have samples."""
        used = (metric for keys in self._shapes for metric, _ in keys)
        for family in _families((*_known(), *used)):
            lines = _Lines(family.name, self._rows)
            if lines:
                family.samples = cast("list[Line]", lines)
                yield family


def _known() -> list[Metric]:
    """Return every metric that there may be: ours, and those that guards declare."""
    found = dict.fromkeys(OF_POLICIES)
    kinds: list[type[Guard]] = [Guard]
    for kind in kinds:
        kinds += kind.__subclasses__()
        found.update(dict.fromkeys(kind.metrics))
    return [*found, *OF_FLAGS, *_OF_PROCESS]


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


class _Collector:
    """What prometheus_client asks at each scrape."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._places = Places(limit)

    def describe(self) -> list[Family]:
        """Return the families without samples, so that registering is cheap and finds clashes."""
        return _families(_known())

    def collect(self) -> Iterator[Family]:
        """Read every policy, and yield the families that have samples."""
        if self._places.pid != os.getpid():  # forked: counts began anew, and a lock may be held
            self._places = Places(self._limit)
        scrape, places, cores = _Scrape(), self._places, policies.cores()
        shown, folded = places.split(cores)
        for core in shown:
            scrape.add({"policy": core.name}, measure(core))
        if places.ever:
            gauges: dict[Key, float] = {}
            for core in folded:
                places.fold(core, measure(core), gauges)
            scrape.add({"policy": OTHER}, places.folded(gauges))
        process: list[Sample] = [
            (_POLICIES, (), len(cores)),
            (_FOLDED, (), len(folded)),
            (_EVER, (), places.ever),
            (_BROKEN, (), bus.listener_errors),
            (_DROPPED, (), bus.dropped),
            (_BUILD, (str(vars(sys.modules[_PACKAGE])["__version__"]),), 1),
        ]
        scrape.add({}, process + measure_flags())
        return scrape.families()


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
        0
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
