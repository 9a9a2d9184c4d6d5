"""The demo, run for real but for a few seconds only, and the figures it takes."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.kit.paths import ROOT

for needed in ("httpx", "matplotlib", "rich"):
    pytest.importorskip(needed, reason="the demo needs the dependency group demo")

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(autouse=True)
def _importable(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))


def test_a_short_run_protects_everybody_and_draws_the_picture(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "demo", "--seconds", "6", "--output", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    rows = [line for line in done.stdout.splitlines() if line.startswith("│")]
    (errors,) = [row for row in rows if row.startswith("│   error")]
    _, _, unprotected, protected, _ = [cell.strip() for cell in errors.split("│")]
    assert unprotected != "none"
    assert protected == "none"
    assert "circuit opened" in done.stdout
    assert 'resilient_served_total{policy="recommendations",served="degraded"}' in done.stdout
    assert "fallback calls demo.recommendations.top_100" in done.stdout
    assert (tmp_path / "demo.png").read_bytes().startswith(PNG)
    assert "circuit_breaker opened" in (tmp_path / "protected.log").read_text()


def run_of(*customers, shown=None):
    from demo.measure import Customer, Run, Side

    protected = Side("protected", [Customer(*customer) for customer in customers])
    served = [one.served for one in protected.customers]
    counts = {kind: served.count(kind) for kind in ("full", "degraded", "error")}
    protected.metrics = "\n".join(
        f'resilient_served_total{{policy="recommendations",served="{kind}"}} {number}.0'
        for kind, number in {**counts, **(shown or {})}.items()
    )
    return Run(Side("unprotected"), protected, [], 1.0)


def test_a_run_without_faults_has_none():
    from demo.measure import faults

    assert faults(run_of((0.1, 0.02, "full", ""), (0.2, 0.3, "degraded", ""))) == []


def test_a_hang_an_error_and_a_wrong_count_are_faults():
    from demo.measure import faults

    found = faults(run_of((0.1, 1.5, "full", ""), (0.2, 0.1, "error", "HTTP 503")))
    assert len(found) == 2
    assert "1 customers of the protected service got an error" in found
    assert "waited 1.50 s" in found[1]
    assert len(faults(run_of((0.1, 0.02, "full", ""), shown={"full": 2}))) == 1


def test_a_run_without_customers_or_metrics_is_not_a_good_one():
    from demo.measure import faults

    run = run_of()
    run.protected.metrics = ""
    assert len(faults(run)) == 4


def test_a_quantile_is_the_smallest_value_that_the_share_does_not_exceed():
    from demo.measure import quantile

    ordered = [float(n) for n in range(1, 101)]
    assert [quantile(ordered, share) for share in (0.5, 0.99, 1.0)] == [50.0, 99.0, 100.0]
    assert quantile([7.0], 0.5) == 7.0
    assert str(quantile([], 0.5)) == "nan"


def test_phases_fill_the_run():
    from demo.schedule import phases

    planned = phases(12.0)
    assert [phase.start for phase in planned[1:]] == [phase.end for phase in planned[:-1]]
    assert (planned[0].start, planned[-1].end) == (0.0, 12.0)
