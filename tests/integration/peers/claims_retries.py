"""tenacity and stamina: retries alone."""

from __future__ import annotations

import contextlib
from typing import Any

from tests.integration.peers import scenes_async as scenes
from tests.integration.peers import scenes_sync
from tests.integration.peers.kit import Seen, check, needs

TENACITY = "tenacity"
STAMINA = "stamina"


class AskedToWait(Exception):
    """What a server says that is asked too often."""

    retry_after = 0.05


@check(TENACITY)
def tenacity_strategies_combine() -> Seen:
    """When to stop, how long to wait and what to ask again after are added up at will."""
    from tenacity import (
        retry_if_exception_type,
        retry_if_result,
        stop_after_attempt,
        stop_after_delay,
        wait_fixed,
        wait_random,
    )

    stop = stop_after_attempt(3) | stop_after_delay(1)
    wait = wait_fixed(1) + wait_random(0, 1)
    retry = retry_if_exception_type(OSError) | retry_if_result(lambda value: value is None)
    names = [type(each).__name__ for each in (stop, wait, retry)]
    return Seen(", ".join(names), names == ["stop_any", "wait_combine", "retry_any"])


@check(TENACITY)
def tenacity_no_budget() -> Seen:
    """Nothing but the attempts of each call bounds the load of its retries."""
    from tenacity import retry, stop_after_attempt

    got = scenes_sync.attempts(retry(stop=stop_after_attempt(3)))
    return Seen(f"100 calls that fail: {got} attempts", got == 300)


@check(TENACITY)
def tenacity_own_error_by_default() -> Seen:
    """The last error comes wrapped in RetryError, unless reraise=True."""
    from tenacity import retry, stop_after_attempt

    try:
        retry(stop=stop_after_attempt(1))(int)("not a number")
    except Exception as error:
        name = type(error).__name__
        return Seen(f"a ValueError comes as {name}", name == "RetryError")
    return Seen("no error", False)


@check(TENACITY)
def tenacity_endless_by_default() -> Seen:
    """Without options it asks for ever, and waits for nothing."""
    from tenacity import Retrying

    bare = Retrying()
    names = (bare.stop.__class__.__name__, bare.wait.__class__.__name__)
    return Seen(", ".join(names), names == ("_stop_never", "wait_none"))


@check(TENACITY)
def tenacity_retry_after_by_hand() -> Seen:
    """A wait can be taken from the error, by a function of one's own."""
    from tenacity import Retrying, stop_after_attempt, wait_exception

    slept: list[float] = []
    again = Retrying(
        stop=stop_after_attempt(2),
        wait=wait_exception(lambda error: getattr(error, "retry_after", 0)),
        sleep=slept.append,
    )

    def refuse() -> None:
        raise AskedToWait

    with contextlib.suppress(Exception):
        again(refuse)
    return Seen(f"slept {slept}", slept == [0.05])


@check(TENACITY)
def tenacity_cancelled_asked_again() -> Seen:
    """With retry_if_not_exception_type a cancelled task is asked again."""
    from tenacity import retry, retry_if_not_exception_type, stop_after_attempt

    asks_again = retry_if_not_exception_type(ValueError)
    made = scenes.cancelled_attempts(retry(retry=asks_again, stop=stop_after_attempt(3)))
    return Seen(f"cancelled once, {made} attempts", made == 2)


@check(TENACITY)
def tenacity_trio() -> Seen:
    """It retries on trio."""
    from tenacity import retry, stop_after_attempt, wait_fixed

    got = on_trio(retry(stop=stop_after_attempt(2), wait=wait_fixed(0.01)))
    return Seen(f"{got} attempts", got == 2)


@check(TENACITY)
def tenacity_needs_nothing() -> Seen:
    """It needs no other package."""
    return Seen(f"requires {needs(TENACITY)}", not needs(TENACITY))


def on_trio(guard: scenes_sync.Guard) -> int:
    """Return how many attempts a call makes there that goes well with the second one."""
    import trio

    made = 0

    @guard
    async def ask() -> None:
        nonlocal made
        made += 1
        if made == 1:
            raise ConnectionError("down")

    trio.run(ask)
    return made


def of(**options: Any) -> Any:
    """Return stamina's decorator, whose waits are short."""
    import stamina

    return stamina.retry(on=Exception, wait_initial=0.0, wait_max=0.0, wait_jitter=0.0, **options)


@check(STAMINA)
def stamina_small() -> Seen:
    """There is little to learn: a decorator, a context, a caller, and switches for tests."""
    import stamina

    return Seen(f"{len(stamina.__all__)} public names", len(stamina.__all__) <= 12)


@check(STAMINA)
def stamina_on_is_required() -> Seen:
    """What is asked again after has to be said."""
    import stamina

    try:
        stamina.retry()  # type: ignore[call-arg]
    except TypeError as error:
        return Seen(str(error)[:60], "on" in str(error))
    return Seen("made", False)


@check(STAMINA)
def stamina_last_error_as_it_is() -> Seen:
    """The last error is raised as it is."""
    try:
        of(attempts=2)(lambda: int("not a number"))()
    except Exception as error:
        name = type(error).__name__
        return Seen(f"a ValueError comes as {name}", name == "ValueError")
    return Seen("no error", False)


@check(STAMINA)
def stamina_no_budget() -> Seen:
    """Nothing but the attempts of each call bounds the load of its retries."""
    got = scenes_sync.attempts(of(attempts=3))
    return Seen(f"100 calls that fail: {got} attempts", got == 300)


@check(STAMINA)
def stamina_retry_after_by_hook() -> Seen:
    """The function that says whether to ask again may say when."""
    import time

    import stamina

    @stamina.retry(
        on=lambda error: getattr(error, "retry_after", False), attempts=2, wait_initial=0
    )
    def refuse() -> None:
        raise AskedToWait

    began = time.monotonic()
    with contextlib.suppress(AskedToWait):
        refuse()
    took = time.monotonic() - began
    return Seen(f"waited {took:.2f} s", 0.05 <= took < 1)


@check(STAMINA)
def stamina_metrics_on() -> Seen:
    """Its counter is there as soon as prometheus-client is."""
    from prometheus_client import generate_latest

    scenes_sync.attempts(of(attempts=2), calls=1)
    there = b"stamina_retries_total" in generate_latest()
    return Seen(f"stamina_retries_total: {there}", there)


@check(STAMINA)
def stamina_tests_without_waits() -> Seen:
    """In tests it can be told to wait for nothing, and to try less."""
    import stamina

    slow = stamina.retry(on=Exception, attempts=5, wait_initial=60)
    with stamina.set_testing(True, attempts=2):
        got = scenes_sync.attempts(slow, calls=1)
    return Seen(f"attempts=5, wait_initial=60: {got} attempts at once", got == 2)


@check(STAMINA)
def stamina_stream_again() -> Seen:
    """A generator that fails in its middle begins again: its caller gets items twice."""
    tries = 0

    @of(attempts=2)
    def items() -> Any:
        nonlocal tries
        tries += 1
        yield 1
        if tries == 1:
            raise ConnectionError("lost in the middle")
        yield 2

    got = list(items())
    return Seen(f"items 1, 2 come as {got}", got == [1, 1, 2])


@check(STAMINA)
def stamina_trio() -> Seen:
    """It retries on trio."""
    got = on_trio(of(attempts=2))
    return Seen(f"{got} attempts", got == 2)
