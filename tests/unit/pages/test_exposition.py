"""Our own /metrics: valid, the same numbers as prometheus_client's, in every framework and mode."""

from __future__ import annotations

from collections.abc import Callable
from math import isnan
from typing import Any

import pytest
from prometheus_client import parser as plain
from prometheus_client.openmetrics import parser as openmetrics

from tests.kit.hosts import Host, Process
from tests.kit.waiting import until

EVERYTHING = r"""
odd = 'say "hi" \\ {a="b"} é ☃ \\n'
clock = ManualClock()
ps = [
    Policy("bare", owner=odd, tier=1, clock=clock),
    Policy("whole", fallback(value=0), circuit_breaker(minimum_calls=2, slow_call_duration=1, ignore=KeyError),
           bulkhead(2, max_waiting=1, max_wait=0.01), timeout(3, sync="thread"), impact=odd, clock=clock),
    Policy("watch", circuit_breaker(minimum_calls=1, mode="metrics_only") if 0 else circuit_breaker(), clock=clock),
]
f = flag("a-flag", impact="nothing")
flags.off("a-flag", reason="a test")
bool(f)
for p in ps:
    p.call(int); p.try_call(clock.advance, 0.3); p.try_call({}.__getitem__, 1); p.try_call(int)
    p.force_open("a test"); p.try_call(int); p.release()
here.refresh()
"""
PARSERS: dict[str, Callable[[str], Any]] = {
    "": plain.text_string_to_metric_families,
    "application/openmetrics-text; version=1.0.0": openmetrics.text_string_to_metric_families,
}


def parsed(text: str, accept: str = "") -> dict[Any, float]:
    """Return the samples of a text that is valid, and has none twice."""
    found: dict[Any, float] = {}
    for family in PARSERS[accept](text):
        for line in family.samples:
            key = line.name, *sorted(line.labels.items())
            assert key not in found
            found[key] = line.value
    return found


def body(worker: Process, accept: str = "") -> str:
    """Return what a process answers to a scrape."""
    text: str = worker.do(f"metrics.exposition({accept!r})[0].decode()")
    return text


@pytest.mark.parametrize("accept", PARSERS)
def test_it_is_valid_and_the_same_as_from_the_registry(host: Host, accept: str) -> None:
    """Each sample that a registry has is there with the same value, and none besides."""
    host.start(EVERYTHING).kill()
    host.start(EVERYTHING)
    worker = host.start(EVERYTHING)
    module = "openmetrics.exposition" if accept else "exposition"
    theirs = worker.do(
        f"""
import importlib, prometheus_client
resilient.metrics.register()
importlib.import_module("prometheus_client.{module}").generate_latest(prometheus_client.REGISTRY).decode()
"""
    )
    text = body(worker, accept)
    mine, others = parsed(text, accept), parsed(theirs, accept)
    ours = {key: n for key, n in others.items() if key[0].startswith("resilient")}
    assert len(ours) > 150
    assert {key for key in mine if key[0].startswith("resilient")} == set(ours)
    for key, n in ours.items():
        assert mine[key] == n or key[0].endswith(("_seconds", "_created")), key
        assert not isnan(n)
    rest = {key for key in others if not key[0].startswith("resilient")}
    assert {key for key in mine if not key[0].startswith("resilient")} == rest
    assert rest
    odd = 'say "hi" \\ {a="b"} é ☃ \\n'
    assert mine["resilient_policy_info", ("owner", odd), ("policy", "bare"), ("tier", "1")] == 1
    heads = [line for line in text.splitlines() if line.startswith("# TYPE")]
    assert len(heads) == len(set(heads))
    assert text.endswith("# EOF\n") == bool(accept)
    assert text.count("# EOF") == bool(accept)


def types_and_helps(text: str, accept: str) -> dict[str, tuple[str, str]]:
    """Return what a text says of each family of ours."""
    return {family.name: (family.type, family.documentation)
            for family in PARSERS[accept](text) if family.name.startswith("resilient")}  # fmt: skip


