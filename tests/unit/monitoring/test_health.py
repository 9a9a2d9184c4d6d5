"""The health view: told as it is, and never the death of the service."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import anyio
import pytest
import trio

import resilient
from resilient import Policy, bulkhead, circuit_breaker, flag, flags, health, kill_switch, registry
from resilient.flags.runtime import here
from resilient.testing import ManualClock

pytestmark = pytest.mark.usefixtures("alone", "no_flags")


@pytest.fixture
def no_flags() -> Iterator[None]:
    """Let a test see only the flags that it makes, and nothing of them be left."""
    before = {flag.name: flag for flag in here.flags.all()}
    for each in before.values():
        here.flags.forget(each)
    yield
    here.stop()
    for each in here.flags.all():
        here.flags.forget(each)


def fail() -> None:
    raise ConnectionError("down")


def opened(name: str, clock: ManualClock, **more: Any) -> Policy:
    """Return a policy whose circuit is open."""
    policy = Policy(name, circuit_breaker(failure_threshold=2, recovery_timeout=30), clock=clock,
                    **more)  # fmt: skip
    for _ in range(2):
        policy.try_call(fail)
    assert policy.state == "open"
    return policy


def test_all_is_well() -> None:
    """Policies that are closed are not told, and nothing is degraded."""
    Policy("a", circuit_breaker()).call(int)
    Policy("b", bulkhead(3))
    flag("on")
    assert health.report() == {"ready": True, "status": "ok", "policies": {}, "flags_off": []}


def test_an_open_circuit(clock: ManualClock) -> None:
    """It is told with why, when it tries again, owner and impact; the process is ready."""
    opened("bank", clock, owner="pay", impact="Orders are charged later.")
    clock.advance(10)
    said = health.report()
    assert said["ready"] is True
    assert said["status"] == "degraded"
    assert said["policies"] == {
        "bank": {
            "state": "open",
            "why": "2 of 2 calls failed; 2 failures in a row; 2x ConnectionError",
            "retry_after": pytest.approx(20),
            "owner": "pay",
            "impact": "Orders are charged later.",
        }
    }
    json.dumps(said, allow_nan=False)


def test_unready_on_follows_the_circuit(clock: ManualClock) -> None:
    """Only while one that is named is open or forced open: half-open, closed and released are ready."""
    policy, other = opened("bank", clock), opened("other", clock)

    def ready() -> bool:
        said: bool = health.report(unready_on=["bank"])["ready"]
        return said

    assert not ready()
    assert health.report()["ready"]
    clock.advance(31)
    probe = policy.block()
    probe.__enter__()
    assert policy.state == "half_open"
    assert ready()
    assert health.report()["policies"]["bank"]["state"] == "half_open"
    probe.__exit__(None, None, None)
    assert policy.state == "closed"
    assert ready()
    assert other.state == "open"
    policy.force_open("maintenance")
    assert not ready()
    assert health.report()["policies"]["bank"]["why"] == "maintenance"
    policy.force_closed("come what may")
    assert ready()
    policy.release()
    assert ready()


def test_forced_without_a_circuit() -> None:
    """A policy with no breaker counts as cut off while it is forced open, and has no retry_after."""
    policy = Policy("plain", bulkhead(1))
    policy.force_open("by hand")
    said = health.report(unready_on=["plain"])
    assert (said["ready"], said["status"]) == (False, "degraded")
    assert said["policies"]["plain"]["retry_after"] is None
    policy.release()
    assert health.report(unready_on=["plain"])["ready"]


def test_a_circuit_that_only_measures(clock: ManualClock) -> None:
    """It refuses nobody: nothing is degraded."""
    policy = Policy("a", circuit_breaker(failure_threshold=1, metrics_only=True), clock=clock)
    policy.try_call(fail)
    assert health.report(unready_on=["a"])["ready"]
    assert health.report()["status"] == "ok"


def test_flags_that_are_off() -> None:
    """A flag that was turned off is told, and is no reason not to be ready."""
    recs = flag("recs")
    Policy("recs", kill_switch(recs))
    flags.off(recs, reason="a try")
    said = health.report(unready_on=["recs"])
    assert (said["ready"], said["status"], said["flags_off"]) == (True, "degraded", ["recs"])
    flags.on(recs, reason="enough")
    assert health.report()["status"] == "ok"


def test_a_flag_that_is_off_as_declared() -> None:
    """A feature that is not on yet is no degradation."""
    flag("beta", default=False)
    assert health.report()["status"] == "ok"


@pytest.mark.parametrize("make", [health.wsgi_app, health.asgi_app, health.report])
def test_a_name_that_nobody_has(make: Callable[..., Any]) -> None:
    """It is an error at once, with the nearest name, and not a check that never fails."""
    Policy("payments", bulkhead(1))
    with pytest.raises(LookupError, match="did you mean 'payments'"):
        make(unready_on=["payment"])


def test_a_policy_that_goes_away(clock: ManualClock) -> None:
    """A check that was made for it goes on answering."""
    opened("bank", clock)
    app = health.wsgi_app(unready_on=["bank"])
    assert wsgi(app)[0] == "503 Service Unavailable"
    registry.remove("bank")
    assert wsgi(app)[0] == "200 OK"


# -- endpoints ------------------------------------------------------------------


def wsgi(app: Any, method: str = "GET") -> tuple[str, dict[str, str], bytes]:
    """Ask an application of WSGI."""
    found: list[Any] = []
    body = app({"REQUEST_METHOD": method, "PATH_INFO": "/"}, lambda *args: found.append(args))
    ((status, headers),) = found
    return status, dict(headers), b"".join(body)


async def asgi(app: Any, method: str = "GET") -> tuple[int, dict[bytes, bytes], bytes]:
    """Ask an application of ASGI."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request"}

    await app({"type": "http", "method": method, "headers": [], "path": "/"}, receive, send)
    start, body = sent
    assert (start["type"], body["type"]) == ("http.response.start", "http.response.body")
    return start["status"], dict(start["headers"]), body["body"]


