"""The metrics of a policy's keys: those of their guards are added up, as those of processes are."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from ..engine.key_states import KeyState
from ..engine.key_table import KeyTable
from ..engine.policy_state import PolicyState
from ..guards.base import Guard
from ..metric_types import Metric, Sample
from .rows import add
from .schema import Row, RowSchema, layout

_KEYS: Final = Metric(
    "keys", "gauge", "Keys that have guards of their own.", present="with `keyed`"
)
_OVERFLOWED: Final = Metric(
    "keys_overflowed_total", "counter",
    "Calls whose key had no guards of its own, and shared those of further keys.",
    present="with `keyed`",
)  # fmt: skip
_FORGOTTEN: Final = Metric(
    "keys_forgotten_total", "counter", "Keys that gave up their place to another one.",
    present="with `keyed`",
)  # fmt: skip
OF_KEYS: Final = (_KEYS, _OVERFLOWED, _FORGOTTEN)

_NEWS: Final = 2  # the bit of `seen` that says so

Timed = Callable[[Iterable[Sample]], list[Sample]]


def with_keys(core: PolicyState, own: list[Sample], timed: Timed) -> list[Sample]:
    """Return samples of a policy's guards with those of all its keys in them."""
    table = core.keys
    if table is None:
        return own
    states, past = core.locked(table.measured)
    rows = [_row(own), *(_row_of(core, state, timed) for state in states)]
    if past:
        rows.append(_row([(metric, at, value) for (metric, at), value in past.items()]))
    found, row = add(rows)
    whole = [(metric, at, value) for (metric, at), value in zip(found.tail, row, strict=True)]
    return [*whole, *_of_table(table)]


def _of_table(table: KeyTable) -> list[Sample]:
    return [
        (_KEYS, (), len(table.states)), (_OVERFLOWED, (), table.overflowed),
        (_FORGOTTEN, (), table.forgotten),
    ]  # fmt: skip


def _row_of(core: PolicyState, state: KeyState, timed: Timed) -> tuple[RowSchema, Row]:
    """Return the numbers of a key, measured again where it was called, or has not calmed down."""
    at, known = state.samples or ("", None)
    if known is not None and at == state.state and not state.seen & _NEWS:
        found: tuple[RowSchema, Row] = known
        return found
    now = core.now()
    state.seen &= ~_NEWS
    measured, idle = core.locked(_measured, state, now)
    if not idle:
        state.seen |= _NEWS
    row = _row(timed(measured))
    state.samples = state.state, row
    return row


def _measured(state: KeyState, now: float) -> tuple[list[Sample], bool]:
    own: list[Guard] = [*state.own]
    return [sample for guard in own for sample in guard.measure(now)], state.is_idle(now)


def _row(samples: list[Sample]) -> tuple[RowSchema, Row]:
    tail = tuple((metric, labels) for metric, labels, _ in samples)
    row = [float(value) for _, _, value in samples]
    return layout(words=None, tail=tail), row
