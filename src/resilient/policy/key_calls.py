"""Calls through the guards of their key: which key, and by which function."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, cast

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

    __slots__ = ()

    def __init__(self, core: PolicyState, state: KeyState) -> None:
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
        text = str(key)
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


def decorated(core: PolicyState, take: Take, fn: Any) -> Any:
    """Return a function of fn's own kind that calls fn through the guards of its key."""
    kind = kind_of(fn)
    if kind in STREAMS:
        return _streaming(core, take, fn, is_async=kind == "async generator")
    return dispatching(
        take, lambda state: wrapping.guarded(view_of(core, state), fn), is_async=kind == "async"
    )


def dispatching(
    take: Take, make: Callable[[KeyState], Callable[..., Any]], *, is_async: bool
) -> Callable[..., Any]:
    """Return a function that calls what is made for the key of its call, once for each key."""
    site = object()

    def guarded(state: KeyState) -> Any:
        made = state.made
        made[site] = function = make(state)
        return function

    if is_async:

        async def awaits(*args: Any, **kwargs: Any) -> Any:
            state = take(args, kwargs)
            users = state.users
            try:
                return await (state.made.get(site) or guarded(state))(*args, **kwargs)
            finally:
                users.pop()

        return awaits

    def calls(*args: Any, **kwargs: Any) -> Any:
        state = take(args, kwargs)
        users = state.users
        try:
            return (state.made.get(site) or guarded(state))(*args, **kwargs)
        finally:
            users.pop()

    return calls


def _streaming(core: PolicyState, take: Take, fn: Any, *, is_async: bool) -> Any:
    """Return a generator function whose streams use the guards of their key to their end."""
    site = object()
    running: dict[int, list[None]] = {}  # by the id of a stream, the users of its key
    colour = "aio" if is_async else "sync"
    fast: Any = import_module(f"{_ENGINE}.{colour}.fast_streams")
    streams: Any = import_module(f"{_ENGINE}.{colour}.streams")

    def begins(state: KeyState) -> Any:
        made, view = state.made, view_of(core, state)
        mode = "async" if is_async else wrapping.sync_mode(core.name, view.guards)
        made[site] = begin = fast.beginning(view._pipeline(mode), fn)
        return begin

    def begin(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        state = take(args, kwargs)
        users = state.users
        try:
            flow = (state.made.get(site) or begins(state))(args, kwargs)
            running[id(flow)] = users
        except BaseException:
            users.pop()
            raise
        return flow

    def over(flow: Any) -> None:
        running.pop(id(flow)).pop()

    return streams.driven(begin, over)


class KeyedBlock(Block):
    """A block that takes the guards of its key at its beginning, and uses them to its end."""

    __slots__ = ("_core", "_take", "_users")

    def __init__(self, keyed: object, core: PolicyState, take: Callable[[], KeyState]) -> None:
        super().__init__(cast("BlockPlan", None), keyed)  # it has a plan once it has a key
        self._core = core
        self._take = take
        self._users: list[None]

    def _of_key(self) -> list[None]:
        """Take the guards of the key, and return their users; nobody's where it was used before."""
        if self._begun:
            return [None]
        state = self._take()
        self._plan = view_of(self._core, state)._block_plan()
        self._users = state.users
        return self._users

    def __enter__(self) -> Self:
        users = self._of_key()
        try:
            return super().__enter__()
        except BaseException:
            users.pop()
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            super().__exit__(kind, error, trace)
        finally:
            self._users.pop()

    async def __aenter__(self) -> Self:
        users = self._of_key()
        try:
            return await super().__aenter__()
        except BaseException:
            users.pop()
            raise

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            await super().__aexit__(kind, error, trace)
        finally:
            self._users.pop()
