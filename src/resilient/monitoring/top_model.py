"""The model of `resilient top`: who is hurt, how badly, since when, and which lever helps."""

from __future__ import annotations

from typing import Any, Final

from .inventory import DOCTOR, Flag, Policy
from .page_samples import ENOUGH, PageSample, Process, Quantile, SampleDelta

_STATES: Final = ("open", "half_open", "metrics_only")
_WEIGHTS: Final = {1: 4.0, 2: 2.0, 3: 1.0}  # of harm, by tier
_MILD: Final = 0.2  # the harm of a degraded answer, compared with an error


class Row:
    """One policy on the screen."""

    def __init__(self, name: str, before: PageSample, after: PageSample) -> None:
        told: Any = after.about.get(("policy", name))
        between = SampleDelta(name, before, after)
        policy = Policy(name, told or {})
        served = between.served
        ended = sum(served.values())
        self.policy: Policy = policy
        self.live: bool = told is not None  # a living process has it
        self.calls: float = ended
        own = between.callers_own
        self.rate: float = (ended + own) / between.seconds
        self.caller_error: float = own / (ended + own) if own else 0.0  # of all calls
        self.full: float = served["full"] / ended if ended else 0.0
        self.degraded: float = served["degraded"] / ended if ended else 0.0
        self.error: float = served["error"] / ended if ended else 0.0
        self.p50: Quantile | None = between.quantile(0.5)
        self.p99: Quantile | None = between.quantile(0.99)
        self.in_flight: float = between.now("in_flight") or 0.0
        self.limit: float | None = between.now("limit")
        self.abandoned: float = between.now("abandoned_workers") or 0.0
        self.let_in: float = between.more("call_duration_seconds_count")
        # A fallback that fails as often as it answers does not help.
        failed = between.more("fallbacks_total", "failure")
        self.falls: bool = failed > 0 and failed >= between.more("fallbacks_total", "success")
        self.off: str = ""  # the flag that cuts it off
        self.partly: bool = False  # whether some processes have not obeyed
        self.held: bool = False  # whether no order holds that flag off
        stands = self._stand(name, between, after)
        self.state: str = stands[0]
        self.since: float | None = stands[1]
        hurt = served["error"] + _MILD * served["degraded"]
        self.harm: float = hurt / between.seconds * self._weight

    @property
    def _weight(self) -> float:
        return _WEIGHTS.get(self.policy.tier or 0, 1.0)

    def _stand(
        self, name: str, between: SampleDelta, after: PageSample
    ) -> tuple[str, float | None]:
        """Return its state in words, and since when, in seconds since 1970."""
        for flag in self.policy.flags:
            shown = after.flags.get(flag, {})
            off = shown.get(("flag_processes", ("off",)), 0.0)
            if off:
                on = shown.get(("flag_processes", ("on",)), 0.0)
                self.held = off <= shown.get(("flag_held_processes", ()), 0.0)
                self.off, self.partly = flag, on > 0
                since = shown.get(("flag_flipped_timestamp_seconds", ()))
                return _of("flag off", off, off + on), since
        for kind in ("forced_open", "forced_closed"):
            if between.now("override_active", kind):
                since = after.orders.get(name, {}).get(
                    ("override_since_timestamp_seconds", (kind,))
                )
                return kind.replace("_", " "), since
        counted = {
            state: between.now("breaker_workers", state) or 0.0 for state in (*_STATES, "closed")
        }
        for state in _STATES:
            if counted[state]:
                since = after.since.get((name, state))
                return _of(state.replace("_", "-"), counted[state], sum(counted.values())), since
        return ("closed" if counted["closed"] else ""), None

    @property
    def well(self) -> bool:
        """Whether nothing is wrong with it."""
        return not self.harm and self.state in ("", "closed") and not self.abandoned

    @property
    def enough(self) -> bool:
        """Whether there were enough calls for meaningful shares."""
        return self.calls >= ENOUGH

    @property
    def lever(self) -> str:
        """The command that helps; never one that would increase the harm to customers."""
        if self.state.startswith("flag off"):
            flag = Flag(self.off, {})
            if self.held:
                return flag.look
            return DOCTOR if self.partly else flag.lever
        if self.state.startswith("forced"):
            return self.policy.release
        return self.policy.look if self.falls or self._answered else self.policy.lever

    @property
    def _answered(self) -> bool:
        """Whether every call gets a fallback already, without waiting for the function."""
        cut = self.state.startswith("open") or not self.let_in
        return self.enough and self.degraded == 1 and cut

    @property
    def note(self) -> str:
        """What to know before pulling the lever, or why there is none."""
        full = f"{percent(self.full)} % full" if self.enough and self.full else ""
        if self.state.startswith("flag off"):
            return self._hold
        if self.state.startswith("forced"):
            return self._harm_of_force if self.state == "forced open" else ""
        if self._answered and self.policy.cuttable:
            return "every call is answered in its place already"
        if self.policy.cuttable and not self.falls:
            answer = "its fallback's" if self.policy.covered else "its kill switch's"
            return f"{full} would become {answer} answers" if full else ""
        why = "its fallback fails too" if self.policy.cuttable else self._uncovered
        if full:
            return f"{why}: forcing it open would turn {full} into errors"
        owner = f"; call {self.policy.owner}" if self.policy.owner else ""
        return f"{why}, so no lever helps customers{owner}"

    @property
    def _hold(self) -> str:
        if self.held:
            return "its environment or provider holds it off, which no order ends"
        return "not every process has obeyed" if self.partly else ""

    @property
    def _harm_of_force(self) -> str:
        if self.policy.in_views:
            return "only some of its views answer in its place: other calls are errors"
        if not self.policy.covered:
            return "nothing answers in its place: every call is an error"
        return "its fallback fails too: each call that it fails for is an error" * self.falls

    @property
    def _uncovered(self) -> str:
        if not self.live:
            return "no living process says what answers in its place"
        if self.policy.in_views:
            return "only some of its views have a fallback"
        return "its fallback does not answer refusals" if self.policy.fallback else "no fallback"

    def as_data(self) -> dict[str, Any]:
        """Return the row as plain data."""
        shares = {
            "full": self.full, "degraded": self.degraded, "error": self.error,
            "caller_error": self.caller_error,
        }  # fmt: skip
        return {
            "policy": self.policy.name,
            "owner": self.policy.owner,
            "tier": self.policy.tier,
            "impact": self.policy.impact,
            "state": self.state,
            "since": self.since,
            "calls": round(self.calls),
            "rate": self.rate,
            "enough": self.enough,
            "served": shares if self.rate else None,
            "p50": self.p50,
            "p50_at_least": self.p50 is not None and self.p50.at_least,
            "p99": self.p99,
            "p99_at_least": self.p99 is not None and self.p99.at_least,
            "in_flight": round(self.in_flight),
            "limit": None if self.limit is None else round(self.limit),
            "abandoned": round(self.abandoned),
            "fallback": self.policy.fallback,
            "covered": self.policy.covered,
            "in_views": self.policy.in_views,
            "keys": self.policy.keys,
            "lever": self.lever,
            "note": self.note,
            "live": self.live,
        }


