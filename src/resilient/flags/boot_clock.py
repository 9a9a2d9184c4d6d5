"""The identity of this boot of the host: the clock that dates the ends of flips restarts then."""

from __future__ import annotations

from typing import Any

from ..flag_handle import BOOT_CLOCK

_boot: list[str] = []


def boot() -> str:
    """Return an identity of this boot of the host and of the clock that counts from it."""
    if not _boot:
        try:
            with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
                # Before 0.2 a clock that stops during a suspend dated the ends: never reuse those.
                suffix = "" if BOOT_CLOCK is None else " boottime"
                _boot.append(file.read(64).strip() + suffix)
        except (OSError, ValueError):
            _boot.append("")
    return _boot[0] or f"process {_unique()}"


def _unique() -> Any:
    import os

    return os.getpid()  # without a boot id, only this process can use an end on that clock
