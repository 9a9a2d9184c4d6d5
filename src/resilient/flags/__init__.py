"""Kill switches: declared in code, flipped in production, obeyed by every process."""

from __future__ import annotations

import copyreg
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .. import validation
from ..flag_handle import AskedFlag, Flag
from .runtime import here as _here
from .snapshot import Snapshot

if TYPE_CHECKING:
    import os
    from datetime import date, timedelta

    from .stores.base import Store

__all__ = ("Snapshot", "get", "off", "on", "retired", "snapshot")

for _kind in (Flag, AskedFlag):
    copyreg.pickle(_kind, lambda flag: (get, (flag.name,)))


@validation.keywords
def flag(
    name: str,
    *,
    owner: str = "",
    impact: str = "",
    review: date | str | None = None,
    default: bool = True,
) -> Flag:
    """Declare a kill switch, which is on until somebody turns it off.

    Declare it once, where it is used, at the top of a module. It contacts no store: the first
    read does.

    Args:
        name: what operators see. 1 to 100 characters from ``A-Z a-z 0-9 . _ - < > : #``. Names that
            differ only in case or punctuation count as the same.
        owner: the team to call. Default none.
        impact: one sentence on what the customer sees while it is off; commands print it to whoever
            turns it off. Default none.
        review: a date, or ``"2027-03-01"``: from that day on commands report a review as due. It
            has no other effect. Default never.
        default: its value while no flip decides it. Default True.

    Returns:
        The flag. The same declaration, carried out again, returns the same flag.

    Raises:
        ValueError: the name is declared elsewhere, too much like another, retired or not allowed;
            or its environment variable has a value other than ``off``; or ``RESILIENT_STORE`` does
            not name a store.
        TypeError: an argument is of a wrong type.

    Example:
        >>> from resilient import flag
        >>> RECS = flag("recommendations", owner="team-recs", review="2027-03-01",
        ...             impact="The home page shows the top 100 instead of personal picks.")
        >>> if RECS:
        ...     print("personal picks")
        personal picks
    """
    return _here.flags.declare(name, owner=owner, impact=impact, review=review, default=default)


def get(name: str | Flag) -> Flag:
    """Return a declared flag by its name.

    Args:
        name: the name of a flag, or a flag, which is returned unchanged.

    Returns:
        The flag.

    Raises:
        LookupError: no flag of that name is declared; the message names the nearest one.

    Example:
        >>> from resilient import flag, flags
        >>> RANKING = flag("ranking")
        >>> flags.get("ranking") is RANKING
        True
    """
    return _here.flags.get(name)


def snapshot() -> Snapshot:
    """Return the values of all flags at this instant, as a view that does not change.

    Take it once at the beginning of a request, so that the request sees one answer throughout.

    Returns:
        A mapping, looked up by flag or by name.

    Example:
        >>> from resilient import flag, flags
        >>> BANNER = flag("banner")
        >>> view = flags.snapshot()
        >>> view[BANNER], view["banner"]
        (True, True)
    """
    _here.first_read()
    return _here.state.snapshot()


def retired(*names: str) -> None:
    """Forbid to declare these names again.

    An old version of the code may still obey a flip of an old name, so a name is never reused.
    Keep the line in the code for as long as old versions or old flips may be around.

    Args:
        *names: names of flags whose code has been removed.

    Raises:
        ValueError: a name is still declared, or not allowed.
        TypeError: a name is not a str.

    Example:
        >>> from resilient import flag, flags
        >>> flags.retired("old_search")
        >>> flag("old_search")
        Traceback (most recent call last):
        ValueError: the flag name 'old_search' can't be used: ...
    """
    _here.flags.retire(*names)


@validation.keywords
def configure(
    *,
    store: str | Callable[[], Store] | None = None,
    state_dir: str | os.PathLike[str] | None = None,
) -> None:
    """Set where flips live, in place of the variable ``RESILIENT_STORE``.

    Call it before the first flag is read. It opens nothing.

    Args:
        store: ``"sqlite:////var/lib/app/flags.db"`` (all processes of a host),
            ``"redis://host:6379/0"`` or ``"rediss://..."`` (a fleet), ``"file:/etc/flags.toml"``
            (read only), ``"memory:"`` (this process alone), or a function that returns your own
            store. Default: ``RESILIENT_STORE``, else memory.
        state_dir: the directory in which this host keeps the last known state. Default:
            ``RESILIENT_STATE_DIR``, else beside the SQLite file, else in the user's state
            directory.

    Raises:
        ValueError: the store has an unknown form, or a SQLite file is on a network file system.
        TypeError: store is neither a str nor a function.

    Example:
        >>> import resilient
        >>> resilient.configure(store="memory:")
    """
    directory = None if state_dir is None else str(state_dir)
    _here.configure(store, directory)


def off(
    flag: str | Flag, *, reason: str, by: str = "", duration: float | timedelta | None = None
) -> None:
    """Turn a flag off in the store, and in this process at once.

    Args:
        flag: the flag, or its name.
        reason: why; the log keeps it for ever, and the errors of refused calls show it.
        by: who. Default: the operating system's user.
        duration: seconds after which the flag returns to its default. Default None: it stays off
            until somebody turns it on.

    Raises:
        LookupError: no flag of that name is declared.
        ValueError: the reason is empty, or a value is not allowed.
        StoreError: the store could not be written.

    Example:
        >>> from resilient import flag, flags
        >>> REVIEWS = flag("reviews")
        >>> flags.off(REVIEWS, reason="vendor down, INC-1234")
        >>> bool(REVIEWS)
        False
        >>> flags.on(REVIEWS, reason="vendor is back")
    """
    _flip(flag, "off", reason, by, duration)


def on(
    flag: str | Flag, *, reason: str, by: str = "", duration: float | timedelta | None = None
) -> None:
    """Turn a flag on in the store, and in this process at once.

    Args:
        flag: the flag, or its name.
        reason: why; the log keeps it for ever.
        by: who. Default: the operating system's user.
        duration: seconds after which the flag returns to its default. Default None: it stays on
            until somebody turns it off.

    Raises:
        LookupError: no flag of that name is declared.
        ValueError: the reason is empty, or a value is not allowed.
        StoreError: the store could not be written.

    Example:
        >>> from resilient import flag, flags
        >>> BETA = flag("beta", default=False)
        >>> flags.on(BETA, reason="ready")
        >>> bool(BETA)
        True
    """
    _flip(flag, "on", reason, by, duration)


def _flip(flag: str | Flag, value: str, reason: str, by: str, duration: Any) -> None:
    from .operations import order

    lever = f"flag/{_here.flags.get(flag).name}"
    store = _here.opener()()
    try:
        done = order(store, lever, value, by=by, reason=reason, lasts=duration)
        _here.state.adopt([done.flip], done.now)
    finally:
        store.close()
    if duration is not None:
        _here.follow()  # the follower ends the flip, also where the store is this process's memory
    else:
        _here.first_read()
