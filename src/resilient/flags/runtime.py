"""The levers of this process: its flags, their state, and the follower, which starts late."""

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

FIRST_WAIT: Final = 0.5  # seconds that the first read waits for the store at most, once
_RETRY: Final = 1.0  # seconds until the next try after the follower could not start


class FlagRuntime:
    """The flags, the state and the follower of one process. The only one is `here`."""

    def __init__(self) -> None:
        self.flags: Final = Flags()
        self.state: Final = State(self.flags)
        self.follower: Follower | None = None
        self.orders: Orders | None = None
        self.copy_error: str = ""
        self._setting: str | Callable[[], Store] | None = None  # None: the environment decides
        self._directory: str | None = None
        self._loaded = False
        self._once = threading.RLock()
        self._starting: int | None = None  # the thread that is starting the follower
        self._again_at = float("-inf")
        self._memory: Store | None = None
        self._kept: list[object] = []  # the parent's objects: closing them would disturb the parent

    # -- settings ---------------------------------------------

    def configure(self, store: str | Callable[[], Store] | None, directory: str | None) -> None:
        """Follow another store from the next read on."""
        from .stores.urls import opener_of

        opener_of(store if store is not None else self.setting)
        if directory is not None:
            directory = os.fspath(directory)
        with self._once:  # so that no thread starts to follow the old store meanwhile
            self.stop()
            self.state.forget()  # else the new store would seem to have lost these flips
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
        """Return a function that opens the store; the memory store is always the same object."""
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
        """Where this host keeps its copy, None if nothing outlives the process."""
        if self.in_memory:
            return None
        from .stores.urls import directory_for

        return directory_for(self.setting, self._directory, os.environ)

    @property
    def runtime_directory(self) -> Path | None:
        """Where the processes of this host share their counts, None if each counts alone."""
        if self.state.isolated or (self.in_memory and RUNTIME not in os.environ):
            return None
        from .stores.urls import runtime_for

        return runtime_for(self.setting, os.environ) if os.name == "posix" else None

    # -- beginning ---------------------------------------------

    def load(self) -> None:
        """Load the local copy, once. Never contacts the store."""
        if self._loaded or self.state.isolated:
            return
        if not self.in_memory:
            self.opener()  # raises if the setting is invalid
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
        """Set the value of a newly declared flag."""
        self.state.declared(flag)

    def first_read(self) -> None:
        """Follow the store before the first read of a flag or the first call of a policy."""
        if time.monotonic() < self._again_at:
            return
        if self.in_memory and self.state.next_end() is None:
            if self.state.fresh:
                self.state.read(fresh=False)
        elif self.follower is None:
            self.follow()

    def follow(self) -> None:
        """Start the follower, unless it runs."""
        me = threading.get_ident()
        if self._starting == me:  # a signal handler or a log handler of this thread reads a flag
            return
        # A second thread waits as long as the first one may take.
        if self._once.acquire(timeout=2 * FIRST_WAIT):
            try:
                self._starting = me
                if self.follower is None:
                    self._start()
            finally:
                self._starting = None
                self._once.release()

    def _start(self) -> None:
        importlib.import_module("logging")  # the follower's thread needs it
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
        except Exception as error:  # a third party's store may raise anything
            self._again_at = time.monotonic() + _RETRY
            self._complain(f"the store can't be followed: {error}")
            return
        if not self.in_memory:  # the local copy may be old
            follower.wait(FIRST_WAIT)
        self.follower = follower
        self.state.read(fresh=False)

    def ordering(self) -> Orders:
        """Return the object that applies orders to policies."""
        from .policy_overrides import Orders

        if self.orders is None:
            self.orders = Orders(self.state)
        return self.orders

    def first_call(self, core: PolicyState) -> bool:
        """Start the follower and apply pending orders before a policy's first call.

        Returns:
            Whether this is complete; if not, the next call tries again.
        """
        self.first_read()
        activity.tell()
        if self.orders is not None:
            self.orders.follow_policy(core)
        return self.in_memory or self.follower is not None

    def expired(self, core: PolicyState) -> None:
        """Apply the orders for a policy whose own forced state has expired."""
        if self.orders is not None:
            self.orders.follow_policy(core)

    def stop(self) -> None:
        """Stop following, and deregister from the store."""
        follower, self.follower = self.follower, None
        if follower is not None:
            follower.stop()

    def forget_own(self) -> None:
        """Start with an empty memory store: for tests."""
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
        """Drop the parent's follower; the child's first read starts its own."""
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
    """Make a fork wait for changes of flags, and an exit deregister this process."""
    at_fork(
        "flags",
        before=here.state.before_fork,
        in_parent=here.state.after_fork,
        in_child=here.in_child,
    )
    at_exit("flags", here.stop)
