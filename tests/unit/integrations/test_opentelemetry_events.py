"""OpenTelemetry: several calls in one span, flags, changes, and exemplars."""

from __future__ import annotations

import itertools
from typing import Any

import opentelemetry.trace
import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, Decision, Sampler, SamplingResult
from opentelemetry.semconv._incubating.attributes import feature_flag_attributes as conventions

import resilient
from resilient import (
    bulkhead,
    circuit_breaker,
    fallback,
    flag,
    flags,
    kill_switch,
    metrics,
    timeout,
)
from resilient.flags.runtime import here
from resilient.integrations import opentelemetry_spans as ours
from resilient.telemetry.exemplars import all_of_them
from resilient.testing import ManualClock, flag_off
from tests.unit.integrations.otel_kit import (
    SLOW,
    Spans,
    calls_of,
    clock,
    events_of,
    fails,
    numbers,
    opened,
    ours_of,
    policy_of,
    spans,
    undo,
)

__all__ = ["clock", "spans", "undo"]  # fixtures

# -- several calls in one span ---------------------------------------------


def test_the_worst_call_names_the_span(spans: Spans, clock: ManualClock) -> None:
    """An error goes over a degraded answer, that over a good one, in whatever order they come."""
    good = policy_of(clock=clock)
    degraded = policy_of(fallback(value=0), clock=clock)
    broken = policy_of(circuit_breaker(), clock=clock)
    calls = {
        "full": lambda: good.call(clock.advance, SLOW),
        "degraded": lambda: degraded.call(fails),
        "error": lambda: broken.try_call(fails),
    }
    for order in itertools.permutations(calls):

        def several(order: tuple[str, ...] = order) -> None:
            for word in order:
                calls[word]()

        span = spans.around(several)
        assert (ours_of(span)["served"], ours_of(span)["policy"]) == ("error", broken.name)
        assert ours_of(span)["unusual_calls"] == 2
        told = [each["served"] for each in calls_of(span)]
        assert told == [word for word in order if word != "full"]  # the attributes hide nothing


def test_of_two_that_are_as_bad_the_first_names_the_span(spans: Spans) -> None:
    """The first error is nearest to the cause."""
    first, second = policy_of(circuit_breaker()), policy_of(circuit_breaker())
    span = spans.around(lambda: (first.try_call(fails), second.try_call(fails)))
    assert ours_of(span)["policy"] == first.name
    assert [each["policy"] for each in calls_of(span)] == [first.name, second.name]


def test_nothing_of_one_call_is_left_under_the_name_of_another(spans: Spans) -> None:
    """What a worse call does not say is emptied, since nothing can be taken off a span."""
    off = flag(f"off-{next(numbers)}")
    switched = policy_of(fallback(value=0), kill_switch(off))
    broken = policy_of()
    with flag_off(off):
        span = spans.around(lambda: (switched.call(int), broken.try_call(fails)))
    assert ours_of(span) == {
        "policy": broken.name, "outcome": "failure", "served": "error", "guard": "",
        "flag": "", "flag_off": False, "unusual_calls": 2,
    }  # fmt: skip


def test_an_error_of_the_callers_own_hides_no_harm(spans: Spans) -> None:
    """An ignored error, such as a 404, comes after a degraded answer."""
    asking = policy_of(circuit_breaker(ignore=KeyError))
    degraded = policy_of(fallback(value=0))
    missing: dict[str, int] = {}
    calls = [lambda: asking.try_call(missing.__getitem__, "x"), lambda: degraded.call(fails)]
    for order in (calls, calls[::-1]):
        span = spans.around(lambda order=order: [call() for call in order])
        assert ours_of(span)["policy"] == degraded.name
    alone = spans.around(calls[0])
    assert (ours_of(alone)["outcome"], ours_of(alone)["served"]) == ("ignored", "caller_error")


def test_a_span_is_not_flooded(spans: Spans) -> None:
    """A loop of refused calls leaves the application's own events on the span."""
    policy = opened()

    def loop() -> None:
        opentelemetry.trace.get_current_span().add_event("the application's own")
        for _ in range(500):
            policy.try_call(int)

    span = spans.around(loop)
    assert len(calls_of(span)) == ours._MOST
    assert len(events_of(span, "the application's own")) == 1
    assert ours_of(span)["unusual_calls"] == 500


# -- flags ---------------------------------------------


def evaluations(span: ReadableSpan) -> list[dict[str, Any]]:
    return events_of(span, "feature_flag.evaluation")


