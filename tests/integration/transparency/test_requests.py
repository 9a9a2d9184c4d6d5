"""requests.Session: wrapped, and with an adapter of ours."""

from __future__ import annotations

import copy
import io
import pickle
import re
from decimal import Decimal
from typing import Any

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st
from requests.adapters import HTTPAdapter
from urllib3.util import Timeout

from resilient.integrations.requests import Adapter
from tests.integration.transparency.harness import (
    MODES,
    Operations,
    Side,
    few,
    inspect_pair,
    play,
    policy_of,
    same,
)
from tests.integration.transparency.test_httpx import methods, paths
from tests.kit.servers.http_server import HttpServer

operation = Operations()
pytestmark = [  # urllib3 leaves a socket open whose time limit is no number
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
    pytest.mark.usefixtures("collected"),
]
bodies = st.sampled_from([
    {}, {"data": b"raw"}, {"json": {"a": [1, None]}}, {"data": {"f": "v"}}, {"json": object()},
    {"data": "\u1234".encode()}, {"params": {"p": "q"}}, {"headers": {"X-Mine": "1"}},
    {"cookies": {"c": "d"}}, {"nothing_such": 1}, {"auth": ("user", "password")},
    {"headers": {"X": 1}}, {"timeout": (1, 2)}, {"timeout": "x"}, {"timeout": 0}, {"timeout": -1}, {"timeout": True},
    {"timeout": (1,)}, {"timeout": (1, 2, 3)}, {"timeout": (None, 3)}, {"timeout": (1, "x")},
    {"timeout": Timeout(connect=1, read=2)}, {"timeout": Timeout(total=3)}, {"timeout": [1, 2]},
    {"timeout": Decimal(2)}, {"timeout": float("inf")}, {"timeout": float("nan")}, {"verify": False},
])  # fmt: skip
errors = st.sampled_from([ValueError("in the body"), requests.Timeout("in the body"), None])
bad_urls = st.sampled_from(
    ["ftp://x", "http://", "http://[", "x", "mailto:a", 5, None, "http://a b"]
)


def told(response: requests.Response) -> Any:
    """Return all there is to a response."""
    request = response.request
    return {
        "repr": repr(response),
        "status": (response.status_code, response.reason, response.ok, bool(response)),
        "headers": sorted(response.headers.items()),
        "url": str(response.url),
        "history": [each.status_code for each in response.history],
        "elapsed": response.elapsed.total_seconds() >= 0,
        "request": (request.method, request.url, sorted(request.headers.items()), request.body),
        "cookies": dict(response.cookies),
        "encoding": response.encoding,
        "consumed": response._content_consumed,
        "connection": isinstance(response.connection, HTTPAdapter),
        "raw": (type(response.raw).__name__, response.raw.closed, response.raw.tell()),
    }


@operation(method=methods, path=paths)
def simple(side: Side, method: str, path: str) -> Any:
    response = getattr(side.client, method)(side.more + path)
    return told(response), response.content, response.text


@operation(path=paths, body=bodies)
def sends(side: Side, path: str, body: Any) -> Any:
    response = side.client.post(side.more + path, **body)
    return told(response), response.content


@operation(path=paths)
def generates(side: Side, path: str) -> Any:
    response = side.client.request("POST", side.more + path, data=(each for each in [b"a", b"b"]))
    return response.status_code, response.content


@operation(path=paths)
def a_file(side: Side, path: str) -> Any:
    source = io.BytesIO(b"in the file")
    return side.client.put(side.more + path, data=source).status_code, source.tell()


@operation()
def broken_body(side: Side) -> Any:
    def body() -> Any:
        yield b"a"
        raise LookupError("in the generator")

    return side.client.post(side.more + "/echo", data=body())


@operation(url=bad_urls)
def bad_url(side: Side, url: Any) -> Any:
    return side.client.get(url)


@operation(path=paths)
def json_of(side: Side, path: str) -> Any:
    return side.client.get(side.more + path).json()


@operation(path=paths)
def raises_for_status(side: Side, path: str) -> Any:
    return side.client.get(side.more + path).raise_for_status()


@operation(n=st.integers(1, 4), follow=st.booleans())
def redirected(side: Side, n: int, follow: bool) -> Any:
    side.client.max_redirects = 2
    return told(side.client.get(f"{side.more}/redirect?n={n}", allow_redirects=follow))


@operation(path=paths)
def redirected_by_hand(side: Side, path: str) -> Any:
    response = side.client.get(side.more + "/redirect?n=2", allow_redirects=False)
    steps = side.client.resolve_redirects(response, response.request)
    return response.is_redirect, response.next.url, [told(each) for each in steps]


@operation(path=paths, how=st.sampled_from(["iter_content", "iter_lines", "content", "raw"]))
def streamed(side: Side, path: str, how: str) -> Any:
    with side.client.get(side.more + path, stream=True) as response:
        early = told(response)
        if how == "raw":
            said: Any = response.raw.read(8)[:3], response.raw.read()
        else:
            got = getattr(response, how)
            said = got if how == "content" else list(got())
    return early, said, told(response), isinstance(response, requests.Response)


@operation(path=paths, error=errors)
def streamed_partly(side: Side, path: str, error: Any) -> Any:
    with side.client.get(side.more + path, stream=True) as response:
        first = next(response.iter_content(2), None)
        if error is not None:
            raise error.with_traceback(None)
    return first, list(response.iter_content(2))


@operation(path=paths)
def prepared(side: Side, path: str) -> Any:
    request = side.client.prepare_request(
        requests.Request("GET", side.more + path, headers={"A": "1"})
    )
    response = side.client.send(request)
    return response.request is request, told(response)


