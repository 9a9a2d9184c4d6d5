"""Scenarios of the tests, small enough to run in a moment."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

CALM: dict[str, Any] = {
    "seconds": 40,
    "clients": {"rate": 20, "deadline": 1.0},
    "service": {"workers": 4, "time": 0.1},
    "policy": [{"name": "ours", "guards": [{"guard": "timeout", "seconds": 0.5}]}],
}


def calm(**changes: Any) -> dict[str, Any]:
    """Return the calm scenario with other tables; the keys of a table are changed one by one."""
    data = deepcopy(CALM)
    for key, value in changes.items():
        if isinstance(value, dict) and key in data:
            data[key].update(value)
        else:
            data[key] = value
    return data


def guards(*tables: dict[str, Any], name: str = "ours") -> list[dict[str, Any]]:
    """Return the list of one policy with these guards."""
    return [{"name": name, "guards": list(tables)}]
