"""Calls through the guards of their key: which key, and by which function."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, cast
from weakref import WeakKeyDictionary

from .. import validation
from ..callables import STREAMS, kind_of
from ..engine.blocks import Block
from ..engine.key_states import KeyState
from ..engine.key_table import LONGEST, OVERFLOW, KeyTable
from ..engine.policy_state import PolicyState
from . import wrapping
from .calling import Calling

if TYPE_CHECKING:
    from typing import Self

    from ..engine.block_plan import BlockPlan

_ENGINE: Final = f"{__name__.partition('.')[0]}.engine"

Take = Callable[[tuple[Any, ...], dict[str, Any]], KeyState]


class KeyView(Calling):
    """The guards of one key, as calls go through them."""

    __slots__ = ("clients",)

    def __init__(self, core: PolicyState, state: KeyState) -> None:
        # The wrappers of clients for this key, by those of the policy.
        self.clients: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()
        self._join(core, state.guards, (), state.key)


def view_of(core: PolicyState, state: KeyState) -> KeyView:
    """Return the guards of a key, as calls go through them."""
    made = state.made  # another one replaces it when they change
    view: KeyView | None = made.get(None)
    if view is None:
        view = made[None] = KeyView(core, state)
    return view


def text_of(key: object) -> str:
    """Return the text that a key is told apart by.

    Raises:
        ValueError: it is empty, too long, or that of any object of its type.
    """
    if type(key) is str:
        text = key
    else:
        kind = type(key)
        if kind.__str__ is object.__str__ and kind.__repr__ is object.__repr__:
            raise ValueError(
                f"a key must be a str, a number, or have a text of its own; got {kind.__name__}"
            )
        text = str.__str__(str(key))  # and not a subclass of str
    if not 0 < len(text) <= LONGEST or text == OVERFLOW:
        raise ValueError(
            f"a key must have from 1 to {LONGEST} characters; got {validation.shown(text)}"
        )
    return text


def taking(
    key: Callable[..., object], table: KeyTable, unknown: Callable[[Exception], KeyState]
) -> Take:
    """Return what takes the state for a call's arguments: as quickly as it can."""
    states, look = table.states, table.look

    def take(args: tuple[Any, ...], kwargs: dict[str, Any]) -> KeyState:
        try:
            found = key(*args, **kwargs)
            state = states.get(found) if type(found) is str else None
            text = "" if state is not None else text_of(found)
        except Exception as fault:
            return unknown(fault)
        if state is None:
            return look(text)
        state.users.append(None)
        if state.usual:
            state.seen = 3
            return state
        state.users.pop()
        return look(state.key.text)

    return take


def decorated(table: KeyTable, core: PolicyState, take: Take, fn: Any) -> Any:
    """Return a function of fn's own kind that calls fn through the guards of its key."""
    kind = kind_of(fn)
    if kind in STREAMS:
        return _streaming(table, core, take, fn, is_async=kind == "async generator")
    return dispatching(
        table, take, lambda state: wrapping.guarded(view_of(core, state), fn),
        is_async=kind == "async",
    )  # fmt: skip


class Site:
    """What has a function for each key: those go when it goes."""

    __slots__ = ("__weakref__", "make", "number")

    def __init__(self, table: KeyTable, make: Callable[[KeyState], Any]) -> None:
        self.make: Callable[[KeyState], Any] = make
        self.number: int = table.site(self)

    def of(self, state: KeyState) -> Any:
        """Return what is made for a key."""
        made = state.made  # another one replaces it when the key is forced, or released
        found = made.get(self.number)
        if found is None:
            found = made[self.number] = self.make(state)
        return found


def dispatching(
    table: KeyTable, take: Take, make: Callable[[KeyState], Any], *, is_async: bool
) -> Callable[..., Any]:
    """Return a function that calls what is made for the key of its call, once for each key."""
    site = Site(table, make)
    number, of = site.number, site.of

    if is_async:

        async def awaits(*args: Any, **kwargs: Any) -> Any:
            state = take(args, kwargs)
            users = state.users
            try:
                return await (state.made.get(number) or of(state))(*args, **kwargs)
            finally:
                users.pop()

        return awaits

    def calls(*args: Any, **kwargs: Any) -> Any:
        state = take(args, kwargs)
        users = state.users
        try:
            return (state.made.get(number) or of(state))(*args, **kwargs)
        finally:
            users.pop()

    return calls


def _streaming(table: KeyTable, core: PolicyState, take: Take, fn: Any, *, is_async: bool) -> Any:
    """Return a generator function whose streams go through the guards of their key."""
    colour = "aio" if is_async else "sync"
    fast: Any = import_module(f"{_ENGINE}.{colour}.fast_streams")
    streams: Any = import_module(f"{_ENGINE}.{colour}.streams")

    def make(state: KeyState) -> Any:
        view = view_of(core, state)
        mode = "async" if is_async else wrapping.sync_mode(core.name, view.guards)
        return fast.beginning(view._pipeline(mode), fn)

    site = Site(table, make)

    def begin(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        state = take(args, kwargs)
        try:
            return site.of(state)(args, kwargs)
        finally:
            state.users.pop()

    return streams.driven(begin)


class KeyedBlock(Block):
    """A block that takes the guards of its key at its beginning."""

    __slots__ = ("_core", "_take")

    def __init__(self, keyed: object, core: PolicyState, take: Callable[[], KeyState]) -> None:
        super().__init__(cast("BlockPlan", None), keyed)  # it has a plan once it has a key
        self._core = core
        self._take = take

    def _of_key(self) -> list[None]:
        """Take the guards of the key, and return their users; nobody's where it was used before."""
        if self._begun:
            return [None]
        state = self._take()
        self._plan = view_of(self._core, state)._block_plan()
        return state.users

    def __enter__(self) -> Self:
        users = self._of_key()
        try:
            return super().__enter__()
        finally:
            users.pop()

    async def __aenter__(self) -> Self:
        users = self._of_key()
        try:
            return await super().__aenter__()
        finally:
            users.pop()
