"""An error that a signal's handler raises in the main thread."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.kit.waiting import WAIT, until


@contextmanager
def signalled(error: BaseException, when: Callable[[], object]) -> Iterator[None]:
    """Raise an error in the main thread by a signal, once a condition holds.

    A signal that comes just before the thread blocks is not looked at until the wait is over, which
    is CPython's way: it is sent again until the handler has run, which raises once.
    """
    main = threading.main_thread().ident
    assert main is not None
    raised = threading.Event()

    def handler(*_: object) -> None:
        if not raised.is_set():
            raised.set()
            raise error

    def send() -> None:
        until(when)
        while not raised.is_set():
            signal.pthread_kill(main, signal.SIGUSR1)
            raised.wait(0.02)

    before = signal.signal(signal.SIGUSR1, handler)
    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    try:
        yield
    finally:
        thread.join(WAIT)
        signal.signal(signal.SIGUSR1, before)
