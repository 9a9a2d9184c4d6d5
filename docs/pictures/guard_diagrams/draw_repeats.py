"""The diagrams of retry, hedge and last good answer: what comes after an attempt."""

from __future__ import annotations

from typing import Any

from guard_diagrams.canvas import (
    BLUE,
    FAINT,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PALE_GREEN,
    PALE_ORANGE,
    PALE_RED,
    PLUM,
    RED,
    Picture,
    Timeline,
    num,
)
from guard_diagrams.scenes_repeats import QUANTILE, TAKES, Answer, answers, attempts, drained, raced
from resilient import hedge as hedge_guard
from resilient import last_good as last_good_guard
from resilient import retry as retry_guard
from resilient.guards.budget import FLOOR, MOST

DRAW = 0.6  # the number from 0 to 1 that is drawn in place of chance
CALLS = 40


def retry() -> Picture:
    """Draw the attempts of a call, and a budget that drains."""
    made = Picture("The attempts of a call and the waits between them; a budget that drains", 356)
    options: Any = retry_guard(on=ConnectionError).options()
    began, result = attempts(DRAW)
    made.text(
        16,
        26,
        f"One call: {result.attempts} attempts, each wait a random part of its cap",
        bold=True,
    )
    time = Timeline(made, 90, 700, 0, 0.38)
    time.lane(38, 24, "attempts")
    time.lane(66, 24, "waits")
    cap = options["wait_initial"]
    for number, at in enumerate(began, 1):
        time.bar(38, 24, at, at + TAKES, RED, f"{number} fails")
        if number == len(began):
            break
        end = at + TAKES
        time.bar(66, 24, end, end + cap, "#ffffff", edge=ORANGE)
        time.bar(66, 24, end, began[number], ORANGE, num(began[number] - end), colour=INK)
        made.text(time.x(end + cap / 2), 106, f"cap {num(cap)} s", anchor="middle")
        cap = min(cap * 2, options["wait_max"])
    time.axis(114, (0, 0.1, 0.2, 0.3), "s")
    _budget(made, options)
    return made


def _budget(made: Picture, options: Any) -> None:
    """Draw the attempts of calls that all fail, and what is left of the budget."""
    made.text(16, 164, f"{CALLS} calls, ten a second, that all fail: the budget drains", bold=True)
    time = Timeline(made, 90, 700, 0, CALLS)
    bottom, high, left = 312, 24.0, MOST * 1.0
    line = [(time.left, bottom - 12 * left)]
    for place, (count, left) in enumerate(drained(CALLS)):
        x = time.x(place) + 2
        made.rect(x, bottom - high, 11, high, FAINT)
        made.rect(x, bottom - high * count, 11, high * (count - 1), ORANGE)
        line.append((time.x(place + 1), bottom - 12 * left))
    made.line([(time.left, bottom), (time.right, bottom)], GREY)
    made.line(line, PLUM, width=2.5)
    made.text(82, bottom - 12 * MOST + 5, str(MOST), anchor="end", colour=PLUM)
    made.text(82, bottom + 5, "0", anchor="end", colour=PLUM)
    made.text(200, 206, "extra attempts that the budget has left", colour=PLUM)
    made.text(200, 228, "extra attempts", colour="#a8650a")
    made.text(200, 250, "first attempts", colour=GREY)
    made.text(
        16, 340,
        f"Each call pays in {num(options['budget'])}, and one more comes every {num(1 / FLOOR)} s; "
        f"it holds {MOST}.",
    )  # fmt: skip