@pytest.mark.parametrize("accept", PARSERS)
def test_types_and_helps_are_the_same(host: Host, accept: str) -> None:
    """A dashboard does not see which of the two wrote it."""
    worker = host.start(EVERYTHING)
    module = "openmetrics.exposition" if accept else "exposition"
    theirs = worker.do(
        f"""
import importlib, prometheus_client
mine = prometheus_client.CollectorRegistry()
resilient.metrics.register(mine)
importlib.import_module("prometheus_client.{module}").generate_latest(mine).decode()
"""
    )
    assert types_and_helps(body(worker, accept), accept) == types_and_helps(theirs, accept)


def test_the_forms_in_turns(host: Host) -> None:
    """What is kept from one scrape to the next is not written in the other form."""
    worker = host.start(EVERYTHING)
    forms = list(PARSERS)
    for _ in range(3):
        text, other = (parsed(body(worker, accept), accept) for accept in forms)
        assert text.keys() == other.keys()
        same = {key for key in text if not key[0].endswith("_seconds")}
        assert {key: text[key] for key in same} == {key: other[key] for key in same}
        worker.do("ps[0].call(int); ps[1].try_call({}.__getitem__, 1)")


def test_without_prometheus_client(host: Host) -> None:
    """Nothing of it is imported by a scrape, in any framework."""
    worker = host.start(EVERYTHING)
    code = """
import anyio
async def receive(): return {"type": "http.request"}
async def send(message): sent.append(message)
sent = []
app = metrics.asgi_app()
anyio.run(app, {"type": "http", "method": "GET", "headers": []}, receive, send)
b"".join(metrics.wsgi_app()({"REQUEST_METHOD": "GET"}, lambda *_: None))
metrics.exposition()
sorted(name for name in sys.modules if name.startswith("prometheus"))
"""
    assert worker.do(code) == []
    assert parsed(body(worker))


WSGI = """
def ask(method, **environ):
    import io
    from wsgiref.util import setup_testing_defaults
    from wsgiref.validate import validator
    said = {"REQUEST_METHOD": method, "QUERY_STRING": "", **environ}
    setup_testing_defaults(said)
    answer = []
    result = validator(app)(said, lambda status, headers, error=None: answer.extend([status, dict(headers)]))
    content = b"".join(result)
    result.close()
    return [*answer, content.decode()]
app = metrics.wsgi_app()
"""


def test_wsgi(host: Host) -> None:
    """GET and HEAD are answered, by the letter of WSGI; other methods are not."""
    worker = host.start(EVERYTHING + WSGI)
    status, headers, text = worker.do("ask('GET')")
    assert status == "200 OK"
    assert headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert int(headers["Content-Length"]) == len(text.encode())
    assert parsed(text)
    status, headers, empty = worker.do("ask('HEAD')")
    assert (status, empty) == ("200 OK", "")
    assert int(headers["Content-Length"]) > 1000
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        status, headers, text = worker.do(f"ask({method!r})")
        assert status.startswith("405")
        assert headers["Allow"] == "GET, HEAD"
    accept = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3"
    status, headers, text = worker.do(f"ask('GET', HTTP_ACCEPT={accept!r})")
    assert headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    assert list(openmetrics.text_string_to_metric_families(text))


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_asgi(host: Host, backend: str) -> None:
    """GET and HEAD are answered, other methods are not, and a lifespan is begun and ended."""
    worker = host.start(EVERYTHING)
    code = f"""
import anyio
app = metrics.asgi_app()
async def ask(scope, *messages):
    sent, left = [], list(messages)
    async def receive(): return left.pop(0)
    async def send(message): sent.append(message)
    await app(scope, receive, send)
    return sent
def http(method, *headers):
    return {{"type": "http", "method": method, "headers": list(headers), "path": "/metrics"}}
open_ = (b"accept", b"application/openmetrics-text; version=1.0.0")
scopes = [http("GET"), http("HEAD"), http("POST"), http("GET", open_)]
answers = [anyio.run(ask, scope, backend={backend!r}) for scope in scopes]
life = anyio.run(ask, {{"type": "lifespan"}}, {{"type": "lifespan.startup"}}, {{"type": "lifespan.shutdown"}}, backend={backend!r})
[[[each[0]["status"], {{k.decode(): v.decode() for k, v in each[0]["headers"]}}, each[1]["body"].decode()] for each in answers], life]
"""
    (get, head, post, other), life = worker.do(code)
    assert get[0] == head[0] == other[0] == 200
    assert int(get[1]["content-length"]) == len(get[2].encode())
    assert parsed(get[2])
    assert head[2] == ""
    assert int(head[1]["content-length"]) > 1000
    assert post == [405, {"allow": "GET, HEAD"}, ""]
    assert list(openmetrics.text_string_to_metric_families(other[2]))
    assert [each["type"] for each in life] == [
        "lifespan.startup.complete",
        "lifespan.shutdown.complete",
    ]


