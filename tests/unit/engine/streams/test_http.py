"""Streams over real connections to a server that drips some chunks and then stalls."""

from __future__ import annotations

import asyncio
import gc
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator

import httpx
import pytest
import trio

import resilient
from resilient import CallTimeoutError, timeout
from tests.kit.policies import booked, idle
from tests.kit.waiting import WAIT, until
from tests.unit.engine.streams.http_kit import (
    CHUNKS,
    DROPS,
    REQUEST,
    Ends,
    Server,
    all_back,
    chunks_of,
    consume,
    guards,
    in_some_limit,
)  # fmt: skip

# -- asyncio ----------------------------------------------------------------------------------


async def drops(server: Server, how: bytes = b"drip") -> AsyncIterator[bytes]:
    """Read the chunks of an answer, over a connection of asyncio's."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        writer.write(REQUEST % (how, CHUNKS))
        await reader.readuntil(b"\r\n\r\n")
        while length := int(await reader.readuntil(b"\r\n"), 16):
            yield (await reader.readexactly(length + 2))[:-2]
    finally:
        writer.close()
        try:
            await writer.wait_closed()
        except OSError:
            pass


def test_two_hundred_streams_are_cut_on_asyncio(server: Server) -> None:
    """Each gets its chunks, is cut at its limit, and leaves no connection, task or thread."""

    def scene(limit: float) -> Ends:
        shop, ends, threads = guards(timeout(limit)), Ends(), threading.active_count()
        guarded = shop(drops)

        async def main() -> None:
            before = len(asyncio.all_tasks())
            await asyncio.gather(*(consume(guarded(server), ends) for _ in range(200)))
            assert len(asyncio.all_tasks()) == before
            idle(shop)

        asyncio.run(main())
        ends.check(200, limit)
        all_back(shop, server, 200, threads)
        return ends

    in_some_limit(scene)


@pytest.mark.parametrize("how", ["closed", "dropped"])
def test_streams_that_are_left_half_way(server: Server, how: str) -> None:
    """Closed or forgotten after the first chunk, the connections close and nothing has failed."""
    shop = guards(timeout(30))
    guarded = shop(drops)

    async def half() -> None:
        stream = guarded(server)
        assert await anext(stream) == DROPS[0]
        if how == "closed":
            await stream.aclose()  # type: ignore[attr-defined]

    async def main() -> None:
        before = len(asyncio.all_tasks())
        await asyncio.gather(*(half() for _ in range(100)))
        gc.collect()
        end = time.monotonic() + WAIT
        while len(asyncio.all_tasks()) > before or await asyncio.to_thread(server.open):
            assert time.monotonic() < end, f"{server.open()} connections are open"
            await asyncio.sleep(0.01)
        idle(shop)

    asyncio.run(main())
    assert booked(shop) == ({"cancelled": 100}, {})
    assert shop.snapshot()["timeouts"] == 0


def test_streams_that_end_in_time(server: Server) -> None:
    """Answers that come to their end are successes, and are cut by nothing."""
    shop = guards(timeout(30))
    guarded = shop(drops)

    async def whole() -> list[bytes]:
        return [item async for item in guarded(server, b"whole")]

    async def main() -> None:
        assert await asyncio.gather(*(whole() for _ in range(100))) == [DROPS] * 100

    asyncio.run(main())
    assert booked(shop) == ({"success": 100}, {"full": 100})
    idle(shop)
    until(lambda: server.open() == 0)


def test_two_hundred_streams_of_httpx(server: Server) -> None:
    """The same through httpx, whose own clean-up runs in the generator."""

    def scene(limit: float) -> Ends:
        shop, ends, threads = guards(timeout(2 * limit)), Ends(), threading.active_count()

        @shop
        async def read(client: httpx.AsyncClient) -> AsyncIterator[bytes]:
            async with client.stream("GET", f"{server.url}/drip/{CHUNKS}") as answer:
                async for part in answer.aiter_raw():
                    yield part

        async def main() -> None:
            limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
            before = len(asyncio.all_tasks())
            async with httpx.AsyncClient(limits=limits, timeout=90, trust_env=False) as client:
                await asyncio.gather(*(consume(read(client), ends) for _ in range(200)))
            end = time.monotonic() + WAIT  # generators of httpx's own are closed by the loop
            while len(asyncio.all_tasks()) > before:
                assert time.monotonic() < end, f"{len(asyncio.all_tasks()) - before} tasks are left"
                await asyncio.sleep(0.01)
            idle(shop)

        asyncio.run(main())
        ends.check(200, 2 * limit)
        all_back(shop, server, 200, threads)
        return ends

    in_some_limit(scene)


# -- trio --------------------------------------------------------------------------------------


async def trio_drops(server: Server) -> AsyncIterator[bytes]:
    """Read the chunks of an answer, over a connection of trio's."""
    stream = await trio.open_tcp_stream("127.0.0.1", server.port)
    try:
        await stream.send_all(REQUEST % (b"drip", CHUNKS))
        text, headed = b"", False
        while True:
            text += await stream.receive_some()
            if not headed and b"\r\n\r\n" in text:
                text, headed = text.partition(b"\r\n\r\n")[2], True
            if headed:
                found, text = chunks_of(text)
                for item in found:
                    yield item
    finally:
        await stream.aclose()


