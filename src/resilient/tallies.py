"""The lock under which counts are added that no policy's own lock covers."""

from __future__ import annotations

import threading
from typing import Any, Final, cast

# Re-entrant: a signal handler or finalizer may count in the middle of it.
tally: Final = threading.RLock()


def reset_lock() -> None:
    """Make the lock anew, in a forked child."""
    cast("Any", tally)._at_fork_reinit()
