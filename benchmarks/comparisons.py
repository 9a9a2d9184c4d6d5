"""Which side is compared with which, and what the goal is; all are timed together.

A new case, such as a stream, is a side in `SIDES` and a line in `COMPARISONS`.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Final, cast

import resilient

from . import asking_again, failures, hedging, keying, limiting, ours, peers, recalling, sharing
from .model import Colour, Row, Side
from .timing import Series, Track, interleaved, paired

Maker = Callable[[], Any]  # of a Side, or a coroutine function of one


@dataclass(frozen=True)
class Comparison:
    """Two sides, by name, and the most that ours may cost as a share of the peer's.

    Attributes:
        goal: without the compiled core, and with it where that has none of its own.
        compiled: with the compiled core.
    """

    case: str
    ours: str
    peer: str
    goal: float | None = None
    compiled: float | None = None

    @property
    def limit(self) -> float | None:
        """The goal of what runs here."""
        return self.compiled if resilient.compiled and self.compiled is not None else self.goal


def _side(call: Callable[[int], Any]) -> Maker:
    return lambda: Side(call)


async def _abare() -> Side:
    return Side(ours.abare)


SIDES: Final[dict[str, tuple[Colour, Maker]]] = {
    "bare": ("sync", _side(ours.bare)),
    "closure": ("sync", _side(ours.closure(ours.bare))),
    "breaker": ("sync", ours.breaker),
    "bulkhead": ("sync", ours.slots_alone),
    "cooperative": ("sync", ours.cooperative),
    "threaded": ("sync", ours.threaded),
    "answered": ("sync", ours.answered),
    "answered, whole": ("sync", ours.whole_answered),
    "refused": ("sync", ours.refused),
    "block": ("sync", ours.block),
    "stream": ("sync", ours.stream),
    "async block": ("asyncio", ours.ablock),
    "async stream": ("asyncio", ours.astream),
    "bare stream": ("sync", _side(lambda x: next(ours.items(x)))),
    "async bare": ("asyncio", _abare),
    "async breaker": ("asyncio", ours.abreaker),
    "async whole": ("asyncio", ours.awhole),
    "shared": ("sync", sharing.cooperative),
    "async shared": ("asyncio", sharing.asynchronous),
    "async answered": ("asyncio", ours.aanswered),
    "trio whole": ("trio", ours.trio_whole),
    "trio bare": ("trio", _abare),
    "pybreaker": ("sync", peers.pybreaker_breaker),
    "pybreaker, open": ("sync", peers.pybreaker_refused),
    "circuitbreaker": ("sync", peers.circuitbreaker_breaker),
    "circuitbreaker, open": ("sync", peers.circuitbreaker_refused),
    "purgatory": ("sync", peers.purgatory_breaker),
    "purgatory, open": ("sync", peers.purgatory_refused),
    "pyresilience, no timeout": ("sync", peers.pyresilience_untimed),
    "pyresilience": ("sync", peers.pyresilience_whole),
    "pyresilience, open": ("sync", peers.pyresilience_answered),
    "circuitbreaker, async": ("asyncio", peers.circuitbreaker_async),
    "purgatory, async": ("asyncio", peers.purgatory_async),
    "hyx breaker": ("asyncio", peers.hyx_alone),
    "hyx": ("asyncio", peers.hyx_whole),
    "pyresilience, async": ("asyncio", peers.pyresilience_async),
    "asyncio.timeout": ("asyncio", peers.asyncio_timeout),
    "anyio.fail_after": ("asyncio", peers.anyio_fail_after),
    "trio.fail_after": ("trio", peers.trio_fail_after),
    "retry": ("sync", asking_again.alone),
    "async retry": ("asyncio", asking_again.aalone),
    "whole with retry": ("sync", asking_again.whole),
    "second attempt": ("sync", asking_again.second),
    "whole with hedge": ("sync", hedging.fast),
    "async whole with hedge": ("asyncio", hedging.afast),
    "whole with last_good": ("sync", recalling.kept),
    "last_good, open": ("sync", recalling.recalled),
    "one in three fails": ("sync", failures.ours),
    "circuitbreaker, one in three": ("sync", failures.circuitbreaker_breaker),
    "pybreaker, one in three": ("sync", failures.pybreaker_breaker),
    "rate_limit": ("sync", limiting.alone),
    "async rate_limit": ("asyncio", limiting.aalone),
    "quota": ("sync", limiting.quota),
    "concurrency_limit": ("sync", limiting.measured),
    "rate_limit, answered": ("sync", limiting.refused),
    "whole with rate_limit": ("sync", limiting.whole),
    "pyrate-limiter": ("sync", limiting.pyrate_alone),
    "aiolimiter": ("asyncio", limiting.aiolimiter_alone),
    "keyed": ("sync", keying.keyed),
    "async keyed": ("asyncio", keying.akeyed),
    "shadowed": ("sync", keying.shadowed),
    "collapse": ("sync", keying.alone),
    "async collapse": ("asyncio", keying.aalone),
    "tenacity": ("sync", asking_again.tenacity_alone),
    "tenacity, async": ("asyncio", asking_again.tenacity_async),
    "tenacity, second attempt": ("sync", asking_again.tenacity_second),
    "stamina": ("sync", asking_again.stamina_alone),
}

# asyncio.timeout itself became half as dear with 3.13.
ASYNC: Final = 0.65 if sys.version_info < (3, 13) else 0.85
# On 3.11 a plain function enters the compiled path through a frame of Python.
OLD: Final = sys.version_info < (3, 12)

COMPARISONS: Final = (
    Comparison("sync, circuit_breaker alone", "breaker", "pybreaker", 0.85),
    Comparison("sync, whole policy, cooperative", "cooperative", "pybreaker", 1.25),
    Comparison("async, whole policy", "async whole", "asyncio.timeout", ASYNC, 0.3),
    Comparison("sync, whole policy, thread", "threaded", "executor", 1.2, 0.7),
    Comparison("open circuit, fallback answers", "answered", "pybreaker, open", 0.6, 0.1),
    Comparison("sync, whole policy, counts shared", "shared", "cooperative", 1.15),
    Comparison("async, whole policy, counts shared", "async shared", "async whole", 1.15),
    Comparison("sync, retry alone, no failure", "retry", "tenacity", 0.15, 0.05),
    Comparison(
        "sync, circuit_breaker, others", "breaker", "circuitbreaker", 2.0, 0.5 if OLD else 0.25
    ),
    Comparison(
        "sync, whole policy, others", "cooperative", "circuitbreaker", 3.0, 0.7 if OLD else 0.5
    ),
    Comparison(
        "one call in three fails", "one in three fails", "circuitbreaker, one in three", 4.0, 1.5
    ),
    Comparison("trio, whole policy", "trio whole", "trio.fail_after", 1.5, 1.1),
    Comparison("sync, rate_limit alone", "rate_limit", "pyrate-limiter", 1.0, 0.5),
    Comparison("async, rate_limit alone", "async rate_limit", "aiolimiter", 1.0, 0.5),
    # Those of 0.1.0 took 5.8 and 12 times as long as a call through pybreaker, the async ones 4.3
    # and 8.7 times as long as asyncio.timeout.
    Comparison("sync block, whole policy", "block", "pybreaker", 5.8, 0.58),
    Comparison("sync stream of one item, whole policy", "stream", "pybreaker", 12.0, 1.8),
    Comparison("async block, whole policy", "async block", "asyncio.timeout", 4.3, 0.43),
    Comparison(
        "async stream of one item, whole policy", "async stream", "asyncio.timeout", 8.7, 1.3
    ),
    # From here on they are shown without a goal.
    Comparison("two bare hand-overs between threads", "hand-over", "executor"),
    Comparison("nothing but a closure", "closure", "bare"),
    Comparison("sync, circuit_breaker over bare", "breaker", "bare"),
    Comparison("sync, circuit_breaker, others", "breaker", "purgatory"),
    Comparison("sync, bulkhead alone", "bulkhead", "bare"),
    Comparison("sync, whole policy, others", "cooperative", "pyresilience, no timeout"),
    Comparison("sync, whole policy, thread, others", "threaded", "pyresilience"),
    Comparison("open circuit, others", "answered", "circuitbreaker, open"),
    Comparison("open circuit, others", "answered", "purgatory, open"),
    Comparison("open circuit, others", "answered", "pyresilience, open"),
    Comparison("open circuit, whole policy", "answered, whole", "pybreaker, open"),
    Comparison("open circuit, no fallback", "refused", "pybreaker, open"),
    Comparison("sync block, whole policy", "block", "cooperative"),
    Comparison("sync stream of one item, whole policy", "stream", "bare stream"),
    Comparison("sync stream of one item, whole policy", "stream", "cooperative"),
    Comparison("async block, whole policy", "async block", "async whole"),
    Comparison("async stream of one item, whole policy", "async stream", "async whole"),
    Comparison("async, circuit_breaker alone", "async breaker", "async bare"),
    Comparison("async, circuit_breaker, others", "async breaker", "circuitbreaker, async"),
    Comparison("async, circuit_breaker, others", "async breaker", "purgatory, async"),
    Comparison("async, circuit_breaker, others", "async breaker", "hyx breaker"),
    Comparison("async, whole policy, others", "async whole", "hyx"),
    Comparison("async, whole policy, others", "async whole", "pyresilience, async"),
    Comparison("async, whole policy, others", "async whole", "anyio.fail_after"),
    Comparison("async, open circuit", "async answered", "async bare"),
    Comparison("sync, retry alone, no failure", "retry", "stamina"),
    Comparison("async, retry alone, no failure", "async retry", "tenacity, async"),
    Comparison("sync, retry in a whole policy, no failure", "whole with retry", "cooperative"),
    Comparison("sync, the second attempt succeeds", "second attempt", "tenacity, second attempt"),
    Comparison("sync, hedge in a whole policy, no copy", "whole with hedge", "threaded"),
    Comparison("async, hedge in a whole policy, no copy", "async whole with hedge", "async whole"),
    Comparison("sync, last_good in a whole policy, kept", "whole with last_good", "cooperative"),
    Comparison("open circuit, last_good answers", "last_good, open", "pybreaker, open"),
    Comparison("one call in three fails", "one in three fails", "pybreaker, one in three"),
    Comparison("sync, rate_limit in a whole policy", "whole with rate_limit", "cooperative"),
    Comparison("sync, rate_limit over bare", "rate_limit", "bare"),
    Comparison("sync, quota over bare", "quota", "bare"),
    Comparison("sync, concurrency_limit over bare", "concurrency_limit", "bare"),
    Comparison("sync, whole policy with keys", "keyed", "cooperative"),
    Comparison("async, circuit_breaker with keys", "async keyed", "async breaker"),
    Comparison("sync, whole policy with a shadow", "shadowed", "cooperative"),
    Comparison("sync, collapse that nobody shares", "collapse", "bare"),
    Comparison("async, collapse that nobody shares", "async collapse", "async bare"),
    Comparison("rate_limit refuses, fallback answers", "rate_limit, answered", "pybreaker, open"),
    Comparison("trio, whole policy over bare", "trio whole", "trio bare"),
)


class Bench:
    """The sides that are to be timed, made and checked."""

    def __init__(self, runner: asyncio.Runner, threads: dict[str, Maker]) -> None:
        self.tracks: dict[str, Track] = {}
        self.wrong: dict[str, str] = {}
        self._runner = runner
        self._threads = threads

    def add(self, name: str, target: float) -> None:
        """Make one side, and take note if it is not what it claims to be."""
        colour, maker = ("sync", self._threads[name]) if name in self._threads else SIDES[name]
        try:
            side = self._made(cast("Colour", colour), maker)
            track = Track(side, cast("Colour", colour), self._runner)
            track.prepare(target)
        except Exception as error:
            self.wrong[name] = f"{name}: {error!r}"
        else:
            self.tracks[name] = track

    def _made(self, colour: Colour, maker: Maker) -> Side:
        if colour == "sync":
            return maker()  # type: ignore[no-any-return]
        if colour == "asyncio":
            return self._runner.run(maker())  # type: ignore[no-any-return]
        import trio

        return trio.run(maker)  # type: ignore[no-any-return]

    def finish(self) -> None:
        """Check, after all calls, that they went where they should."""
        for name, track in self.tracks.items():
            try:
                track.check()
                track.side.ended(track.calls)
            except Exception as error:
                self.wrong[name] = f"{name}: {error!r}"


@contextmanager
def _bench() -> Iterator[Bench]:
    with ExitStack() as stack:
        runner = stack.enter_context(asyncio.Runner())
        executor = peers.Executor()
        stack.enter_context(executor.pool)
        stack.callback(peers.close)
        hand_over = peers.HandOver()
        stack.callback(hand_over.close)
        yield Bench(runner, {"executor": executor.side, "hand-over": hand_over.side})


def measure(chosen: list[Comparison], rounds: int, target: float) -> list[Row]:
    """Time all sides of the chosen comparisons, interleaved."""
    if not chosen:
        return []
    names = dict.fromkeys(name for each in chosen for name in (each.ours, each.peer))
    with _bench() as bench:
        for name in names:
            bench.add(name, target)
        series = interleaved(bench.tracks, rounds, lambda name: bench.tracks[name].group)
        bench.finish()
    return [_row(each, series, bench.wrong, rounds) for each in chosen]


def _row(each: Comparison, series: Series, wrong: dict[str, str], rounds: int) -> Row:
    row = Row(each.case, "us", peer=each.peer, goal=each.limit, rounds=rounds)
    faults = [wrong[name] for name in (each.ours, each.peer) if name in wrong]
    if faults:
        row.wrong = "; ".join(faults)
        return row
    row.ours = sorted(series[each.ours])[rounds // 2] * 1e6
    row.theirs = sorted(series[each.peer])[rounds // 2] * 1e6
    row.spread = paired(series, each.ours, each.peer)
    return row
