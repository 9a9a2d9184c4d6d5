"""What is the caller's own doing is no error of the service: `served="caller_error"`."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import aiohttp.web
import click
import pytest
import trio
from celery import exceptions as celery
from django.core import exceptions as django
from django.http import Http404
from fastapi import HTTPException as FastAPIError
from starlette.exceptions import HTTPException as StarletteError
from werkzeug import exceptions as werkzeug

from resilient import (
    CallTimeoutError,
    CircuitOpenError,
    Policy,
    bulkhead,
    circuit_breaker,
    fallback,
    timeout,
)
from resilient.testing import ManualClock


class NotFound(Exception):
    """A caller's mistake."""


class Down(Exception):
    """The dependency's."""


def raising(error: BaseException) -> Callable[[], Any]:
    def body() -> Any:
        raise error

    return body


def in_each_colour(policy: Policy, error: BaseException) -> list[str]:
    """Return how a call that raises is served: called, awaited on asyncio, awaited on trio."""

    async def body() -> None:
        raise error

    async def tried() -> str:
        return (await policy.atry_call(body)).served

    return [policy.try_call(raising(error)).served, asyncio.run(tried()), trio.run(tried)]


def served(policy: Policy) -> dict[str, int]:
    return {word: n for word, n in policy.snapshot()["served"].items() if n}


def ended(policy: Policy) -> dict[str, int]:
    return {word: n for word, n in policy.snapshot()["calls"].items() if n}


@pytest.mark.parametrize("ignore", [NotFound, (KeyError, NotFound), lambda e: type(e) is NotFound])
def test_what_ignore_names_is_the_callers_own(ignore: Any) -> None:
    policy = Policy("catalogue", circuit_breaker(ignore=ignore))
    assert in_each_colour(policy, NotFound()) == ["caller_error"] * 3
    assert (served(policy), ended(policy)) == ({"caller_error": 3}, {"ignored": 3})
    assert in_each_colour(policy, Down()) == ["error"] * 3


def test_what_on_leaves_out_is_an_error() -> None:
    """It says nothing of the dependency, and yet nobody said that the caller did it."""
    policy = Policy("left-out", circuit_breaker(on=Down))
    assert in_each_colour(policy, NotFound()) == ["error"] * 3
    assert (served(policy), ended(policy)) == ({"error": 3}, {"ignored": 3})


def test_a_group_is_the_callers_own_if_every_leaf_is() -> None:
    policy = Policy("groups", circuit_breaker(ignore=NotFound, on=(NotFound, Down)))
    assert (
        in_each_colour(policy, ExceptionGroup("", [NotFound(), NotFound()])) == ["caller_error"] * 3
    )
    assert in_each_colour(policy, ExceptionGroup("", [NotFound(), KeyError()])) == ["error"] * 3
    assert in_each_colour(policy, ExceptionGroup("", [NotFound(), Down()])) == ["error"] * 3


def test_a_timeout_or_refusal_never_is() -> None:
    clock = ManualClock()
    policy = Policy(
        "ours", circuit_breaker(ignore=Exception), timeout(1, sync="cooperative"), clock=clock
    )

    def late() -> None:
        clock.advance(2)
        raise CallTimeoutError("no answer in time")

    assert policy.try_call(late).served == "error"
    policy.force_open("drill")
    refused = policy.try_call(int)
    assert (type(refused.error), refused.served) == (CircuitOpenError, "error")
    other = Policy("other", bulkhead(1))
    other.force_open("drill")
    policy.release()
    assert policy.try_call(other.call, int).served == "error"
    assert served(policy) == {"error": 3}


def test_a_fallback_that_answers_makes_it_degraded() -> None:
    policy = Policy("answered", fallback(value="top 100"), circuit_breaker(ignore=NotFound))
    assert in_each_colour(policy, NotFound()) == ["degraded"] * 3
    assert ended(policy) == {"ignored": 3}


def test_a_fallback_that_passes_it_on_leaves_it_the_callers_own() -> None:
    """With a breaker the breaker decides, without one the fallback does."""
    passed = Policy("passed", fallback(value=0, ignore=NotFound), circuit_breaker(ignore=NotFound))
    assert in_each_colour(passed, NotFound()) == ["caller_error"] * 3
    alone = Policy("alone", fallback(value=0, ignore=NotFound), bulkhead(9))
    assert in_each_colour(alone, NotFound()) == ["caller_error"] * 3
    counted = Policy("counted", fallback(value=0, ignore=NotFound), circuit_breaker())
    assert in_each_colour(counted, NotFound()) == ["error"] * 3


def test_a_fallback_that_fails_so_after_a_failure_is_an_error() -> None:
    policy = Policy("fell", fallback(raising(NotFound())), circuit_breaker(ignore=NotFound))
    assert in_each_colour(policy, Down()) == ["error"] * 3


# -- what steers a framework ---------------------------------------------

