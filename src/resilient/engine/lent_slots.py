"""Which block lends its slot to the code running now; see `resilient.engine.slot_leases`."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Final

lent: Final[ContextVar[object | None]] = ContextVar("resilient-lease", default=None)
