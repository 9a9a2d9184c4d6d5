"""Export the counts of every policy as Prometheus metrics, read at each scrape.

Nothing is exported per call: a scrape copies the plain numbers of each policy in its critical
section (`telemetry.policy_samples`). This module imports prometheus_client only when needed,
because the first import of that library decides its multiprocess mode.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, cast
from weakref import WeakKeyDictionary

from . import validation
from .http_endpoint import ASGI, WSGI, Endpoint
from .metric_types import Metric
from .prometheus import import_hook
from .prometheus.catalogue import known, name_and_type
from .prometheus.endpoint import Metrics, quiet
from .prometheus.scrape import Scraper
from .telemetry.schema import Key, Row

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client import Metric as Family
    from prometheus_client.samples import Sample as Line

__all__ = ("MAX_POLICIES", "asgi_app", "exposition", "register", "unregister", "wsgi_app")

MAX_POLICIES: Final = 1000

# -- for prometheus_client -----------------------------------------------------------

# For each family: the value's index in a list of numbers, the sample's name, its labels. Rows of
# one schema share one shape.
_Shape = dict[str, list[tuple[int, str, dict[str, str]]]]
_Row = tuple[dict[str, str], _Shape, Row]


def _shape_of(keys: Sequence[Key]) -> _Shape:
    shape: _Shape = {}
    for place, (metric, values) in enumerate(keys):
        labels = dict(zip(metric.labels, values, strict=True)) if values else {}
        family, _ = name_and_type(metric)
        shape.setdefault(family, []).append((place, f"resilient_{metric.name}", labels))
    return shape


class _Lines(Sequence["Line"]):
    """The samples of one family, each constructed when it is read.

    1,000 policies have 50,000 samples: kept as a list they would cost more in garbage collection
    than everything else that a scrape does for them.
    """

    def __init__(self, family: str, rows: list[_Row]) -> None:
        self._rows = [(own, row[family], values) for own, row, values in rows if family in row]

    def __iter__(self) -> Iterator[Line]:
        from prometheus_client.samples import Sample as Line

        make = cast("Any", tuple).__new__  # takes a third of a named tuple's constructor
        rest = Line("", {}, 0.0)[3:]
        for own, lines, values in self._rows:
            for place, name, labels in lines:
                value = values[place]
                if value == value:  # noqa: PLR0124 - NaN: no value
                    yield make(Line, (name, {**labels, **own}, value, *rest))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __bool__(self) -> bool:
        return any(True for _ in self)

    def __getitem__(self, place: Any) -> Any:
        lines: list[Any] = list(self)
        return lines[place]


class _Collector:
    """The collector that prometheus_client reads at each scrape."""

    def __init__(self, limit: int) -> None:
        self.scraper: Scraper = Scraper(limit)

    def describe(self) -> list[Family]:
        """Return the families without samples, so that registration is cheap and finds clashes."""
        return _families(known())

    def collect(self) -> Iterator[Family]:
        """Read every policy, and yield the families that have samples."""
        if quiet.on:  # our own endpoint writes them itself
            return
        shapes: dict[int, _Shape] = {}
        rows: list[_Row] = []
        used: dict[Metric, None] = {}
        shown = self.scraper.scrape()
        for each in shown:
            shape = shapes.get(id(each.keys))
            if shape is None:
                shape = shapes[id(each.keys)] = _shape_of(each.keys)
                used.update(dict.fromkeys(metric for metric, _ in each.keys))
            rows.append((each.labels, shape, each.values))
        for family in _families((*known(), *used)):
            lines = _Lines(family.name, rows)
            if lines:
                family.samples = cast("list[Line]", lines)
                yield family


def _families(metrics: Iterable[Metric]) -> list[Family]:
    from prometheus_client import Metric as Family

    families: dict[str, Family] = {}
    for metric in metrics:
        name, kind = name_and_type(metric)
        if name not in families:
            families[name] = Family(name, metric.help, kind)
    return list(families.values())


# -- registering ---------------------------------------------------------------------

_lock: Final = threading.Lock()
_registered: Final[WeakKeyDictionary[Any, _Collector]] = WeakKeyDictionary()


def register(
    registry: CollectorRegistry | None = None, *, max_policies: int = MAX_POLICIES
) -> Callable[[], None]:
    """Export every policy's metrics on a registry of prometheus_client.

    The default registry needs no call: the import of prometheus_client by the application does it.
    A registry has the metrics once; a second call replaces the first.

    Args:
        registry: the registry. Default `prometheus_client.REGISTRY`.
        max_policies: how many policies have series of their own, in the order of creation; the
            others are added up in ``policy="_other"``. Default 1000.

    Returns:
        A function that removes them from the registry; a second call does no harm.

    Raises:
        ValueError: max_policies is not from 1 to 1,000,000, or the registry has another metric
            of the same name.
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
        validation.refuse_type("registry", where, "a CollectorRegistry of prometheus_client")
    collector = _Collector(validation.count("max_policies", max_policies))
    if where is REGISTRY:
        import_hook.cancel()
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
    """Remove the metrics from `prometheus_client.REGISTRY`, or prevent their registration.

    Policies go on counting; `register` exports their counts again.

    Example:
        >>> from resilient import metrics
        >>> metrics.unregister()
        >>> unregister = metrics.register()
    """
    import_hook.cancel()
    client = sys.modules.get("prometheus_client")
    if client is not None:
        with _lock:
            _take_off(client.REGISTRY)


