"""OpenTelemetry: calls and events on existing spans, exemplars, and metrics.

It makes no span: a guard takes microseconds, and its decision is a detail of the current span.
`PolicyState.on_end` reports only calls that were slow or unusual, so that the others cost
nothing. It uses OpenTelemetry's API alone, which does nothing without its SDK.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from opentelemetry.metrics import MeterProvider

from .. import validation
from ..admin.registry import registry
from ..engine.policy_state import PolicyState
from .opentelemetry_metrics import Export, Reading, export_of
from .opentelemetry_spans import on_end, on_event

__all__ = ("MAX_POLICIES", "instrument")

# The SDK keeps 2,000 sets of attributes per instrument, and a histogram has 13 per policy.
MAX_POLICIES: Final = 150


def instrument(
    *,
    metrics: bool = False,
    meter_provider: MeterProvider | None = None,
    max_policies: int = MAX_POLICIES,
) -> Callable[[], None]:
    """Report to OpenTelemetry what the policies of this process do.

    The current span gets attributes of the worst call in it, an event for each unusual call, and
    one for each change of a policy or flag; sampled spans become exemplars of
    `resilient.metrics`. A second call replaces the first.

    Args:
        metrics: export the metrics of this process too. Default False: they are at ``/metrics``.
        meter_provider: exports them. Default: the global one.
        max_policies: how many policies have their own series there, in the order in which they are
            made; ``_other`` adds up the rest. Default 150.

    Returns:
        A function that ends all of it; a second call of it does nothing.

    Raises:
        ValueError: max_policies is not from 1 to 1,000,000, or there is a meter_provider without
            ``metrics=True``.
        TypeError: meter_provider is not one, or metrics is not a bool.

    Example:
        >>> from resilient.integrations.opentelemetry import instrument
        >>> undo = instrument()
        >>> undo()
    """
    if meter_provider is not None and not isinstance(meter_provider, MeterProvider):
        validation.refuse_type("meter_provider", meter_provider, "a MeterProvider of OpenTelemetry")
    limit = validation.count("max_policies", max_policies)
    if not validation.flag("metrics", metrics) and meter_provider is not None:
        validation.refuse("meter_provider", meter_provider, "left out without metrics=True")
    with _lock:
        export = export_of(meter_provider) if metrics else None
        for before in _newest:
            before.stop()
        begun = _Instrumented(export, limit)
        _newest[:] = [begun]

    def undo() -> None:
        with _lock:
            if _newest and _newest[0] is begun:
                _newest.clear()
                begun.stop()

    return undo


class _Instrumented:
    """The effects of one `instrument`."""

    def __init__(self, export: Export | None, limit: int) -> None:
        self._before = PolicyState.on_end
        self._export = export
        if export is not None:
            export.reading = Reading(limit)
        self._unsubscribe = registry.subscribe(on_event)
        PolicyState.on_end = on_end

    def stop(self) -> None:
        """Undo them."""
        self._unsubscribe()
        if PolicyState.on_end is on_end:
            PolicyState.on_end = self._before
        if self._export is not None:
            self._export.reading = None


_lock: Final = threading.Lock()
_newest: Final[list[_Instrumented]] = []  # at most one

# -- on the current span -------------------------------------------------------------


# -- metrics -------------------------------------------------------------------------
