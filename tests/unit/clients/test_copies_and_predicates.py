"""Copies of wrapped clients, and a predicate of theirs that raises."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from resilient import Policy, circuit_breaker, timeout


class Client:
    async def afind(self) -> int:
        return 1

    def note(self) -> int:
        return 2


def test_a_predicate_of_a_wrap_that_raises_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    of = Policy("fault-wrap", circuit_breaker())
    client: Any = of.wrap(Client(), failed_result=lambda answer: answer.statsu == 503)
    assert [client.note(), client.note()] == [2, 2]
    (record,) = [each for each in caplog.records if "predicate" in each.getMessage()]
    assert "fault-wrap" in record.getMessage()
    assert of.snapshot()["calls"]["success"] == 2


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_a_copy_of_an_async_client_is_one(copied: Any) -> None:
    of = Policy(f"fault-{copied.__name__}", timeout(1))
    assert copied(of.wrap(Client())).note() == 2
