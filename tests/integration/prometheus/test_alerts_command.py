"""`resilient metrics alerts`: what it prints of a running service, of a module, and of nonsense."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from resilient.monitoring.alerts import Alerts
from resilient.monitoring.inventory import Declared, Policy, in_pages
from resilient.monitoring.rule_file import as_yaml
from tests.integration.prometheus.promtool import alerts
from tests.integration.prometheus.running import HERE
from tests.integration.prometheus.story import PRINT, SELECTOR, Run
from tests.kit.cli_workers import worker_of
from tests.kit.command import Cli, Outcome
from tests.kit.servers.prometheus import promtool_check_rules

OUTDATED = "no policy and no flag is declared"


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    """The command, without a store and without a directory of pages."""
    return Cli("", tmp_path)


@pytest.mark.timeout(120)  # it may be the first to wait for the run
def test_a_service_and_its_module(cli: Cli, run: Run, tmp_path: Path) -> None:
    """Of a running service it prints the very rules that it prints of the service's module."""
    code, printed = run.levers[PRINT]
    assert code == 0, printed
    of_module = cli("metrics", "alerts", "--app", "service", "--selector", SELECTOR,
                    PYTHONPATH=f"{HERE}:{cli.env().get('PYTHONPATH', '')}")  # fmt: skip
    assert of_module.said(0).out == printed
    assert as_yaml(Alerts(run.declared, selector=SELECTOR).groups()) == printed
    (tmp_path / "rules.yml").write_text(printed)
    good, said = promtool_check_rules(tmp_path / "rules.yml")
    assert good, said


def test_beside_the_store(tmp_path: Path) -> None:
    """Where the store is SQLite, it finds the running processes without another setting."""
    (tmp_path / "flags.db").touch()
    cli = Cli(f"sqlite:///{tmp_path / 'flags.db'}", tmp_path)
    worker = worker_of(cli)
    try:
        worker.ask("plain")
        said = cli("metrics", "alerts").said(0, 'policy: "shop"', 'policy: "plain"', 'flag: "beta"')
        assert "team-shop" in said.out
    finally:
        worker.close()
    cli("metrics", "alerts").said(2, OUTDATED)  # those that are gone declare nothing


def test_objectives(cli: Cli) -> None:
    """An objective is the share of calls, in percent, that must not end in an error."""
    environ = {"PYTHONPATH": f"{HERE}:{cli.env().get('PYTHONPATH', '')}"}
    plain = cli("metrics", "alerts", "--app", "service", **environ).said(0).out
    same = ("1=99.9", "2=99.5", "3=99", "none=99.5")
    words = [word for each in same for word in ("--objective", each)]
    assert cli("metrics", "alerts", "--app", "service", *words, **environ).said(0).out == plain
    other = cli("metrics", "alerts", "--app", "service", "--objective", "1=99.95", **environ)
    assert 'rate1h{policy="burning"} > 0.0072 ' in other.said(0).out
    assert 'rate1h{policy="burning"} > 0.0144 ' in plain


@pytest.mark.parametrize(
    "objective", ["1", "1=", "=99", "1=100", "1=0", "1=-5", "1=nan", "1=inf", "x=99", "1=99%",
                  "1.5=99", "", "1=9\u0669"],
)  # fmt: skip
def test_bad_objectives(cli: Cli, objective: str) -> None:
    """What is no objective is said to be none, and nothing is printed."""
    said = cli("metrics", "alerts", "--app", "json", "--objective", objective)
    assert said.said(2).out == ""


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("missing", None, ["--app", "missing"]),
        ("shop.missing", None, ["--app", "shop"]),
        (".relative", None, ["--app", ".relative"]),
        ("a:application", None, ["--app"]),
        ("empty", "", [OUTDATED]),
        ("broken", "1 / 0", ["--app", "broken", "division by zero"]),
        ("unreadable", "def (", ["--app", "unreadable"]),
        ("leaving", "raise SystemExit(7)", ["--app", "leaving"]),
        ("needing", "import nothing_of_that_name", ["--app", "nothing_of_that_name"]),
        ("twice", "from resilient import Policy\nPolicy('a')\nPolicy('a')", ["--app", "twice"]),
    ],
)  # fmt: skip
def test_bad_modules(cli: Cli, name: str, text: str | None, words: list[str]) -> None:
    """A module that can't be imported, or declares nothing, is told of in words."""
    if text is not None:
        (cli.home / f"{name}.py").write_text(text)
    said = cli("metrics", "alerts", "--app", name, PYTHONPATH=str(cli.home))
    assert said.said(2, *words).out == ""


