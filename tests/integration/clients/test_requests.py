"""requests, as an adapter and wrapped."""

from __future__ import annotations

from typing import Any

import pytest
import requests
import urllib3

import resilient
from resilient.integrations.requests import Adapter
from tests.integration.clients import http_kit
from tests.integration.clients.kit import (
    LIMIT,
    MODES,
    Left,
    Load,
    check_at_rest,
    check_released,
    counted,
    interrupted,
    life_story,
    make_policy,
    outcome,
    plain,
    timed,
)
from tests.kit.servers.http_server import HttpServer
from tests.kit.waiting import until

SLACK = {"cooperative": 0.5, "thread": 0.5}  # seconds over a call's limit

WAYS = ["adapter", "wrapped"]
mode = pytest.mark.parametrize("mode", MODES)
way = pytest.mark.parametrize("way", WAYS)


def make(policy: resilient.Policy, way: str, **options: Any) -> requests.Session:
    """Return a guarded session; by itself it would wait for ever."""
    session = requests.Session()
    session.trust_env = False
    if way == "adapter":
        session.mount("http://", Adapter(policy, **options))
        return session
    if options:
        session.mount("http://", requests.adapters.HTTPAdapter(**options))
    return policy.wrap(session)


# -- the life story ---------------------------------------------


@mode
@way
def test_life_story(http_server: HttpServer, mode: str, way: str) -> None:
    left = Left(http_server.connections)
    policy = make_policy(mode, name="requests")
    session = make(policy, way)
    life_story(
        http_server, policy, Load(lambda: session.get(f"{http_server.url}/json").json()),
        slack=SLACK[mode],
        allowed=(requests.ConnectionError, requests.exceptions.ChunkedEncodingError),
    )  # fmt: skip
    session.close()
    left.check(collect=True)  # urllib3 leaves cycles at a timeout


# -- what is whose fault ---------------------------------------------


def said(response: requests.Response) -> object:
    """Return what a response says."""
    headers = {k: v for k, v in response.headers.items() if k != "date"}
    history = [each.status_code for each in response.history]
    return response.status_code, headers, response.content, history, response.url


def same(bare: Any, wrapped: Any) -> None:
    """Check that two results or exceptions are the same."""
    if isinstance(bare, Exception):
        assert type(wrapped) is type(bare)
        assert wrapped.request.url == bare.request.url
        assert type(wrapped.args[0]) is type(bare.args[0])
    else:
        assert said(wrapped) == said(bare)


@mode
@way
def test_how_an_answer_counts(http_server: HttpServer, mode: str, way: str) -> None:
    left = Left(http_server.connections)
    policy = make_policy(mode, limit=5.0, failures=100)
    with requests.Session() as bare, make(policy, way) as session:
        for path, expected in http_kit.ANSWERS.items():
            url = http_server.url + path
            alone = outcome(policy, lambda: bare.get(url))[1]
            found, guarded = outcome(policy, lambda: session.get(url))
            same(alone, guarded)
            hops = 2 if path.startswith("/redirect") and way == "adapter" else 0
            assert found == {expected: 1 + hops}, path
    check_at_rest(policy)
    del alone, guarded
    left.check(collect=True)  # urllib3 leaves cycles at an error


@mode
@way
@http_kit.timeouts
def test_the_deadline_ends_it(http_server: HttpServer, mode: str, way: str, path: str) -> None:
    left = Left(http_server.connections)
    policy = make_policy(mode)
    session = make(policy, way)
    with timed(LIMIT + SLACK[mode], 0.25):
        found, error = outcome(policy, lambda: session.get(http_server.url + path))
    assert (found, plain(error)) == ({"failure": 1}, resilient.CallTimeoutError)
    del error
    check_released(policy)
    assert session.get(f"{http_server.url}/json").json() == {"ok": True}
    session.close()
    left.check(collect=True)  # urllib3 leaves cycles at a timeout


@mode
@way
def test_a_refused_connection_fails(http_server: HttpServer, mode: str, way: str) -> None:
    policy = make_policy(mode)
    with make(policy, way) as session:
        http_server.kill()
        for _ in range(4):
            found, error = outcome(policy, lambda: session.get(f"{http_server.url}/json"))
            assert (found, type(error)) == ({"failure": 1}, requests.ConnectionError)
        assert policy.state == "open"
        with pytest.raises(resilient.CircuitOpenError):
            session.get(f"{http_server.url}/json")


@mode
@way
@pytest.mark.parametrize("url", ["no-scheme", "ftp://127.0.0.1/x", "http://", "http://a:b"])
def test_a_bad_url_is_the_callers_own(mode: str, way: str, url: str) -> None:
    policy = make_policy(mode)
    with requests.Session() as bare, pytest.raises(Exception) as alone:
        bare.get(url)
    with make(policy, way) as session, counted(policy) as found:
        for _ in range(20):
            with pytest.raises(type(alone.value)) as raised:
                session.get(url)
            assert str(raised.value) == str(alone.value)
    assert set(found) <= {"ignored"}, found
    assert policy.state == "closed"


@mode
@way
def test_many_that_were_not_found_leave_the_circuit_closed(
    http_server: HttpServer, mode: str, way: str
) -> None:
    policy = make_policy(mode, limit=2.0)
    with make(policy, way) as session:
        for _ in range(50):
            response = session.get(f"{http_server.url}/404")
            with pytest.raises(requests.HTTPError):
                response.raise_for_status()
        assert policy.state == "closed"
        assert http_server.connections() == 1  # one, again and again


