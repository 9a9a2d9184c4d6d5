"""The path at which stores of others import `Flip`, as it was documented first."""

from __future__ import annotations

from .flip import Flip

__all__ = ("Flip",)
