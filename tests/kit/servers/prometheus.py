"""A Prometheus of the tests' own, and promtool: what they make of our metrics and rules."""

from __future__ import annotations

import http.client
import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypedDict, TypeVar
from urllib.parse import parse_qs, urlencode

from tests.kit.servers.process import HOST, ServerProcess, needed

T = TypeVar("T")
Labels = dict[str, str]


class Series(TypedDict):
    metric: Labels
    value: float


class Range(TypedDict):
    metric: Labels
    values: list[tuple[float, float]]  # time, value


class Alert(TypedDict):
    name: str
    state: str  # "pending" or "firing"
    labels: Labels
    annotations: Labels


class Scrape(TypedDict):
    url: str
    health: str  # "up", "down", and "unknown" before the first scrape
    lastError: str
    lastScrapeDuration: float


class Rule(TypedDict):
    name: str
    health: str  # "ok", "err", and "unknown" before the first evaluation
    lastError: str


class Exemplar(TypedDict):
    metric: Labels
    labels: Labels
    value: float
    timestamp: float


_NEEDED = "RESILIENT_NEED_PROMETHEUS"
_PAUSE = 0.05  # seconds between two looks of wait_until


class PrometheusError(RuntimeError):
    """Prometheus refused what it was asked."""


@dataclass(frozen=True)
class Target:
    """What is scraped, where that is more than a "host:port" with /metrics.

    The path may have a query. Authorization is the one header: Debian's version has no others.
    """

    address: str
    path: str = "/metrics"
    headers: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    job: str = "tests"

    @property
    def url(self) -> str:
        """The address that is scraped, without a query."""
        return f"http://{self.address}{self.path.partition('?')[0]}"

    def scrape_config(self, name: str) -> dict[str, Any]:
        """Return its part of the configuration; each part has a name of its own."""
        path, _, query = self.path.partition("?")
        labels = {"job": self.job, **self.labels}
        said: dict[str, Any] = {
            "job_name": name,
            "metrics_path": path,
            "params": parse_qs(query),
            "static_configs": [{"targets": [self.address], "labels": labels}],
        }
        for header, value in self.headers.items():
            if header.lower() != "authorization":
                raise ValueError(f"Prometheus sends Authorization, and not {header}")
            kind, _, credentials = value.partition(" ")
            said["authorization"] = {"type": kind, "credentials": credentials}
        return said


Targets = Iterable[str | Target]


def prometheus_program() -> str | None:
    """Return where prometheus is, None where there is none."""
    return shutil.which("prometheus")


def promtool_program() -> str | None:
    """Return where promtool is, None where there is none."""
    return shutil.which("promtool")