STEERS: dict[str, Exception] = {
    "celery-retry": celery.Retry(),
    "celery-ignore": celery.Ignore(),
    "celery-reject": celery.Reject(),
    "starlette-404": StarletteError(404),
    "starlette-302": StarletteError(302),
    "fastapi-422": FastAPIError(422),
    "django-404": Http404(),
    "django-403": django.PermissionDenied(),
    "django-suspicious": django.SuspiciousOperation(),
    "django-too-big": django.RequestDataTooBig(),
    "werkzeug-404": werkzeug.NotFound(),
    "aiohttp-409": aiohttp.web.HTTPConflict(),
    "aiohttp-302": aiohttp.web.HTTPFound("/"),
    "click-exit": click.exceptions.Exit(0),
}
FAILS: dict[str, Exception] = {
    "starlette-503": StarletteError(503),
    "starlette-408": StarletteError(408),
    "fastapi-429": FastAPIError(429),
    "starlette-425": StarletteError(425),
    "werkzeug-500": werkzeug.InternalServerError(),
    "werkzeug-429": werkzeug.TooManyRequests(),
    "aiohttp-502": aiohttp.web.HTTPBadGateway(),
    "django-improper": django.ImproperlyConfigured(),
    "celery-limit": celery.TimeLimitExceeded(),
    "click-usage": click.UsageError("no"),
}


@pytest.mark.parametrize("name", STEERS)
def test_what_steers_a_framework_passes_every_fallback(name: str) -> None:
    error = STEERS[name]
    policy = Policy(f"steer-{name}", fallback(value="lost"), circuit_breaker(failure_threshold=2))
    assert in_each_colour(policy, error) == ["caller_error"] * 3
    assert (ended(policy), policy.state) == ({"ignored": 3}, "closed")
    assert policy.try_call(raising(error)).error is error


@pytest.mark.parametrize("name", FAILS)
def test_what_only_looks_like_it_is_a_failure(name: str) -> None:
    policy = Policy(f"fails-{name}", circuit_breaker(failure_threshold=10))
    assert in_each_colour(policy, FAILS[name]) == ["error"] * 3
    assert ended(policy) == {"failure": 3}


def test_a_subclass_of_the_applications_own_steers_too() -> None:
    class TeaPot(StarletteError):
        def __init__(self) -> None:
            super().__init__(418)

    policy = Policy("subclass", circuit_breaker())
    assert policy.try_call(raising(TeaPot())).served == "caller_error"


def test_werkzeugs_abort_with_a_response() -> None:
    from werkzeug.wrappers import Response

    policy = Policy("abort", circuit_breaker())
    for status, expected in ((404, "caller_error"), (503, "error")):
        with pytest.raises(werkzeug.HTTPException) as caught:
            werkzeug.abort(Response(status=status))
        assert policy.try_call(raising(caught.value)).served == expected


def test_on_takes_it_back() -> None:
    """Who names it wants it counted, or answered."""
    policy = Policy("named", fallback(value=0, on=Http404), circuit_breaker(on=Http404))
    assert policy.try_call(raising(Http404())).served == "degraded"
    assert ended(policy) == {"failure": 1}


def test_what_on_leaves_out_and_steers_is_the_callers_own() -> None:
    policy = Policy("on-else", circuit_breaker(on=Down))
    assert policy.try_call(raising(Http404())).served == "caller_error"


def test_a_refused_call_whose_fallback_steers() -> None:
    """A fallback may answer with a status: that is no error of its own."""
    policy = Policy("raises-404", fallback(raising(Http404())), circuit_breaker())
    policy.force_open("drill")
    assert policy.try_call(int).served == "caller_error"
    guarded = policy(lambda: 1)
    for _ in range(2):
        with pytest.raises(Http404):
            guarded()
    assert served(policy) == {"caller_error": 3}


def test_a_class_of_that_name_elsewhere_is_a_failure() -> None:
    class Retry(Exception):
        pass

    policy = Policy("namesake", circuit_breaker())
    assert policy.try_call(raising(Retry())).served == "error"
    made = type("HTTPException", (Exception,), {"__module__": "starlette.exceptions"})
    assert policy.try_call(raising(made())).served == "error"  # it has no status


def test_no_framework_is_imported_for_it() -> None:
    code = (
        "import sys; from resilient import Policy, circuit_breaker; "
        "Policy('p', circuit_breaker()).try_call(int, 'x'); "
        "print([m for m in ('celery', 'starlette', 'django', 'werkzeug', 'aiohttp', 'click')"
        " if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_streams_and_blocks() -> None:
    policy = Policy("lasting", circuit_breaker(ignore=NotFound))

    @policy
    def items() -> Any:
        yield 1
        raise NotFound

    with pytest.raises(NotFound):
        list(items())
    with pytest.raises(NotFound), policy.block():
        raise NotFound
    with pytest.raises(Down), policy.block() as block:
        block.ignore()
        raise Down
    assert (served(policy), ended(policy)) == ({"caller_error": 3}, {"ignored": 3})
