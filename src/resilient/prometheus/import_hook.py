"""Register the metrics once the application imports prometheus_client, which we never import first.

prometheus_client decides at its import whether it runs in multiprocess mode, so the application
must choose the moment. wrapt has such a hook too, but importing wrapt brings in 130 modules,
asyncio and inspect among them, and takes about 40 ms: more than all of `resilient`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from threading import Lock, get_ident
from typing import TYPE_CHECKING, Any, Final, cast

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from types import ModuleType

TARGET: Final = "prometheus_client"
SWITCH: Final = "RESILIENT_METRICS"


class _Loader:
    """Wraps another loader, and calls the hook when the module is loaded."""

    def __init__(self, inner: Any, hook: _Hook) -> None:
        self._inner = inner
        self._hook = hook

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        module: ModuleType | None = self._inner.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        inner = module.__loader__ = self._inner  # the module shows no trace of this loader
        if module.__spec__ is not None:
            module.__spec__.loader = inner
        inner.exec_module(module)
        self._hook.fire()

    def __getattr__(self, name: str) -> Any:  # for code that only inspects a spec
        return getattr(self._inner, name)


class _Hook:
    """A finder that returns what the finders after it find, and acts once, for one module."""

    def __init__(self) -> None:
        self._register: Callable[[], object] = int  # until `enter` sets it
        self._claim = Lock()  # taken for good by the thread that registers or cancels
        self._asking: set[int] = set()  # threads that are in find_spec

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != TARGET or self._claim.locked() or get_ident() in self._asking:
            return None
        self._asking.add(get_ident())  # another hook may ask all finders again, this one included
        try:
            spec = self._ask_others(name, path, target)
        finally:
            self._asking.discard(get_ident())
        if spec is not None and hasattr(spec.loader, "exec_module"):
            cast("Any", spec).loader = _Loader(spec.loader, self)
        return spec

    def _ask_others(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None
    ) -> ModuleSpec | None:
        finders = list(sys.meta_path)
        later = finders[finders.index(self) + 1 :] if self in finders else []
        for finder in later:
            find = getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = None if find is None else find(name, path, target)
            if spec is not None:
                return spec
        return None

    def enter(self, register: Callable[[], object]) -> None:
        """Become the first finder, unless it is one already or has done its work."""
        self._register = register
        if not self._claim.locked() and self not in sys.meta_path:
            sys.meta_path.insert(0, self)

    def leave(self) -> bool:
        """Never act again; return True if it had not yet acted."""
        if not self._claim.acquire(blocking=False):
            return False
        # A new list: a thread that iterates over the old one must not skip the finder after this.
        sys.meta_path = [finder for finder in sys.meta_path if finder is not self]
        return True

    def fire(self) -> None:
        """Register the metrics; an error only warns, since an import must not fail by it."""
        if not self.leave():
            return
        try:
            self._register()
        except Exception as error:
            _warn(f"resilient's metrics are not registered: {error}")


_hook: Final = _Hook()


def install(register: Callable[[], object]) -> None:
    """Register the metrics on prometheus_client's registry, now or when it is imported.

    The environment variable ``RESILIENT_METRICS=off`` prevents it.
    """
    if not _wanted():
        return
    # First install the finder, then check: an import that another thread begins now is not missed.
    _hook.enter(register)
    if sys.modules.get(TARGET) is not None:
        _hook.fire()


def cancel() -> None:
    """Register nothing automatically from now on."""
    _hook.leave()


def _wanted() -> bool:
    value = os.environ.get(SWITCH, "")
    word = value.strip().lower()
    if word not in ("", "on", "off"):
        _warn(f"{SWITCH} must be 'on' or 'off'; got {value!r}, which is taken as 'on'")
    return word != "off"


def _warn(text: str) -> None:
    import warnings

    warnings.warn(text, RuntimeWarning, stacklevel=2)
