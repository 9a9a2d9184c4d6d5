"""What reads a flag, ours and the peers': each is flipped, and proves that it obeys, before timing.

The peers hold their flags in this process, as ours does: none has a server, or asks for one.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from resilient import (
    Flag,
    FlagOffError,
    Policy,
    bulkhead,
    circuit_breaker,
    fallback,
    flag,
    flags,
    kill_switch,
    timeout,
)

from .model import nothing, require
from .ours import LONG, bare, counted, lesser

NAME: Final = "bench.recs"


@dataclass(frozen=True)
class Reader:
    """One way to read a flag, or to call what it guards."""

    asks: str  # as a user writes it, in terms of the names
    names: dict[str, Any]
    answer: object = True
    flip: Callable[[bool], None] = nothing  # turn the flag on or off
    off: object = False  # the answer while the flag is off
    ended: Callable[[int], None] = nothing  # after all, with the number of times
    close: Callable[[], None] = nothing

    @property
    def reads(self) -> bool:
        """Whether it reads a flag to decide by it, and does not call what it guards."""
        return isinstance(self.answer, bool)

    def prove(self, asked: Callable[[], object]) -> None:
        """Make sure that it answers as it should, and otherwise while its flag is off."""
        if self.flip is not nothing:
            for on, answer in ((True, 1), (False, self.off), (True, 1)):
                self.flip(on)
                found = asked()
                require(found == answer, f"answers {found!r}, not {answer!r}, with on={on}")
            self.flip(self.answer != self.off)
        require(asked() == self.answer, f"does not answer {self.answer!r}")


def flipper(which: Flag) -> Callable[[bool], None]:
    """Return what flips one of our flags."""

    def flip(on: bool) -> None:
        (flags.on if on else flags.off)(which, reason="the benchmark")

    return flip


def _each_read(which: Flag) -> Callable[[int], None]:
    """Return what makes sure that every read off was counted: all, but two of the proof."""

    def ended(number: int) -> None:
        found = which.off_reads
        require(found == number - 2, f"{found} of {number - 2} reads of {which.name} were counted")

    return ended


# -- ours ------------------------------------------------------------------------------


def read_on() -> Reader:
    """Return a flag that is on, as it is read again and again."""
    made = flag(NAME)
    return Reader("FLAG", {"FLAG": made}, flip=flipper(made))


def read_off() -> Reader:
    """Return a flag that is off; it counts every read, which shows that every one was made."""
    made = flag("bench.off")
    return Reader("FLAG", {"FLAG": made}, False, flipper(made), ended=_each_read(made))


class Least:
    """The least that an object in Python can do to say whether it is on."""

    __slots__ = ("on",)

    def __init__(self) -> None:
        self.on = True

    def __bool__(self) -> bool:
        return self.on


def least() -> Reader:
    """Return the floor of what a `__bool__` in Python costs."""
    made = Least()
    return Reader("FLAG", {"FLAG": made}, flip=lambda on: setattr(made, "on", on))


def _call(call: Callable[[int], Any]) -> Reader:
    return Reader("call(1)", {"call": call}, answer=1)


def bare_call() -> Reader:
    """Return the function that is guarded."""
    return _call(bare)


def switched() -> Reader:
    """Return a function behind nothing but a kill switch, which is on."""
    made = flag("bench.alone")
    policy = Policy("bench.alone", kill_switch(made))
    guarded, flip = policy(bare), flipper(made)
    flip(False)
    try:
        guarded(1)
        require(False, "it was called while the flag was off")
    except FlagOffError:
        flip(True)
    return replace(_call(guarded), ended=counted(policy))


def _whole(name: str, *first: Any) -> tuple[Policy, Reader]:
    rest = fallback(lesser), circuit_breaker(recovery_timeout=LONG), bulkhead(20)
    policy = Policy(name, *first, *rest, timeout(1.0, sync="cooperative"))
    return policy, replace(_call(policy(bare)), ended=counted(policy))


def whole() -> Reader:
    """Return a whole policy without a kill switch."""
    return _whole("bench.whole")[1]


def whole_switched() -> Reader:
    """Return the same with one, which is on."""
    made = flag("bench.whole")
    policy, reader = _whole("bench.whole.switched", kill_switch(made, answer=lambda x: -2 * x))
    kinds = [guard.kind for guard in policy.guards]
    require(kinds[0] == "kill_switch" and len(kinds) == 5, f"guards: {kinds}")

    def ended(number: int) -> None:
        found = policy.snapshot()["calls"]["success"]
        require(found == number - 1, f"{found} of {number} calls, but one, were let in")

    return replace(reader, flip=flipper(made), off=-2, ended=ended)


def answered() -> Reader:
    """Return a function whose flag is off, and an answer in its place."""
    made = flag("bench.answered")
    policy = Policy("bench.answered", kill_switch(made, answer=lesser))
    guarded, ended = policy(bare), _each_read(made)
    return replace(_call(guarded), answer=-1, flip=flipper(made), off=-1, ended=ended)


# -- the peers -------------------------------------------------------------------------


def openfeature() -> Reader:
    """Return OpenFeature's client on its in-memory provider."""
    from openfeature import api
    from openfeature.provider.in_memory_provider import InMemoryFlag, InMemoryProvider

    def flip(on: bool) -> None:
        held = InMemoryFlag("on" if on else "off", {"on": True, "off": False})
        api.set_provider_and_wait(InMemoryProvider({NAME: held}))

    client = api.get_client()
    asks = f"client.get_boolean_value({NAME!r}, False)"
    return Reader(asks, {"client": client}, flip=flip, close=api.shutdown)


