"""The thread of a process that asks for turns; it begins with the first request, and ends idle."""

from __future__ import annotations

import importlib
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final, cast

from ..engine.policy_state import PolicyState
from ..errors import StoreError
from ..flags.runtime import here as levers
from ..guards.base import Guard
from ..guards.rate_limit.asking import Asking
from ..process import at_fork

if TYPE_CHECKING:
    from .redis_turns import RedisTurns

_IDLE: Final = 10.0  # seconds after which the thread ends
NO_REDIS: Final = "no Redis is named (RESILIENT_STORE)"

_Asked = tuple["weakref.ref[PolicyState]", "weakref.ref[Asking]"]


class FleetAsker:
    """Asks for the limits of this process, one after the other.

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
        self._queue.put((weakref.ref(core), weakref.ref(cast("Asking", guard))))
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
        except BaseException:  # the next request tries again; this one goes on alone when it is due
            self._thread = None
            raise

    def _run(self) -> None:
        queue = self._queue
        while True:
            try:
                asked = queue.get(timeout=_IDLE)
            except Empty:
                with self._lock:
                    if queue.empty():
                        self._thread = None
                        return
                continue
            core, guard = asked[0](), asked[1]()
            if core is not None and guard is not None:
                with suppress(Exception):  # the other limits need this thread
                    self._ask(core, guard)
            del core, guard

    def _ask(self, core: PolicyState, guard: Asking) -> None:
        try:
            request = core.locked(guard.request, core.now())
            answer = self._source().take(request)
        except StoreError as error:
            self._tell(core, guard.failed, str(error))
        except Exception as error:  # redis-py is missing, or a setting is invalid
            self._tell(core, guard.failed, f"{type(error).__name__}: {error}")
        else:
            self._tell(core, guard.told, answer)

    def _tell(self, core: PolicyState, step: Any, said: object) -> None:
        core.locked(step, said, core.now())

    def _source(self) -> RedisTurns:
        setting = self._setting()
        if not isinstance(setting, str) or not setting.startswith(("redis://", "rediss://")):
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


here: Final = FleetAsker(lambda: levers.setting)

at_fork("limits", in_child=here.in_child)