def test_fifty_streams_are_cut_on_trio(server: Server) -> None:
    """The same on trio."""

    def scene(limit: float) -> Ends:
        shop, ends, threads = guards(timeout(limit)), Ends(), threading.active_count()
        guarded = shop(trio_drops)

        async def main() -> None:
            before = trio.lowlevel.current_statistics().tasks_living
            async with trio.open_nursery() as nursery:
                for _ in range(50):
                    nursery.start_soon(consume, guarded(server), ends)
            assert trio.lowlevel.current_statistics().tasks_living <= before

        trio.run(main)
        ends.check(50, limit)
        all_back(shop, server, 50, threads + 1)  # trio keeps the worker that looked up the address
        return ends

    in_some_limit(scene)


# -- threads ------------------------------------------------------------------------------------


def sync_drops(server: Server) -> Iterator[bytes]:
    """Read the chunks of an answer, over a socket that is told how much time is left."""
    with socket.create_connection(("127.0.0.1", server.port), resilient.remaining()) as sock:
        sock.sendall(REQUEST % (b"drip", CHUNKS))
        text, headed = b"", False
        while True:
            left = resilient.remaining()
            assert left is not None
            sock.settimeout(max(left, 0.001))
            try:
                text += sock.recv(4096)
            except TimeoutError:
                resilient.check()
                continue
            if not headed and b"\r\n\r\n" in text:
                text, headed = text.partition(b"\r\n\r\n")[2], True
            if headed:
                found, text = chunks_of(text)
                yield from found


def test_fifty_streams_are_cut_in_threads(server: Server) -> None:
    """Cooperative: the generator gives its socket what is left, and asks check() when it is up."""

    def scene(limit: float) -> Ends:
        shop, ends = guards(timeout(limit, sync="cooperative")), Ends()
        threads, guarded = threading.active_count(), shop(sync_drops)

        def read() -> None:
            got: list[bytes] = []
            began = time.monotonic()
            try:
                for item in guarded(server):
                    got.append(item)  # noqa: PERF402 - what came before the cut is looked at
            except CallTimeoutError:
                ends.cut(got, began)
            except Exception as error:
                ends.others.append(error)

        in_fifty(read)
        ends.check(50, limit)
        all_back(shop, server, 50, threads)
        return ends

    in_some_limit(scene)


def in_fifty(fn: Callable[[], None]) -> None:
    """Run fn in fifty threads at once."""
    running = [threading.Thread(target=fn, daemon=True) for _ in range(50)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join(WAIT)
        assert not thread.is_alive(), "a stream hangs"
