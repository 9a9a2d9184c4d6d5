"""What a call returns and raises is looked at no more than it has to be."""

from __future__ import annotations

import copy
import pickle
from typing import Any
from unittest.mock import MagicMock, Mock

import pytest

from resilient import CallTimeoutError, CircuitOpenError, Policy, bulkhead, fallback


class Proxy:
    """An object that answers, or raises, whatever it is asked for."""

    def __getattr__(self, name: str) -> object:
        raise RuntimeError(name)


@pytest.mark.parametrize("value", [Mock(), MagicMock(), Proxy()], ids=["mock", "magic", "proxy"])
def test_nothing_is_asked_of_a_returned_value(value: object) -> None:
    """A mock or lazy proxy passes through by identity and keeps no slot."""
    policy = Policy("fault-values", bulkhead(1))
    guarded = policy(lambda: value)
    assert guarded() is value
    assert guarded() is value
    assert policy.call(lambda: value) is value
    assert policy.snapshot()["in_flight"] == 0


@pytest.mark.parametrize("way", [lambda e: pickle.loads(pickle.dumps(e)), copy.copy])
@pytest.mark.parametrize("kind", [CircuitOpenError, CallTimeoutError])
def test_a_copied_error_of_ours_is_a_failure_like_any_other(way: Any, kind: Any) -> None:
    """What another process raised and this one raises again is judged, not stumbled over."""
    policy = Policy("fault-copies", fallback(value="less"), bulkhead(1))
    error = way(kind("from elsewhere"))

    def body() -> None:
        raise error

    assert policy.try_call(body).value == "less"
    assert policy.snapshot()["calls"]["failure"] == 1
