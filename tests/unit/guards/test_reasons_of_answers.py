"""What operators read of an answer that is a failure: its type and status, which nobody has to look up."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
import requests

from resilient import CircuitOpenError, Policy, circuit_breaker, fallback


def of_httpx() -> httpx.Response:
    return httpx.Response(503, request=httpx.Request("GET", "http://x"))


def of_requests() -> requests.Response:
    answer = requests.Response()
    answer.status_code = 502
    return answer


@pytest.mark.parametrize(
    ("answer", "said"), [(of_httpx, "Response 503"), (of_requests, "Response 502")]
)
def test_the_circuit_says_what_was_answered(answer: Any, said: str) -> None:
    policy = Policy("answers", circuit_breaker(failure_threshold=2))
    policy.call(answer)
    policy.call(answer)
    with pytest.raises(CircuitOpenError, match=f"2x {said}"):
        policy.call(answer)


def test_what_a_fallback_replaces_is_named() -> None:
    policy = Policy("replaced", fallback(value="top 100"))
    result = policy.try_call(of_httpx)
    assert (result.value, str(result.error)) == ("top 100", "a failed result: Response 503")


def test_a_value_that_a_predicate_names_is_a_failed_result() -> None:
    """Its type would say nothing: it is as a rule one that is a success as well."""
    policy = Policy(
        "predicates", circuit_breaker(failure_threshold=1, failed_result=lambda value: value == 3)
    )
    policy.call(int, "3")
    with pytest.raises(CircuitOpenError, match="1x failed_result"):
        policy.call(int, "3")


class Hostile(httpx.Response):
    """An answer that breaks whoever looks."""

    @property
    def status_code(self) -> int:  # type: ignore[override]
        raise RuntimeError("no")

    @status_code.setter
    def status_code(self, value: int) -> None:
        pass


def test_an_answer_that_can_not_be_looked_at_breaks_nothing() -> None:
    policy = Policy(
        "hostile", circuit_breaker(failed_result=lambda value: True, failure_threshold=1)
    )
    policy.call(Hostile, 503)
    assert policy.state == "open"