RUN: dict[str, Callable[[Callable[[], Awaitable[Any]]], Any]] = {
    "asyncio": lambda fn: asyncio.run(fn()),  # type: ignore[arg-type]
    "trio": trio.run,
}


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("cut_off", [False, True])
def test_wsgi(clock: ManualClock, method: str, cut_off: bool) -> None:
    """200 or 503, with the report as JSON; HEAD has the same headers, and no body."""
    policy = opened("bank", clock) if cut_off else Policy("bank", circuit_breaker())
    app = health.wsgi_app(unready_on=iter([policy.name]))
    for _ in range(2):
        status, headers, body = wsgi(app, method)
        assert status == ("503 Service Unavailable" if cut_off else "200 OK")
        assert headers["Content-Type"] == "application/json"
        whole = json.dumps(health.report(unready_on=["bank"])).encode()
        assert abs(int(headers["Content-Length"]) - len(whole)) < 20
        assert bool(body) == (method == "GET")
        assert method == "HEAD" or json.loads(body)["ready"] is not cut_off


@pytest.mark.parametrize("library", RUN)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("cut_off", [False, True])
def test_asgi(clock: ManualClock, library: str, method: str, cut_off: bool) -> None:
    """The same, on asyncio and trio."""
    policy = opened("bank", clock) if cut_off else Policy("bank", circuit_breaker())
    app = health.asgi_app(unready_on=[policy.name])
    status, headers, body = RUN[library](lambda: asgi(app, method))
    assert status == (503 if cut_off else 200)
    assert headers[b"content-type"] == b"application/json"
    assert int(headers[b"content-length"]) > 40
    assert bool(body) == (method == "GET")
    assert method == "HEAD" or json.loads(body)["ready"] is not cut_off


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_other_methods(method: str) -> None:
    """They are not allowed, and told what is."""
    status, headers, body = wsgi(health.wsgi_app(), method)
    assert (status[:3], headers["Allow"], body) == ("405", "GET, HEAD", b"")
    code, told, body = asyncio.run(asgi(health.asgi_app(), method))
    assert (code, told[b"allow"], body) == (405, b"GET, HEAD", b"")


def test_beside_an_application_that_hangs() -> None:
    """The check answers while every thread of the framework waits for a dependency."""
    app, over = health.asgi_app(), threading.Event()

    async def main() -> int | None:
        status = None
        async with anyio.create_task_group() as group:
            for _ in range(45):  # Starlette has 40 for endpoints that are plain functions
                group.start_soon(anyio.to_thread.run_sync, over.wait)
            await anyio.sleep(0.2)
            with anyio.move_on_after(1):
                status, _, _ = await asgi(app)
            over.set()
        return status

    assert anyio.run(main) == 200


def test_while_everything_is_broken(clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a store that can't be, open circuits, a listener that raises and full lines: it answers."""
    monkeypatch.setenv("RESILIENT_STORE", "nonsense://nowhere")
    monkeypatch.setenv("RESILIENT_RUNTIME_DIR", "/proc/nowhere")

    def broken(event: object) -> None:
        raise RuntimeError("a listener")

    unsubscribe = resilient.registry.subscribe(broken)
    try:
        for number in range(50):
            opened(f"p{number}", clock)
        policy = Policy("forced", circuit_breaker())
        policy.force_open("all is lost")
        for _ in range(3):
            status, _, body = wsgi(health.wsgi_app())
            assert status == "200 OK"
            assert len(json.loads(body)["policies"]) == 51
            assert wsgi(health.wsgi_app(unready_on=["forced"]))[0][:3] == "503"
    finally:
        unsubscribe()


def test_under_load(clock: ManualClock) -> None:
    """Beside threads that open, close and force policies, each report is whole and quick."""
    policies = [Policy(f"p{n}", circuit_breaker(failure_threshold=1)) for n in range(5)]
    over = threading.Event()

    def stir(policy: Policy) -> None:
        while not over.is_set():
            policy.try_call(fail)
            policy.force_open("x")
            policy.release()
            policy.force_closed("y")
            policy.release()

    threads = [threading.Thread(target=stir, args=(policy,)) for policy in policies]
    for thread in threads:
        thread.start()
    try:
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            said = health.report(unready_on=["p0"])
            for told in said["policies"].values():
                assert set(told) == {"state", "why", "retry_after", "owner", "impact"}
                assert told["state"] != "open" or told["retry_after"] is not None
    finally:
        over.set()
        for thread in threads:
            thread.join()
