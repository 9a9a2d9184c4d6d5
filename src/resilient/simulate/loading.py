"""Make a scenario: from a file, or from plain data."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .reading import scenario_of
from .scenario import Scenario


def from_data(data: Mapping[str, Any], *, folder: str | Path = ".") -> Scenario:
    """Return the scenario that plain data says, with the keys of the file.

    Args:
        data: what a TOML file holds; see the reference of its keys.
        folder: where a trace's file is looked for. Default: the working directory.

    Returns:
        The scenario.

    Raises:
        ValueError: a key is unknown, missing or not allowed: the message names it, its value and
            what is allowed.
        TypeError: a value is of a wrong type.
        OSError: the trace can't be read.

    Example:
        >>> from resilient.simulate import from_data
        >>> from_data({"seconds": 60})
        Traceback (most recent call last):
        ValueError: clients is missing
    """
    return scenario_of(data, Path(folder))


def load(path: str | Path) -> Scenario:
    """Return the scenario in a TOML file, checked to its last key.

    Args:
        path: the file. A trace that it names is looked for in the file's folder.

    Returns:
        The scenario.

    Raises:
        OSError: the file, or its trace, can't be read.
        ValueError: it is not TOML, or a key is unknown, missing or not allowed.
        TypeError: a value is of a wrong type.

    Example:
        >>> from resilient.simulate import load
        >>> load("examples/stall.toml").name
        'A stall of 10 s'
    """
    file = Path(path)
    try:
        return scenario_of(tomllib.loads(file.read_text(encoding="utf-8")), file.parent)
    except (ValueError, TypeError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{file}: {error}") from None
