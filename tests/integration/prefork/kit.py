"""What the trial and its short version share: the service, its helpers, and what must hold."""

from __future__ import annotations

import contextlib
import http.client
import json
import mmap
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from tests.integration.prefork.scraper import Scrape, connect
from tests.kit.waiting import WAIT, until
from tests.kit.workers import free_port

HERE = Path(__file__).parent
KINDS = 10  # of dependencies: see app.py
THREADED, TIMEOUT = 7, 0.06  # on a worker thread, and for how long its callers wait
WITH_BREAKER = (0, 2, 3, 4, 7, 9)
ARRIVED, COUNTED, ENDED = 1, 2, 3  # marks, as app.py has them
HOW = ("full", "degraded", "degraded-refused", "degraded-unclear", "error", "error-refused")
BEGUN = 1
GAUGES = ("in_flight", "slots_used", "queue_depth", "abandoned_workers")


class Helper:
    """A process of ours that prints one line of JSON at its end."""

    def __init__(self, script: str, *words: object) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / script), *map(str, words)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def tell(self, word: str) -> None:
        """Give it an order."""
        assert self.process.stdin is not None
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()

    def hears(self, word: str) -> None:
        """Wait for what it confirms."""
        assert self.process.stdout is not None
        said = self.process.stdout.readline().strip()
        assert said == word, said

    def end(self, word: str = "stop") -> dict[str, Any]:
        """Have it end; return what it saw."""
        out, _ = self.process.communicate(word + "\n", timeout=60)
        found: dict[str, Any] = json.loads(out.splitlines()[-1])
        return found

    def kill(self) -> None:
        """End it, if it still runs."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()


class Service:
    """One gunicorn of so many workers, whose counts meet in a directory of its own."""

    def __init__(
        self, home: Path, *, workers: int, policies: int, requests: int, threads: int = 16,
        preload: bool = False, client: bool = False,
    ) -> None:  # fmt: skip
        self.port, self.workers, self.policies = free_port(), workers, policies
        self.pages, self.log, self.marks = home / "pages", home / "log", home / "marks"
        self.marks.write_bytes(bytes(2 * requests))
        environ = {
            "PATH": os.environ["PATH"], "HOME": str(home), "RESILIENT_RUNTIME_DIR": str(self.pages),
            "APP_MARKS": str(self.marks), "APP_POLICIES": str(policies),
            **{name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ},
        }  # fmt: skip
        if preload:
            environ["APP_CALLS_EARLY"] = "1"
        if client:
            (home / "client").mkdir()
            environ |= {"APP_CLIENT": "1", "PROMETHEUS_MULTIPROC_DIR": str(home / "client")}
        self.preload = preload
        with self.log.open("ab") as errors:
            self.process = subprocess.Popen(
                [
                    sys.executable, "-m", "gunicorn", "-b", f"127.0.0.1:{self.port}",
                    "-w", str(workers), "--worker-class", "gthread", "--threads", str(threads),
                    "--keep-alive", "5", "--no-control-socket", "--log-level", "warning",
                    "--chdir", str(HERE), *["--preload"] * preload, "app:application",
                ],
                env=environ, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors,
                start_new_session=True,
            )  # fmt: skip

    def living(self) -> set[int]:
        """Return the process ids of the workers."""
        return {pid for pid in map(int, filter(str.isdecimal, os.listdir("/proc")))
                if _parent(pid) == self.process.pid}  # fmt: skip

    def scrape(self) -> Scrape:
        """Scrape once."""
        return Scrape(connect(self.port))

    def each(self) -> dict[int, Scrape]:
        """Scrape every worker: of many connections at once, some come to each."""
        found: dict[int, Scrape] = {}

        def all_have() -> bool:
            burst = [connect(self.port) for _ in range(16)]
            try:
                for each in burst:
                    each.request("GET", "/health")
                for each in burst:
                    worker = int(each.getresponse().read())
                    if worker not in found:
                        found[worker] = Scrape(each)
            except (OSError, http.client.HTTPException):  # not yet there, or just killed
                pass
            finally:
                for each in burst:
                    each.close()
            return set(found) == self.living() and len(found) == self.workers

        until(all_have)
        return found

    def processor(self, *helpers: Helper) -> float:
        """Return the processor time of the service and its helpers so far, the dead ones' too."""
        pids = self.living() | {helper.process.pid for helper in helpers}
        return _seconds(self.process.pid, dead=True) + sum(map(_seconds, pids))

    def kill_one(self, chance: random.Random) -> int:
        """Kill a worker, and wait until it is gone for good."""
        victim = chance.choice(sorted(self.living()))
        os.kill(victim, signal.SIGKILL)
        until(lambda: not Path(f"/proc/{victim}").exists())
        return victim

    def whole(self) -> bool:
        """Tell whether there are as many workers as there should be."""
        return len(self.living()) == self.workers

    def stop(self) -> None:
        """End all of it."""
        self.process.terminate()
        try:
            self.process.wait(WAIT)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def _parent(pid: int) -> int:
    try:
        state, parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
    except OSError:
        return 0
    return 0 if state == "Z" else int(parent)


