"""Tests of the kit: what each path of the HTTP server does."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import httpx
import pytest

from tests.kit.servers.http_server import HttpServer
from tests.kit.servers.process import HOST


@pytest.fixture
def client(http_server: HttpServer) -> Iterator[httpx.Client]:
    """A client of httpx."""
    with httpx.Client(base_url=http_server.url, timeout=2.0, trust_env=False) as made:
        yield made


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "ODD"])
def test_echo(client: httpx.Client, method: str) -> None:
    answer = client.request(method, "/echo?a=1", headers={"X-Kit": "yes"}, content=b"body")
    said = answer.json()
    assert (said["method"], said["path"], said["query"]) == (method, "/echo", {"a": "1"})
    assert said["headers"]["x-kit"] == "yes"
    assert said["body"] == "body"


def test_echo_of_a_body_in_chunks(client: httpx.Client) -> None:
    assert client.post("/echo", content=iter([b"a", b"bc"])).json()["body"] == "abc"


@pytest.mark.parametrize("status", [200, 201, 204, 304, 400, 404, 429, 500, 503, 599])
def test_status(client: httpx.Client, status: int) -> None:
    answer = client.get(f"/status/{status}", params={"retry_after": 2})
    assert answer.status_code == status
    assert answer.headers["retry-after"] == "2"
    assert client.head(f"/status/{status}").status_code == status


def test_flaky(client: httpx.Client) -> None:
    seen = [client.get("/flaky/a?times=2&status=500").status_code for _ in range(3)]
    assert seen == [500, 500, 200]
    assert client.get("/flaky/b").status_code == 503


def test_ways_to_end(client: httpx.Client) -> None:
    with pytest.raises(httpx.ReadError, match="reset by peer"):
        client.get("/reset")
    with pytest.raises(httpx.RemoteProtocolError, match="disconnected"):
        client.get("/close")
    with pytest.raises(httpx.RemoteProtocolError, match="illegal"):
        client.get("/garbage")


def test_silence(client: httpx.Client, http_server: HttpServer) -> None:
    for path in ("/hang", "/hang?seconds=5", "/hang-body"):
        with pytest.raises(httpx.ReadTimeout):
            client.get(path)
    with client.stream("GET", "/hang-body") as answer:
        assert answer.status_code == 200
        assert len(next(answer.iter_raw(500))) == 500
    assert client.get("/hang?seconds=0.1").json() == {"ok": True}
    assert http_server.connections() == 1  # it saw that the others have left


def test_bodies(client: httpx.Client) -> None:
    began = time.monotonic()
    assert client.get("/drip?seconds=0.6&bytes=3").text == "xxx"
    assert time.monotonic() - began > 0.55
    assert client.get("/chunked?n=3&pause=0.01").text == "chunk 0\nchunk 1\nchunk 2\n"
    packed = client.get("/gzip")
    assert (packed.headers["content-encoding"], packed.json()) == ("gzip", {"ok": True})


def test_redirect_cookie_and_password(client: httpx.Client) -> None:
    assert client.get("/redirect").headers["location"] == "/json"
    answer = client.get("/redirect?n=3&to=/echo&status=307", follow_redirects=True)
    assert (len(answer.history), answer.json()["path"]) == (3, "/echo")
    client.get("/set-cookie?name=a&value=b")
    assert client.get("/echo").json()["headers"]["cookie"] == "a=b"
    assert client.get("/basic-auth").status_code == 401
    assert client.get("/basic-auth", auth=("user", "secret")).status_code == 200
    assert client.get("/404").status_code == client.get("/nowhere").status_code == 404


def test_counts_and_keep_alive(client: httpx.Client, http_server: HttpServer) -> None:
    for _ in range(5):
        client.get("/json")
    assert http_server.connections() == 1
    assert http_server.counts() == {"/json": 5}
    http_server.clear()
    assert http_server.counts() == {}


def test_a_request_that_is_not_http_is_refused(http_server: HttpServer) -> None:
    with socket.create_connection((HOST, http_server.port), 2) as sock:
        sock.sendall(b"nonsense\r\n\r\n")
        assert sock.recv(100).startswith(b"HTTP/1.1 400")
