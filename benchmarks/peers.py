"""The sides of others, with the defaults that their users get, and proof that they act."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import anyio
import circuitbreaker
import purgatory
import pybreaker
import pyresilience
import trio
from hyx import bulkhead as hyx_bulkhead
from hyx import circuitbreaker as hyx_breaker
from hyx import fallback as hyx_fallback
from hyx import timeout as hyx_timeout
from hyx.circuitbreaker.exceptions import BreakerFailing
from purgatory.domain.model import OpenedState

from .model import Side, require
from .ours import LONG, abare, bare, failing


def _trip(call: Callable[[int], Any], refusal: type[BaseException], times: int = 5) -> None:
    """Fail until it refuses; make sure that it does."""
    for _ in range(times):
        try:
            call(1)
        except (ConnectionError, pybreaker.CircuitBreakerError):
            pass
    try:
        call(1)
    except refusal:
        return
    require(False, f"no {refusal.__name__} after {times} failures")


def _caught(call: Callable[[int], Any], refusal: type[BaseException]) -> Callable[[int], int]:
    """Return the call as somebody makes it who has a lesser answer of his own."""

    def guarded(x: int) -> int:
        try:
            return call(x)  # type: ignore[no-any-return]
        except refusal:
            return -x

    return guarded


# -- pybreaker, circuitbreaker, purgatory: breakers ------------------------------------


def pybreaker_breaker() -> Side:
    _trip(pybreaker.CircuitBreaker()(failing), pybreaker.CircuitBreakerError)
    made = pybreaker.CircuitBreaker()

    def ended(calls: int) -> None:
        require(made.current_state == "closed", "pybreaker did not stay closed")

    return Side(made(bare), ended=ended)


def pybreaker_refused() -> Side:
    made = pybreaker.CircuitBreaker(reset_timeout=LONG)
    _trip(made(failing), pybreaker.CircuitBreakerError)

    def ended(calls: int) -> None:
        require(made.current_state == "open", "pybreaker did not stay open")

    return Side(_caught(made(bare), pybreaker.CircuitBreakerError), answer=-1, ended=ended)


def circuitbreaker_breaker() -> Side:
    _trip(circuitbreaker.CircuitBreaker()(failing), circuitbreaker.CircuitBreakerError)
    return Side(circuitbreaker.CircuitBreaker()(bare))


def circuitbreaker_refused() -> Side:
    made = circuitbreaker.CircuitBreaker(recovery_timeout=int(LONG))
    _trip(made(failing), circuitbreaker.CircuitBreakerError)

    def ended(calls: int) -> None:
        require(made.opened, "circuitbreaker did not stay open")

    return Side(_caught(made(bare), circuitbreaker.CircuitBreakerError), answer=-1, ended=ended)


def purgatory_breaker() -> Side:
    factory = purgatory.SyncCircuitBreakerFactory()
    _trip(factory("check")(failing), OpenedState)
    return Side(factory("timed")(bare))


def purgatory_refused() -> Side:
    factory = purgatory.SyncCircuitBreakerFactory(default_ttl=LONG)
    _trip(factory("open")(failing), OpenedState)
    state = factory.get_breaker("open").context._state
    require(isinstance(state, OpenedState), "purgatory did not open")

    def begin() -> None:  # it raises one exception again and again, whose traceback grows
        state.__traceback__ = None  # type: ignore[attr-defined]

    return Side(_caught(factory("open")(bare), OpenedState), answer=-1, begin=begin)


async def circuitbreaker_async() -> Side:
    return Side(circuitbreaker.CircuitBreaker()(abare))


async def purgatory_async() -> Side:
    return Side(purgatory.AsyncCircuitBreakerFactory()("timed")(abare))


# -- hyx: asyncio only -----------------------------------------------------------------


async def _nap(x: int) -> int:
    await asyncio.sleep(10)
    return x


async def _afailing(x: int) -> int:
    raise ConnectionError(x)


async def _alesser(error: object, x: int) -> int:
    return -x


async def hyx_alone() -> Side:
    made = hyx_breaker.consecutive_breaker()
    tried = made(_afailing)
    for _ in range(5):
        try:
            await tried(1)
        except ConnectionError:
            pass
    try:
        await tried(1)
    except BreakerFailing:
        return Side(hyx_breaker.consecutive_breaker()(abare))
    require(False, "hyx did not open")
    raise AssertionError


def _hyx(fn: Callable[[int], Any], seconds: float) -> Callable[[int], Any]:
    inner = hyx_bulkhead.bulkhead(20, 20)(hyx_timeout.timeout(seconds)(fn))
    guarded = hyx_breaker.consecutive_breaker()(inner)
    return hyx_fallback.fallback(cast("Any", _alesser))(guarded)


async def hyx_whole() -> Side:
    began = time.monotonic()
    require(await _hyx(_nap, 0.02)(1) == -1, "hyx has no fallback for a timeout")
    require(time.monotonic() - began < 5, "hyx has no timeout")
    return Side(_hyx(abare, 1.0))


# -- pyresilience ----------------------------------------------------------------------


def _pyresilience(seconds: float | None = None) -> Callable[[Any], Any]:
    return pyresilience.resilient(
        timeout=None if seconds is None else pyresilience.TimeoutConfig(seconds=seconds),
        circuit_breaker=pyresilience.CircuitBreakerConfig(recovery_timeout=LONG),
        bulkhead=pyresilience.BulkheadConfig(max_concurrent=20),
        fallback=pyresilience.FallbackConfig(handler=lambda _: -1),
    )


def pyresilience_untimed() -> Side:
    require(_pyresilience()(failing)(1) == -1, "pyresilience has no fallback")
    return Side(_pyresilience()(bare))


def pyresilience_whole() -> Side:
    began = time.monotonic()
    require(_pyresilience(0.02)(lambda _: time.sleep(0.2))(1) == -1, "no fallback for a timeout")
    require(time.monotonic() - began < 0.15, "pyresilience has no timeout")
    return Side(_pyresilience(1.0)(bare), waits=True)


def pyresilience_answered() -> Side:
    calls = []

    def body(x: int) -> int:
        calls.append(x)
        raise ConnectionError

    guarded = _pyresilience()(body)
    for _ in range(6):
        require(guarded(1) == -1, "pyresilience has no fallback")
    require(len(calls) == 5, "pyresilience did not open")
    return Side(guarded, answer=-1, ended=lambda _: require(len(calls) == 5, "did not stay open"))


async def pyresilience_async() -> Side:
    began = time.monotonic()
    require(await _pyresilience(0.02)(_nap)(1) == -1, "no fallback for a timeout")
    require(time.monotonic() - began < 5, "pyresilience has no timeout")
    return Side(_pyresilience(1.0)(abare))


# -- time limits and workers -----------------------------------------------------------


async def asyncio_timeout() -> Side:
    async def limited(x: int, seconds: float = 1.0, fn: Callable[[int], Any] = abare) -> int:
        async with asyncio.timeout(seconds):
            return await fn(x)  # type: ignore[no-any-return]

    await _times_out(limited(1, 0.02, _nap))
    return Side(limited)


async def anyio_fail_after() -> Side:
    async def limited(x: int, seconds: float = 1.0, fn: Callable[[int], Any] = abare) -> int:
        with anyio.fail_after(seconds):
            return await fn(x)  # type: ignore[no-any-return]

    await _times_out(limited(1, 0.02, _nap))
    return Side(limited)


async def trio_fail_after() -> Side:
    async def limited(x: int, seconds: float = 1.0, fn: Callable[[int], Any] = abare) -> int:
        with trio.fail_after(seconds):
            return await fn(x)  # type: ignore[no-any-return]

    async def nap(x: int) -> int:
        await trio.sleep(10)
        return x

    await _times_out(limited(1, 0.02, nap), trio.TooSlowError)
    return Side(limited)


async def _times_out(call: Any, error: type[BaseException] = TimeoutError) -> None:
    try:
        await call
    except error:
        return
    require(False, f"no {error.__name__}")


class Executor:
    """A warm pool of one worker; somebody has to close it."""

    def __init__(self) -> None:
        self.pool = ThreadPoolExecutor(1, thread_name_prefix="executor")

    def side(self) -> Side:
        pool = self.pool
        ident = pool.submit(threading.get_ident).result()
        require(ident != threading.get_ident(), "the pool has no worker")
        return Side(lambda x: pool.submit(bare, x).result(), waits=True)


class HandOver:
    """A thread that is woken and wakes: the least that any call on a worker thread costs."""

    def __init__(self) -> None:
        self._there, self._back = threading.Lock(), threading.Lock()
        self._there.acquire()
        self._back.acquire()
        self._over = False
        self._thread = threading.Thread(target=self._run, name="hand-over", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while self._there.acquire() and not self._over:
            self._back.release()

    def _call(self, x: int) -> int:
        self._there.release()
        self._back.acquire()
        return x

    def side(self) -> Side:
        return Side(self._call, waits=True)

    def close(self) -> None:
        self._over = True
        self._there.release()
        self._thread.join(5)


def close() -> None:
    """Let the workers of pyresilience go."""
    pyresilience.shutdown(timeout=5.0)
