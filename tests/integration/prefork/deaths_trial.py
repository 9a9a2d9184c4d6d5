"""A gunicorn whose workers die under load, and the counts of all of them in one directory.

``make prefork`` runs it: about 90 s. It fails where a total is not what the load generator was
answered, where a counter falls, a gauge stays, a page is left, or the p99 of a scrape is over 150 ms.

The workers are of the kind gthread: with sync a worker does one thing at a time and closes each
connection, so that no bulkhead is ever full, nobody stands in a line, a kill cuts one request at the
most and a scrape never runs beside calls.

**What is true** is what the load generator was answered, and, of the requests that a SIGKILL cut off,
what their marks say. A mark is a byte of a file that all workers map, written where the body begins
and ends, and before and after the call; a store into memory has no window of its own, lets no other
thread in, and outlives the process. So a cut request

- never arrived (no mark before the call), or was in the body: its call is in no total;
- had ended (a mark after the call): its call is in all totals, as what the mark says;
- was in a window: between the mark before the call and the body's first (it enters, or stands in a
  line, or is being refused), or between the body's last and the mark after the call (it is being
  booked, or a fallback answers; on a worker thread, the time in the body too, whose caller may have
  just given up). That takes some microseconds, and longer where another thread gets its turn there.
  Such a call may be in a total or not. The totals of its policy may be as many more, and no others.

In the first part workers are killed in the middle of everything. In the second, with --preload, a
page of the master's, and prometheus_client's multiprocess mode beside ours, the load pauses for an
instant before each kill: nothing is cut, and all must be equal without reservation.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import resilient
from tests.integration.prefork.kit import Helper, Service, Truth, breakers, left, settled, sums
from tests.kit.trials import figures, goal, missed, share

WORKERS = 4
POLICIES = 1000
CONNECTIONS = 64
RATE = float(os.environ.get("PREFORK_RATE", "600"))  # requests a second
SECONDS = float(os.environ.get("PREFORK_SECONDS", "60"))
SHORT = float(os.environ.get("PREFORK_SHORT", "12"))
KILL_EVERY = 4.0
SCRAPES = 4  # a second
LIMIT = 0.150


def processor() -> tuple[float, float]:
    """Return for how long the processors of this machine were busy, and all there was."""
    numbers = [float(n) for n in Path("/proc/stat").read_text().split("\n")[0].split()[1:9]]
    return sum(numbers) - numbers[3] - numbers[4], sum(numbers)


def line(what: str, value: object) -> None:
    """Print a line of the table."""
    print(f"| {what:<36} | {value} |", flush=True)


def story(seconds: float, *, preload: bool, client: bool, paused: bool) -> None:
    """Load, kill and scrape for some seconds; then compare."""
    words = ["--preload" if preload else "no --preload"]
    words += ["beside prometheus_client's multiprocess mode"] * client
    words += ["the load pauses for each kill"] * paused
    print(
        f"\n{WORKERS} workers of 16 threads, {POLICIES} policies, {', '.join(words)}, {seconds:g} s\n"
    )
    helpers: list[Helper] = []
    with tempfile.TemporaryDirectory(prefix="resilient-prefork-") as name:
        dependencies = POLICIES - preload  # the one more is the master's own
        service = Service(
            Path(name), workers=WORKERS, policies=dependencies, preload=preload, client=client,
            requests=int(RATE * (seconds + 30) * 2),
        )  # fmt: skip
        try:
            service.each()
            load = Helper("load.py", service.port, CONNECTIONS, RATE, dependencies)
            helpers.append(load)
            time.sleep(2.0)  # the first calls of all make the pages
            scraper = Helper("scraper.py", service.port, SCRAPES)
            helpers.append(scraper)
            began, before, ours = time.monotonic(), processor(), service.processor(*helpers)
            kills = kill(service, load, began + seconds, paused=paused)
            busy, whole = (now - then for now, then in zip(processor(), before, strict=True))
            ours = (service.processor(*helpers) - ours) * os.sysconf("SC_CLK_TCK") / whole
            seen = scraper.end()
            answers = load.end()
            line("requests/s, load average", f"{answers['rate']:.0f}, {os.getloadavg()[0]:.1f}")
            line("processors busy, by us", f"{busy / whole:.0%}, {ours:.0%}")  # fmt: skip
            line("workers killed", kills)
            judge_scrapes(seen)
            judge(service, answers, client=client, paused=paused)
        finally:
            for helper in helpers:
                helper.kill()
            service.stop()


def kill(service: Service, load: Helper, until: float, *, paused: bool) -> int:
    """Kill a worker every few seconds; return how many."""
    chance, kills = random.Random(), 0
    every = KILL_EVERY / 2 if paused else KILL_EVERY
    while time.monotonic() + every < until:
        time.sleep(every * chance.uniform(0.75, 1.25))
        if not service.whole():
            continue
        if paused:
            load.tell("pause")
            load.hears("paused")
        service.kill_one(chance)
        if paused:
            load.tell("go")
        kills += 1
    time.sleep(max(0.0, until - time.monotonic()))
    return kills


def judge_scrapes(seen: dict[str, Any]) -> None:
    """Print what the scraper saw, and what must hold of it."""
    scrapes = seen["seen"]
    line("scrapes, cut off by a kill", f"{len(scrapes)}, {seen['failed']}")
    line("a scrape, as the scraper sees it", figures([1e3 * each[1] for each in scrapes], "ms", 0))
    line("... in the application", figures([1e3 * each[2] for each in scrapes], "ms", 0))
    line("... of the processor", figures([1e3 * each[3] for each in scrapes], "ms", 0))
    line("series, megabytes", f"{scrapes[-1][8]}, {scrapes[-1][7] / 1e6:.1f}")
    first = {each[4]: each for each in reversed(scrapes)}  # by worker
    line("... the first of a worker", figures([1e3 * each[1] for each in first.values()], "ms", 0))
    workers = {each[4] for each in scrapes}
    low, high = min(each[5] for each in scrapes), max(each[5] for each in scrapes)
    line("workers who answered, processes", f"{len(workers)}, {low:g} to {high:g}")
    over = sum(each[1] > LIMIT for each in scrapes)
    p99 = share([each[1] for each in scrapes], 0.99)
    goal(
        p99 <= LIMIT,
        f"p99 of a scrape is at most {LIMIT * 1e3:.0f} ms ({over} of {len(scrapes)} over)",
    )
    goal(not seen["fell"], f"no counter ever falls ({seen['fell']} did)")
    print("".join(f"         {fall}\n" for fall in seen["falls"][:5]), end="")
    goal(
        not any(each[6] for each in scrapes) and not seen["faults"],
        f"every scrape is whole {seen['faults']}",
    )


def judge(service: Service, answers: dict[str, Any], *, client: bool, paused: bool) -> None:
    """Compare what is shown at the end with what is true."""
    truth = Truth(answers, service.marks)
    line("requests: p50, p99, max", ", ".join(f"{each * 1e3:.0f} ms" for each in answers["times"]))
    cut = ", ".join(f"{number} {what}" for what, number in truth.cut.items())
    line("calls that ended, requests cut off", f"{truth.calls}, {len(answers['cut'])}: {cut}")
    took, scrape = settled(service)
    line("until gauges are 0", f"{took:.1f} s")
    wrong, compared = truth.wrong(scrape)
    vague = {policy for policy, counts in truth.sure.items() if counts["degraded-unclear"]}
    exact = len(truth.sure) - len(vague | set(truth.more))
    goal(
        not wrong,
        f"{compared} totals of {len(truth.sure)} policies are equal, {exact} of them without reservation",
    )
    print("".join(f"         {each}\n" for each in wrong[:10]), end="")
    goal(not answers["faults"], f"every answer is one {answers['faults'][:3]}")
    if paused:
        goal(not answers["cut"], f"nothing was cut off ({len(answers['cut'])})")
    if client:
        goal(
            not (other := truth.wrong_client(scrape)),
            f"prometheus_client's counters are equal {other[:3]}",
        )
    gauges, states = sums(scrape), breakers(scrape, service.policies)
    goal(not any(gauges.values()), f"gauges are 0 again: {gauges}")
    processes = WORKERS + service.preload
    goal(states == {processes}, f"breakers are counted in {processes} processes ({states})")
    last = service.each()
    shown = [{head: value for head, value in each.values.items() if b"_total" in head or b"_count" in head}
             for each in last.values()]  # fmt: skip
    goal(all(each == shown[0] for each in shown), "whichever worker answers, it says the same")
    goal(not (rest := left(service)), f"nothing is left but the living and one folded page {rest}")


def main() -> int:
    """Run both parts."""
    began = time.monotonic()
    print(f"resilient from {Path(resilient.__file__).parent}")
    print(f"load average before: {', '.join(f'{each:.1f}' for each in os.getloadavg())}")
    story(SECONDS, preload=False, client=False, paused=False)
    story(SHORT, preload=True, client=True, paused=True)
    print(f"\n{time.monotonic() - began:.0f} s; {len(missed)} goals missed")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