def hedge() -> Picture:
    """Draw a slow call whose second copy wins."""
    made = Picture(
        "A second copy of a slow call begins after the delay, and its answer is taken", 292
    )
    slow, quick = 1.0, 0.06
    copies, delay, done = raced(slow, quick)
    options: Any = hedge_guard(quantile=QUANTILE, idempotent=True).options()
    share = options["share"]
    first, second = copies
    made.text(16, 26, f"hedge(quantile={QUANTILE}, idempotent=True)", bold=True)
    time = Timeline(made, 122, 652, 0, slow)
    made.text(
        time.x(delay) + 6,
        56,
        f"the delay: {QUANTILE:.0%} of good attempts end within {delay:.1f} s".replace("%", " %"),
    )
    for place, label in enumerate(("caller", "first copy", "second copy")):
        time.lane(74 + 46 * place, 34, label)
    time.bar(74, 34, 0, done, BLUE, "waits")
    made.text(time.x(done) + 8, 96, f"has the answer of the second copy at {done:.2f} s")
    time.bar(120, 34, 0, first.ended, GREY, "hangs")
    made.line([(time.x(first.ended) + 14, 137), (time.right, 137)], GREY, width=2, dashed=True)
    if not first.cancelled:
        raise AssertionError("the loser was not cancelled")
    made.cross(time.x(first.ended), 137)
    made.rect(time.x(0.33), 124, 262, 26, "#f7f7f9")
    made.text(time.x(0.34), 142, "cancelled (a thread would run on)", colour=RED)
    time.bar(166, 34, second.began, second.ended, GREEN)
    made.text(time.x(second.ended) + 8, 188, "answers: the first good answer wins", colour=GREEN)
    made.line([(time.x(delay), 42), (time.x(delay), 216)], PLUM, width=1.5, dashed=True)
    time.axis(216, (0, 0.2, 0.4, 0.6, 0.8, 1.0))
    made.lines(16, 262, [
        f"A budget pays for second copies: each call puts in {num(share)}, and it holds {MOST}.",
        "When it is empty, the first copy is waited for.",
    ])  # fmt: skip
    return made


EVERY, MINUTE = 120, 60
DOWN = 300, 1080
END = 1260
ENDS = {
    "full": (PALE_GREEN, GREEN), "degraded": (PALE_ORANGE, ORANGE), "error": (PALE_RED, RED),
}  # fmt: skip


def last_good() -> Picture:
    """Draw what is kept and what callers get while a dependency is down."""
    made = Picture("What a last good answer keeps, and what callers get while all fails", 312)
    longest = num(last_good_guard().max_age / MINUTE)
    made.text(16, 26, f"last_good(): no answer is older than {longest} minutes", bold=True)
    time = Timeline(made, 112, 704, -60, END)
    calls = answers(EVERY, 11, DOWN)
    time.lane(44, 30, "dependency")
    for start, end, fill, words in (
        (-60, DOWN[0], GREEN, "answers"), (*DOWN, RED, "is down"), (DOWN[1], END, GREEN, "answers"),
    ):  # fmt: skip
        time.bar(44, 30, start, end, fill, words)
    _kept(time, calls)
    made.text(16, 178, "callers get")
    for call in calls:
        fill, edge = ENDS[call.served]
        words = [call.value] if call.value else ["error"]
        words += [] if call.age is None else [f"{num(call.age / MINUTE)} min"]
        made.box(time.x(call.at) - 26, 148, 52, 50, words, fill=fill, edge=edge)
    time.axis(212, ())
    for minutes in range(0, 21, 4):
        x = time.x(minutes * MINUTE)
        made.line([(x, 212), (x, 217)], GREY)
        made.text(x, 231, f"{minutes} min", size=13, colour=GREY, anchor="middle")
    for x, word, words in (
        (16, "full", "served full"), (156, "degraded", "served degraded, with its age"),
        (428, "error", "the error, or a fallback"),
    ):  # fmt: skip
        fill, edge = ENDS[word]
        made.rect(x, 252, 14, 14, fill, edge=edge)
        made.text(x + 22, 264, words)
    made.text(16, 294, "Each call asks the dependency first: what it answers is kept anew.")
    return made


def _kept(time: Timeline, calls: list[Answer]) -> None:
    """Draw which value is kept, and until when it may be given."""
    time.lane(92, 30, "kept")
    good = [call for call in calls if call.served == "full"]
    oldest = last_good_guard().max_age
    for place, call in enumerate(good):
        last = place + 1 == len(good)
        end = END if last else good[place + 1].at
        fresh = min(end, call.at + oldest)
        time.bar(
            92,
            30,
            call.at,
            fresh,
            PALE_GREEN,
            call.value if not last else "",
            colour=INK,
            edge=GREEN,
        )
        if fresh < end:
            time.bar(92, 30, fresh, end, "#ececef", "too old", colour=INK, edge=GREY)
