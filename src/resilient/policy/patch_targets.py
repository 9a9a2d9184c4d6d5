"""The target of a patch: its module, the name in it, and the current value."""

# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false
# pyright: reportUnknownMemberType=false, reportUnknownLambdaType=false
from __future__ import annotations

import sys
from typing import Any, Final

from .. import validation
from .marks import mark_of
from .wrapping import opened

MISSING: Final[Any] = object()  # the owner itself does not define the name
_ALLOWED: Final = '"package.module:function" or "package.module:Class.method"'


def is_half_made(module: Any) -> bool:
    """Return whether a module is being imported."""
    return bool(getattr(getattr(module, "__spec__", None), "_initializing", False))


def module_of(target: object) -> str:
    """Return the module part of a target."""
    if type(target) is not str:
        validation.refuse_type("target", target, _ALLOWED)
    module, colon, path = target.partition(":")
    names = [*module.split("."), *path.split(".")]
    if not colon or not all(name.isidentifier() for name in names):
        validation.refuse("target", target, _ALLOWED)
    return module


def find(module: str) -> None:
    """Raise if a module is neither imported nor can be found."""
    from importlib.util import find_spec

    names = module.split(".")
    for last in range(1, len(names) + 1):
        part = ".".join(names[:last])
        if part in sys.modules:
            continue
        # Look only as far as needs no import: a package's import may define what is in it.
        parent = sys.modules.get(part.rpartition(".")[0])
        inside = last == 1 or hasattr(parent, "__path__")
        if not inside or find_spec(part) is None:
            raise ModuleNotFoundError(
                f"target names the module {module}: there is no {part}", name=part
            )
        return


def unknown(target: str, module: Any, path: str) -> str:
    """Return an error text for a missing name, with a suggestion."""
    owner, missing = module, path
    for part in path.split("."):
        if not hasattr(owner, part):
            missing = part
            break
        owner = getattr(owner, part)
    names = [name for name in dir(owner) if not name.startswith("_")]
    where = getattr(owner, "__qualname__", None) or getattr(owner, "__name__", "it")
    hint = validation.did_you_mean(missing, names)
    return f"target {target}: {where} has no {missing!r}{hint}"


def put_back(owner: Any, name: str, before: Any) -> None:
    """Restore an owner's attribute, or delete it if the owner did not define it."""
    if before is MISSING:
        delattr(owner, name)
    else:
        setattr(owner, name, before)


def is_inside(outer: Any, made: Any) -> bool:
    """Return whether a foreign wrapper calls our function, as far as ``__wrapped__`` shows."""
    mine, seen = opened(made) or made, 0
    outer = opened(outer) or outer
    while outer is not None and seen < 100:
        if outer is mine:
            return True
        mark = mark_of(outer)
        outer, seen = (mark.fn if mark else getattr(outer, "__wrapped__", None)), seen + 1
    return False
