"""What the environment says of stores and pages: the names of its variables, and a store's own."""

from __future__ import annotations

from typing import Final

VARIABLE: Final = "RESILIENT_STORE"
RUNTIME: Final = "RESILIENT_RUNTIME_DIR"
MEMORY: Final = ("", "memory:", "memory://")  # what names this process's own store