COUNTED = """
import prometheus_client
orders = prometheus_client.Counter("shop_orders", "Orders.", ["kind"])
for _ in range(3): orders.labels('a"b').inc()
p = Policy("shop"); p.call(int)
"""


def test_beside_the_multiprocess_mode(host: Host) -> None:
    """The application's metrics of all processes, living and dead, and ours: each of them once."""
    directory = host.home / "multi"
    directory.mkdir()
    environ = {"PROMETHEUS_MULTIPROC_DIR": str(directory)}
    workers = [host.start(COUNTED, **environ) for _ in range(3)]
    workers.pop().kill()
    for worker in workers:
        for accept in PARSERS:
            seen = parsed(body(worker, accept), accept)
            assert seen["shop_orders_total", ("kind", 'a"b')] == 9
            assert seen["resilient_calls_total", ("outcome", "success"), ("policy", "shop")] == 3


def test_beside_an_application_that_exports_to_two_registries(host: Host) -> None:
    """Ours are there once, also where a registry of prometheus_client has them."""
    worker = host.start(COUNTED)
    code = """
mine = prometheus_client.CollectorRegistry()
prometheus_client.Gauge("mine", "Mine.", registry=mine).set(4)
undo = metrics.register(mine)
text = b"".join(metrics.wsgi_app(mine)({"REQUEST_METHOD": "GET"}, lambda *_: None)).decode()
theirs = prometheus_client.generate_latest(mine).decode()
[text, theirs, metrics.exposition()[0].decode()]
"""
    text, theirs, default = map(parsed, worker.do(code))
    shop = "resilient_calls_total", ("outcome", "success"), ("policy", "shop")
    assert text[shop] == theirs[shop] == default[shop] == 1
    assert text["mine",] == theirs["mine",] == 4
    assert ("mine",) not in default
    assert ("shop_orders_total", ("kind", 'a"b')) in default
    assert ("shop_orders_total", ("kind", 'a"b')) not in text


def test_both_ways_show_all_processes(host: Host) -> None:
    """Our collector on a registry reads the pages as well."""
    others = [host.start(COUNTED) for _ in range(2)]
    others.pop().kill()
    worker = host.start(COUNTED)
    code = "prometheus_client.REGISTRY.get_sample_value('resilient_calls_total', {'policy': 'shop', 'outcome': 'success'})"
    assert [worker.do(code) for _ in range(2)] == [3, 3]


def test_the_first_scrape_is_prepared(host: Host) -> None:
    """The thread that updates the page has made the texts by then; a fault there costs nothing."""
    worker = host.start(
        """
from resilient.prometheus.endpoint import Metrics
class Faulty:
    def warm(self): raise OSError("it can't")
ready, faulty = Metrics(None, 1000), Faulty()
here.warmers.add(faulty)
p = Policy("shop", bulkhead(2))
p.call(int)
"""
    )
    until(lambda: worker.do("[each.labels for each in ready._scraper._last if each.chunks[1]]"))
    assert worker.do("here.fault") == ""
    assert worker.do("[each.name for each in ready._scraper._places.known]") == ["shop"]