def test_a_flag_that_is_off(spans: Spans) -> None:
    """It is named on the span, and its evaluation told by OpenTelemetry's conventions."""
    recs = flag(f"recommendations-{next(numbers)}")
    policy = policy_of(fallback(value=[]), kill_switch(recs))
    assert not spans.around(lambda: policy.call(int)).events  # on: nothing is told
    flags.off(recs, reason="vendor down")
    span = spans.around(lambda: [policy.call(int) for _ in range(3)])
    said = ours_of(span)
    assert (said["guard"], said["flag"], said["flag_off"]) == ("kill_switch", recs.name, True)
    flip = here.state.flips[f"flag/{recs.name}"]
    assert evaluations(span) == [{  # once a span: the others would say the same
        conventions.FEATURE_FLAG_KEY: recs.name,
        conventions.FEATURE_FLAG_RESULT_VARIANT: "off",
        conventions.FEATURE_FLAG_RESULT_REASON:
            conventions.FeatureFlagResultReasonValues.DISABLED.value,
        conventions.FEATURE_FLAG_PROVIDER_NAME: "resilient",
        conventions.FEATURE_FLAG_VERSION: str(flip.version),
    }]  # fmt: skip
    assert len(calls_of(span)) == 3
    flags.on(recs, reason="vendor is back")
    assert not spans.around(lambda: policy.call(int)).events


