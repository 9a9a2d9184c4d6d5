"""Streams of async clients whose methods are plain functions that return a coroutine, as SDKs' are."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from resilient import Policy, circuit_breaker
from tests.kit.policies import counts


def checked(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Check the arguments, as a decorator does that is no coroutine function itself."""

    @functools.wraps(fn)
    def call(*args: Any, **kwargs: Any) -> Any:
        return fn(*args, **kwargs)

    return call


class Stream:
    def __init__(self, client: Any, items: int) -> None:
        self.client, self._items = client, self._made(items)

    async def _made(self, items: int) -> AsyncIterator[int]:
        for item in range(items):
            yield item
        raise ConnectionError("cut")

    def __aiter__(self) -> Stream:
        return self

    async def __anext__(self) -> int:
        return await self._items.__anext__()


class Part:
    def __init__(self, client: Any) -> None:
        self._client, self._post = client, client.post

    @checked
    async def create(self, *, stream: bool = False) -> Any:
        return await self._post(stream)


class Client:
    """Its parts hold a method of it, so that they call it."""

    def __init__(self) -> None:
        self.part = Part(self)

    async def post(self, stream: bool) -> Any:
        return Stream(self, 1) if stream else {"answer": 1}

    async def aclose(self) -> None:
        pass


def test_an_opened_stream_is_no_success_yet() -> None:
    """Its outcome comes with its items: a half-open circuit would close before a word had come."""

    async def talk() -> None:
        policy = Policy("sdk", circuit_breaker())
        client: Any = policy.wrap(Client())
        stream = await client.part.create(stream=True)
        assert counts(policy) == {"ignored": 1}
        assert await client.part.create() == {"answer": 1}
        assert counts(policy) == {"ignored": 1, "success": 1}
        assert await anext(stream) == 0
        with pytest.raises(ConnectionError):
            await anext(stream)
        assert counts(policy)["failure"] == 1

    asyncio.run(talk())


def test_what_an_awaitable_hands_out_is_no_success_yet() -> None:
    class Opening:
        def __init__(self, client: Any) -> None:
            self.client = client

        def __await__(self) -> Any:
            return self._open().__await__()

        async def _open(self) -> Stream:
            return Stream(self.client, 1)

    class Lazy(Client):
        def open(self) -> Opening:
            return Opening(self)

    async def talk() -> None:
        policy = Policy("lazy", circuit_breaker())
        client: Any = policy.wrap(Lazy())
        stream = await client.open()
        assert "success" not in counts(policy)
        assert await anext(stream) == 0

    asyncio.run(talk())