def unleash() -> Reader:
    """Return Unleash's client, with flags from a dict, and no registration, poll or metrics."""
    from UnleashClient.cache import FileCache
    from UnleashClient.clients.unleash_client import UnleashClient
    from UnleashClient.utils import InstanceAllowType

    directory = tempfile.TemporaryDirectory()
    names: dict[str, Any] = {}

    def flip(on: bool) -> None:
        held = {"name": NAME, "enabled": on, "strategies": [{"name": "default"}]}
        cache = FileCache("bench", directory=directory.name)
        cache.bootstrap_from_dict({"version": 1, "features": [held]})
        stop()
        client = names["client"] = UnleashClient(
            "http://127.0.0.1:9/api", "bench", cache=cache,
            refresh_interval=int(LONG), disable_metrics=True, disable_registration=True,
            multiple_instance_mode=InstanceAllowType.SILENTLY_ALLOW,
        )  # fmt: skip
        client.initialize_client(fetch_toggles=False)

    def stop() -> None:
        if "client" in names:
            names["client"].destroy()

    def close() -> None:
        stop()
        directory.cleanup()

    return Reader(f"client.is_enabled({NAME!r})", names, flip=flip, close=close)


def launchdarkly() -> Reader:
    """Return LaunchDarkly's client on its test data source, without events."""
    from ldclient import Context, LDClient
    from ldclient.config import Config
    from ldclient.integrations.test_data import TestData

    data = TestData.data_source()
    config = Config("bench", update_processor_class=data, send_events=False)
    client = LDClient(config)
    require(client.is_initialized(), "the client is not ready")

    def flip(on: bool) -> None:
        data.update(data.flag(NAME).variation_for_all(on))

    names = {"client": client, "context": Context.create("bench")}
    asks = f"client.variation({NAME!r}, context, False)"
    return Reader(asks, names, flip=flip, close=client.close)


READERS: Final[Mapping[str, Callable[[], Reader]]] = {
    "if FLAG": read_on,
    "if FLAG, off": read_off,
    "the least that a __bool__ costs": least,
    "a bare function call": bare_call,
    "kill_switch alone, on": switched,
    "whole policy": whole,
    "whole policy with a kill_switch, on": whole_switched,
    "kill_switch, off, with an answer": answered,
    "openfeature-sdk, in-memory provider": openfeature,
    "UnleashClient, is_enabled": unleash,
    "launchdarkly-server-sdk, test data": launchdarkly,
}
