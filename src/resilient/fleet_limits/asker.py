"""The thread of a process that asks for turns; it begins with the first request, and ends idle."""

from __future__ import annotations

import importlib
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Final, TypeGuard, cast

from ..engine.policy_state import PolicyState
from ..errors import StoreError
from ..flags.runtime import here as levers
from ..guards.base import Guard
from ..guards.rate_limit.asking import Asking
from ..process import at_fork

if TYPE_CHECKING:
    from ..guards.rate_limit.asking import Request
    from ..guards.rate_limit.fleet import Answer
    from .redis_turns import RedisTurns

_IDLE: Final = 10.0  # seconds after which the thread ends
_AT_ONCE: Final = 200  # limits that it asks for in one round trip
NO_REDIS: Final = "no Redis is named (RESILIENT_STORE)"

_Asked = tuple["weakref.ref[PolicyState]", "weakref.ref[Asking]"]


class FleetAsker:
    """Asks for the limits of this process, for all that need it in one round trip.

    Args:
        setting: returns what names the store, which may change.
    """

    def __init__(self, setting: Callable[[], object]) -> None:
        self._setting = setting
        self._queue: SimpleQueue[_Asked] = SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._turns: RedisTurns | None = None
        self._kept: list[object] = []  # the parent's: to close them would disturb the parent

    def ask(self, core: PolicyState, guard: Guard) -> None:
        """Have the thread ask for a limit; returns at once."""
        limit = cast("Asking", guard)
        if not _is_redis(self._setting()):  # so that nobody waits for what can't come
            core.locked_or_later(limit.failed, NO_REDIS, core.now())
            return
        self._queue.put((weakref.ref(core), weakref.ref(limit)))
        if self._thread is None:
            with self._lock:
                if self._thread is None:
                    self._start()

    def _start(self) -> None:
        importlib.import_module("logging")  # events need it, in the thread
        thread = threading.Thread(target=self._run, name="resilient-fleet", daemon=True)
        self._thread = thread
        try:
            thread.start()
        except BaseException as error:  # those who asked go on alone, and the next tries again
            self._thread = None
            if not isinstance(error, RuntimeError):
                raise

    def _run(self) -> None:
        queue = self._queue
        while True:
            try:
                asked = queue.get(timeout=_IDLE)
            except Empty:
                if self._is_over(queue):
                    return
                continue
            waiting = [asked]
            with suppress(Empty):
                while len(waiting) < _AT_ONCE:
                    waiting.append(queue.get_nowait())
            with suppress(Exception):  # the next ones need this thread
                self._ask(waiting)

    def _is_over(self, queue: SimpleQueue[_Asked]) -> bool:
        """Return whether the thread ends; who asks from now on starts another."""
        with self._lock:
            here, self._thread = self._thread, None
            if queue.empty():
                return True
            self._thread = here  # somebody asked before it was None
            return False

    def _ask(self, waiting: list[_Asked]) -> None:
        """Ask for several limits in one round trip, and tell each what came of it."""
        alive = [(core(), guard()) for core, guard in waiting]
        known = [(core, guard) for core, guard in alive if core is not None and guard is not None]
        requests: list[Request] = []
        for core, guard in list(known):
            try:
                requests.append(core.locked(guard.request, core.now()))
            except Exception:  # it goes on alone
                known.remove((core, guard))
        answers: list[Answer | StoreError]
        try:
            answers = self._source().take(requests)
        except StoreError as error:
            answers = [error] * len(known)
        except Exception as error:  # redis-py is missing, or a setting is invalid
            answers = [StoreError(f"{type(error).__name__}: {error}")] * len(known)
        for (core, guard), asked, answer in zip(known, requests, answers, strict=True):
            with suppress(Exception):
                if isinstance(answer, StoreError):
                    core.locked(guard.failed, str(answer), core.now())
                else:
                    core.locked(guard.told, answer, asked, core.now())

    def _source(self) -> RedisTurns:
        setting = self._setting()
        if not _is_redis(setting):
            raise StoreError(NO_REDIS)
        if self._turns is None or self._turns.url != setting:
            from .redis_turns import RedisTurns

            self._turns = RedisTurns(setting)
        return self._turns

    def in_child(self) -> None:
        """Begin anew in a forked child: the thread and the connection are the parent's."""
        self._kept.append(self._turns)
        self._queue, self._lock = SimpleQueue(), threading.Lock()
        self._thread = self._turns = None


def _is_redis(setting: object) -> TypeGuard[str]:
    return isinstance(setting, str) and setting.startswith(("redis://", "rediss://"))


here: Final = FleetAsker(lambda: levers.setting)

at_fork("limits", in_child=here.in_child)