@mode
@way
def test_too_many_redirects_are_no_failure(http_server: HttpServer, mode: str, way: str) -> None:
    policy = make_policy(mode, limit=5.0)
    with make(policy, way) as session:
        found, error = outcome(policy, lambda: session.get(f"{http_server.url}/redirect?n=40"))
    assert isinstance(error, requests.TooManyRedirects)
    assert "failure" not in found, found


# -- deadlines, the library's own limits, its retries ---------------------------------------------


@mode
@way
def test_an_enclosing_deadline_is_kept(http_server: HttpServer, mode: str, way: str) -> None:
    outer, policy = make_policy("cooperative", limit=0.2), make_policy(mode, limit=5.0)
    with make(policy, way) as session:
        for path in http_kit.TIMEOUTS:
            with (
                timed(0.2 + SLACK[mode], 0.15),
                pytest.raises(resilient.CallTimeoutError) as raised,
            ):
                outer.call(lambda: session.get(http_server.url + path))
            assert raised.value.policy == outer.name
        check_released(policy)


@mode
@way
def test_a_shorter_limit_of_its_own_stays(http_server: HttpServer, mode: str, way: str) -> None:
    policy = make_policy(mode, limit=5.0)
    with make(policy, way) as session:
        for path, limit in (("/hang", 0.2), ("/hang", (1, 0.2)), ("/hang-body", 0.2)):
            url = http_server.url + path
            with requests.Session() as bare, pytest.raises(requests.RequestException) as alone:
                bare.get(url, timeout=limit)
            with timed(0.2 + SLACK[mode], 0.15):
                found, error = outcome(policy, lambda: session.get(url, timeout=limit))
            assert (found, type(error)) == ({"failure": 1}, type(alone.value))


@mode
@way
@pytest.mark.parametrize("path", ["/status/503", "/status/503?retry_after=3", "/close", "/json"])
def test_its_retries_end_with_the_deadline(
    http_server: HttpServer, mode: str, way: str, path: str
) -> None:
    policy = make_policy(mode)
    retry = urllib3.Retry(
        20, backoff_factor=0.05, backoff_max=0.3, status_forcelist=[503], raise_on_status=False
    )
    with make(policy, way, max_retries=retry) as session:
        if path == "/json":
            http_server.kill()
        with timed(LIMIT + SLACK[mode]):
            found, error = outcome(policy, lambda: session.get(http_server.url + path))
        assert (found, plain(error)) == ({"failure": 1}, resilient.CallTimeoutError)
        check_released(policy)


@mode
@way
def test_retries_that_are_in_time_are_seen_by_nobody(
    http_server: HttpServer, mode: str, way: str
) -> None:
    policy = make_policy(mode, limit=2.0)
    with make(policy, way, max_retries=urllib3.Retry(3, status_forcelist=[503])) as session:
        found, response = outcome(policy, lambda: session.get(f"{http_server.url}/flaky/a?times=2"))
    assert found == {"success": 1}
    assert response.json() == {"ok": True}


# -- streams ---------------------------------------------


@mode
@way
def test_a_stream(http_server: HttpServer, mode: str, way: str) -> None:
    left = Left(http_server.connections)
    policy = make_policy(mode, limit=1.0)
    session = make(policy, way)
    with session.get(f"{http_server.url}/chunked?n=3", stream=True) as response:
        assert b"".join(response.iter_content(100)) == b"chunk 0\nchunk 1\nchunk 2\n"
    with session.get(f"{http_server.url}/chunked?n=1000&pause=0.05", stream=True) as response:
        next(response.iter_content(5))
    check_at_rest(policy)
    with session.get(f"{http_server.url}/json", stream=True) as response:
        assert response.json() == {"ok": True}
    with session.get(f"{http_server.url}/gzip", stream=True) as response:
        assert list(response.iter_lines()) == [b'{"ok": true}']
    session.close()
    del response
    left.check()


@mode
@way
def test_a_stream_hangs_no_longer_than_the_deadline(
    http_server: HttpServer, mode: str, way: str
) -> None:
    policy = make_policy(mode)
    with make(policy, way) as session:
        with session.get(f"{http_server.url}/chunked?n=3&pause=60", stream=True) as response:
            with (
                timed(LIMIT + SLACK[mode]),
                pytest.raises((resilient.CallTimeoutError, requests.ConnectionError)),
            ):
                for _ in response.iter_content(10):
                    pass
        check_released(policy)


# -- release ---------------------------------------------


@way
def test_the_worker_of_an_interrupted_caller_ends_at_once(
    http_server: HttpServer, way: str
) -> None:
    # Its own limits are far away: only that its socket was shut down can end it.
    policy = make_policy("thread", limit=30.0)
    with make(policy, way) as session:
        interrupted(lambda: session.get(f"{http_server.url}/hang-body"))
        with timed(2.0):
            check_released(policy)


@way
def test_abandoned_workers_end_while_the_server_is_frozen(
    http_server: HttpServer, way: str
) -> None:
    left = Left()
    policy = make_policy("thread", failures=100)
    session = make(policy, way)
    with Load(lambda: session.get(f"{http_server.url}/json"), 6) as load:
        until(lambda: load.good(0) >= 12)
        http_server.stop()
        until(lambda: load.kinds()["CallTimeoutError"] >= 6)
    check_released(policy)
    http_server.cont()
    session.close()
    left.check(collect=True)  # urllib3 leaves cycles at a timeout
