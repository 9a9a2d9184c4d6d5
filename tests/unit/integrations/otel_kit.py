"""What the tests of OpenTelemetry share: its SDK with spans in memory, and policies."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import Sampler

import resilient
from resilient import Policy, circuit_breaker
from resilient.engine.policy_state import PolicyState
from resilient.flags.runtime import here
from resilient.integrations.opentelemetry import instrument
from resilient.testing import ManualClock

SLOW = 0.02  # seconds: above the first bucket
numbers = itertools.count(1)


class Spans:
    """A tracer, and the spans that it has ended."""

    def __init__(self, sampler: Sampler | None = None) -> None:
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = provider.get_tracer("tests")

    def __call__(self, name: str = "request") -> Any:
        return self.tracer.start_as_current_span(name)

    def ended(self) -> list[ReadableSpan]:
        return list(self._exporter.get_finished_spans())

    def only(self) -> ReadableSpan:
        (span,) = self.ended()
        return span

    def named(self, name: str) -> ReadableSpan:
        (span,) = [span for span in self.ended() if span.name == name]
        return span

    def around(self, call: Callable[[], Any]) -> ReadableSpan:
        """Make a call in a span of its own, whatever it raises, and return the span."""
        name = f"span-{next(numbers)}"
        with self(name), contextlib.suppress(Exception):
            call()
        return self.named(name)


def ours_of(span: ReadableSpan) -> dict[str, Any]:
    """Return our attributes of a span, without the prefix."""
    found = span.attributes or {}
    return {k.removeprefix("resilient."): v for k, v in found.items() if k.startswith("resilient.")}


def events_of(span: ReadableSpan, name: str) -> list[dict[str, Any]]:
    return [dict(event.attributes or {}) for event in span.events if event.name == name]


def calls_of(span: ReadableSpan) -> list[dict[str, Any]]:
    """Return what the events of calls say, without the prefix."""
    found = events_of(span, "resilient.call")
    return [{k.removeprefix("resilient."): v for k, v in each.items()} for each in found]


def fails(*_: object) -> None:
    raise ConnectionError("down")


def policy_of(*guards: Any, name: str = "dependency", **options: Any) -> Policy:
    return Policy(f"{name}-{next(numbers)}", *guards, **options)


def opened(**options: Any) -> Policy:
    """Return a policy whose circuit is open."""
    policy = policy_of(circuit_breaker(failure_threshold=1), **options)
    policy.try_call(fails)
    assert policy.state == "open"
    return policy


@pytest.fixture
def spans() -> Spans:
    return Spans()


@pytest.fixture(autouse=True)
def undo() -> Iterator[Callable[[], None]]:
    """Instrument, and leave no hook, policy or flag behind."""
    before, flags_before = set(resilient.registry.names()), set(here.flags.names())
    end = instrument()
    yield end
    end()
    assert PolicyState.on_end is None
    for name in set(resilient.registry.names()) - before:
        resilient.registry.remove(name)
    for name in set(here.flags.names()) - flags_before:
        here.flags.forget(here.flags.get(name))


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()