class Screen:
    """All policies, the worst first."""

    def __init__(self, before: PageSample, after: PageSample) -> None:
        rows = [Row(name, before, after) for name in after.policies]
        self.seconds: float = after.at - before.at
        self.wall: float = after.wall
        self.worst: list[Row] = sorted(
            (row for row in rows if not row.well),
            key=lambda row: (-row.harm, row.state in ("", "closed"), row.policy.name),
        )
        self.well: list[Row] = sorted(
            (row for row in rows if row.well), key=lambda row: (-row.rate, row.policy.name)
        )
        self.calls: float = sum(row.calls for row in rows)
        self.served: dict[str, float] = {
            "full": sum(row.full * row.calls for row in rows),
            "degraded": sum(row.degraded * row.calls for row in rows),
            "error": sum(row.error * row.calls for row in rows),
        }
        self.processes: list[Process] = after.processes
        self.silent: list[Process] = [each for each in after.processes if each.silent]
        self.inactive: int = after.inactive
        self.unread: dict[str, str] = after.unread
        self.unsynced: float = after.unsynced
        self.flags_off: list[str] = sorted(
            name for name, said in after.flags.items() if said.get(("flag_processes", ("off",)))
        )

    def as_data(self) -> dict[str, Any]:
        """Return the screen as plain data."""
        calls = self.calls
        return {
            "seconds": self.seconds,
            "customers": {
                "rate": calls / max(self.seconds, 1e-9),
                **{word: n / calls if calls else None for word, n in self.served.items()},
            },
            "processes": {
                "living": len(self.processes),
                "silent": [{"pid": p.pid, "seconds": p.silent} for p in self.silent],
                "unread": self.unread,
                "unsynced": self.unsynced,
            },
            "flags_off": self.flags_off,
            "policies": [row.as_data() for row in (*self.worst, *self.well)],
        }


def _of(word: str, number: float, whole: float) -> str:
    return word if whole <= 1 else f"{word} {number:g}/{whole:g}"


def percent(share: float) -> str:
    """Return a share in percent; 0 and 100 only if it is exactly that."""
    number = share * 100
    if 0 < number < 0.1:
        return "<.1"
    if 99.9 < number < 100:
        return ">99"
    return f"{number:.1f}" if 0 < number < 9.95 else f"{number:.0f}"
