"""The WSGI middleware under raw applications, with wsgiref's validator on both sides."""

from __future__ import annotations

import threading
from typing import Any
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest

from resilient import RefusedError, remaining, timeout
from resilient.integrations.wsgi import Middleware
from tests.integration.servers.kit import ERRORS, REFUSALS, VALUES, near, new_policy, refusal


class Answer:
    """What an application answered, collected as a server does it."""

    def __init__(
        self, app: Any, headers: dict[str, str] | None = None, method: str = "GET"
    ) -> None:
        environ: dict[str, Any] = {}
        setup_testing_defaults(environ)
        environ["REQUEST_METHOD"] = method
        environ["QUERY_STRING"] = ""
        for key, value in (headers or {}).items():
            environ["HTTP_" + key.upper().replace("-", "_")] = value
        self.status = ""
        self.headers: dict[str, str] = {}
        self.parts: list[bytes] = []
        self.sent = False
        body = app(environ, self.start)
        try:
            for part in body:
                assert self.status, "no start_response before the body"
                self.sent = True
                self.parts.append(part)
        finally:
            if hasattr(body, "close"):
                body.close()

    def start(self, status: str, headers: Any, exc_info: Any = None) -> Any:
        if exc_info and self.sent:
            raise exc_info[1].with_traceback(exc_info[2])
        assert exc_info or not self.status
        self.status, self.headers = status, dict(headers)

        def write(part: bytes) -> None:
            self.sent = True
            self.parts.append(part)

        return write

    @property
    def body(self) -> bytes:
        return b"".join(self.parts)


PLAIN = [("Content-Type", "text/plain")]


def app_of(seen: list[Any], error: Exception | None = None) -> Any:
    def app(environ: Any, start_response: Any) -> Any:
        seen.append(remaining())
        if error is not None:
            raise error.with_traceback(None)
        start_response("200 OK", PLAIN)
        return [b"done"]

    return app


@pytest.mark.parametrize(("value", "left"), VALUES)
def test_the_header_is_the_time_that_is_left(value: str, left: float | None) -> None:
    seen: list[Any] = []
    Answer(validator(Middleware(validator(app_of(seen)))), {"X-Request-Timeout": value})
    Answer(Middleware(app_of(seen), at_most=1.0), {"X-Request-Timeout": value})
    assert near(seen[0], left)
    assert near(seen[1], 1.0 if left is None else min(left, 1.0))
    assert remaining() is None


def test_another_header_or_none() -> None:
    seen: list[Any] = []
    both = {"x-request-timeout": "1", "X-Mine": "2"}
    Answer(Middleware(app_of(seen), header="X-MINE"), both)
    Answer(Middleware(app_of(seen), header=None), both)
    Answer(Middleware(app_of(seen), header=None, at_most=3), both)
    Answer(Middleware(app_of(seen)))
    assert near(seen[0], 2.0)
    assert seen[1] is None
    assert near(seen[2], 3.0)
    assert seen[3] is None


@pytest.mark.parametrize("limits", [{}, {"at_most": 5.0}])
@pytest.mark.parametrize(("wait", "told"), REFUSALS)
def test_a_refusal_is_503(wait: float | None, told: str, limits: Any) -> None:
    answer = Answer(validator(Middleware(app_of([], refusal(wait)), **limits)))
    assert answer.status == "503 Service Unavailable"
    assert answer.headers["Retry-After"] == told
    assert int(answer.headers["Content-Length"]) == len(answer.body)
    assert b"stock" in answer.body


@pytest.mark.parametrize("limits", [{}, {"at_most": 5.0}])
def test_errors(limits: Any) -> None:
    answer = Answer(validator(Middleware(app_of([], ERRORS["late"]), **limits)))
    assert answer.status == "504 Gateway Timeout"
    assert "Retry-After" not in answer.headers
    for name in ("other", "timeout"):
        with pytest.raises(type(ERRORS[name])) as raised:
            Answer(validator(Middleware(app_of([], ERRORS[name]), **limits)))
        assert raised.value is ERRORS[name]
    assert remaining() is None


def test_a_head_request_is_answered_without_a_body() -> None:
    answer = Answer(validator(Middleware(app_of([], refusal(3)))), method="HEAD")
    assert answer.status.startswith("503")
    assert answer.headers["Retry-After"] == "3"
    assert answer.body == b""


@pytest.mark.parametrize("limits", [{}, {"at_most": 5.0}])
@pytest.mark.parametrize("name", ["refused", "late"])
def test_a_generator_that_fails_before_it_has_begun_is_answered(name: str, limits: Any) -> None:
    def app(environ: Any, start_response: Any) -> Any:
        if name:
            raise ERRORS[name].with_traceback(None)
        yield b""

    answer = Answer(Middleware(app, **limits))
    assert answer.status.startswith("503" if name == "refused" else "504")


@pytest.mark.parametrize("limits", [{}, {"at_most": 5.0}])
@pytest.mark.parametrize("name", ["refused", "late", "other"])
def test_an_error_after_the_body_has_begun_is_raised(name: str, limits: Any) -> None:
    closed: list[int] = []

    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", PLAIN)
        try:
            yield b"first"
            raise ERRORS[name].with_traceback(None)
        finally:
            closed.append(1)

    with pytest.raises(type(ERRORS[name])) as raised:
        Answer(validator(Middleware(validator(app), **limits)))
    assert raised.value is ERRORS[name]
    assert closed == [1]
    assert remaining() is None


