"""uWSGI, which runs no hook before its forks."""

from __future__ import annotations

import sys
from typing import Any, Final

_NEEDED: Final = ("enable-threads", "py-call-osafterfork")


def is_master() -> bool:
    """Return whether this is uWSGI's master process, before its forks.

    Its workers would inherit open files; each starts a follower of its own.
    """
    uwsgi: Any = sys.modules.get("uwsgi")  # only uWSGI has this module
    try:
        return uwsgi is not None and not (
            uwsgi.worker_id() or uwsgi.mule_id() or uwsgi.i_am_the_spooler()
        )
    except Exception:  # another module of this name
        return False


def warn() -> None:
    """Warn if uWSGI runs no threads, or not Python's hooks at its forks."""
    uwsgi: Any = sys.modules.get("uwsgi")
    missing = [each for each in _NEEDED if not getattr(uwsgi, "opt", {}).get(each)]
    if uwsgi is not None and missing:
        import logging

        logging.getLogger("resilient").warning(
            "uWSGI needs %s: without, its workers never hear of a flip", " and ".join(missing)
        )
