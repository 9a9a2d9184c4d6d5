"""`resilient.patch`: guard functions and methods of other people's modules.

wrapt resolves a dotted name and calls back when a module is imported; the first patch imports it.
The replacement of the original is a plain guarded function, as a decorator would make, since
wrapt's own wrapper costs five times as much a call.
"""

# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false
# pyright: reportUnknownMemberType=false, reportUnknownLambdaType=false
from __future__ import annotations

import sys
import threading
from importlib import import_module
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from .. import validation
from ..admin.registry import registry
from ..engine.pipeline import Pipeline
from ..guards.base import Mode
from .late_knowledge import knowledge_of
from .patch_targets import MISSING, find, is_half_made, is_inside, module_of, put_back, unknown
from .policy import Policy
from .wrapping import check_not_ours
from .wrapping import wrap as guard_by

if TYPE_CHECKING:
    from typing import Self


class Patch:
    """A function or method that a policy guards in its module; made by `resilient.patch`.

    Attributes:
        target: the name given.
        policy: the policy that guards it.

    Example:
        >>> import resilient
        >>> from resilient import Policy, circuit_breaker
        >>> fonts = Policy("fonts", circuit_breaker())
        >>> with resilient.patch("textwrap:shorten", fonts) as patched:
        ...     patched.applied
        True
        >>> patched.applied
        False
    """

    __slots__ = ("_before", "_made", "_module", "_owner", "_undone", "policy", "target")

    def __init__(self, target: str, policy: Policy) -> None:
        self.target: str = target
        self.policy: Policy = policy
        self._module: Any = None
        self._owner: Any = None
        self._before: Any = MISSING  # what the owner itself defined; MISSING if it was inherited
        self._made: Any = None
        self._undone = False

    @property
    def applied(self) -> bool:
        """Whether the name refers to the guarded function now.

        False before its module is imported, after `undo`, and if somebody else has replaced it or
        has reloaded the module.
        """
        module = self.target.partition(":")[0]
        here = self._made is not None and sys.modules.get(module) is self._module
        return here and self._now() is self._made

    @property
    def state(self) -> str:
        """``"applied"``, ``"waiting"`` for an import, ``"replaced"`` by others, or ``"undone"``."""
        if self._undone:
            return "undone"
        if self._made is None:
            return "waiting"
        return "applied" if self.applied else "replaced"

    def undo(self) -> None:
        """Restore the original; a no-op the second time, or after somebody replaced the function.

        Raises:
            RuntimeError: somebody else has wrapped the guarded function: their wrapper calls it,
                and must be removed first. Nothing was changed.
        """
        with _lock:
            if self._undone:
                return
            now = self._now()
            if self._made is not None and now is self._made:
                put_back(self._owner, self._name, self._before)
            elif self._made is not None and is_inside(now, self._made):
                raise RuntimeError(
                    f"{self.target} was wrapped by others after {self.policy.name} patched it "
                    f"({validation.shown(now)}): undo that first"
                )
            self._forget()

    def _forget(self) -> None:
        self._undone = True
        if _patches.get(self.target) is self:
            del _patches[self.target]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.undo()

    def __repr__(self) -> str:
        return f"<Patch {self.target} by {self.policy.name}: {self.state}>"

    # -- the work ---------------------------------------------

    @property
    def _name(self) -> str:
        return self.target.rpartition(":")[2].rpartition(".")[2]

    def _now(self) -> Any:
        names: dict[str, Any] = {} if self._owner is None else vars(self._owner)
        return names.get(self._name)

    def _apply(self, module: Any) -> None:
        """Guard the name in an imported module; also the hook of its import."""
        import wrapt

        with _lock:
            if self._undone or self._made is not None:
                return
            path = self.target.partition(":")[2]
            try:
                owner, name, original = wrapt.resolve_path(module, path)
            except (AttributeError, wrapt.PathResolutionError):
                self._forget()
                raise AttributeError(unknown(self.target, module, path)) from None
            try:
                made = _guarded(self.policy, owner, original)
                before = vars(owner).get(name, MISSING)
                setattr(owner, name, made)
            except (TypeError, ValueError) as fault:
                self._forget()
                raise type(fault)(f"target {self.target}: {fault}") from None
            self._module, self._owner, self._before, self._made = module, owner, before, made


