"""The diagrams of circuit breaker, kill switch and fallback: states, and where calls lead."""

from __future__ import annotations

from typing import Any

from guard_diagrams.canvas import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PALE_BLUE,
    PALE_GREEN,
    PALE_GREY,
    PALE_ORANGE,
    PALE_RED,
    RED,
    Picture,
    Timeline,
    num,
)
from guard_diagrams.scenes_states import fallback_ends, recoveries, switched
from resilient import circuit_breaker
from resilient.guards.circuit_breaker.recovery import JITTER

SERVED = {
    "full": (PALE_GREEN, GREEN),
    "degraded": (PALE_ORANGE, ORANGE),
    "error": (PALE_RED, RED),
}


def breaker() -> Picture:
    """Draw the three states of a circuit, with the default numbers."""
    made = Picture("The states of a circuit breaker, and what moves it from one to the other", 372)
    options: Any = circuit_breaker().options()
    rate, least = f"{options['failure_rate']:.0%}".replace("%", " %"), options["minimum_calls"]
    probes, enough = options["half_open_max_calls"], options["success_threshold"]
    opening = (
        f"{rate} of at least {least} calls in {num(options['window'])} s failed; "
        f"with fewer calls: {options['failure_threshold']} failures in a row"
    )
    made.text(360, 30, opening, anchor="middle")
    made.box(24, 52, 170, 60, ["closed", "lets calls in"], fill=PALE_GREEN, edge=GREEN, bold=True)
    made.box(526, 52, 170, 60, ["open", "refuses at once"], fill=PALE_RED, edge=RED, bold=True)
    half = ["half_open", f"lets in {probes} at a time"]
    made.box(270, 170, 180, 60, half, fill=PALE_ORANGE, edge=ORANGE, bold=True)
    made.arrow([(194, 68), (526, 68)])
    made.text(360, 90, "or too many were slow", anchor="middle")
    made.text(360, 108, "(with slow_call_duration)", anchor="middle")
    made.arrow([(640, 112), (640, 212), (450, 212)])
    first = num(options["recovery_timeout"])
    made.lines(466, 232, [f"{first} s are over, and a call", "comes: it is the probe"])
    made.arrow([(400, 170), (400, 144), (580, 144), (580, 112)])
    made.text(490, 162, "the probe fails", anchor="middle")
    made.arrow([(270, 200), (109, 200), (109, 112)])
    succeed = "1 probe succeeds" if enough == 1 else f"{enough} probes succeed"
    made.text(122, 192, succeed)
    _recoveries(made, 284)
    made.text(16, 342, "metrics_only: moves in the same way, unseen, and refuses nothing.")
    made.text(16, 361, "forced_open, forced_closed: an operator holds it, until it is released.")
    return made


def _recoveries(made: Picture, y: float) -> None:
    """Draw how long the circuit stays open, time after time."""
    seconds = recoveries(6)
    total, start = sum(seconds), 0.0
    words = f"Seconds that it stays open while every probe fails, each up to {JITTER:.0%} less "
    made.text(16, y, words.replace("%", " %") + "at random:")
    time = Timeline(made, 16, 704, 0, total)
    for each in seconds:
        time.bar(y + 10, 26, start, start + each, RED, num(each), edge="#ffffff")
        start += each


def kill_switch() -> Picture:
    """Draw what calls get while a flag is on, and while it is off."""
    made = Picture("What a call gets while the flag of a kill switch is on or off", 308)
    ends = switched()
    made.box(20, 24, 120, 52, ["on"], fill=PALE_GREEN, edge=GREEN, bold=True)
    made.box(20, 144, 120, 148, ["off"], fill=PALE_RED, edge=RED, bold=True)
    made.arrow([(56, 76), (56, 144)])
    made.arrow([(104, 144), (104, 76)])
    who = [
        "resilient flags off, resilient flags on: by a person,",
        "with a reason, in every process",
    ]
    made.lines(124, 104, who)
    rows = [
        (24, ["the guards inside, the function"], "full", ""),
        (144, ["answer= is given: answer(...)"], *ends["answer"]),
        (196, ["a fallback in the policy answers"], *ends["fallback"]),
        (248, ["neither of the two"], *ends["neither"]),
    ]
    for y, words, served, error in rows:
        height = 52 if y == 24 else 44
        made.arrow([(140, y + height / 2), (190, y + height / 2)])
        made.box(190, y, 270, height, words, fill=PALE_BLUE if y == 24 else PALE_GREY)
        made.arrow([(460, y + height / 2), (510, y + height / 2)])
        fill, edge = SERVED[served]
        words = [error] if served == "error" else [f"served {served}"]
        made.box(510, y, 190, height, words, fill=fill, edge=edge)
    return made


def fallback() -> Picture:
    """Draw which end of what is inside leads where."""
    made = Picture("Which end of a call leads to the fallback, and which to the caller", 348)
    ends = fallback_ends()
    made.box(16, 20, 104, 314, ["everything", "inside"], fill=PALE_BLUE, edge=BLUE)
    rows = [
        (20, ["returns a value"]),
        (76, ["refused:", ends["refused"][1]]),
        (128, ["timed out:", ends["timeout"][1]]),
        (180, ["failed:", ends["error"][1]]),
        (236, ["what ignore= names:", ends["ignored"][1]]),
        (288, ["cancelled:", ends["cancelled"][1]]),
    ]
    for y, words in rows:
        height = 40 if len(words) == 1 else 46
        made.arrow([(120, y + height / 2), (144, y + height / 2)])
        made.box(144, y, 186, height, words, fill="#ffffff")
    for y in (99, 151, 203):
        made.arrow([(330, y), (374, y)])
    made.box(374, 76, 116, 150, ["the fallback", "runs once"], edge=GREY, bold=True)
    made.arrow([(330, 40), (562, 40)])
    _end(made, 20, 40, ["the value:", "served full"], *SERVED[ends["value"][0]])
    made.arrow([(490, 111), (562, 111)])
    made.text(525, 103, "answers", size=13, anchor="middle")
    answered = {ends[word][0] for word in ("refused", "timeout", "error")}
    _end(made, 86, 48, ["its answer:", f"served {answered.pop()}"], *SERVED["degraded"])
    made.arrow([(490, 188), (562, 188)])
    made.text(525, 180, "raises", size=13, anchor="middle")
    _end(made, 156, 64, ["the next fallback", "out, or its error"], *SERVED[ends["raises"][0]])
    made.arrow([(330, 259), (562, 259)])
    made.arrow([(330, 311), (562, 311)])
    _end(made, 236, 98, ["passes on", "to the caller"], *SERVED[ends["ignored"][0]])
    return made


def _end(made: Picture, y: float, height: float, words: list[str], fill: str, edge: str) -> None:
    made.box(562, y, 142, height, words, fill=fill, edge=edge)