@operation(path=st.sampled_from(["/hang", "/hang-body", "/drip?seconds=5&bytes=3"]),
           stream=st.booleans())  # fmt: skip
def times_out(side: Side, path: str, stream: bool) -> Any:
    return side.client.get(side.more + path, timeout=(20, 0.05), stream=stream).content


@operation()
def settings_of(side: Side) -> Any:
    client = side.client
    client.headers["X-Kept"] = "yes"
    client.cookies.set("kept", "1")
    client.params = {"all": "1"}
    client.auth = ("user", "secret")
    said = client.get(side.more + "/echo").json()
    client.auth = None
    client.params = {}
    return said, sorted(client.headers), client.verify, client.trust_env, client.cookies.get_dict()


@operation()
def hooks(side: Side) -> Any:
    seen: list[Any] = []
    side.client.hooks["response"].append(
        lambda response, **how: seen.append((response.status_code, sorted(how)))
    )
    side.client.get(side.more + "/redirect")
    side.client.hooks["response"].clear()
    return seen


@operation(prefix=st.sampled_from(["http://", "http://127.0.0.1:1/only"]))
def mounts(side: Side, prefix: str) -> Any:
    adapter = HTTPAdapter(max_retries=0)
    if prefix != "http://":
        side.client.mount(prefix, adapter)
    found = side.client.get_adapter(prefix + "/x")
    return found is adapter, sorted(side.client.adapters), isinstance(found, HTTPAdapter)


@operation()
def adapters(side: Side) -> Any:
    adapter = side.client.get_adapter("http://x")
    return (
        sorted(vars(adapter)),
        type(adapter).__name__,
        type(adapter.send).__name__,
        adapter.max_retries,
    )


@operation()
def retries(side: Side) -> Any:
    from urllib3.util import Retry

    side.client.adapters["http://"].max_retries = Retry(2, status_forcelist=[503], backoff_factor=0)
    return told(side.client.get(side.more + "/flaky/k?times=1"))["status"]


@operation()
def identity(side: Side) -> Any:
    client = side.client
    return (
        client == client, client in [client], {client: 1}[client], isinstance(client, requests.Session),
        client.get == client.get, client.headers is client.headers, client.adapters is client.adapters,
    )  # fmt: skip


@operation(error=errors)
def entered(side: Side, error: Any) -> Any:
    with side.client as inside:
        if error is not None:
            raise error.with_traceback(None)
        return inside is side.client, inside.get(side.more + "/json").json()


@operation()
def closed(side: Side) -> Any:
    return side.client.close(), side.client.close()


@operation()
def copied(side: Side) -> Any:
    twin = copy.copy(side.client)
    return isinstance(twin, requests.Session), twin.get(side.more + "/json").json()


@operation()
def deep_copied(side: Side) -> Any:
    twin = copy.deepcopy(side.client)
    twin.headers["X-Twin"] = "1"
    return isinstance(twin, requests.Session), "X-Twin" in side.client.headers


@operation()
def pickled(side: Side) -> Any:
    return type(pickle.loads(pickle.dumps(side.client)))


@operation(path=paths)
def response_pickled(side: Side, path: str) -> Any:
    return pickle.loads(pickle.dumps(side.client.get(side.more + path))).content


@operation(url=st.sampled_from(["http://127.0.0.1:1/", "http://no-such-host.invalid/"]))
def nowhere(side: Side, url: str) -> Any:
    return side.client.get(url)


def scrub(text: str) -> str:
    text = re.sub(r"transparency-\d+", "<policy>", text)
    return re.sub(r"object at \w+", "object", text)


def state_of(client: Any) -> Any:
    pools = client.adapters["http://"].poolmanager.pools
    found = [pools[key] for key in sorted(pools.keys(), key=repr)]
    return (
        [(each.num_connections, sum(c is not None for c in each.pool.queue) if each.pool else None) for each in found],
        sorted(vars(client)), client.cookies.get_dict(), sorted(client.headers),
    )  # fmt: skip


def played(server: HttpServer, steps: Any, way: str, mode: str) -> Any:
    server.clear()
    client = requests.Session()
    client.trust_env = False
    if way == "adapter":
        client.mount("http://", Adapter(policy_of("requests-adapter", mode)))
    used = policy_of("requests", mode).wrap(client) if way == "wrapped" else client
    log = play(Side(used, way != "bare", more=server.url), steps, scrub)
    log.append(("at the end", {}, state_of(client), server.counts()))
    client.close()
    return log


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("way", ["wrapped", "adapter"])
@few(max_examples=15)
@given(steps=operation.sequences())
@pytest.mark.filterwarnings("ignore:Unverified HTTPS")
def test_a_sequence_comes_to_the_same(
    http_server: HttpServer, way: str, mode: str, steps: Any
) -> None:
    bare = played(http_server, steps, "bare", mode)
    same(f"requests {way}", bare, played(http_server, steps, way, mode))


@pytest.mark.parametrize("mode", MODES)
def test_it_looks_the_same(mode: str) -> None:
    bare, inner = requests.Session(), requests.Session()
    wrapped = policy_of("requests", mode).wrap(inner)
    found = []
    for name, get in {
        "Session": lambda client: client,
        "method get": lambda client: client.get,
        "HTTPAdapter": lambda client: client.get_adapter("http://x"),
        "headers": lambda client: client.headers,
        "cookies": lambda client: client.cookies,
    }.items():
        found += inspect_pair("requests", get(bare), get(wrapped), name)
    assert not found, "\n".join(found)
