"""Try a policy on an outage before shipping it: the real guards and engine, on a virtual clock."""

from __future__ import annotations

from .loading import from_data, load
from .measure import Run
from .report import Report
from .runner import run
from .scenario import Scenario

__all__ = ("Report", "Run", "Scenario", "from_data", "load", "run")