def _seconds(pid: int, *, dead: bool = False) -> float:
    try:
        numbers = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    own = sum(map(int, numbers[11 : 15 if dead else 13]))  # of its dead children too
    return own / os.sysconf("SC_CLK_TCK")


# -- what must hold -------------------------------------------------------------------


class Truth:
    """What each policy has counted, as answers and marks say: at least, and at the most."""

    def __init__(self, load: dict[str, Any], marks: Path) -> None:
        self.sure: dict[int, Counter[str]] = {}
        self.more: dict[int, int] = {}  # calls that may have been counted
        self.cut = dict.fromkeys(("never arrived", "in the body", "ended", "in a window"), 0)
        self.asked: list[list[int]] = [[0, 0] for _ in range(KINDS)]  # at least, at the most
        for policy, answers in load["answered"].items():
            for how, number in answers.items():
                self._add(int(policy), how, number)
        with marks.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as seen:
            for request, policy, age in load["cut"]:
                self._cut(policy, seen[2 * request], seen[2 * request + 1], age)

    def _add(self, policy: int, how: str, number: int = 1) -> None:
        self.sure.setdefault(policy, Counter())[how] += number
        self._client(policy, number, number)

    def _client(self, policy: int, least: int, most: int) -> None:
        self.asked[policy % KINDS][0] += least
        self.asked[policy % KINDS][1] += most

    def _cut(self, policy: int, request: int, body: int, age: float) -> None:
        if request >= ENDED:
            self._add(policy, HOW[request - ENDED])
            self.cut["ended"] += 1
            return
        self._client(policy, request >= COUNTED, request >= ARRIVED)
        if request < COUNTED:
            self.cut["never arrived"] += 1
        elif body == BEGUN and (policy % KINDS != THREADED or age < TIMEOUT):
            self.cut["in the body"] += 1
        else:
            self.cut["in a window"] += 1
            self.more[policy] = self.more.get(policy, 0) + 1

    @property
    def calls(self) -> int:
        """How many calls ended for certain."""
        return sum(counts.total() for counts in self.sure.values())

    def wrong(self, scrape: Scrape) -> tuple[list[str], int]:
        """Return where a scrape says something else, and how many numbers were compared."""
        found: list[str] = []
        compared = 0
        for policy, counts in self.sure.items():
            more = self.more.get(policy, 0)
            label = f'policy="dependency-{policy:04}"'
            for what, least, unclear, said in _pairs(counts, label, scrape):
                compared += 1
                if not least <= said <= least + unclear + more:
                    found.append(
                        f"{label}: {what} {said:g}, expected {least} (+ {unclear} + {more})"
                    )
        return found, compared

    def wrong_client(self, scrape: Scrape) -> list[str]:
        """Return where prometheus_client's own counter says something else."""
        found: list[str] = []
        for kind, (least, most) in enumerate(self.asked):
            said = scrape.values.get(f'shop_requests_total{{kind="{kind}"}}'.encode(), b"0")
            if not least <= float(said) <= most:
                found.append(f"shop_requests_total of kind {kind}: {said!r}, expected {least}")
        return found


