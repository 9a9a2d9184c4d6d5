"""Apply a flip and report which processes acknowledged it: for all commands that flip."""

from __future__ import annotations

import shlex
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

from .. import validation
from ..errors import StoreError
from ..flags.flip import FLAG, KEY, OPTION, RELEASED, checked_lever, checked_reason, kind_of
from ..flags.operations import Acknowledgement, Done, acknowledged, is_young, order_all
from ..flags.reasons import HOLDS
from ..flags.stores.base import Store
from .option_checks import check_options
from .output import moment, order_line, plural, say, say_json
from .store_access import CONFLICT, NOT_ALL, UNREACHED, USAGE, StoreAccess, fail, known_name, look
from .store_view import StoreView, shown_id


class FlipRequest:
    """An operator's order for some levers of one flag or policy."""

    def __init__(
        self,
        levers: Mapping[str, Any],
        *,
        reason: str,
        by: str,
        lasts: float | None,
        wait: float,
        as_json: bool,
    ) -> None:
        try:
            checked_reason(reason)
            validation.text("--by", by, most=100)
        except (ValueError, TypeError) as error:
            fail(str(error), USAGE)
        self.levers: Mapping[str, Any] = levers
        self.reason: str = reason
        self.by: str = by
        self.lasts: float | None = lasts
        self.wait: float = wait
        self.as_json: bool = as_json

    @property
    def kind(self) -> str:
        """The kind of its levers."""
        return kind_of(next(iter(self.levers)))


class Told:
    """The result of an order, for the report.

    Attributes:
        done: each flip, and whether this order recorded it.
        seen: which processes have obeyed.
        unknown: the processes whose options could not be checked.
        took: the seconds that it took.
    """

    def __init__(
        self, done: list[Done], seen: Acknowledgement, unknown: list[str], took: float
    ) -> None:
        self.done: list[Done] = done
        self.seen: Acknowledgement = seen
        self.unknown: list[str] = unknown
        self.took: float = took


def move(reach: StoreAccess, wanted: FlipRequest, name: str, *, unknown_too: bool) -> None:
    """Flip levers, wait for the processes, report, and exit with the code for the result."""
    began = time.monotonic()
    with reach.store() as store:
        view = _ready(reach, store, wanted, name, unknown_too=unknown_too)
        unknown = _checked(view, wanted, name)
        done = order_all(
            store, wanted.levers, by=wanted.by, reason=wanted.reason, lasts=wanted.lasts
        )
        try:
            newest = max((each.flip for each in done), key=lambda flip: flip.version)
            seen = acknowledged(store, newest, reach.presence, wanted.wait)
            view = look(reach, store)
        except StoreError as error:
            fail(f"recorded; who has obeyed can't be told: {error}", NOT_ALL)
        except KeyboardInterrupt:
            fail("recorded; interrupted before it was known who has obeyed", NOT_ALL)
    for each in done:
        _not_outdone(view, each)
        if each.flip is not newest:
            seen.faults += Acknowledgement(each.flip, view.processes, view.now).faults
    told = Told(done, seen, unknown, time.monotonic() - began)
    if wanted.as_json:
        say_json(_data(told))
    else:
        _tell(view, name, wanted, told)
    obeyed = seen.complete and not seen.pinned and (seen.known or unknown_too)
    raise SystemExit(0 if obeyed else NOT_ALL)


def _ready(
    reach: StoreAccess, store: Store, wanted: FlipRequest, name: str, *, unknown_too: bool
) -> StoreView:
    """Return a view of a writable store that knows the name."""
    if not store.writable:
        fail(
            f"{reach.shown} is read and never written: change it where it comes from (Git, a "
            "ConfigMap); every process reads it again within a second",
            UNREACHED,
        )
    view = look(reach, store)
    while is_young(store) and name not in view.names(wanted.kind):
        time.sleep(0.1)  # a new store has not heard of its processes yet
        view = look(reach, store)
    if not unknown_too:
        known_name(name, view.names(wanted.kind), "flag" if wanted.kind == FLAG else "policy")
    return view


def _checked(view: StoreView, wanted: FlipRequest, name: str) -> list[str]:
    """Check options before recording them; return the processes that do not report theirs."""
    options: dict[str, dict[str, Any]] = {}
    for lever, value in wanted.levers.items():
        if wanted.kind == OPTION and value != RELEASED:
            kind, _, option = checked_lever(lever).split("/")[2].partition(".")
            options.setdefault(kind, {})[option] = value
    try:
        return check_options(view, name, options) if options else []
    except (ValueError, TypeError) as error:
        fail(f"nothing was recorded: {error}", USAGE)