class Prometheus(ServerProcess):
    """A Prometheus that scrapes a test's targets; what it has stored stays over a kill."""

    name = "prometheus"

    def __init__(self) -> None:
        self._program = needed(prometheus_program(), "there is no prometheus on PATH", _NEEDED)
        super().__init__()
        self._config = self.directory / "prometheus.yml"
        self._targets: list[Target] = []
        self._rules: list[str] = []
        self._intervals: dict[str, str] = {}

    def start(
        self,
        targets: Targets | None = None,
        rules: Path | str | None = None,
        *,
        scrape_interval: str = "1s",
        evaluation_interval: str = "1s",
    ) -> Self:
        """Start it, and wait until it is ready. It begins to scrape after 5 s: see scraped().

        Rules are a file, or a text of several lines; "" is none. What is None stays as it was.
        """
        self._intervals = {
            "scrape_interval": scrape_interval,
            "evaluation_interval": evaluation_interval,
        }
        self._configure(targets, rules)
        return super().start()

    def reload(self, targets: Targets | None = None, rules: Path | str | None = None) -> None:
        """Take other targets or rules, and read the file of rules again.

        It keeps what it had, and PrometheusError is raised, where they are bad.
        """
        self._configure(targets, rules)
        status, said = self._request("POST", "/-/reload")
        if status != 200:
            raise PrometheusError(f"{said.decode()}\n{self.log.read_text()[-2000:]}")

    def command(self) -> list[str]:
        """Return the command that starts it."""
        return [
            self._program,
            f"--config.file={self._config}",
            f"--storage.tsdb.path={self.directory / 'data'}",
            f"--web.listen-address={self.address}",
            "--web.enable-lifecycle",  # for /-/reload
            "--enable-feature=exemplar-storage",
            "--scrape.discovery-reload-interval=100ms",  # 5 s more to the first scrape without
        ]

    def answers(self) -> bool:
        """Say whether it is ready."""
        return self._request("GET", "/-/ready")[0] == 200

    # What a test waits for.

    def wait_until(self, predicate: Callable[[], T], within: float) -> T:
        """Ask again and again, and return the first answer that is true; fail where none is."""
        end = time.monotonic() + within
        while not (answer := predicate()):
            if time.monotonic() > end:
                raise AssertionError(f"not in {within:g} s: {answer!r}; {self.targets()}")
            time.sleep(_PAUSE)
        return answer

    def scraped(self, within: float = 60.0) -> Self:
        """Wait until every target has been scraped, well or not."""
        wanted = {each.url for each in self._targets}
        self.wait_until(lambda: wanted <= self._seen(), within)
        return self

    # What it has come to know.

    def query(self, promql: str) -> list[Series]:
        """Return what a query gives now; a scalar is a series without labels."""
        data = self._api("query", query=promql)
        if data["resultType"] == "scalar":
            return [{"metric": {}, "value": float(data["result"][1])}]
        return [
            {"metric": row["metric"], "value": float(row["value"][1])} for row in data["result"]
        ]

    def query_range(self, promql: str, start: float, end: float, step: float = 1.0) -> list[Range]:
        """Return what a query gives from one time.time() to another."""
        data = self._api("query_range", query=promql, start=start, end=end, step=step)
        return [
            {"metric": row["metric"], "values": [(at, float(value)) for at, value in row["values"]]}
            for row in data["result"]
        ]

    def exemplars(self, promql: str, seconds: float = 3600.0) -> list[Exemplar]:
        """Return the exemplars of the last seconds, of the series that a query selects."""
        now = time.time()
        data = self._api("query_exemplars", query=promql, start=now - seconds, end=now + 60)
        return [
            {
                "metric": row["seriesLabels"],
                "labels": each["labels"],
                "value": float(each["value"]),
                "timestamp": each["timestamp"],
            }
            for row in data
            for each in row["exemplars"]
        ]

    def alerts(self) -> list[Alert]:
        """Return the alerts that are pending or firing."""
        return [
            {
                "name": each["labels"]["alertname"],
                "state": each["state"],
                "labels": each["labels"],
                "annotations": each["annotations"],
            }
            for each in self._api("alerts")["alerts"]
        ]

    def states(self) -> dict[str, str]:
        """Return the state of each alert by its name: "firing" where one of that name is."""
        found: dict[str, str] = {}
        for each in sorted(self.alerts(), key=lambda each: each["state"] == "firing"):
            found[each["name"]] = each["state"]
        return found

    def targets(self) -> list[Scrape]:
        """Return the targets, and how the last scrape of each went."""
        return [
            {
                "url": each["scrapeUrl"],
                "health": each["health"],
                "lastError": each["lastError"],
                "lastScrapeDuration": each["lastScrapeDuration"],
            }
            for each in self._api("targets", state="active")["activeTargets"]
        ]

    def rules(self) -> list[Rule]:
        """Return the rules, and how the last evaluation of each went."""
        return [
            {"name": each["name"], "health": each["health"], "lastError": each.get("lastError", "")}
            for group in self._api("rules")["groups"]
            for each in group["rules"]
        ]

    # How it is done.

    def _configure(self, targets: Targets | None, rules: Path | str | None) -> None:
        """Write the configuration: JSON, which is YAML too."""
        if targets is not None:
            self._targets = [Target(each) if isinstance(each, str) else each for each in targets]
        if rules is not None:
            self._rules = [str(self._file(rules))] if rules else []
        parts = [each.scrape_config(f"target-{at}") for at, each in enumerate(self._targets)]
        said = {"global": self._intervals, "scrape_configs": parts, "rule_files": self._rules}
        self._config.write_text(json.dumps(said, indent=1))

    def _file(self, rules: Path | str) -> Path:
        """Return the file of rules, which has to be there: of one that is not Prometheus says nothing."""
        file = self.directory / "rules.yml"
        if isinstance(rules, str) and "\n" in rules:
            file.write_text(rules)
            return file
        return Path(rules).resolve(strict=True)

    def _seen(self) -> set[str]:
        found = (each for each in self.targets() if each["health"] != "unknown")
        return {each["url"].partition("?")[0] for each in found}

    def _api(self, what: str, **query: Any) -> Any:
        status, said = self._request("GET", f"/api/v1/{what}?{urlencode(query)}")
        if status != 200:
            raise PrometheusError(f"{what} {query}: {status} {said.decode()}")
        return json.loads(said)["data"]

    def _request(self, method: str, path: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(HOST, self.port, timeout=5)
        try:
            connection.request(method, path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except http.client.HTTPException as error:
            raise ConnectionError(str(error)) from error
        finally:
            connection.close()


def promtool_check_rules(path: Path | str) -> tuple[bool, str]:
    """Say whether a file of rules is good, without one rule twice, and what promtool said."""
    return _promtool("check", "rules", "--lint-fatal", str(path))


def promtool_test_rules(path: Path | str) -> tuple[bool, str]:
    """Say whether a file of tests passes and finds the rules it names, and what promtool said."""
    passed, said = _promtool("test", "rules", str(path))
    return passed and "no file match" not in said, said


def promtool_check_metrics(text: str | bytes) -> tuple[bool, str]:
    """Say whether a text of metrics, not of OpenMetrics, is good, and what promtool said."""
    return _promtool("check", "metrics", text=text)


def _promtool(*words: str, text: str | bytes = "") -> tuple[bool, str]:
    program = needed(promtool_program(), "there is no promtool on PATH", _NEEDED)
    done = subprocess.run(
        [program, *words],
        input=text.encode() if isinstance(text, str) else text,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=200,
        check=False,
    )
    return done.returncode == 0, done.stdout.decode()
