"""The environment variables that name stores and pages, and the names of the memory store."""

from __future__ import annotations

from typing import Final

VARIABLE: Final = "RESILIENT_STORE"
RUNTIME: Final = "RESILIENT_RUNTIME_DIR"
MEMORY: Final = ("", "memory:", "memory://")  # these name the process's own store
