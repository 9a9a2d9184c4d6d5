"""Guards over one policy state, outermost first: what all other code of a policy builds on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self
from weakref import ref

from ..engine.pipeline import Pipeline, Pipelines
from ..engine.policy_state import PolicyState
from ..guards.base import Guard, Mode
from ..guards.facets import Peered
from . import ordering

if TYPE_CHECKING:
    from ..engine.block_plan import BlockPlan
    from ..engine.key_states import Key


class GuardStack:
    """The guards of a policy or a view, its state, and a pipeline for each mode."""

    __slots__ = ("__weakref__", "_blocks", "_core", "_guards", "_key", "_pipelines")

    def _join(
        self, core: PolicyState, guards: tuple[Guard, ...], told: tuple[Guard, ...],
        key: Key | None = None,
    ) -> None:  # fmt: skip
        self._core: PolicyState = core
        self._guards: tuple[Guard, ...] = guards
        self._key: Key | None = key  # whose guards these are
        self._pipelines: Pipelines = Pipelines(core, guards, key)
        self._blocks: BlockPlan | None = None
        if told is guards and (guards or core.policy is None):
            core.policy = ref(self)  # this is not a view
        for guard in told:
            if isinstance(guard, Peered):
                guard.meet(guards)

    @property
    def name(self) -> str:
        """The name that operators see."""
        return self._core.name

    @property
    def guards(self) -> tuple[Guard, ...]:
        """The guards, outermost first."""
        return self._guards

    @property
    def state(self) -> str:
        """The forced state, else the breaker's, or ``"closed"`` without a breaker."""
        return self._core.state

    def __repr__(self) -> str:
        return f"<Policy {self.name}: {', '.join(guard.kind for guard in self._guards)}>"

    def _blank(self) -> Self:
        """Return a new one that has not joined a state yet."""
        raise NotImplementedError

    # -- views ---------------------------------------------

    def _outwards(self, guard: Guard) -> Self:
        """Return a view of this policy without the guards outside the given one."""
        guards = self._core.guards
        view = self._blank()
        view._join(self._core, guards[guards.index(guard) :], ())
        return view

    def _view(self, guards: tuple[Guard, ...], new: tuple[Guard, ...]) -> Self:
        ordering.check_new(new)
        ordering.check_together(guards)
        core = self._core
        # Guards stacked on a function extend its policy; all else makes a view.
        grows = core.anonymous and self._guards == core.guards == guards[len(new) :]
        ordering.warn_of_order(core.name, guards)
        (core.adopt if grows else core.adopt_view)(new)
        view = self._blank()
        # A view must not change the policy itself: only the view's own guards meet the others.
        view._join(core, guards, guards if grows else new)
        return view

    def _exchanged(self, guards: tuple[Guard, ...]) -> Self:
        """Return a view in which guards replace those of their kinds, or are added."""
        ordering.check_new(guards)
        mine = list(self._guards)
        for guard in guards:
            same = [place for place, old in enumerate(mine) if old.kind == guard.kind]
            if len(same) > 1:
                raise ValueError(
                    f"{self.name} has {len(same)} guards of kind {guard.kind}: which one "
                    f"{guard!r} is to replace can't be known; build a Policy of its own"
                )
            if same:
                if isinstance(guard, Peered):
                    guard.replaces(mine[same[0]])
                mine[same[0]] = guard
            else:
                rank = 100.0 if guard.rank is None else guard.rank
                outside = [old for old in mine if old.rank is not None and old.rank <= rank]
                mine.insert(mine.index(outside[-1]) + 1 if outside else 0, guard)
        return self._view(tuple(mine), guards)

    # -- pipelines ---------------------------------------------

    def _pipeline(self, mode: Mode) -> Pipeline:
        return self._pipelines.of(mode)

    def _block_plan(self) -> BlockPlan:
        plan = self._blocks
        if plan is None:
            from ..engine.block_plan import BlockPlan

            plan = self._blocks = BlockPlan(self._pipelines)
        return plan
