"""The example of a language model runs with the real SDKs; and what they do to a policy."""

from __future__ import annotations

import asyncio
import http.client
from collections.abc import Callable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from resilient import (
    CallTimeoutError,
    Policy,
    bulkhead,
    circuit_breaker,
    remaining,
    retry,
    timeout,
)
from resilient.testing import ManualClock
from tests.integration.examples.kit import Example, ask, calls
from tests.integration.examples.llm_server import Llm, llm_server
from tests.kit.command import Cli
from tests.kit.waiting import until
from tests.kit.workers import free_port

ASKED = [{"role": "user", "content": "shoes"}]
OPENAI = "/v1/chat/completions"
ANTHROPIC = "/v1/messages"


@pytest.fixture
def llm() -> Iterator[Llm]:
    """Give a model that is well."""
    with llm_server() as made:
        yield made


@pytest.fixture
def port(llm: Llm, cli: Cli, tmp_path: Path) -> Iterator[int]:
    """Start the service; return its port."""
    found = free_port()
    environ = cli.env(
        OPENAI_BASE_URL=f"{llm.url}/v1", ANTHROPIC_BASE_URL=llm.url,
        OPENAI_API_KEY="x", ANTHROPIC_API_KEY="x",
    )  # fmt: skip
    words = ["-m", "uvicorn", "--port", str(found), "llm_service:app"]
    service = Example(words, environ, tmp_path / "log")
    try:
        service.serves(lambda: ask(found, "/ready").status == 200)
        yield found
    finally:
        service.kill()


# -- the service ---------------------------------------------


def test_it_answers_and_can_be_turned_off(port: int, llm: Llm, cli: Cli) -> None:
    """Well; told to come again; asked wrongly; cut in the middle; and off."""
    assert ask(port, "/ask?q=shoes").json == {"answer": "big: a red shoe"}
    assert ask(port, "/stream?q=shoes").text == "a red shoe"
    assert _calls(port) == {"success": 2}
    # Our retry asks again; with max_retries=0 the SDK does not.
    llm.clear(lambda number, path: (429, {"retry-after": "0"}) if number == 1 else "well")
    assert ask(port, "/ask?q=shoes").json == {"answer": "big: a red shoe"}
    assert llm.asked == [OPENAI] * 2
    # A wrong request is no outage: it is asked once, and nobody answers in its place.
    llm.clear(lambda number, path: (400, {}))
    for _ in range(10):
        assert ask(port, "/ask?q=shoes").status == 400
    assert llm.asked == [OPENAI] * 10
    # A word was handed out: not asked again, and a failure.
    llm.clear(lambda number, path: "cut")
    with pytest.raises(http.client.IncompleteRead) as broken:
        ask(port, "/stream?q=shoes")
    assert broken.value.partial.endswith(b"a \r\n") or broken.value.partial == b"a "
    assert llm.asked == [OPENAI]
    until(lambda: _calls(port) == {"success": 3, "ignored": 10, "failure": 1})
    # Off: nothing is asked any more, by a plain question or by a stream.
    cli.flip("flags", "off", "llm").said(0, "applied by 1 of 1 process ")
    llm.clear(lambda number, path: "well")
    assert ask(port, "/ask?q=shoes").json == {"answer": "No description today."}
    assert ask(port, "/stream?q=shoes").text == "No description today."
    assert llm.asked == []


def test_an_outage_opens_the_circuit_and_the_smaller_model_answers(port: int, llm: Llm) -> None:
    """When that is away, too, the standard text does; a stream without a word is answered."""
    llm.clear(lambda number, path: "well" if path == ANTHROPIC else (500, {"retry-after": "0"}))
    assert ask(port, "/stream?q=shoes").text == "No description today."
    assert llm.asked == [OPENAI] * 3, "the SDK has not asked again by itself"

    def opened() -> bool:
        llm.asked.clear()
        assert ask(port, "/ask?q=shoes").json == {"answer": "small: a red shoe"}
        return llm.asked == [ANTHROPIC]

    until(opened)
    llm.clear(lambda number, path: (500, {}))
    assert ask(port, "/ask?q=shoes").json == {"answer": "No description today."}


def _calls(port: int) -> dict[str, float]:
    return calls(port, "llm")


# -- the SDKs ---------------------------------------------


def _openai(llm: Llm, **options: Any) -> Any:
    with openai.OpenAI(base_url=f"{llm.url}/v1", api_key="x", **options) as client:
        yield client, lambda client: client.chat.completions.create(model="big", messages=ASKED)


def _anthropic(llm: Llm, **options: Any) -> Any:
    with anthropic.Anthropic(base_url=llm.url, api_key="x", **options) as client:
        yield (
            client,
            lambda client: client.messages.create(model="big", max_tokens=9, messages=ASKED),
        )


MAKERS = {"openai": _openai, "anthropic": _anthropic}


@pytest.fixture(params=MAKERS)
def sdk(request: pytest.FixtureRequest, llm: Llm) -> Iterator[tuple[Any, Any, Any]]:
    """Give a client without retries, how it is asked, and its package."""
    for client, how in MAKERS[request.param](llm, max_retries=0):
        yield client, how, {"openai": openai, "anthropic": anthropic}[request.param]


