"""Flask with `resilient.integrations.flask.install`."""

from __future__ import annotations

from typing import Any

import flask
import pytest
from flask import Flask, Response, stream_with_context

from resilient import RefusedError, ResilientError, remaining, timeout
from resilient.integrations.flask import install
from tests.integration.servers.kit import ERRORS, REFUSALS, VALUES, near, new_policy, refusal


def app_of(error: Exception | None = None, **options: Any) -> tuple[Flask, list[Any]]:
    app, seen = Flask("shop"), []

    @app.route("/", methods=["GET", "POST"])
    def view() -> Any:
        seen.append(remaining())
        if error is not None:
            raise error.with_traceback(None)
        return "done"

    install(app, **options)
    return app, seen


@pytest.mark.parametrize(("value", "left"), VALUES)
def test_the_header_is_the_time_that_is_left(value: str, left: float | None) -> None:
    app, seen = app_of()
    assert app.test_client().get("/", headers={"X-Request-Timeout": value}).text == "done"
    assert near(seen[0], left)
    assert remaining() is None
    app.test_client().get("/")
    assert seen[1] is None


def test_options() -> None:
    app, seen = app_of(header="X-Mine", at_most=2)
    app.test_client().get("/", headers={"X-Mine": "1"})
    app.test_client().get("/", headers={"X-Request-Timeout": "1"})
    assert near(seen[0], 1.0)
    assert near(seen[1], 2.0)
    app, seen = app_of(header=None)
    app.test_client().get("/", headers={"X-Request-Timeout": "1"})
    assert seen == [None]
    for bad in ({"header": ""}, {"header": 5}, {"at_most": 0}, {"at_most": "x"}):
        with pytest.raises((TypeError, ValueError), match=next(iter(bad))):
            install(Flask("other"), **bad)  # type: ignore[arg-type]


@pytest.mark.parametrize(("wait", "told"), REFUSALS)
def test_a_refusal_is_503(wait: float | None, told: str) -> None:
    app, _ = app_of(refusal(wait))
    for method in ("GET", "HEAD", "POST"):
        answer = app.test_client().open("/", method=method)
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, told)
        assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert answer.text.startswith("stock is not available")


def test_errors() -> None:
    assert app_of(ERRORS["late"])[0].test_client().get("/").status_code == 504
    assert app_of(ERRORS["other"])[0].test_client().get("/").status_code == 500
    assert app_of()[0].test_client().get("/nowhere").status_code == 404
    app, _ = app_of(ERRORS["other"])
    app.testing = True
    with pytest.raises(LookupError) as raised:
        app.test_client().get("/")
    assert raised.value is ERRORS["other"]


def test_the_users_own_handlers_go_first() -> None:
    app, _ = app_of(refusal(1))
    app.register_error_handler(RefusedError, lambda error: ("mine", 418))
    assert app.test_client().get("/").status_code == 418
    app, _ = app_of(refusal(1))
    blueprint = flask.Blueprint("part", "part", url_prefix="/part")

    @blueprint.errorhandler(ResilientError)
    def handled(error: Exception) -> Any:
        return "of the blueprint", 419

    @blueprint.get("/")
    def view() -> Any:
        raise refusal(1)

    app.register_blueprint(blueprint)
    assert app.test_client().get("/part/").status_code == 419
    assert app.test_client().get("/").status_code == 503


def test_handlers_of_everything_leave_ours() -> None:
    app, _ = app_of(refusal(1))
    app.register_error_handler(Exception, lambda error: ("any", 500))
    assert app.test_client().get("/").status_code == 503


def test_hooks_and_streams_are_inside() -> None:
    app, _ = app_of()
    seen: list[Any] = []

    @app.before_request
    def before() -> None:
        seen.append(remaining())

    @app.get("/stream")
    def stream() -> Any:
        def parts() -> Any:
            for _ in range(2):
                seen.append(remaining())
                yield "part "

        return Response(stream_with_context(parts()))

    @app.teardown_request
    def after(error: Any) -> None:
        seen.append(remaining())

    assert app.test_client().get("/stream", headers={"X-Request-Timeout": "2"}).text == "part part "
    assert all(near(left, 2.0) for left in seen[:3])
    assert remaining() is None


def test_the_tighter_wins_in_a_worker_thread() -> None:
    app, _ = app_of()
    policies = [new_policy(timeout(own, sync="thread")) for own in (0.5, 9.0)]

    @app.get("/nested")
    def nested() -> Any:
        return [policy.call(remaining) for policy in policies]

    said = app.test_client().get("/nested", headers={"X-Request-Timeout": "2"}).json
    assert near(said[0], 0.5)
    assert near(said[1], 2.0)


def test_a_refusal_before_the_view() -> None:
    app, _ = app_of()

    @app.before_request
    def before() -> None:
        raise refusal(4)

    answer = app.test_client().get("/")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "4")
