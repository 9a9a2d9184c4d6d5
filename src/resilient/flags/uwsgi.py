"""What is to be known of uWSGI, which tells nobody of a fork until it is made."""

from __future__ import annotations

import sys
from typing import Any, Final

_NEEDED: Final = ("enable-threads", "py-call-osafterfork")


def is_master() -> bool:
    """Return whether this is uWSGI before its forks.

    Its workers would inherit what is open; they follow by themselves.
    """
    uwsgi: Any = sys.modules.get("uwsgi")  # a module that only it has
    try:
        return uwsgi is not None and not (
            uwsgi.worker_id() or uwsgi.mule_id() or uwsgi.i_am_the_spooler()
        )
    except Exception:  # not the module that is meant
        return False


def warn() -> None:
    """Warn where uWSGI is told neither to run threads nor to tell Python of its forks."""
    uwsgi: Any = sys.modules.get("uwsgi")
    missing = [each for each in _NEEDED if not getattr(uwsgi, "opt", {}).get(each)]
    if uwsgi is not None and missing:
        import logging

        logging.getLogger("resilient").warning(
            "uWSGI needs %s: without, its workers never hear of a flip", " and ".join(missing)
        )
