"""The follower: the one thread of a process that keeps its levers in step with the store.

It does all waiting in its own thread: calls and reads of flags never run this code.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from ..events import bus
from ..validation import clean
from .flip import Flip
from .heartbeat import Heartbeat
from .journal import Journal
from .local_copy import CopyError, LocalCopy
from .policy_overrides import Orders
from .presence import Presence
from .process_report import ProcessReport
from .state import State
from .stores.base import Process, Reading, Store

POLL: Final = 1.0  # seconds between two polls of the store, plus or minus a fifth
_SLICE: Final = 0.1  # the longest sleep before it checks whether to stop
LAST_WORDS: Final = 0.8  # seconds that the exiting process waits for this thread at most

Opener = Callable[[], Store]


class Follower:
    """Polls the store, and reports to it what this process has applied."""

    def __init__(
        self,
        state: State,
        orders: Orders,
        opener: Opener,
        copy: LocalCopy | None,
        presence: Presence,
        *,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self.state: Final = state
        self.orders: Final = orders
        self.process: Process = presence.process()
        self.synced_at: float = state.now()  # the last success, or the start of the attempts
        self.error: str = ""  # why the store can't be read; "" if it can
        self.unread: dict[str, str] = {}  # levers whose record in the store is invalid, and why
        self.copy_error: str = ""
        self.incarnation: str = ""
        self._opener = opener
        self._store: Store | None = None
        self._copy = copy
        self._presence = presence
        self._draw = draw
        self._seen: int = -1  # the store's version at the last complete reading
        self._unsaved: bool = False
        self._unfollowed: list[str] = []  # levers whose policies may not have been updated yet
        self._life: int = state.life
        self._forget: Callable[[], None] = _nothing
        self._report = ProcessReport(state)
        self._stopping = False
        self.journal: Final = Journal(self.process)
        self._heart = Heartbeat(self.process, presence, self.journal, state.now, draw)
        self._tried = threading.Event()
        self._thread: threading.Thread | None = None

    # -- the thread ---------------------------------------------

    def start(self) -> None:
        """Start the thread.

        Raises:
            RuntimeError: the system can't start another thread.
        """
        thread = threading.Thread(target=self._run, name="resilient-follower", daemon=True)
        self._thread = thread
        thread.start()

    def stop(self) -> None:
        """Deregister and end, within a bounded time even where the store does not answer."""
        self._stopping = True
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(LAST_WORDS)

    def wait(self, seconds: float) -> bool:
        """Wait for the first answer or failure of the store; return whether it came."""
        return self._tried.wait(seconds)

    def forked(self) -> None:
        """In a forked child: drop the parent's lock, and touch nothing else of the parent."""
        self._presence.drop()
        self._forget()

    def _run(self) -> None:
        self._forget = bus.subscribe(self.journal.heard)
        self.journal.add("process_started")
        bus.leave_to_others()  # a listener or log handler that hangs must not delay a flip
        while not self._stopping:
            try:
                self.turn()
                bus.look_back()
                self._rest()
            except BaseException as fault:  # it must not end: it is how operators reach the process
                self._log("the follower: a turn failed", fault)
                time.sleep(_SLICE)
        self._forget()
        self._leave()

    def _rest(self) -> None:
        until = self.state.now() + POLL * (0.8 + 0.4 * self._draw())
        while not self._stopping:
            end = self.state.next_end()
            left = (until if end is None else min(end, until)) - self.state.now()
            if left <= 0:
                return
            if self._store is None:
                time.sleep(min(left, _SLICE))
            elif self._hinted(self._store, min(left, _SLICE)):
                return

    def _hinted(self, store: Store, seconds: float) -> bool:
        try:
            return store.hint(seconds)
        except Exception as error:  # the next reading reports the fault
            self._heart.error = str(error) or repr(error)
            time.sleep(seconds)
            return False

    def _leave(self) -> None:
        store, self._store = self._store, None
        if store is not None:
            self.journal.add("process_left")
            with contextlib.suppress(Exception):
                self.journal.tell(store, now=True)
            with contextlib.suppress(Exception):  # the next process of this host needs the lock
                store.leave(self.process.id)
            with contextlib.suppress(Exception):
                store.close()
        self._presence.leave()

    # -- one turn ---------------------------------------------

    def turn(self) -> None:
        """Expire flips, poll the store once, and report to it."""
        self._follow(self.state.expire())
        try:
            store = self._opened()
            reading = store.read(self.incarnation, self._seen)
        except Exception as error:  # a third party's store may raise anything
            self._failed(error)
        else:
            self._take_in(store, reading)
            self._beat(store)
        self._tried.set()
        self._save()

    def _follow(self, levers: list[str]) -> None:
        """Update the policies of some levers; the next turn repeats an interrupted update."""
        self._unfollowed += levers
        if self._unfollowed:
            self.orders.follow(self._unfollowed)
            self._unfollowed = []

    def _opened(self) -> Store:
        if self._store is None:
            try:
                self._presence.enter()
            except (OSError, ValueError, ImportError) as error:
                self.copy_error = str(error)
            self._store = self._opener()
            self._beat(self._store)  # acknowledgements must count this process from now on
        return self._store

    def _failed(self, error: Exception) -> None:
        text = clean(error) or repr(error)
        if text != self.error:
            self._log("the store can't be read; what is known of it stands", error)
        self.error = text

    def _take_in(self, store: Store, reading: Reading) -> None:
        if self._stopping:  # the process may already follow another store
            return
        if self.error:
            self._log("the store can be read again", None)
        self.error = ""
        if reading.flips is not None:
            self._note(reading)
            news = self.state.adopt(
                reading.flips, reading.now, whole=reading.whole, life=self._life
            )
            self._follow([flip.lever for flip in news])
            self._unsaved = self._unsaved or bool(news) or reading.incarnation != self.incarnation
            lost = [] if reading.whole else self._lost(reading.flips)
            self.incarnation, self._seen = reading.incarnation, reading.version
            if lost and self.state.life == self._life:
                self.incarnation, self._seen = "", -1  # read everything again
                self._restore(store, lost)
                self.process.applied = 0  # the reading may have been older than what holds here
                return
        self.process.applied = reading.version
        self.synced_at = self.state.now()

    def _note(self, reading: Reading) -> None:
        """Log the levers whose record is invalid; each keeps its known value."""
        unread = {clean(lever): clean(why) for lever, why in reading.unread.items()}
        for lever in [each for each in unread if each not in self.unread][:5]:
            self._log(
                f"{lever} can't be read in the store, and stays as it is: {unread[lever]}", None
            )
        self.unread = unread

    def _lost(self, flips: list[Flip]) -> list[Flip]:
        """Return the known flips that the store does not have: it has lost its contents."""
        there = {flip.lever: flip.version for flip in flips}
        known = list(self.state.flips.values())
        return [flip for flip in known if flip.version > there.get(flip.lever, 0)]

    def _restore(self, store: Store, lost: list[Flip]) -> None:
        try:
            store.restore(lost)
        except Exception as error:
            self._heart.error = str(error)
        else:
            levers = ", ".join(flip.lever for flip in lost[:5])
            self._log(
                f"the store had lost {len(lost)} flips, which were given back: {levers}", None
            )

    def _save(self) -> None:
        if self._copy is None or not self._unsaved:
            return
        try:
            flips = list(self.state.flips.values())
            self._unsaved = not self._copy.save(self.incarnation, flips, time.time())
            self.copy_error = ""
        except CopyError as error:
            if not self.copy_error:
                self._log("the local copy can't be written; the old one stands", error)
            self.copy_error = str(error)

    # -- signs of life ---------------------------------------------

    def _beat(self, store: Store) -> None:
        fault = self._heart.beat(store, self.about()) if store.writable else None
        if fault is not None:
            self._log("the store can't be told of this process, which follows it", fault)

    def about(self) -> dict[str, Any]:
        """Return what this process declares, and the values of its levers."""
        return {
            **self._report.told(),
            "faults": {**self.unread, **self.orders.faults()},
            "copy_error": self.copy_error,
        }

    @property
    def beat_error(self) -> str:
        """Why the store can't record this process; "" if it can."""
        return self._heart.error

    def _log(self, text: str, error: BaseException | None) -> None:
        import logging

        said = clean(text if error is None else f"{text}: {error}")
        bus.enqueue(partial(logging.getLogger("resilient").warning, "%s", said))
        bus.deliver()


def _nothing() -> None:
    return None
