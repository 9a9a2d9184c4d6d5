"""Answers that are failures without anybody having said so: which of them a retry asks for again."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
import requests

from resilient import Policy, retry

FAST: dict[str, Any] = {"on": ConnectionRefusedError, "wait_initial": 0.001, "wait_max": 0.001}
SAID: dict[str, Any] = {"failed_result": lambda answer: answer.status_code == 503}


def of_httpx(method: str) -> httpx.Response:
    return httpx.Response(503, request=httpx.Request(method, "http://x"))


def of_requests(method: str) -> requests.Response:
    answer = requests.Response()
    answer.status_code = 503
    answer.request = requests.Request(method, "http://x").prepare()
    return answer


@pytest.mark.parametrize("answer", [of_httpx, of_requests])
@pytest.mark.parametrize("colour", ["sync", "async"])
@pytest.mark.parametrize(
    ("method", "more", "attempts"),
    [
        ("GET", {}, 3), ("PUT", {}, 3), ("DELETE", {}, 3), ("POST", {}, 1), ("PATCH", {}, 1),
        ("POST", {"idempotent": True}, 3), ("POST", SAID, 3),
    ],
    ids=["GET", "PUT", "DELETE", "POST", "PATCH", "POST, idempotent", "POST, named"],
)  # fmt: skip
def test_a_write_is_repeated_only_if_somebody_said_so(
    answer: Any, colour: str, method: str, more: dict[str, Any], attempts: int
) -> None:
    policy = Policy("answers", retry(**FAST, **more))

    async def call() -> Any:
        return answer(method)

    if colour == "sync":
        result = policy.try_call(answer, method)
    else:
        result = asyncio.run(policy.atry_call(call))
    assert result.attempts == attempts
    assert result.value.status_code == 503
    if attempts == 1:
        assert f"{method} is not idempotent" in str(result.why_no_retry)


def test_an_answer_without_a_request_is_repeated() -> None:
    """A double of a test has none, and says nothing of a write."""
    policy = Policy("doubles", retry(**FAST))
    assert policy.try_call(lambda: httpx.Response(503)).attempts == 3
