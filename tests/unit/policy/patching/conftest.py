"""Modules that are written for one test, and every patch undone after it."""

from __future__ import annotations

import importlib
import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from resilient import Policy, bulkhead, registry

_numbers = itertools.count(1)


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    """Write a module that nobody has imported, and return its name."""
    monkeypatch.syspath_prepend(str(tmp_path))
    made: list[str] = []

    def write(source: str, name: str | None = None) -> str:
        name = name or f"patched_{next(_numbers)}"
        path = tmp_path.joinpath(*name.split("."))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".py").write_text(source)
        importlib.invalidate_caches()
        made.append(name.partition(".")[0])
        return name.removesuffix(".__init__")

    yield write
    for name in list(sys.modules):
        if name.partition(".")[0] in made:
            del sys.modules[name]


@pytest.fixture(autouse=True)
def no_patches() -> Iterator[None]:
    """No test leaves a patch behind."""
    yield
    from resilient.policy import patching

    for each in list(patching._patches.values()):
        try:
            each.undo()
        except RuntimeError:
            patching._patches.pop(each.target, None)


@pytest.fixture
def slot() -> Callable[[], Policy]:
    """Make policies with one slot: who takes two at once is refused."""
    return lambda: Policy(f"patching-{next(_numbers)}", bulkhead(1))


@pytest.fixture
def shown() -> Callable[[], list[dict[str, Any]]]:
    """What the registry says of patches."""
    return lambda: registry.snapshot()["patches"]
