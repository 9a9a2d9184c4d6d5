"""The levers of this process: its flags, what it knows, and the follower that it starts late."""

from __future__ import annotations

import importlib
import os
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Final

from ..admin import activity
from ..engine.policy_state import PolicyState
from ..events import bus
from ..flag_handle import Flag
from ..process import at_exit, at_fork
from ..validation import clean
from . import uwsgi
from .declarations import Flags
from .environment import MEMORY, RUNTIME, VARIABLE
from .state import State

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path

    from .follower import Follower
    from .policy_overrides import Orders
    from .stores.base import Store

FIRST_WAIT: Final = 0.5  # seconds that the first read waits for the store at the most, once
_RETRY: Final = 1.0  # seconds until another try, where there was no thread to be had


class FlagRuntime:
    """What one process knows and follows. There is one: `here`."""

    def __init__(self) -> None:
        self.flags: Final = Flags()
        self.state: Final = State(self.flags)
        self.follower: Follower | None = None
        self.orders: Orders | None = None
        self.copy_error: str = ""
        self._setting: str | Callable[[], Store] | None = None  # None: as the environment says
        self._directory: str | None = None
        self._loaded = False
        self._once = threading.RLock()
        self._starting: int | None = None  # the thread that is starting to follow
        self._again_at = float("-inf")
        self._memory: Store | None = None
        self._kept: list[object] = []  # of the parent: closing them would disturb it

    # -- settings ---------------------------------------------

    def configure(self, store: str | Callable[[], Store] | None, directory: str | None) -> None:
        """Follow another store from the next read on."""
        from .stores.urls import opener_of

        opener_of(store if store is not None else self.setting)
        if directory is not None:
            directory = os.fspath(directory)
        with self._once:  # nobody begins to follow the old one meanwhile
            self.stop()
            self.state.forget()  # or the new store would be taken to have lost them
            self._setting, self._directory = store, directory
            self._loaded = False
            self.load()
            self._begin_anew()

    @property
    def setting(self) -> str | Callable[[], Store]:
        """What names the store: ``""`` for this process's own memory."""
        if self.state.isolated:
            return ""
        return os.environ.get(VARIABLE, "") if self._setting is None else self._setting

    @property
    def in_memory(self) -> bool:
        """Whether nothing outside this process can flip a lever."""
        return self.setting in MEMORY

    def opener(self) -> Callable[[], Store]:
        """Return what opens the store: always the same one where it is this process's own."""
        if self.in_memory:
            return self._own_memory
        from .stores.urls import opener_of

        return opener_of(self.setting)

    def _own_memory(self) -> Store:
        from .stores.memory import MemoryStore

        if self._memory is None:
            self._memory = MemoryStore()
        return self._memory

    @property
    def directory(self) -> Path | None:
        """Where this host keeps its copy, None where nothing outlives the process."""
        if self.in_memory:
            return None
        from .stores.urls import directory_for

        return directory_for(self.setting, self._directory, os.environ)

    @property
    def runtime_directory(self) -> Path | None:
        """Where the processes of this host share their counts, None where each counts alone."""
        if self.state.isolated or (self.in_memory and RUNTIME not in os.environ):
            return None
        from .stores.urls import runtime_for

        return runtime_for(self.setting, os.environ) if os.name == "posix" else None

    # -- beginning ---------------------------------------------

    def load(self) -> None:
        """Take in the local copy, once: bounded, and without a look at the store."""
        if self._loaded or self.state.isolated:
            return
        if not self.in_memory:
            self.opener()  # raises where the setting can't be one
        self._loaded = True
        directory = self.directory
        if directory is None:
            return
        from .local_copy import CopyError, LocalCopy

        try:
            copy = LocalCopy(directory).load()
        except CopyError as error:
            self._complain(f"the local copy can't be used: {error}")
            return
        if copy is not None:
            self.state.adopt(copy.flips, time.time())
            if copy.unread:
                self._complain(f"the local copy has what can't be read: {copy.unread[0]}")

    def declared(self, flag: Flag) -> None:
        """Let a flag that is declared now say what is known of it."""
        self.state.declared(flag)

    def first_read(self) -> None:
        """Follow the store before the first flag is read or the first policy called."""
        if time.monotonic() < self._again_at:
            return
        if self.in_memory and self.state.next_end() is None:
            if self.state.fresh:
                self.state.read(fresh=False)
        elif self.follower is None:
            self.follow()

    def follow(self) -> None:
        """Start the follower, unless there is one."""
        me = threading.get_ident()
        if self._starting == me:  # a signal handler, or a log handler that reads a flag
            return
        # Whoever comes second waits as long as the first one may.
        if self._once.acquire(timeout=2 * FIRST_WAIT):
            try:
                self._starting = me
                if self.follower is None:
                    self._start()
            finally:
                self._starting = None
                self._once.release()

    def _start(self) -> None:
        importlib.import_module("logging")  # which its thread will want
        from .follower import Follower
        from .local_copy import LocalCopy
        from .presence import Presence

        uwsgi.warn()
        self.load()
        if uwsgi.is_master():
            return
        try:
            opener, directory = self.opener(), self.directory
            copy = None if directory is None else LocalCopy(directory)
            follower = Follower(self.state, self.ordering(), opener, copy, Presence(directory))
            follower.start()
        except Exception as error:  # a store may be anybody's
            self._again_at = time.monotonic() + _RETRY
            self._complain(f"the store can't be followed: {error}")
            return
        if not self.in_memory:  # the local copy may be of long ago
            follower.wait(FIRST_WAIT)
        self.follower = follower
        self.state.read(fresh=False)

    def ordering(self) -> Orders:
        """Return what puts orders on policies."""
        from .policy_overrides import Orders

        if self.orders is None:
            self.orders = Orders(self.state)
        return self.orders

    def first_call(self, core: PolicyState) -> bool:
        """Follow, and put on a policy that nobody has called yet what is ordered for it.

        Returns:
            Whether that is done, and need not be tried again at the next call.
        """
        self.first_read()
        activity.tell()
        if self.orders is not None:
            self.orders.follow_policy(core)
        return self.in_memory or self.follower is not None

    def expired(self, core: PolicyState) -> None:
        """Put on a policy, whose own forced state has ended, what is ordered for it."""
        if self.orders is not None:
            self.orders.follow_policy(core)

    def stop(self) -> None:
        """End following, with a goodbye."""
        follower, self.follower = self.follower, None
        if follower is not None:
            follower.stop()

    def forget_own(self) -> None:
        """Begin with an empty memory: for tests."""
        if self.in_memory:
            self.stop()
            self._memory = None

    def _begin_anew(self) -> None:
        from ..admin.registry import registry

        self._again_at = float("-inf")
        self.state.read(fresh=True)
        for core in registry.cores():
            core.uncalled = True
            core.refresh_gate()

    def _complain(self, text: str) -> None:
        text = clean(text)
        if self.copy_error == text:
            return
        self.copy_error = text
        import logging

        bus.enqueue(partial(logging.getLogger("resilient").warning, "%s", text))
        bus.deliver()

    # -- fork ---------------------------------------------

    def in_child(self) -> None:
        """Forget the parent's follower; the child's first read starts its own."""
        self.state.reset_lock()
        self.flags.reset_lock()
        follower, self.follower = self.follower, None
        self._starting = None
        self._again_at = float("-inf")
        self._once = threading.RLock()
        self._memory = None
        for flag in self.flags.all():
            flag.changes = flag.off_reads = 0
        if follower is not None:
            follower.forked()
            self._kept.append(follower)
        self.state.read(fresh=not self.state.isolated)


here: Final = FlagRuntime()


def install() -> None:
    """Have a fork wait for changes of flags, and the store told of the end of this process."""
    at_fork(
        "flags",
        before=here.state.before_fork,
        in_parent=here.state.after_fork,
        in_child=here.in_child,
    )
    at_exit("flags", here.stop)
