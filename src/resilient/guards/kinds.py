"""Every kind of guard that there is: ours, loaded or not, and those of others that are loaded."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from pkgutil import walk_packages

from .base import Guard


def kinds() -> list[type[Guard]]:
    """Return the classes of all guards, in the same order whatever has been imported before."""
    _import_ours()
    found: list[type[Guard]] = [Guard]
    for kind in found:
        found += kind.__subclasses__()
    made = [kind for kind in found if "kind" in vars(kind)]
    return sorted(made, key=lambda kind: (kind.__module__, kind.__qualname__))


@cache
def _import_ours() -> None:
    package = __name__.rpartition(".")[0]
    for module in walk_packages(import_module(package).__path__, f"{package}."):
        import_module(module.name)
