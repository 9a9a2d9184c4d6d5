"""Assertions on what callers get while a flag is off."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from .. import validation
from ..callables import kind_of, label, returns_awaitable
from ..flag_handle import Flag
from ..flags.runtime import here
from ..guards.facets import Switch
from .flag_overrides import flag_off

if TYPE_CHECKING:
    from ..engine.policy_state import PolicyState

UNSET: Final[Any] = object()


def assert_off(
    flag: str | Flag, call: Callable[..., Any], /, *args: Any, expect: Any = UNSET, **kwargs: Any
) -> Any:
    """Call something with a flag off, and assert that it treated the flag as off.

    Asserts that the call read the flag, that no policy whose kill switch refused admitted a call
    all the same, that an async function still returned an awaitable, and that the value is the
    expected one.

    Args:
        flag: the flag, or its name.
        call: the function that uses the flag, sync or async.
        *args: passed to it.
        expect: the value that it must return. Default: any.
        **kwargs: passed to it.

    Returns:
        What call returned; for an async function, an awaitable that makes the assertions. With
        the pytest plugin a test that awaits it nowhere fails.

    Raises:
        AssertionError: an assertion does not hold.
        LookupError: no flag of that name is declared.

    Example:
        >>> from resilient import flag, kill_switch
        >>> from resilient.testing import assert_off
        >>> TEASERS = flag("teasers")
        >>> @kill_switch(TEASERS, answer=lambda: [])
        ... def teasers():
        ...     return ["new!"]
        >>> assert_off(TEASERS, teasers, expect=[])
        []
    """
    found = here.flags.get(flag)
    if kind_of(call) == "async":
        return _promised(found, call, partial(_assert_off_async, found, call, args, kwargs, expect))
    bodies = _Bodies(found)
    with flag_off(found):
        value = call(*args, **kwargs)
        if returns_awaitable(value):
            return _promised(found, call, partial(_assert_awaited, found, bodies, value, expect))
    _check(found, bodies, value, expect)
    return value


_unkept: Final[dict[object, str]] = {}  # assertions that nobody has awaited yet


def _promised(
    flag: Flag, call: Callable[..., Any], make: Callable[[], Awaitable[Any]]
) -> Awaitable[Any]:
    token = object()
    _unkept[token] = f"assert_off({flag.name}, {label(call)})"

    async def kept() -> Any:
        _unkept.pop(token, None)
        return await make()

    return kept()


def unawaited() -> list[str]:
    """Return the assertions that were made since the last time and that nobody has awaited."""
    found = [*_unkept.values()]
    _unkept.clear()
    return found


async def _assert_off_async(
    flag: Flag, call: Callable[..., Any], args: Any, kwargs: Any, expect: Any
) -> Any:
    bodies = _Bodies(flag)
    with flag_off(flag):
        value = call(*args, **kwargs)
        if not returns_awaitable(value):
            raise AssertionError(
                f"with {flag.name} off, the async function {label(call)} returned "
                f"{validation.shown(value)}, which can't be awaited"
            )
        value = await value
    _check(flag, bodies, value, expect)
    return value


async def _assert_awaited(flag: Flag, bodies: _Bodies, value: Awaitable[Any], expect: Any) -> Any:
    with flag_off(flag):
        given = await value
    _check(flag, bodies, given, expect)
    return given


class _Bodies:
    """How many calls the policies that a flag switches have admitted."""

    def __init__(self, flag: Flag) -> None:
        cores: list[PolicyState] = [
            c for ref in list(flag.watchers.values()) if (c := ref()) is not None
        ]
        self._before = [(core, *_counts(core)) for core in cores]

    def ran(self) -> list[str]:
        """Return the policies that refused a call and admitted one all the same."""
        return [
            core.name
            for core, let_in, refused in self._before
            if _counts(core)[1] > refused and _counts(core)[0] > let_in
        ]


def _counts(core: PolicyState) -> tuple[int, int]:
    """Return how many calls a policy has admitted, and how many its switches have refused."""
    kinds = {guard.kind for guard in core.shared_guards() if isinstance(guard, Switch)}
    return core.locked(
        lambda: (sum(core.outcomes()[:4]), sum(core.refusals.get(kind, 0) for kind in kinds))
    )


def _check(flag: Flag, bodies: _Bodies, value: Any, expect: Any) -> None:
    ran = bodies.ran()
    if ran:
        raise AssertionError(f"with {flag.name} off, calls were let in by {', '.join(ran)}")
    if expect is not UNSET and value != expect:
        raise AssertionError(
            f"with {flag.name} off, got {validation.shown(value)}; "
            f"expected {validation.shown(expect)}"
        )