def _not_outdone(view: StoreView, done: Done) -> None:
    """Exit if somebody else has moved the lever since."""
    newest = view.flips.get(done.flip.lever)
    if newest is not None and newest.version > done.flip.version > 0:
        what_i_did = "recorded" if done.changed else "it was so already"
        fail(
            f"{what_i_did}, but {newest.by or 'somebody'} has set {newest.lever} to "
            f"{newest.value} since ({newest.reason})",
            CONFLICT,
        )


def _data(told: Told) -> dict[str, Any]:
    seen = told.seen
    flips = [
        {k: v for k, v in each.flip.as_data().items() if k not in ("boot", "due")}
        for each in told.done
    ]
    return {
        "flip": flips[-1],
        "flips": flips,
        "changed": any(each.changed for each in told.done),
        "applied": len(seen.applied),
        "processes": seen.known,
        "behind": [shown_id(process) for process in seen.behind],
        "silent": [{"process": shown_id(p), "id": p.id, "since": p.seen} for p in seen.silent],
        "pinned": [shown_id(process) for process in seen.pinned],
        "faults": {shown_id(process): why for process, why in seen.faults},
        "unchecked": told.unknown,
        "seconds": round(told.took, 3),
    }


def _tell(view: StoreView, name: str, wanted: FlipRequest, told: Told) -> None:
    table = "flags" if wanted.kind == FLAG else "policies"
    about = view.declared(table).get(name, {})
    owner = f" ({about['owner']})" if about.get("owner") else ""
    impact = f": {about['impact']}" if about.get("impact") else ""
    say(f"{name}{owner}{impact}")
    for each in told.done:
        _tell_flip(view, each, wanted.reason)
    if told.unknown:
        say(f"not checked, for they are of an older version: {', '.join(told.unknown)}")
    _tell_who(view, told)
    if "forced_open" in wanted.levers.values() and about.get("covered") is False:
        what = "that key" if wanted.kind == KEY else "it"
        if about.get("in_views"):
            say(f"only views of {name} have an answer in its place: other calls are errors now")
        else:
            say(f"nothing answers in its place: every call of {what} is an error now")
    if wanted.kind == FLAG and "off" in wanted.levers.values():
        for policy, said in view.declared("policies").items():
            if name in said.get("flags", ()) and name not in said.get("answered", ()):
                what = f"nothing answers in the place of {policy}: every call of it is an error now"
                if said.get("in_views"):
                    what = f"only views of {policy} have an answer: its other calls are errors now"
                say(f"{what}, unless its caller has a fallback")


def _tell_flip(view: StoreView, done: Done, reason: str) -> None:
    flip = done.flip
    part = flip.lever.partition("/")[2].partition("/")[2]
    value = str(flip.value)
    if part:
        value = f"{part} is {value}" if flip.value == RELEASED else f"{part} = {value}"
    row = {"until": flip.until, "by": flip.by, "reason": flip.reason}
    if done.changed:
        say(order_line(value, row, view.now))
    elif flip.version:
        say(f"already, since {moment(flip.at, view.now)}: {order_line(value, row, view.now)}")
        if reason != flip.reason:
            say("nothing was recorded, your reason neither")
    else:
        say("nothing was ordered that could be released")


def _tell_who(view: StoreView, told: Told) -> None:
    seen = told.seen
    if not seen.known:
        say("nobody follows: no process that declares it is running; those that start will obey")
        return
    say(f"applied by {len(seen.applied)} of {plural(seen.known, 'process')} in {told.took:.1f} s")
    for process in seen.behind:
        say(f"  not yet: {shown_id(process)}, program {process.program}")
    for process in seen.silent:
        since = moment(process.seen, view.now)
        say(f"  silent since {since}: {shown_id(process)}, program {process.program}")
        say(f"    if it is gone for good: resilient forget {process.id[:8]}")
    for process in seen.pinned:
        held = HOLDS[process.about["flags"][told.done[-1].flip.name]["source"]]
        say(f"  pinned off by {held}: {shown_id(process)}")
    for why, number in Counter(why for _, why in seen.faults).items():
        say(f"  NOT obeyed by {plural(number, 'process')}, and never will be: {why}")
    if seen.faults:
        for each in told.done:
            policy, _, part = each.flip.lever.partition("/")[2].partition("/")
            word = f"release {policy} --key" if each.flip.kind == KEY else f"unset {policy}"
            say(f"    take it back: resilient policies {word} {shlex.quote(part)} --reason ...")