def _never_mind(error: Exception) -> bool:
    status = getattr(error, "status_code", None)
    return status is not None and 400 <= status < 500 and status not in (408, 409, 429)


@pytest.mark.parametrize(("said", "waited"), [("3", 3.0), ("30", 5.0), (None, 0.1)])
def test_our_retry_obeys_retry_after(
    sdk: Any, llm: Llm, name: str, said: str | None, waited: float
) -> None:
    """It is read from the response that the SDK's error carries; `wait_max` bounds it."""
    client, how, package = sdk
    clock = ManualClock()
    clock.skips = True
    policy = Policy(name, retry(on=package.RateLimitError), circuit_breaker(), clock=clock)
    headers = {} if said is None else {"retry-after": said}
    llm.clear(lambda number, path: (429, headers) if number == 1 else "well")
    began = clock.now()
    assert policy.try_call(how, client).attempts == 2
    assert round(clock.now() - began, 3) == waited


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
def test_a_wrapped_client_is_told_what_is_the_callers_own(
    sdk: Any, llm: Llm, name: str, status: int
) -> None:
    """Nothing is known of these SDKs: without `ignore` a wrong request is a failure."""
    client, how, package = sdk
    llm.clear(lambda number, path: (status, {}))
    bare, told = (
        Policy(f"{name}-bare", circuit_breaker()),
        Policy(f"{name}-told", circuit_breaker()),
    )
    for policy, wrapped in (
        (bare, bare.wrap(client)),
        (told, told.wrap(client, ignore=_never_mind)),
    ):
        with pytest.raises(package.APIStatusError):
            how(wrapped)
        assert policy.snapshot()["calls"]["failure"] == (policy is bare)


def test_retries_multiply(llm: Llm, name: str) -> None:
    """Three of the SDK in each of ours."""
    llm.clear(lambda number, path: (503, {"retry-after": "0", "retry-after-ms": "1"}))
    policy = Policy(name, retry(on=openai.APIError, wait_initial=0.001), circuit_breaker())
    for client, how in _openai(llm):
        with pytest.raises(openai.InternalServerError):
            policy.call(how, client)
    assert len(llm.asked) == 9


def _words_of_openai(client: Any) -> Callable[[], Iterator[str]]:
    def words() -> Iterator[str]:
        with client.chat.completions.create(
            model="big", messages=ASKED, stream=True, timeout=remaining()
        ) as said:
            for piece in said:
                yield piece.choices[0].delta.content

    return words


def test_a_guarded_stream_holds_its_slot_until_it_is_closed(llm: Llm, name: str) -> None:
    """One stream is one call."""
    policy = Policy(name, circuit_breaker(), bulkhead(2), timeout(60, sync="cooperative"))
    for client, _ in _openai(llm, max_retries=0):
        words = policy(_words_of_openai(client))
        assert list(words()) == ["a ", "red ", "shoe"]
        stream = words()
        assert next(stream) == "a "
        assert policy.snapshot()["in_flight"] == 1
        stream.close()
        assert policy.snapshot()["in_flight"] == 0
        llm.clear(lambda number, path: "cut")
        with pytest.raises(openai.APIConnectionError):
            list(words())
    found = policy.snapshot()["calls"]
    assert (found["success"], found["cancelled"], found["failure"]) == (1, 1, 1)


def test_a_guarded_stream_that_stalls_is_cut(llm: Llm, name: str) -> None:
    """The SDK waits for as long as it is told: for what is left when the stream is opened."""
    policy = Policy(name, circuit_breaker(), timeout(0.5, sync="cooperative"))
    llm.clear(lambda number, path: "stall")
    for client, _ in _openai(llm, max_retries=0):
        with pytest.raises((CallTimeoutError, openai.APITimeoutError)):
            list(policy(_words_of_openai(client))())
    assert policy.snapshot()["calls"]["failure"] == 1
    assert policy.snapshot()["in_flight"] == 0


def test_a_guarded_async_stream_that_stalls_is_cut(llm: Llm, name: str) -> None:
    """The wait for the next word is cancelled: there is nothing to tell the SDK."""
    policy = Policy(name, circuit_breaker(), timeout(0.5))
    llm.clear(lambda number, path: "stall")

    @policy
    async def words(client: Any) -> Any:
        async with await client.chat.completions.create(
            model="big", messages=ASKED, stream=True
        ) as said:
            async for piece in said:
                yield piece.choices[0].delta.content

    async def main() -> None:
        async with openai.AsyncOpenAI(
            base_url=f"{llm.url}/v1", api_key="x", max_retries=0
        ) as client, aclosing(words(client)) as stream:  # fmt: skip
            async for _ in stream:
                pass

    with pytest.raises(CallTimeoutError):
        asyncio.run(main())
    assert policy.snapshot()["calls"]["failure"] == 1
    assert policy.snapshot()["in_flight"] == 0
