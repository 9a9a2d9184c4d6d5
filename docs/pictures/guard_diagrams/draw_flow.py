"""The diagrams of rate limit, throttle and concurrency limit: how much is let in."""

from __future__ import annotations

from collections import Counter
from typing import Any

from guard_diagrams.canvas import (
    BLUE,
    FAINT,
    GREY,
    ORANGE,
    PALE_GREEN,
    PALE_GREY,
    PALE_RED,
    PLUM,
    RED,
    Picture,
    Timeline,
    num,
)
from guard_diagrams.scenes_flow import CALLS_AT_ONCE, measured, throttled, turns
from resilient import throttle as throttle_guard

PERIOD, RATE = 1.0, 10
LIMITS: dict[str, dict[str, Any]] = {
    "spaced": {"max_wait": 0.3},
    "burst": {"burst": 4, "max_wait": 0.3},
    "no-wait": {"burst": 4},
}


def rate_limit() -> Picture:
    """Draw when calls that come at once begin."""
    made = Picture(
        f"When {CALLS_AT_ONCE} calls that come at once begin, by burst and max_wait", 344
    )
    made.text(
        16,
        26,
        f"{CALLS_AT_ONCE} calls come at 0 s; {RATE} a second may begin. Grey: the next free turn",
    )
    time = Timeline(made, 30, 510, 0, 0.45)
    for row, (name, options) in enumerate(LIMITS.items()):
        y = 60 + 84 * row
        given = "".join(f", {word}={num(value)}" for word, value in options.items())
        made.text(16, y, f"rate_limit({RATE}, {PERIOD}{given})", bold=True)
        made.rect(16, y + 10, 508, 48, "#f7f7f9")
        begun, refused = turns(name, max_calls=RATE, period=PERIOD, **options)
        for at, count in Counter(begun).items():
            for place in range(count):
                made.dot(time.x(at), y + 34 + 11 * (place - (count - 1) / 2), BLUE)
        made.dot(time.x(refused[0]), y + 34, FAINT)
        made.text(540, y + 21, f"{len(begun)} begin", colour=BLUE)
        made.text(540, y + 39, f"{len(refused)} refused at once,", colour=RED)
        made.text(540, y + 57, f"retry_after {num(refused[0])} s", colour=RED)
    time.axis(300, (0, 0.1, 0.2, 0.3, 0.4))
    return made


SECONDS, FAULT, STEP = 480, (60, 300), 10
ASKED, BEARS = 10, 2


def throttle() -> Picture:
    """Draw what becomes of calls to a dependency that answers a fifth of them for a while."""
    words = "The share of calls that a throttle refuses, as a dependency answers fewer and more"
    made = Picture(words, 344)
    words = f"{ASKED} calls a second; while the bar below is red, the dependency can answer {BEARS}"
    made.text(16, 26, words)
    for x, fill, label in (
        (16, PALE_GREEN, "answered"), (126, ORANGE, "failed"), (216, PALE_GREY, "refused"),
    ):  # fmt: skip
        made.rect(x, 40, 14, 14, fill, edge=GREY)
        made.text(x + 20, 52, label)
    made.line([(316, 47), (340, 47)], PLUM, width=2.5)
    made.text(346, 52, "share that the throttle refuses now")
    time = Timeline(made, 64, 688, 0, SECONDS)
    top, bottom = 70, 276
    high = (bottom - top) / (ASKED * STEP)
    line: list[tuple[float, float]] = []
    for each in throttled(SECONDS, FAULT, BEARS, step=STEP, rate=ASKED):
        left, y = time.x(each.at), float(bottom)
        for count, fill in (
            (each.answered, PALE_GREEN), (each.failed, ORANGE), (each.refused, PALE_GREY),
        ):  # fmt: skip
            y -= count * high
            made.rect(left, y, time.x(each.at + STEP) - left - 1, count * high, fill)
        line.append((time.x(each.at + STEP), bottom - each.share * (bottom - top)))
    made.line(line, PLUM, width=2.5)
    for share in (0, 0.5, 1):
        made.text(56, bottom - share * (bottom - top) + 5, f"{100 * share:g} %", anchor="end")
    time.axis(bottom, (*FAULT, 420, 0, 120, 180, 240, 360, 480))
    made.rect(time.x(FAULT[0]), bottom + 26, time.x(FAULT[1]) - time.x(FAULT[0]), 8, RED)
    options: Any = throttle_guard().options()
    begins, most = 100 * options["failure_rate"], 100 * options["max_refused"]
    made.text(
        16, 332,
        f"From {begins:g} % failures in {num(options['window'])} s on it refuses, "
        f"and never more than {most:g} %.",
    )  # fmt: skip
    return made


RUN, LOST = 60, (20, 40)
WORKERS = 12, 4


def concurrency_limit() -> Picture:
    """Draw a limit that follows what a simulated service can do."""
    made = Picture("A limit that follows the workers of a service, two thirds of which fail", 344)
    limits = measured(RUN, LOST, WORKERS)
    made.text(
        16, 26, "concurrency_limit(), simulated: half again as many calls as the service can do"
    )
    time = Timeline(made, 50, 620, 0, RUN)
    top, bottom, most = 46, 284, 40

    def y(value: float) -> float:
        return bottom - value * (bottom - top) / most

    made.rect(time.x(LOST[0]), top, time.x(LOST[1]) - time.x(LOST[0]), bottom - top, PALE_RED)
    made.text(time.x(sum(LOST) / 2), top + 18, f"{WORKERS[1]} workers are left", anchor="middle")
    for value in range(0, most + 1, 10):
        made.line([(time.left, y(value)), (time.right, y(value))], "#e3e3e8")
        made.text(42, y(value) + 5, str(value), anchor="end")
    all_of_them, few = y(WORKERS[0]), y(WORKERS[1])
    begin, end = time.x(LOST[0]), time.x(LOST[1])
    steps = [
        (time.left, all_of_them), (begin, all_of_them), (begin, few), (end, few),
        (end, all_of_them), (time.right, all_of_them),
    ]  # fmt: skip
    made.line(steps, GREY, width=2)
    line = [(time.x(n + 1), y(limit)) for n, limit in enumerate(limits)]
    made.line(line, BLUE, width=2.5)
    made.text(628, y(limits[-1]) + 5, "the limit", colour=BLUE)
    made.text(628, all_of_them + 5, "workers", colour=GREY)
    time.axis(bottom, range(0, RUN + 1, 10))
    left_out = "now and then it is a quarter for a moment, to see how long calls take idle"
    made.text(16, 330, f"Not drawn: {left_out}.")
    return made