def test_an_error_after_start_response_replaces_what_was_not_sent() -> None:
    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", PLAIN)
        raise refusal(2)

    answer = Answer(Middleware(app))
    assert answer.status.startswith("503")
    assert answer.headers["Retry-After"] == "2"


def test_an_error_after_write_is_raised() -> None:
    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", PLAIN)(b"written")
        raise refusal(2)

    with pytest.raises(RefusedError):
        Answer(Middleware(app))


def test_write_is_passed_on() -> None:
    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", PLAIN)(b"written ")
        return [b"and returned"]

    answer = Answer(Middleware(app, at_most=5))
    assert answer.body == b"written and returned"


@pytest.mark.parametrize("kind", ["generator", "iterator", "list"])
def test_the_body_is_made_under_the_deadline(kind: str) -> None:
    seen: list[Any] = []
    closed: list[Any] = []

    class Parts:
        def __init__(self) -> None:
            self.left = 3

        def __iter__(self) -> Any:
            return self

        def __next__(self) -> bytes:
            self.left -= 1
            if self.left < 0:
                raise StopIteration
            seen.append(remaining())
            return b"x"

        def close(self) -> None:
            closed.append(remaining())

    def generated(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", PLAIN)
        for _ in range(3):
            seen.append(remaining())
            yield b"x"

    def returned(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", PLAIN)
        seen.extend([remaining()] * 3)
        return Parts() if kind == "iterator" else [b"x"] * 3

    app = generated if kind == "generator" else returned
    answer = Answer(validator(Middleware(validator(app))), {"x-request-timeout": "2"})
    assert answer.body == b"xxx"
    assert all(near(left, 2.0) for left in seen)
    assert len(seen) >= 3
    assert len(closed) == (kind == "iterator")
    assert remaining() is None


def test_between_its_parts_nothing_is_bound() -> None:
    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", PLAIN)
        yield b"a"
        yield b"b"

    environ: dict[str, Any] = {"HTTP_X_REQUEST_TIMEOUT": "2"}
    setup_testing_defaults(environ)
    one = iter(Middleware(app)(environ, lambda *_: None))
    environ = {**environ, "HTTP_X_REQUEST_TIMEOUT": "30"}
    other = iter(Middleware(app)(environ, lambda *_: None))
    for _ in range(2):
        next(one)
        assert remaining() is None
        next(other)
        assert remaining() is None
    assert next(one, None) is None
    assert next(other, None) is None
    assert remaining() is None


def test_a_body_that_is_left_is_closed() -> None:
    closed: list[int] = []

    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", PLAIN)
        try:
            yield b"a"
            yield b"b"
        finally:
            closed.append(1)

    environ: dict[str, Any] = {"HTTP_X_REQUEST_TIMEOUT": "2"}
    setup_testing_defaults(environ)
    body = Middleware(app)(environ, lambda *_: None)
    assert next(iter(body)) == b"a"
    body.close()  # type: ignore[attr-defined]
    assert closed == [1]


def test_the_body_of_a_file_wrapper_goes_to_the_server_as_it_is() -> None:
    body = [b"as it is"]

    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", PLAIN)
        return body

    environ: dict[str, Any] = {}
    setup_testing_defaults(environ)
    assert Middleware(app)(environ, lambda *_: None) is body  # no deadline: nothing to keep


@pytest.mark.parametrize(("own", "header"), [(0.5, "9"), (9.0, "0.5")])
def test_the_tighter_wins(own: float, header: str) -> None:
    policy = new_policy(timeout(own, sync="thread"))
    seen: list[Any] = []

    def app(environ: Any, start_response: Any) -> Any:
        seen.append(policy.call(remaining))
        start_response("200 OK", PLAIN)
        return []

    Answer(Middleware(app), {"x-request-timeout": header})
    assert near(seen[0], 0.5)


def test_threads_have_their_own() -> None:
    seen: dict[str, list[Any]] = {}
    meeting = threading.Barrier(2)

    def app(environ: Any, start_response: Any) -> Any:
        meeting.wait(5)
        mine = seen.setdefault(environ["HTTP_X_REQUEST_TIMEOUT"], [])
        mine.append(remaining())
        start_response("200 OK", PLAIN)
        meeting.wait(5)
        mine.append(remaining())
        return []

    guarded = Middleware(app)
    threads = [
        threading.Thread(target=Answer, args=(guarded, {"x-request-timeout": value}))
        for value in ("3", "30")
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert all(near(left, 3.0) for left in seen["3"])
    assert all(near(left, 30.0) for left in seen["30"])


@pytest.mark.parametrize("option", [
    {"header": ""}, {"header": 5}, {"header": "x-\u00e9"}, {"at_most": 0}, {"at_most": "1"}, {"at_most": -1},
])  # fmt: skip
def test_bad_options(option: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError), match=next(iter(option))):
        Middleware(app_of([]), **option)