def test_why_a_flag_is_off(spans: Spans, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason is one of the convention's words."""
    known = {each.value for each in conventions.FeatureFlagResultReasonValues}
    assert set(ours._REASONS.values()) <= known
    declared = flag(f"beta-{next(numbers)}", default=False)
    (said,) = evaluations(spans.around(lambda: policy_of(kill_switch(declared)).call(int)))
    assert said["feature_flag.result.reason"] == "default"
    assert "feature_flag.version" not in said
    tested = flag(f"tested-{next(numbers)}")
    with flag_off(tested):
        (said,) = evaluations(spans.around(lambda: policy_of(kill_switch(tested)).call(int)))
    assert said["feature_flag.result.reason"] == "static"
    monkeypatch.setattr(here.state, "says", lambda _: (False, "environment", None))
    assert ours._evaluation(tested)["feature_flag.result.reason"] == "static"


def test_a_switch_with_an_answer(spans: Spans) -> None:
    """A switch that answers by itself has refused as well."""
    off = flag(f"answered-{next(numbers)}")
    policy = policy_of(kill_switch(off, answer=lambda *_: "cached"))
    with flag_off(off):
        span = spans.around(lambda: policy.call(int))
    assert (ours_of(span)["served"], ours_of(span)["flag"]) == ("degraded", off.name)


def test_which_of_two_switches(spans: Spans) -> None:
    """The one that is off is named, and with both the outer one."""
    outer, inner = flag(f"outer-{next(numbers)}"), flag(f"inner-{next(numbers)}")
    policy = policy_of(kill_switch(outer), kill_switch(inner))
    with flag_off(inner):
        assert ours_of(spans.around(lambda: policy.call(int)))["flag"] == inner.name
        with flag_off(outer):
            assert ours_of(spans.around(lambda: policy.call(int)))["flag"] == outer.name
    ours.on_end(policy._core, "refused", "error", "kill_switch", 0.0)
    with spans("on again"):  # before the telling: which it was can't be known
        ours.on_end(policy._core, "refused", "error", "kill_switch", 0.0)
    assert "flag" not in ours_of(spans.named("on again"))


def test_a_flag_that_is_on_again(spans: Spans) -> None:
    """The only switch is named also where its flag was turned on before the telling."""
    only = flag(f"only-{next(numbers)}")
    policy = policy_of(kill_switch(only))
    span = spans.around(lambda: ours.on_end(policy._core, "refused", "error", "kill_switch", 0.0))
    (said,) = evaluations(span)
    assert said["feature_flag.key"] == only.name
    assert said["feature_flag.result.reason"] == "unknown"


# -- changes ---------------------------------------------


def test_a_circuit_that_opens(spans: Spans, clock: ManualClock) -> None:
    """A change is an event on the span of the call that made it, with what the breaker had seen."""
    policy = policy_of(circuit_breaker(failure_threshold=2, recovery_timeout=5), clock=clock)

    def story() -> None:
        for _ in range(3):
            policy.try_call(fails)
        clock.advance(5)
        policy.call(int)

    span = spans.around(story)
    names = [event.name for event in span.events if event.name != "resilient.call"]
    assert names == ["resilient.opened", "resilient.refused", "resilient.half_open",
                     "resilient.closed"]  # fmt: skip
    (said,) = events_of(span, "resilient.opened")
    assert (
        said.items()
        >= {
            "resilient.policy": policy.name,
            "resilient.guard": "circuit_breaker",
            "resilient.cause": "auto",
            "resilient.before": "closed",
            "resilient.after": "open",
            "resilient.evidence.calls": 2,
            "resilient.evidence.failures": 2,
            "resilient.evidence.failure_rate": 1.0,
            "resilient.evidence.exceptions": ("2x ConnectionError",),
            "resilient.evidence.retry_after": 5.0,
            "resilient.evidence.settings.failure_threshold": 2,
            "resilient.evidence.revision": 0,
        }.items()
    )
    assert "resilient.reason" in said
    assert "resilient.flag" not in said


def test_what_operators_do(spans: Spans) -> None:
    """Forced states, updates and flips are told where they are done in a span."""
    policy, switch = policy_of(bulkhead(2)), flag(f"flipped-{next(numbers)}")

    def story() -> None:
        policy.force_open(reason="cut off")
        policy.release(reason="over")
        policy.update(bulkhead={"max_concurrent": 3}, reason="more")
        flags.off(switch, reason="vendor down", by="ana")

    span = spans.around(story)
    assert [event.name for event in span.events] == [
        "resilient.forced", "resilient.released", "resilient.updated", "resilient.flipped",
    ]  # fmt: skip
    flipped = span.events[-1].attributes or {}
    assert flipped["resilient.flag"] == switch.name
    assert flipped["resilient.cause"] == "operator"
    assert flipped["resilient.after"] == "off"
    assert "ana" in str(flipped["resilient.reason"])


def test_events_are_bounded(spans: Spans) -> None:
    """Neither long texts, nor many kinds of failures, nor many changes flood a span."""
    policy = policy_of()

    def story() -> None:
        for number in range(100):
            policy.force_open(reason=f"{number} " + "x" * 400)

    told = events_of(spans.around(story), "resilient.forced")
    assert len(told) == ours._MOST
    assert max(len(str(value)) for each in told for value in each.values()) == ours._LONGEST
    wide = {f"name{number}": {"inner": number} for number in range(99)}
    many = {f"Error{number}": 1 for number in range(99)}
    event = resilient.Event("opened", guard="circuit_breaker", at=0.0, policy="wide",
                            evidence={**wide, "exceptions": many})  # fmt: skip
    found = ours._attributes(event)
    assert len(found) <= ours._MOST + 1
    assert len(found["resilient.evidence.exceptions"]) == ours._MOST


# -- exemplars ---------------------------------------------


def test_exemplars(spans: Spans, clock: ManualClock) -> None:
    """Slow and failed calls hang on their buckets with trace and span; refused ones on none."""
    policy = policy_of(circuit_breaker(failure_threshold=1), clock=clock)

    def failing() -> None:
        clock.advance(3)
        fails()

    slow = spans.around(lambda: policy.call(clock.advance, 0.3))
    failed = spans.around(lambda: policy.call(failing))
    spans.around(lambda: policy.call(int))
    kept = all_of_them()[policy.name]
    assert [seconds for _, seconds, _ in kept.values()] == [pytest.approx(0.3), pytest.approx(3)]
    for span, (labels, _, _) in zip((slow, failed), kept.values(), strict=True):
        assert span.context is not None
        assert labels == {"trace_id": f"{span.context.trace_id:032x}",
                          "span_id": f"{span.context.span_id:016x}"}  # fmt: skip
    body = metrics.exposition("application/openmetrics-text")[0].decode()
    assert f'trace_id="{slow.context.trace_id:032x}"' in body


def test_a_late_value_has_an_exemplar_that_is_a_number(spans: Spans, clock: ManualClock) -> None:
    """What is kept of a late value is how long it took."""
    policy = policy_of(timeout(1, sync="cooperative"), clock=clock)
    spans.around(lambda: policy.call(clock.advance, 2))
    assert [seconds for _, seconds, _ in all_of_them()[policy.name].values()] == [2]
    spans.around(lambda: ours.on_end(policy._core, "success", "full", "", float("inf")))
    assert [seconds for _, seconds, _ in all_of_them()[policy.name].values()] == [2]


class RecordOnly(Sampler):
    """Records spans for the process itself, and exports none."""

    def should_sample(self, *_: Any, **__: Any) -> SamplingResult:
        return SamplingResult(Decision.RECORD_ONLY)

    def get_description(self) -> str:
        return "record only"


def test_a_trace_that_is_not_sampled_is_no_exemplar() -> None:
    """It could not be found where traces are kept."""
    policy = policy_of(circuit_breaker())
    for sampler in (RecordOnly(), ALWAYS_OFF):
        with Spans(sampler)():
            policy.try_call(fails)
    assert policy.name not in all_of_them()
