"""Which boot of this host it is: ends are told on a clock that begins anew with each."""

from __future__ import annotations

from typing import Any

from ..flag_handle import BOOT_CLOCK

_boot: list[str] = []


def boot() -> str:
    """Return a word for this boot of this host, from which its clock counts, and for that clock."""
    if not _boot:
        try:
            with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
                # Before 0.2 ends were told by a clock that a suspend stops: those are no ends here.
                suffix = "" if BOOT_CLOCK is None else " boottime"
                _boot.append(file.read(64).strip() + suffix)
        except (OSError, ValueError):
            _boot.append("")
    return _boot[0] or f"process {_unique()}"


def _unique() -> Any:
    import os

    return os.getpid()  # without a boot to name, an end on the monotonic clock is this process's
