"""Decorators on methods, classmethods and staticmethods: read by type checkers, never run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Protocol, Self, assert_type

from resilient import Policy, bulkhead, circuit_breaker, fallback, timeout

policy = Policy("methods", circuit_breaker(), timeout(1.0, sync="thread"))
view = policy.with_(timeout(0.1, sync="thread"))


class Methods:
    @policy
    def by_policy(self, a: int) -> float:
        return a / 1

    @circuit_breaker
    def bare(self, a: int) -> float:
        return a / 1

    @bulkhead(20)
    def optioned(self, a: int) -> float:
        return a / 1

    @fallback(value=0.0)
    @view
    def viewed(self, a: int) -> float:
        return a / 1

    @timeout
    async def awaited(self, a: int) -> float:
        return a / 1

    @circuit_breaker
    def items(self, a: int) -> Iterator[str]:
        yield str(a)

    @policy
    async def aitems(self, a: int) -> AsyncIterator[str]:
        yield str(a)

    @circuit_breaker
    def itself(self) -> Self:
        return self

    @property
    @circuit_breaker
    def inside_a_property(self) -> float:
        return 1.0


class ClassMethods:
    @classmethod
    @policy
    def policy_inside(cls, a: int) -> float:
        return a / 1

    @policy
    @classmethod
    def policy_outside(cls, a: int) -> float:
        return a / 1

    @classmethod
    @circuit_breaker
    def bare_inside(cls, a: int) -> float:
        return a / 1

    @circuit_breaker
    @classmethod
    def bare_outside(cls, a: int) -> float:
        return a / 1

    @bulkhead
    @classmethod
    async def awaited_outside(cls, a: int) -> float:
        return a / 1

    @timeout
    @classmethod
    async def timed_outside(cls, a: int) -> float:
        return a / 1

    @classmethod
    @timeout(0.3, sync="thread")
    def optioned_inside(cls, a: int) -> float:
        return a / 1

    @classmethod
    @fallback(value=0.0)
    @circuit_breaker
    @bulkhead(20)
    def stacked_inside(cls, a: int) -> float:
        return a / 1

    @circuit_breaker
    @bulkhead
    @classmethod
    def stacked_outside(cls, a: int) -> float:
        return a / 1

    @policy
    @classmethod
    def made(cls) -> Self:
        return cls()


class StaticMethods:
    @staticmethod
    @policy
    def policy_inside(a: int) -> float:
        return a / 1

    @policy
    @staticmethod
    def policy_outside(a: int) -> float:
        return a / 1

    @staticmethod
    @circuit_breaker
    def bare_inside(a: int) -> float:
        return a / 1

    @bulkhead
    @staticmethod
    def bare_outside(a: int) -> float:
        return a / 1

    @staticmethod
    @bulkhead(20)
    def optioned_inside(a: int) -> float:
        return a / 1

    @bulkhead(20)
    @staticmethod
    def optioned_outside(a: int) -> float:
        return a / 1

    @fallback(value=0.0)
    @circuit_breaker
    @staticmethod
    def stacked_outside(a: int) -> float:
        return a / 1


class Derived(Methods, ClassMethods):
    @policy
    def by_policy(self, a: int) -> float:
        return super().by_policy(a)


async def methods(client: Methods, derived: Derived) -> None:
    assert_type(client.by_policy(1), float)
    assert_type(client.bare(1), float)
    assert_type(client.optioned(a=1), float)
    assert_type(client.viewed(1), float)
    assert_type(await client.awaited(1), float)
    assert_type(client.items(1), Iterator[str])
    assert_type(client.aitems(1), AsyncIterator[str])
    assert_type(client.inside_a_property, float)
    assert_type(derived.itself(), Derived)
    assert_type(Methods.by_policy(client, 1), float)
    client.by_policy("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.bare("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.optioned("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.viewed("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await client.awaited("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.items("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.by_policy()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


async def classmethods() -> None:
    assert_type(ClassMethods.policy_inside(1), float)
    assert_type(ClassMethods.policy_outside(1), float)
    assert_type(ClassMethods.bare_inside(1), float)
    assert_type(ClassMethods.bare_outside(1), float)
    assert_type(await ClassMethods.awaited_outside(1), float)
    assert_type(await ClassMethods.timed_outside(1), float)
    assert_type(ClassMethods.optioned_inside(1), float)
    assert_type(ClassMethods.stacked_inside(1), float)
    assert_type(ClassMethods.stacked_outside(1), float)
    assert_type(ClassMethods().policy_outside(1), float)
    assert_type(Derived.made(), Derived)
    ClassMethods.policy_inside("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ClassMethods.policy_outside("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ClassMethods.bare_outside("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ClassMethods.stacked_inside("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ClassMethods.stacked_outside()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def staticmethods() -> None:
    assert_type(StaticMethods.policy_inside(1), float)
    assert_type(StaticMethods.policy_outside(1), float)
    assert_type(StaticMethods.bare_inside(1), float)
    assert_type(StaticMethods.bare_outside(1), float)
    assert_type(StaticMethods.optioned_inside(1), float)
    assert_type(StaticMethods.optioned_outside(1), float)
    assert_type(StaticMethods.stacked_outside(1), float)
    assert_type(StaticMethods().bare_outside(1), float)
    StaticMethods.policy_inside("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    StaticMethods.policy_outside("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    StaticMethods.bare_outside("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    StaticMethods.optioned_outside("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    StaticMethods.stacked_outside()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


class HasMethod(Protocol):
    def by_policy(self, a: int) -> float: ...


guarded: HasMethod = Methods()