# -- served by ourselves ---------------------------------------------------------------


def wsgi_app(
    registry: CollectorRegistry | None = None, *, max_policies: int = MAX_POLICIES
) -> WSGI:
    """Return a WSGI application that serves all metrics, ours through a faster writer.

    It replaces ``prometheus_client.make_wsgi_app()``, and a `MultiProcessCollector` in that
    library's multiprocess mode.

    Args:
        registry: also serve the other metrics of this registry. Default: if the application has
            imported prometheus_client, those of `prometheus_client.REGISTRY` or, in multiprocess
            mode, of all processes; otherwise none.
        max_policies: see `register`.

    Returns:
        The application. It answers GET and HEAD on every path.

    Raises:
        ValueError: max_policies is not from 1 to 1,000,000.

    Example:
        >>> from resilient import metrics
        >>> app = metrics.wsgi_app()
    """
    return Endpoint(Metrics(registry, validation.count("max_policies", max_policies)).answer).wsgi


def asgi_app(
    registry: CollectorRegistry | None = None, *, max_policies: int = MAX_POLICIES
) -> ASGI:
    """Return an ASGI application that serves all metrics, ours through a faster writer.

    Args:
        registry: see `wsgi_app`.
        max_policies: see `register`.

    Returns:
        The application. It answers GET and HEAD on every path.

    Raises:
        ValueError: max_policies is not from 1 to 1,000,000.

    Example:
        >>> from resilient import metrics
        >>> app = metrics.asgi_app()
    """
    return Endpoint(Metrics(registry, validation.count("max_policies", max_policies)).answer).asgi


_metrics: Final = Metrics(None, MAX_POLICIES)


def exposition(accept: str = "") -> tuple[bytes, str]:
    """Return the answer to a scrape, for a view of any framework.

    Args:
        accept: the request's header ``Accept``: Prometheus asks for OpenMetrics with it. Default
            none, for the text format.

    Returns:
        The body, and its content type.

    Example:
        >>> from resilient import metrics
        >>> body, content_type = metrics.exposition()
        >>> content_type
        'text/plain; version=0.0.4; charset=utf-8'
    """
    return _metrics.body(accept)


def _take_off(registry: CollectorRegistry) -> None:
    collector = _registered.pop(registry, None)
    if collector is not None:
        try:
            registry.unregister(collector)
        except KeyError:  # a test has emptied the registry before
            return
