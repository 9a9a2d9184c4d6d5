"""How long a server asks to wait, as real libraries keep it on their errors and answers."""

from __future__ import annotations

import threading
import time
import urllib.error
from collections.abc import Callable
from email.message import Message
from email.utils import formatdate
from functools import partial
from math import inf
from typing import Any

import aiohttp
import botocore.exceptions
import grpc
import httpx
import pytest
import requests
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from resilient import BulkheadFullError, Policy, RefusedError, retry, timeout
from resilient.knowledge.retry_after import asked_wait
from resilient.testing import ManualClock

Headers = dict[str, str]


def of_httpx(headers: Headers) -> Exception:
    request = httpx.Request("GET", "http://x")
    answer = httpx.Response(503, headers=headers, request=request)
    return httpx.HTTPStatusError("503", request=request, response=answer)


def of_requests(headers: Headers) -> Exception:
    answer = requests.Response()
    answer.status_code = 503
    answer.headers.update(headers)
    return requests.HTTPError("503", response=answer)


def of_aiohttp(headers: Headers) -> Exception:
    about: Any = aiohttp.RequestInfo(URL("http://x"), "GET", CIMultiDictProxy(CIMultiDict()))
    return aiohttp.ClientResponseError(about, (), status=503, headers=CIMultiDict(headers))


def of_urllib(headers: Headers) -> Exception:
    message = Message()
    for name, value in headers.items():
        message[name] = value
    return urllib.error.HTTPError("http://x", 503, "busy", message, None)


def of_botocore(headers: Headers) -> Exception:
    lower = {name.lower(): value for name, value in headers.items()}
    about: Any = {"Error": {"Code": "503"}, "ResponseMetadata": {"HTTPHeaders": lower}}
    return botocore.exceptions.ClientError(about, "GetObject")


LIBRARIES = [of_httpx, of_requests, of_aiohttp, of_urllib, of_botocore]
SAID: list[tuple[Headers, float | None]] = [
    ({}, None),
    ({"Retry-After": "3"}, 3.0),
    ({"Retry-After-Ms": "250"}, 0.25),
    ({"Retry-After-Ms": "250", "Retry-After": "1"}, 0.25),
    ({"Retry-After-Ms": "soon", "Retry-After": "1"}, 1.0),
    ({"Retry-After-Ms": "-7"}, None),
    ({"Retry-After-Ms": "0", "Retry-After": "30"}, 30.0),
    ({"Retry-After": " 2.5 "}, 2.5),
    ({"Retry-After": "-7"}, 0.0),
    ({"Retry-After": "1000000000"}, 1e9),
    ({"Retry-After": "nan"}, None),
    ({"Retry-After": "inf"}, None),
    ({"Retry-After": "soon"}, None),
    ({"Retry-After": ""}, None),
    ({"Retry-After": "9" * 400}, None),
    (
        {"Retry-After": "Sun, 06 Nov 1994 08:49:37 GMT", "Date": "Sun, 06 Nov 1994 08:49:30 GMT"},
        7.0,
    ),
    (
        {"Retry-After": "Sun, 06 Nov 1994 08:49:30 GMT", "Date": "Sun, 06 Nov 1994 08:49:37 GMT"},
        0.0,
    ),
    ({"Retry-After": "Sun, 06 Nov 1994 08:49:37 GMT"}, 0.0),
    ({"Retry-After": "Sun, 99 Nov 9999 99:99:99 GMT"}, None),
]  # fmt: skip


@pytest.mark.parametrize("error", LIBRARIES)
@pytest.mark.parametrize(("headers", "seconds"), SAID)
def test_what_a_library_keeps(
    error: Callable[[Headers], Exception], headers: Headers, seconds: float | None
) -> None:
    """Seconds or a date, by the answer's own clock; what is neither says nothing."""
    assert asked_wait(error(headers), None) == seconds


def test_a_date_without_the_servers_own_is_by_ours() -> None:
    """The system's clock decides nothing but this, and the wait is clamped."""
    said = {"Retry-After": formatdate(time.time() + 100, usegmt=True)}
    assert asked_wait(of_httpx(said), None) == pytest.approx(100, abs=20)


def test_an_answer_that_failed_says_it_too() -> None:
    """An httpx.Response, a requests.Response."""
    answer = httpx.Response(503, headers={"Retry-After": "4"})
    assert asked_wait(None, answer) == 4.0
    assert asked_wait(None, 503) is None
    assert asked_wait(None, None) is None


class Pushed(grpc.RpcError):
    def __init__(self, *pairs: tuple[str, Any]) -> None:
        self.pairs = pairs

    def trailing_metadata(self) -> Any:
        return self.pairs or None


