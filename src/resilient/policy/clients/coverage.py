"""Which methods of a client are guarded, by which policy; and why others are not."""

# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false
# pyright: reportUnknownMemberType=false, reportUnknownLambdaType=false
from __future__ import annotations

from typing import Any, Final, Literal

from ...callables import kind_of
from ...engine.policy_state import PolicyState
from ...guards.sorting import time_limits
from ..guard_stack import GuardStack
from . import reach, steps, subclients
from .adapter import ClientAdapter
from .client_policy import ClientPolicy
from .proxy import Traits
from .selection import RELEASES, Selection
from .touching import only_reads, returns_itself, static

# Methods of these names read an answer, even if they pass its object to other functions.
_READS: Final = frozenset({
    "as_dict", "dict", "json", "parse", "raise_for_status", "to_dict", "to_json", "validate",
})  # fmt: skip


class Coverage:
    """A policy, a selection and an adapter, and what they decide about a method."""

    def __init__(
        self,
        policy: GuardStack,
        selection: Selection,
        knowledge: ClientAdapter,
        judges: tuple[Any, ...],
    ) -> None:
        self.policy: GuardStack = policy
        self.name: str = policy.name
        self.selection: Selection = selection
        self._knowledge = knowledge
        self._judges = judges
        policies = [policy, *(each for _, each in selection.per_call)]
        self._threaded = any(
            limit.sync == "thread" for each in policies for limit in time_limits(each.guards)
        )
        self._guardings: dict[tuple[GuardStack, bool], ClientPolicy] = {}

    def limit(self, colour: Literal["sync", "async"]) -> float | None:
        """Return the time limit of sync or async calls, None if there is none."""
        if not PolicyState.active:
            return None
        bounding = (
            limit.seconds
            for limit in time_limits(self.policy.guards)
            if colour == "async" or limit.sync is not None
        )
        return min(bounding, default=None)

    def mode(self) -> str:
        """Return how sync calls are bounded."""
        return "thread" if self._threaded else "cooperative"

    def unbounded(self, client: Any) -> str | None:
        """Return why the deadline can't end a client's own waits, None if it can."""
        return self._knowledge.unbounded(client)

    def guarding(self, traits: Traits, name: str, client: Any) -> ClientPolicy | None:
        """Return what guards a method of a client, None if it is not guarded."""
        if name not in steps.NAMELESS and hasattr(type(client), "_asyncio_future_blocking"):
            return None  # only the await of a future is a call
        holder, called = _named(traits, name)
        policy = self.selection.policy_of(holder, called, self.policy)
        if policy is None or self._knowledge.free(type(client), called):
            return None
        if subclients.is_mocks_own(client, called) or self._only_reads(traits, name, client):
            return None
        return self._guarding(policy, inline=traits.inline)

    def left(
        self, traits: Traits, name: str, client: Any
    ) -> tuple[Literal["bounded", "left alone"], str]:
        """Return how a method that is not guarded is treated, and why."""
        holder, called = _named(traits, name)
        if self.selection.leaves(holder, called):
            return "left alone", "unless= names it"
        if name in RELEASES:
            limit = self.limit("async" if traits.is_async else "sync")
            why = "it gives something back"
            return "bounded", why if limit is None else f"{why}, within {limit:g} s"
        if self.selection.policy_of(holder, called, self.policy) is None:
            return "left alone", "only= does not name it"
        if self._knowledge.free(type(client), called):
            return "left alone", "its library is known, and it does no I/O"
        return "left alone", "it reads what is here already"

    def _only_reads(self, traits: Traits, name: str, client: Any) -> bool:
        """Return whether a method only reads what its object holds."""
        cls, live = type(client), traits.live
        if live is not None:
            if name in _READS and kind_of(static(cls, name)) == "sync":
                return True
            return only_reads(cls, name, live) or (name[:2] == "__" and returns_itself(cls, name))
        if name not in steps.OPERATIONS:
            return False
        works_by = reach.live_fields(client, subclients.is_client)
        return returns_itself(cls, name) or only_reads(cls, name, works_by, itself=True)

    def _guarding(self, policy: GuardStack, *, inline: bool) -> ClientPolicy:
        key = policy, inline
        found = self._guardings.get(key)
        if found is None:
            found = self._guardings[key] = ClientPolicy(
                policy,
                self._judges,
                inline=inline,
                kin=self._knowledge.kin,
                once=self._knowledge.once,
                writes=self._knowledge.writes,
            )
        return found


def _named(traits: Traits, name: str) -> tuple[str, str]:
    """Return a method's holder and name; a step goes by the name of what handed its object out."""
    return ("", traits.holder or name) if name in steps.NAMELESS else (traits.holder, name)