_lock: Final = threading.RLock()
_patches: Final[dict[str, Patch]] = {}
_waiting: Final[dict[str, list[Patch]]] = {}  # by module, patches that wait for its import


def patch(target: str, policy: Policy, /) -> Patch:
    """Guard a function or method of other people's code, wherever it is called from.

    Functions, methods, classmethods and staticmethods, sync and async, of modules that are
    imported or will be. Code that has already taken the function out of its module (``from module
    import function``) goes on calling the bare one. For a library that `resilient.integrations`
    knows, the same knowledge applies as in `Policy.wrap`: which responses are failures, which
    errors are the caller's own, and what its handlers catch.

    Args:
        target: ``"package.module:function"`` or ``"package.module:Class.method"``.
        policy: the policy that is to guard it.

    Returns:
        A `Patch`, to undo it, also as a context manager; the same one if this policy already guards
        that name.

    Raises:
        ValueError: target has another form, or another policy has patched that name.
        TypeError: the target can't be guarded, or policy is not a policy.
        AttributeError: the module has no such name. If it is not imported yet, the import raises
            this.
        ModuleNotFoundError: there is no such module.
        ImportError: the module is importing the code that patches it.

    Example:
        >>> import resilient, shutil
        >>> from resilient import Policy, bulkhead
        >>> disk = Policy("disk", bulkhead(4))
        >>> with resilient.patch("shutil:disk_usage", disk):
        ...     shutil.disk_usage("/").total > 0
        True
        >>> disk.snapshot()["calls"]["success"]
        1
    """
    if not isinstance(policy, Policy):
        validation.refuse_type("policy", policy, "a Policy")
    module = module_of(target)
    with _lock:
        there = _patches.get(target)
        if there is not None and there.state != "replaced":
            if there.policy is policy:
                return there
            raise ValueError(
                f"target must be a name that no other policy has patched; {target} is guarded by "
                f"{there.policy.name}: undo that patch first"
            )
        made = Patch(target, policy)
        _patches[target] = made
    try:
        _hook(made, module)
    except BaseException:
        with _lock:
            made._forget()
        raise
    return made


def _guarded(policy: Policy, owner: Any, original: Any) -> Any:
    """Return a function guarded with what is known of its library."""
    judge, kin = knowledge_of(owner)
    if judge is None:
        return policy(original)
    check_not_ours(policy.name, original)
    plans: dict[Mode, Pipeline] = {}

    def pipeline(mode: Mode) -> Pipeline:
        if mode not in plans:
            plans[mode] = Pipeline(policy._core, policy.guards, mode, judges=(judge,), kin=kin)
        return plans[mode]

    return guard_by(policy, original, pipeline)


def _hook(made: Patch, module: str) -> None:
    """Apply a patch now, or when its module is imported."""
    there = sys.modules.get(module)
    if is_half_made(there):
        there = import_module(module)  # another thread is importing it: wait for that
        if is_half_made(there):
            raise ImportError(
                f"target names the module {module}, which is importing this code and not there as "
                "a whole: patch it before that import, or after it",
                name=module,
            )
    if there is not None:
        made._apply(there)
        return
    find(module)
    _wait(made, module)


def _wait(made: Patch, module: str) -> None:
    with _lock:
        waiting = _waiting.setdefault(module, [])
        waiting.append(made)
    if len(waiting) == 1:
        import wrapt

        wrapt.register_post_import_hook(_imported, module)


def _imported(module: Any) -> None:
    """Apply all patches that waited for a module; raise the first error afterwards."""
    with _lock:
        waiting = _waiting.pop(module.__name__, [])
    faults: list[Exception] = []
    for made in waiting:
        try:
            made._apply(module)
        except Exception as fault:
            faults.append(fault)
    if faults:
        _again(module, waiting)
        raise faults[0]


def _again(module: Any, waiting: list[Patch]) -> None:
    """Make patches wait again: another patch makes the import of their module fail."""
    sys.modules.pop(module.__name__, None)  # as the failed import will: else it would seem imported
    for made in waiting:
        if not made._undone:
            with _lock:
                made._made = made._owner = made._module = None
            _wait(made, module.__name__)


def rows() -> list[dict[str, Any]]:
    """Return the patches as plain data, sorted by name."""
    with _lock:
        found = sorted(_patches.items())
    return [{"target": t, "policy": p.policy.name, "state": p.state} for t, p in found]


registry.patches = rows