@pytest.mark.parametrize(
    ("pairs", "seconds"),
    [
        ((), None),
        ((("grpc-status", "14"), ("grpc-retry-pushback-ms", "1500")), 1.5),
        ((("grpc-retry-pushback-ms", "0"),), 0.0),
        ((("grpc-retry-pushback-ms", "-1"),), inf),
        ((("grpc-retry-pushback-ms", "later"),), inf),
    ],
)
def test_a_servers_pushback(pairs: Any, seconds: float | None) -> None:
    """gRPC's: less than nothing, or what is no number, is no other attempt (gRFC A6)."""
    assert asked_wait(Pushed(*pairs), None) == seconds


def test_a_refusal_of_another_policy_says_it() -> None:
    """By its retry_after."""
    assert asked_wait(BulkheadFullError("x", policy="x", guard="x", retry_after=2.5), None) == 2.5
    assert asked_wait(BulkheadFullError("x", policy="x", guard="x"), None) is None


# -- in a policy ---------------------------------------------


@pytest.fixture
def clock() -> ManualClock:
    made = ManualClock()
    made.skips = True
    return made


def busy(seconds: str) -> None:
    raise of_httpx({"Retry-After": seconds})


def test_the_wait_is_as_long_as_was_asked_for(name: str, clock: ManualClock) -> None:
    """But never longer than `wait_max`."""
    for said, waited in ("3", 3), ("3600", 5), ("-1", 0.1):
        again = retry(on=httpx.HTTPStatusError, attempts=2, wait_max=5)
        policy, began = Policy(name + said, again, clock=clock), clock.now()
        policy.try_call(busy, said)
        assert clock.now() - began == pytest.approx(waited)


def test_a_server_that_wants_no_other_attempt_gets_none(name: str, clock: ManualClock) -> None:
    """And the caller is told why."""
    policy = Policy(name, retry(on=grpc.RpcError), clock=clock)

    def pushes() -> None:
        raise Pushed(("grpc-retry-pushback-ms", "-1"))

    result = policy.try_call(pushes)
    assert (result.attempts, result.why_no_retry) == (1, "the server wants no other attempt")


def test_it_holds_back_the_retries_of_all_callers(name: str, clock: ManualClock) -> None:
    """Not their first attempts."""
    policy = Policy(name, retry(on=Exception, attempts=2, wait_max=9), clock=clock)
    clock.skips = False
    inner: list[Any] = []

    def told() -> None:
        if not inner:
            inner.append(None)
            clock.skips = True
            began = clock.now()
            policy.try_call(busy, "4")  # told to wait for 4 s
            inner[:] = [clock.now() - began]
        raise ConnectionError

    policy.try_call(told)
    assert inner == [4]
    began = clock.now()
    assert policy.call(int) == 0
    assert clock.now() == began


@pytest.mark.parametrize("left", [1.0, 10.0])
def test_it_holds_back_first_attempts_if_told_so(
    name: str, clock: ManualClock, left: float
) -> None:
    """Who has less time left is refused at once, and does not sleep towards its deadline."""
    policy = Policy(
        name,
        timeout(left, sync="cooperative"),
        retry(on=Exception, attempts=1, wait_max=9, hold=True),
        clock=clock,
    )
    policy.try_call(busy, "4")
    began = clock.now()
    if left < 4:
        result = policy.try_call(int)
        assert type(result.error) is RefusedError
        assert "a server asked to wait for 4 s more" in str(result.error)
        assert result.error.retry_after == 4
        assert clock.now() == began
        return
    ends: list[float] = []
    waiter = threading.Thread(target=lambda: ends.append(policy.call(clock.now)))
    waiter.start()
    while not clock.waiting:
        time.sleep(0.001)
    clock.advance(4)
    waiter.join(30)
    assert ends == [began + 4]


def test_a_function_of_ones_own_reads_it(name: str, clock: ManualClock) -> None:
    """What it raises, or gives that is no wait, is logged once and says nothing."""
    for answer, waited in (2, 2.0), (None, 0.1), ("x", 0.1), (-1, 0.1), (1e400, 0.1):
        read: Any = partial(_always, answer)
        policy = Policy(
            f"{name}-{waited}-{answer}",
            retry(on=ConnectionError, attempts=2, retry_after=read),
            clock=clock,
        )
        began = clock.now()
        with pytest.raises(ConnectionError):
            policy.call(lambda: (_ for _ in ()).throw(ConnectionError()))
        assert clock.now() - began == pytest.approx(waited)


def _always(answer: object, _: object) -> object:
    return answer


def test_the_callers_own_errors_are_not_tried_again(name: str, clock: ManualClock) -> None:
    """A 404 stays a 404, unless a predicate says that it may pass."""
    request = httpx.Request("GET", "http://x")

    def missing() -> None:
        answer = httpx.Response(404, request=request)
        raise httpx.HTTPStatusError("404", request=request, response=answer)

    result = Policy(name, retry(on=httpx.HTTPStatusError), clock=clock).try_call(missing)
    assert (result.attempts, result.why_no_retry) == (1, "the error is the caller's own doing")
    chosen = Policy(f"{name}-chosen", retry(on=lambda error: True), clock=clock).try_call(missing)
    assert chosen.attempts == 3
