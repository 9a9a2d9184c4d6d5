"""Cancel a coroutine at its k-th checkpoint, and drive one by hand."""

from __future__ import annotations

import asyncio
import sys
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any

import trio

from tests.kit.waiting import WAIT
from tests.kit.worlds import BACKENDS, run

LOOPS = (*BACKENDS, "eager")
MOST = 200  # a run with more checkpoints than this is taken for one that never ends


@types.coroutine
def pause() -> Generator[None, None, None]:
    """Give way once, on asyncio or by hand."""
    yield


@types.coroutine
def counted(coroutine: Coroutine[Any, Any, Any], hook: Callable[[int], None]) -> Any:
    """Run a coroutine; call hook(k) at its k-th checkpoint, from 1, before it is waited at."""
    number, send, what = 0, coroutine.send, None
    while True:
        try:
            yielded = send(what)  # type: ignore[arg-type]
        except StopIteration as end:
            return end.value
        number += 1
        hook(number)
        try:
            what = yield yielded
            send = coroutine.send
        except BaseException as error:
            send, what = coroutine.throw, error


class Swept:
    """What became of one run that was cancelled at checkpoint k."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.asked = False  # the run had a k-th checkpoint: it was cancelled there
        self.came_out = False  # the cancellation came out of it
        self.value: Any = None


async def _on_asyncio(seen: Swept, make: Callable[[], Coroutine[Any, Any, Any]]) -> None:
    loop = asyncio.get_running_loop()

    def hook(number: int) -> None:
        if number == seen.at:
            seen.asked = True
            task = asyncio.current_task()
            assert task is not None
            task.cancel()

    async def body() -> Any:
        return await counted(make(), hook)

    task = loop.create_task(body())
    if seen.at == 0:
        seen.asked = not task.done()
        task.cancel()
    await asyncio.wait({task}, timeout=WAIT)
    assert task.done(), "the run hangs"
    seen.came_out = task.cancelled()
    if not task.cancelled():
        seen.value = task.result()


async def _on_trio(seen: Swept, make: Callable[[], Coroutine[Any, Any, Any]]) -> None:
    with trio.fail_after(WAIT), trio.CancelScope() as scope:

        def hook(number: int) -> None:
            if number == seen.at:
                seen.asked = True
                scope.cancel()

        if seen.at == 0:
            seen.asked = True
            scope.cancel()
        seen.value = await counted(make(), hook)
    seen.came_out = scope.cancelled_caught


def sweep(
    loop: str,
    scene: Callable[[Callable[[Callable[[], Coroutine[Any, Any, Any]]], Awaitable[None]]], Any],
    check: Callable[[Swept], None],
) -> int:
    """Run a scene with a cancellation at checkpoint 0, 1, 2, ... until none is left to cancel.

    The scene is an async function; it is given a function that runs the call that is to be swept.
    Returns the number of checkpoints.
    """
    for at in range(MOST):
        seen = Swept(at)

        async def once(seen: Swept = seen) -> None:
            if loop == "eager":
                factory = asyncio.eager_task_factory  # type: ignore[attr-defined]
                asyncio.get_running_loop().set_task_factory(factory)
            on_loop = _on_trio if loop == "trio" else _on_asyncio
            await scene(lambda make: on_loop(seen, make))

        run("trio" if loop == "trio" else "asyncio", once)
        check(seen)
        if not seen.asked and at > 0:
            return at
    raise AssertionError("the run never completes")


NO_EAGER = sys.version_info < (3, 12)


def cancelling() -> int:
    """Return how many cancellations of this asyncio task are not taken back."""
    try:
        task = asyncio.current_task()
    except RuntimeError:
        return 0
    return 0 if task is None else task.cancelling()