def test_where_there_is_nothing(cli: Cli, tmp_path: Path) -> None:
    """Without a directory, with one that is not there, empty, or open to all, it says so."""
    cli("metrics", "alerts").said(2, "RESILIENT_RUNTIME_DIR")
    cli("metrics", "alerts", RESILIENT_RUNTIME_DIR="off").said(2)
    missing, empty, all_may = (tmp_path / name for name in ("missing", "empty", "all"))
    cli("metrics", "alerts", RESILIENT_RUNTIME_DIR=str(missing)).said(4, "missing")
    empty.mkdir(mode=0o700)
    cli("metrics", "alerts", RESILIENT_RUNTIME_DIR=str(empty)).said(2, OUTDATED)
    all_may.mkdir()
    all_may.chmod(0o777)
    cli("metrics", "alerts", RESILIENT_RUNTIME_DIR=str(all_may)).said(4, "all")
    (tmp_path / "file").touch()
    cli("metrics", "alerts", RESILIENT_RUNTIME_DIR=str(tmp_path / "file")).said(4)


@pytest.mark.parametrize("name", ["app.make.<locals>.f", "a>b", "a#b", "a:b-1", "_private"])
def test_levers_are_for_a_shell(tmp_path: Path, name: str) -> None:
    """A name that a shell would take for more arrives as one word, whatever the alert."""
    covered = {"covered": True}
    about = {"flags": [name], "answered": [name], "covered": True}
    told = Declared([Policy(name, covered), Policy("b", about), Policy("c", {})], [])
    pulled = {rule["annotations"]["lever"] for rule in alerts(told)} - {"resilient doctor"}
    said = set()
    for lever in pulled:
        script = f"resilient() {{ printf '%s|' \"$@\"; }}; {lever}"
        done = subprocess.run(
            ["sh", "-c", script], capture_output=True, text=True, cwd=tmp_path, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")
        said.add(done.stdout)
    assert said == {
        f"policies|force-open|{name}|--reason|...|--for|30m|",
        f"policies|release|{name}|--reason|...|",
        f"flags|off|{name}|--reason|...|--for|30m|", "policies|release|b|--reason|...|",
        f"policies|show|{name}|", "policies|show|b|", "policies|show|c|",
        "policies|release|c|--reason|...|",
    }  # fmt: skip
    assert list(tmp_path.iterdir()) == []


def test_every_lever_works(tmp_path: Path) -> None:
    """Every command of every alert, for a process that runs, does what it says."""
    (tmp_path / "flags.db").touch()
    cli = Cli(f"sqlite:///{tmp_path / 'flags.db'}", tmp_path)
    worker = worker_of(cli)

    def pull(lever: str) -> Outcome:
        script = f'resilient() {{ "$PYTHON" -m resilient.cli "$@"; }}; {lever}'
        process = subprocess.Popen(
            ["sh", "-c", script], env=cli.env(PYTHON=sys.executable), stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        return cli.end(process)

    try:
        worker.ask("plain")
        cli.applied_by(1)
        found = in_pages(tmp_path / "flags.db-state" / "pages")
        levers = {rule["annotations"]["lever"] for rule in alerts(found)}
        assert levers == {
            'resilient policies force-open plain --reason "..." --for 30m',
            'resilient policies release plain --reason "..."',
            "resilient policies show plain", "resilient policies show shop",
            'resilient policies release shop --reason "..."',
            'resilient flags on recs --reason "..."', "resilient flags show recs",
            'resilient flags on beta --reason "..."', "resilient flags show beta",
            "resilient doctor",
        }  # fmt: skip
        for lever, ask, answer in (
            ("resilient policies show shop", "shop", "ok"),
            ('resilient flags on recs --reason "..."', "shop", "ok"),
            ('resilient policies release shop --reason "..."', "shop", "ok"),
            ('resilient policies force-open plain --reason "..." --for 30m', "plain", "instead"),
            ('resilient policies release plain --reason "..."', "plain", "ok"),
            ('resilient flags on beta --reason "..."', "beta", "True"),
            ("resilient flags show beta", "beta", "True"),
            ("resilient doctor", "plain", "ok"),
        ):
            assert lever in levers
            pull(lever).said(0)
            assert worker.ask(ask) == answer, lever
    finally:
        worker.close()
