"""The diagrams of bulkhead and timeout: who holds a slot, and for how long."""

from __future__ import annotations

from guard_diagrams.canvas import (
    BLUE,
    GREY,
    INK,
    ORANGE,
    PALE_ORANGE,
    PALE_RED,
    PLUM,
    RED,
    Picture,
    Timeline,
    num,
)
from guard_diagrams.scenes_slots import (
    STEP,
    Bounded,
    Seen,
    bulkhead_calls,
    by_asking,
    by_cancelling,
    by_thread,
)
from resilient import timeout as timeout_guard

CALLS = (
    ("A", 0.0, 0.95), ("B", 0.1, 0.7), ("C", 0.2, 1.2), ("D", 0.5, 0.6), ("E", 0.62, 0.8),
    ("F", 0.7, 0.5), ("G", 0.85, 0.5),
)  # fmt: skip
SLOTS, PLACES, MAX_WAIT = 3, 2, 0.4
LANE, HIGH = 32, 26
SECONDS = (0.0, 0.4, 0.8, 1.2, 1.6)


def bulkhead() -> Picture:
    """Draw calls in slots and in line."""
    words = f"{SLOTS} slots and a line of {PLACES} places: who runs, who waits, who is refused"
    made = Picture(words, 322)
    calls = bulkhead_calls(CALLS, SLOTS, PLACES, MAX_WAIT)
    made.text(
        16, 26, f"bulkhead({SLOTS}, max_waiting={PLACES}, max_wait={num(MAX_WAIT)})", bold=True
    )
    time = Timeline(made, 90, 700, 0, 1.85)
    for place in range(SLOTS):
        time.lane(40 + LANE * place, HIGH, f"slot {place + 1}")
    line = 40 + LANE * SLOTS + 10
    for place in range(PLACES):
        time.lane(line + LANE * place, HIGH, f"place {place + 1}")
    refused = line + LANE * PLACES + 10
    time.lane(refused, HIGH, "refused")
    ran = [(call.began, call.ended, call) for call in calls if call.began is not None]
    _bars(time, 40, ran, BLUE, "#ffffff")
    waited = [
        (call.came, call.ended if call.began is None else call.began, call)
        for call in calls
        if call.ended > call.came and call.began != call.came
    ]
    _bars(time, line, waited, PALE_ORANGE, INK)
    early, late = (call for call in calls if call.error is not None)
    for call in (early, late):
        made.cross(time.x(call.ended), refused + HIGH / 2)
        made.text(time.x(call.ended) + 10, refused + HIGH / 2 + 5, call.name)
    time.axis(refused + LANE + 4, SECONDS)
    made.text(
        16, 306,
        f"{early.name} finds no place, and is refused at once. "
        f"{late.name} gets no slot within {num(late.ended - late.came)} s.",
    )  # fmt: skip
    return made


def _bars(
    time: Timeline, y: float, stretches: list[tuple[float, float, Seen]], fill: str, colour: str
) -> None:
    """Draw stretches of time in the first lane that is free."""
    free: list[float] = []
    for start, end, call in sorted(stretches, key=lambda each: each[0]):
        lane = next((n for n, until in enumerate(free) if until <= start), len(free))
        free[lane : lane + 1] = [end]
        edge = ORANGE if fill == PALE_ORANGE else "#ffffff"
        time.bar(y + LANE * lane, HIGH, start, end, fill, call.name, colour=colour, edge=edge)


def timeout() -> Picture:
    """Draw what caller, worker and slot do when the time is up."""
    made = Picture("A body that takes too long, by each of the three ways of bounding it", 368)
    limit = timeout_guard().seconds
    time = Timeline(made, 84, 704, 0, 1.85)
    thread, asking, cancelled = by_thread(), by_asking(), by_cancelling()
    made.text(16, 26, 'sync="thread"', bold=True)
    _caller(time, 34, thread, "waits", limit)
    time.lane(60, 22, "worker")
    time.bar(60, 22, 0, limit, BLUE, "the body")
    time.bar(60, 22, limit, thread.body, PALE_RED, "abandoned, runs on", colour=INK, edge=RED)
    _slot(time, 86, thread)
    made.text(16, 134, 'sync="cooperative"', bold=True)
    _caller(time, 142, asking, "the body", asking.caller, "by check()")
    for at in asking.marks:
        made.dot(time.x(at), 153, "#ffffff" if at < asking.caller else RED, 4)
    _slot(time, 168, asking)
    made.text(16, 216, "async", bold=True)
    _caller(time, 224, cancelled, "the body", limit)
    time.bar(224, 22, limit, cancelled.caller, PLUM)
    _slot(time, 250, cancelled)
    clean = "cancelled: cleans up first"
    made.text(time.x(cancelled.slot) + 8, 266, clean, size=14, colour=PLUM)
    made.line([(time.x(limit), 14), (time.x(limit), 290)], RED, width=1.5, dashed=True)
    made.text(time.x(limit) + 8, 26, "the time is up", colour=RED)
    time.axis(290, (0, 0.4, 0.8, limit, 1.2, 1.6))
    made.lines(16, 336, [
        "A slot is a bulkhead's: it is given back when the body has ended.",
        f"Dots: check(), each {num(STEP)} s. Without it, the late value of the body is returned.",
    ])  # fmt: skip
    return made


def _caller(
    time: Timeline, y: float, call: Bounded, words: str, until: float, how: str = ""
) -> None:
    time.lane(y, 22, "caller")
    time.bar(y, 22, 0, until, BLUE, words)
    made = time.picture
    made.text(time.x(call.caller) + 8, y + 16, f"{call.error} {how}".strip(), colour=RED)


def _slot(time: Timeline, y: float, call: Bounded) -> None:
    time.lane(y, 22, "slot")
    time.bar(y, 22, 0, call.slot, GREY, "taken")
