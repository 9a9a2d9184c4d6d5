"""Moving a lever and telling who has obeyed: the common part of all commands that flip."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

from .. import checks
from ..errors import StoreError
from ..flags.flipping import Acknowledgement, Done, acknowledged, is_young, order
from ..flags.flips import FLAG, RELEASED, checked_reason, kind_of
from .printing import moment, order_line, plural, say, say_json
from .reach import CONFLICT, NOT_ALL, UNREACHED, USAGE, Reach, fail, known_name, look
from .view import View, shown_id


class Order:
    """What an operator wants of one lever."""

    def __init__(
        self,
        lever: str,
        value: Any,
        *,
        reason: str,
        by: str,
        lasts: float | None,
        wait: float,
        as_json: bool,
    ) -> None:
        try:
            checked_reason(reason)
            checks.text("--by", by, most=100)
        except (ValueError, TypeError) as error:
            fail(str(error), USAGE)
        self.lever: str = lever
        self.value: Any = value
        self.reason: str = reason
        self.by: str = by
        self.lasts: float | None = lasts
        self.wait: float = wait
        self.as_json: bool = as_json


def move(reach: Reach, wanted: Order, name: str, *, unknown_too: bool) -> None:
    """Flip a lever, wait for the processes, tell, and end with the exit code that says it."""
    kind = kind_of(wanted.lever)
    what, table = ("flag", "flags") if kind == FLAG else ("policy", "policies")
    began = time.monotonic()
    with reach.store() as store:
        if not store.writable:
            fail(
                f"{reach.shown} is read and never written: change it where it comes from (Git, a "
                "ConfigMap); every process reads it again within a second",
                UNREACHED,
            )
        view = look(reach, store)
        while is_young(store) and name not in view.names(kind):
            time.sleep(0.1)  # its processes have not been heard of yet
            view = look(reach, store)
        if not unknown_too:
            known_name(name, view.names(kind), what)
        done = order(
            store, wanted.lever, wanted.value, by=wanted.by, reason=wanted.reason,
            lasts=wanted.lasts,
        )  # fmt: skip
        try:
            seen = acknowledged(store, done.flip, reach.presence, wanted.wait)
            view = look(reach, store)
        except StoreError as error:
            fail(f"recorded; who has obeyed can't be told: {error}", NOT_ALL)
    newest = view.flips.get(wanted.lever)
    if newest is not None and newest.version > done.flip.version > 0:
        what_i_did = "recorded" if done.changed else "it was so already"
        fail(
            f"{what_i_did}, but {newest.by or 'somebody'} has set {newest.lever} to "
            f"{newest.value} since ({newest.reason})",
            CONFLICT,
        )
    took = time.monotonic() - began
    about = view.declared(table).get(name, {})
    if wanted.as_json:
        say_json(_data(done, seen, took))
    else:
        _tell(view, name, about, done, seen, took, wanted.reason)
    obeyed = seen.complete and not seen.pinned
    raise SystemExit(0 if obeyed else NOT_ALL)


def _data(done: Done, seen: Acknowledgement, took: float) -> dict[str, Any]:
    return {
        "flip": {k: v for k, v in done.flip.as_data().items() if k not in ("boot", "due")},
        "changed": done.changed,
        "applied": len(seen.applied),
        "processes": seen.known,
        "behind": [shown_id(process) for process in seen.behind],
        "silent": [{"process": shown_id(p), "id": p.id, "since": p.seen} for p in seen.silent],
        "pinned": [shown_id(process) for process in seen.pinned],
        "faults": {shown_id(process): why for process, why in seen.faults},
        "seconds": round(took, 3),
    }


def _tell(
    view: View,
    name: str,
    about: dict[str, Any],
    done: Done,
    seen: Acknowledgement,
    took: float,
    reason: str,
) -> None:
    owner = f" ({about['owner']})" if about.get("owner") else ""
    impact = f": {about['impact']}" if about.get("impact") else ""
    say(f"{name}{owner}{impact}")
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
    if not seen.known:
        say("no process that declares it is running; those that start will obey")
        return
    say(f"applied by {len(seen.applied)} of {plural(seen.known, 'process')} in {took:.1f} s")
    for process in seen.behind:
        say(f"  not yet: {shown_id(process)}, program {process.program}")
    for process in seen.silent:
        since = moment(process.seen, view.now)
        say(f"  silent since {since}: {shown_id(process)}, program {process.program}")
        say(f"    if it is gone for good: resilient forget {process.id[:8]}")
    for process in seen.pinned:
        say(f"  pinned off by its environment: {shown_id(process)}")
    for why, number in Counter(why for _, why in seen.faults).items():
        say(f"  NOT obeyed by {plural(number, 'process')}, and never will be: {why}")
    if seen.faults:
        policy, _, option = flip.lever.partition("/")[2].partition("/")
        say(f"    take it back: resilient policies unset {policy} {option} --reason ...")