def _pairs(counts: Counter[str], label: str, scrape: Scrape) -> list[tuple[str, int, int, float]]:
    """Return what is compared of a policy: the name, at least, how much more, and what is said."""

    def said(name: str, labels: str = "") -> float:
        return float(scrape.values.get(f"resilient_{name}{{{labels}{label}}}".encode(), b"0"))

    unclear = counts["degraded-unclear"]  # refused, or failed
    refused = counts["degraded-refused"] + counts["error-refused"]
    degraded = counts["degraded"] + counts["degraded-refused"] + unclear
    outcomes = {how: said("calls_total", f'outcome="{how}",')
                for how in ("success", "failure", "ignored", "cancelled", "refused")}  # fmt: skip
    admitted = counts["full"] + counts["degraded"] + counts["error"]
    return [
        ("calls_total", counts.total(), 0, sum(outcomes.values())),
        ("calls_total success", counts["full"], 0, outcomes["success"]),
        ("calls_total failure", admitted - counts["full"], unclear, outcomes["failure"]),
        ("calls_total refused", refused, unclear, outcomes["refused"]),
        ("refusals_total", refused, unclear, _over(scrape, "refusals_total", label)),
        ("call_duration_seconds_count", admitted, unclear, said("call_duration_seconds_count")),
        ("served_total full", counts["full"], 0, said("served_total", 'served="full",')),
        ("served_total degraded", degraded, 0, said("served_total", 'served="degraded",')),
        ("served_total error", counts["error"] + counts["error-refused"], 0,
         said("served_total", 'served="error",')),
    ]  # fmt: skip


def _over(scrape: Scrape, name: str, label: str) -> float:
    """Return the sum of a policy's series of one name over their only other label, the guard."""
    guards = ("policy", "circuit_breaker", "bulkhead", "timeout")
    heads = [f'resilient_{name}{{guard="{guard}",{label}}}'.encode() for guard in guards]
    return sum(float(scrape.values.get(head, b"0")) for head in heads)


def sums(scrape: Scrape) -> dict[str, float]:
    """Return the gauges that are to be 0, summed over all policies."""
    found = dict.fromkeys(GAUGES, 0.0)
    for head, value in scrape.values.items():
        name = head.partition(b"{")[0].decode().removeprefix("resilient_")
        if name in found:
            found[name] += float(value)
    return found


def breakers(scrape: Scrape, policies: int) -> set[float]:
    """Return over how many processes the breakers' states are summed, of every policy with one."""
    by_policy: dict[bytes, float] = {}
    for head, value in scrape.values.items():
        if head.startswith(b'resilient_breaker_workers{state="') and b"dependency-" in head:
            label = head.partition(b"policy=")[2]
            by_policy[label] = by_policy.get(label, 0.0) + float(value)
    wanted = sum(number % KINDS in WITH_BREAKER for number in range(policies))
    return set(by_policy.values()) | ({0.0} if len(by_policy) < wanted else set())


def settled(service: Service, seconds: float = WAIT) -> tuple[float, Scrape]:
    """Wait until all gauges are 0 and the breakers of all processes are there; return after how long."""
    began = time.monotonic()
    service.each()  # whoever is new has no page before
    while True:
        scrape = service.scrape()
        there = scrape.value("resilient_processes")
        calm = not any(sums(scrape).values()) and breakers(scrape, service.policies) == {there}
        took = time.monotonic() - began
        if calm or took > seconds:
            return took, scrape
        time.sleep(0.1)


def left(service: Service) -> list[str]:
    """Return what is in the directory but pages of the living, and that of the departed."""
    living = service.living() | ({service.process.pid} if service.preload else set())
    names = set(os.listdir(service.pages)) - {"departed.page"}
    owners = {name: name.partition("-")[0] for name in names if name.endswith(".page")}
    wrong = [name for name in names if owners.get(name) not in set(map(str, living))]
    return wrong + [f"no page of {pid}" for pid in living if str(pid) not in owners.values()] + (
        ["more pages than processes"] if len(owners) > len(living) else [])  # fmt: skip
