"""Exemplars of all processes of a host, whichever of them answers a scrape."""

from __future__ import annotations

import pytest

from resilient.telemetry.exemplars import Kept, with_told
from tests.kit.hosts import Host
from tests.kit.waiting import until

TRACED = """
from resilient.telemetry.exemplars import note
p = Policy("shop")
p.call(int)
note(p._core, {{"trace_id": "{trace}", "span_id": "00f067aa0ba902b7"}}, {seconds})
p.call(int)
"""
OPEN = """
from resilient import metrics
text = metrics.exposition("application/openmetrics-text")[0].decode()
[line.rpartition(" # ")[2] for line in text.splitlines() if " # {" in line]
"""


def test_any_process_tells_of_the_traces_of_all(host: Host) -> None:
    one = host.start(TRACED.format(trace="a" * 32, seconds=0.3))
    other = host.start(TRACED.format(trace="b" * 32, seconds=3.0))

    def told() -> bool:
        found = [process.do(OPEN) for process in (one, other)]
        return all(len(each) == 2 for each in found) and found[0] == found[1]

    until(told)
    first, second = one.do(OPEN)
    assert first.startswith(f'{{trace_id="{"a" * 32}",span_id="00f067aa0ba902b7"}} 0.3 ')
    assert second.startswith(f'{{trace_id="{"b" * 32}",span_id="00f067aa0ba902b7"}} 3.0 ')
    # The newest of a bucket, of whichever process.
    other.do(
        TRACED.format(trace="c" * 32, seconds=0.31).replace(
            'Policy("shop")', 'registry.get("shop")'
        )
    )
    until(lambda: [each for each in one.do(OPEN) if "c" * 32 in each])
    assert len(one.do(OPEN)) == 2


@pytest.mark.parametrize(
    "text",
    [
        "", "3 0.5 1700000000.000", "3 0.5 1700000000.000 trace_id=", "x 0.5 1.000 a=b", "3 nan 1.000 a=b",
        "3 0.5 1.000 a=b\n# EOF", '3 0.5 1.000 a=b"', "3 0.5 1.000 A=b", "333 0.5 1.000 a=b",
        "3 1e999 1.000 a=b", "3 0.5 1.000 a=b a=c d=e f=g h=i", "3 0.5 1.000 a={}",
        f"3 0.5 1.000 a={'b' * 101}", f"3 0.5 1.000 a={'b' * 90} c={'d' * 90}",
    ],
)  # fmt: skip
def test_what_is_none_is_passed_over(text: str) -> None:
    """Whoever may write a page may have written it: nothing of it gets into the text of a scrape."""
    own: Kept = {1: ({"trace_id": "f"}, 0.1, 5.0)}
    assert with_told(own, [text]) == own


def test_the_newest_of_a_bucket_is_told() -> None:
    own: Kept = {1: ({"trace_id": "f"}, 0.1, 5.0)}
    older, newer = "1 0.2 4.000 trace_id=a", "1 0.3 6.000 trace_id=b span_id=c"
    assert with_told(own, [older]) == own
    assert with_told(own, [newer, older]) == {1: ({"trace_id": "b", "span_id": "c"}, 0.3, 6.0)}
    assert own[1][2] == 5.0
