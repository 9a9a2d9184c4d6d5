"""OpenFeature, by its real SDK: our flags for its clients, and its providers for our flags."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from openfeature import api
from openfeature.client import OpenFeatureClient
from openfeature.contrib.provider.flagd import FlagdProvider
from openfeature.contrib.provider.flagd.config import ResolverType
from openfeature.event import EventDetails, ProviderEvent
from openfeature.exception import ErrorCode
from openfeature.flag_evaluation import FlagResolutionDetails, Reason
from openfeature.provider.in_memory_provider import InMemoryProvider

from resilient import Policy, circuit_breaker, flag, flags, kill_switch
from resilient.events import bus
from resilient.flag_handle import Flag
from resilient.flags.runtime import here
from resilient.integrations.openfeature import Provider, follow
from tests.kit.waiting import WAIT, until


@pytest.fixture(autouse=True)
def nothing_stays() -> Iterator[None]:
    yield
    api.clear_providers()


@pytest.fixture
def made() -> Flag:
    """A flag of its own for each test."""
    made.count += 1  # type: ignore[attr-defined]
    return flag(f"of{made.count}", owner="team-of", impact="Less.")  # type: ignore[attr-defined]


made.count = 0  # type: ignore[attr-defined]


@pytest.fixture
def seen_from_outside() -> Iterator[None]:
    """Have environment and providers count, which tests are kept from."""
    here.state.isolate(False)
    yield
    here.state.isolate(True)


class Theirs(InMemoryProvider):
    """A provider whose answers, and faults, a test chooses."""

    def __init__(self, **answers: bool | ErrorCode | Exception) -> None:
        super().__init__({})
        self.answers = answers
        self.asked = 0

    def resolve_boolean_details(
        self, flag_key: str, default_value: bool, evaluation_context: Any = None
    ) -> Any:
        self.asked += 1
        said = self.answers.get(flag_key, ErrorCode.FLAG_NOT_FOUND)
        if isinstance(said, Exception):
            raise said
        if isinstance(said, ErrorCode):
            return FlagResolutionDetails(
                value=default_value, error_code=said, error_message="told so"
            )
        return FlagResolutionDetails(
            value=said, variant="yes" if said else "no", reason=Reason.SPLIT
        )

    def change(self, **answers: bool | ErrorCode | Exception) -> None:
        self.answers = {**self.answers, **answers}
        self.emit_provider_configuration_changed(EventDetails(flags_changed=list(answers)))


def serve(provider: Any, domain: str = "theirs") -> OpenFeatureClient:
    api.set_provider_and_wait(provider, domain)
    return api.get_client(domain)


# -- our flags, for its clients --------------------------------------------------


def test_a_client_reads_what_is_declared(made: Flag) -> None:
    client = serve(Provider())
    told = client.get_boolean_details(made.name, False)
    assert (told.value, told.variant, told.reason) == (True, "on", Reason.DEFAULT)
    assert told.flag_metadata == {"owner": "team-of", "impact": "Less.", "source": "declared"}


def test_a_client_reads_a_flip_and_who_made_it(made: Flag) -> None:
    client = serve(Provider())
    flags.off(made, reason="INC-1")
    told = client.get_boolean_details(made.name, True)
    assert (told.value, told.variant, told.reason) == (False, "off", Reason.STATIC)
    assert told.flag_metadata["why"] == "INC-1"
    assert told.flag_metadata["by"]
    assert int(str(told.flag_metadata["version"])) > 0
    assert made.off_reads == 1  # it is a read like any other


def test_a_name_that_nobody_declared_is_an_error_that_names_the_nearest(made: Flag) -> None:
    told = serve(Provider()).get_boolean_details(made.name + "x", True)
    assert (told.value, told.reason, told.error_code) == (
        True,
        Reason.ERROR,
        ErrorCode.FLAG_NOT_FOUND,
    )
    assert told.error_message is not None
    assert repr(made.name) in told.error_message


def test_a_flag_has_no_other_type_than_boolean(made: Flag) -> None:
    client = serve(Provider())
    for told in (
        client.get_string_details(made.name, "x"), client.get_integer_details(made.name, 3),
        client.get_float_details(made.name, 0.5), client.get_object_details(made.name, {}),
    ):  # fmt: skip
        assert told.error_code == ErrorCode.TYPE_MISMATCH
    assert client.get_string_value("nobody", "x") == "x"


async def read(client: OpenFeatureClient, name: str) -> bool:
    return await client.get_boolean_value_async(name, False)


def test_a_coroutine_reads_it_too(made: Flag) -> None:
    import asyncio

    assert asyncio.run(read(serve(Provider()), made.name)) is True


def test_a_change_is_told(made: Flag) -> None:
    client, heard = serve(Provider()), list[list[str] | None]()
    client.add_handler(
        ProviderEvent.PROVIDER_CONFIGURATION_CHANGED,
        lambda event: heard.append(event.flags_changed),
    )
    flags.off(made, reason="INC-2")
    until(lambda: heard == [[made.name]])
    api.clear_providers()  # which shuts it down
    flags.on(made, reason="back")
    assert heard == [[made.name]]


def test_while_the_store_is_away_the_reason_is_stale(tmp_path: Path) -> None:
    code = """
        import pathlib, time
        from openfeature import api
        from resilient import flag
        from resilient.integrations.openfeature import Provider
        NEWS = flag("news")
        api.set_provider_and_wait(Provider())
        file = pathlib.Path(os.environ["FILE"])
        client = api.get_client()
        def until(reason):
            end = time.monotonic() + 30
            while time.monotonic() < end:
                told = client.get_boolean_details("news", True)
                if told.reason == reason:
                    return told.value, told.flag_metadata.get("why")
                time.sleep(0.05)
            raise SystemExit(f"never {reason}: {told}")
        print(until("STATIC"))
        file.rename(file.with_suffix(".away"))
        print(until("STALE"))
    """
    file = tmp_path / "flags.toml"
    file.write_text('[flags]\nnews = {state = "off", reason = "INC-3"}\n')
    said = alone(
        code,
        FILE=str(file),
        RESILIENT_STORE=f"file:{file}",
        RESILIENT_STATE_DIR=str(tmp_path / "s"),
    )
    assert said == "(False, 'INC-3')\n(False, 'INC-3')"


def alone(code: str, **environ: str) -> str:
    """Run a script in a Python of its own; return what it printed."""
    import textwrap

    kept = {name: v for name, v in os.environ.items() if not name.startswith("RESILIENT")}
    done = subprocess.run(
        [sys.executable, "-c", "import os\n" + textwrap.dedent(code)], env={**kept, **environ},
        capture_output=True, text=True, timeout=WAIT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


# -- its providers, for our flags ---------------------------------------------------


@pytest.fixture
def following(seen_from_outside: None) -> Iterator[Callable[..., Callable[[], None]]]:
    ends: list[Callable[[], None]] = []

    def begin(*given: Any, **more: Any) -> Callable[[], None]:
        ends.append(follow(*given, **more))
        return ends[-1]

    yield begin
    for end in ends:
        end()


def test_what_is_false_there_is_off_here_and_says_why(made: Flag, following: Any) -> None:
    @kill_switch(made, answer=lambda: "less")
    def call() -> str:
        return "all"

    assert call() == "all"
    theirs = Theirs(**{made.name: False})
    end = following(made, client=serve(theirs))
    until(lambda: not made)
    assert call() == "less"
    assert (
        made.why
        == f"the flag {made.name} is off: OpenFeature's In-Memory Provider says variant no (SPLIT)"
    )
    assert here.state.says(made)[1] == "provider"
    end()
    assert made
    assert call() == "all"
    end()


def test_a_change_there_is_heard_and_not_waited_for(made: Flag, following: Any) -> None:
    theirs = Theirs(**{made.name: True})
    following(made, client=serve(theirs), every=3600)
    assert made
    theirs.change(**{made.name: False})
    until(lambda: not made)
    theirs.change(**{made.name: True})
    until(lambda: bool(made))


def test_a_change_that_nobody_tells_of_is_found(made: Flag, following: Any) -> None:
    theirs = Theirs(**{made.name: True})
    following(made, client=serve(theirs), every=0.01)
    theirs.answers = {made.name: False}
    until(lambda: not made)


def test_either_can_turn_it_off(made: Flag, following: Any) -> None:
    theirs = Theirs(**{made.name: True})
    following(made, client=serve(theirs), every=3600)
    flags.off(made, reason="INC-4")
    assert not made
    theirs.change(**{made.name: False})
    until(lambda: made.name in here.state.held)
    flags.on(made, reason="back")
    assert not made  # on needs both
    theirs.change(**{made.name: True})
    until(lambda: bool(made))


@pytest.mark.parametrize(
    "fault", [ErrorCode.GENERAL, ErrorCode.FLAG_NOT_FOUND, OSError("gone\x1b[2J")]
)
def test_the_last_known_answer_stands(
    made: Flag, following: Any, fault: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever fault the provider has, in either state; the log says so once."""
    theirs = Theirs(**{made.name: False})
    following(made, client=serve(theirs), every=0.01)
    until(lambda: not made)
    with caplog.at_level(logging.WARNING, "resilient"):
        theirs.answers = {made.name: fault}
        before = theirs.asked
        until(lambda: theirs.asked > before + 3)
        assert not made
        told = [
            r.getMessage()
            for r in caplog.records
            if "OpenFeature does not answer" in r.getMessage()
        ]
        assert len(told) == 1
        assert f"for the flag {made.name}" in told[0]
        assert "\x1b" not in told[0]
        theirs.answers = {made.name: True}
        until(lambda: bool(made))
        theirs.answers = {made.name: fault}
        before = theirs.asked
        until(lambda: theirs.asked > before + 3)
        assert made


def test_reading_a_followed_flag_asks_nobody(made: Flag, following: Any) -> None:
    theirs = Theirs(**{made.name: True})
    following(made, client=serve(theirs), every=3600)
    until(lambda: theirs.asked)
    before = theirs.asked
    for _ in range(1000):
        assert made
    assert theirs.asked == before


def test_a_test_is_kept_from_it(made: Flag) -> None:
    """As from the environment and the store: a test says itself what is off."""
    assert here.state.isolated
    end = follow(made, client=serve(Theirs(**{made.name: False})))
    assert made
    end()


def test_a_provider_that_hangs_delays_nobody_for_long(made: Flag, following: Any) -> None:
    release = threading.Event()

    class Hanging(Theirs):
        def resolve_boolean_details(self, *given: Any, **more: Any) -> Any:
            release.wait(WAIT)
            return super().resolve_boolean_details(*given, **more)

    client, others = serve(Hanging(**{made.name: False})), threading.enumerate()
    end = following(made, client=client)
    (asking,) = [
        each
        for each in threading.enumerate()
        if each.name == "resilient-openfeature" and each not in others
    ]
    assert made  # nothing is known yet
    end()
    release.set()  # the answer comes when nobody asks any more
    asking.join(WAIT)
    assert not asking.is_alive()
    assert made


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        (lambda made: follow(), ValueError, "flags: name at least one flag"),
        (lambda made: follow(made.name), TypeError, "flags must be flags, as resilient.flag returns them"),
        (lambda made: follow(made, client=3), TypeError, "client must be a client of OpenFeature, or None"),
        (lambda made: follow(made, context={"a": 1}), TypeError, "context must be an EvaluationContext of OpenFeature, or None"),
        (lambda made: follow(made, every=0), ValueError, "every must be a duration > 0"),
        (lambda made: follow(made, client=serve(Provider())), ValueError, "would ask the flag itself"),
    ],
    ids=["none", "name", "client", "context", "every", "own"],
)  # fmt: skip
def test_bad_input_is_named(made: Flag, given: Any, error: Any, said: str) -> None:
    with pytest.raises(error, match=said):
        given(made)


def test_a_flag_follows_one_provider(made: Flag, following: Any) -> None:
    following(made, client=serve(Theirs()))
    with pytest.raises(ValueError, match="follows a provider already"):
        follow(made)


def test_of_two_that_follow_at_once_one_is_told(made: Flag, following: Any) -> None:
    client, told, both = serve(Theirs()), list[str](), threading.Barrier(2)

    def begin() -> None:
        both.wait(WAIT)
        try:
            following(made, client=client)
        except ValueError as error:
            told.append(str(error))

    threads = [threading.Thread(target=begin) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert told == [f"the flag {made.name} follows a provider already; end that first"]


def test_what_could_not_begin_keeps_no_flag(
    made: Flag, following: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = serve(Theirs(**{made.name: False}))

    def none(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", none)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            follow(made, client=client)
    following(made, client=client)
    until(lambda: not made)


@pytest.mark.parametrize("gone", [False, True])
def test_a_provider_that_is_not_set_gives_no_answer(
    made: Flag, following: Any, gone: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """OpenFeature's stand-in gives back what it is told; that is no answer of anybody."""
    with caplog.at_level(logging.WARNING, "resilient"):
        client = serve(Theirs(**{made.name: False})) if gone else api.get_client("typo")
        following(made, client=client, every=0.01)
        if gone:
            until(lambda: not made)
            api.clear_providers()
        until(lambda: "no provider is set for its domain" in caplog.text)
    assert bool(made) is not gone
    if gone:
        assert "In-Memory" in here.state.held[made.name]


def test_the_event_says_who_let_it_go(made: Flag, following: Any) -> None:
    theirs, told = Theirs(**{made.name: False}), list[str]()
    stop = bus.subscribe(
        lambda event: told.append(event.reason) if event.flag == made.name else None
    )
    end = following(made, client=serve(theirs), every=3600)
    until(lambda: not made)
    theirs.change(**{made.name: True})
    until(lambda: bool(made))
    theirs.change(**{made.name: False})
    until(lambda: not made)
    end()
    until(lambda: len(told) == 4)
    stop()
    assert told[1::2] == [
        "its OpenFeature provider says on", "its OpenFeature provider is asked no more",
    ]  # fmt: skip


def test_a_listener_may_end_it_too(made: Flag, following: Any) -> None:
    """No lock is held while a listener runs."""
    end = following(made, client=serve(Theirs(**{made.name: False})), every=3600)
    until(lambda: not made)
    stop = bus.subscribe(lambda event: end() if event.flag == made.name else None)
    ending = threading.Thread(target=end, daemon=True)
    ending.start()
    ending.join(WAIT)
    stop()
    assert not ending.is_alive()
    assert made


def test_another_reason_does_not_let_it_go_meanwhile(made: Flag) -> None:
    """Who reads without the lock finds it held, at each step of the change."""
    here.state.hold(made.name, "one")
    held = here.state.held

    class Watched(dict[str, str]):
        def pop(self, *_: Any) -> Any:
            raise AssertionError("it was let go")

        __delitem__ = pop

    here.state.held = Watched(held)
    try:
        here.state.hold(made.name, "another")
        assert here.state.held[made.name] == "another"
    finally:
        here.state.held = held
        here.state.hold(made.name, None)


def test_a_child_forked_while_it_ends_has_let_go_too() -> None:
    code = """
        import threading
        from openfeature import api
        from openfeature.provider.in_memory_provider import InMemoryFlag, InMemoryProvider
        from resilient import flag
        from resilient.integrations import openfeature_following
        NEWS = flag("news")
        provider = InMemoryProvider({"news": InMemoryFlag("no", {"yes": True, "no": False})})
        api.set_provider_and_wait(provider)
        end = openfeature_following.follow(NEWS, every=0.02)
        while NEWS:
            pass
        follower = end.__self__
        follower._ended = True  # as far as `end` came when another thread forked
        child = os.fork()
        if child == 0:
            os._exit(0 if NEWS and not openfeature_following._followers else 7)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    assert alone(code) == "0"


def test_a_forked_child_goes_on_asking() -> None:
    code = """
        import pathlib, time
        from openfeature import api
        from openfeature.provider.in_memory_provider import InMemoryFlag, InMemoryProvider
        from resilient import flag
        from resilient.integrations.openfeature import follow
        NEWS = flag("news")
        provider = InMemoryProvider({"news": InMemoryFlag("yes", {"yes": True, "no": False})})
        api.set_provider_and_wait(provider)
        follow(NEWS, every=0.02)
        assert NEWS
        child = os.fork()
        if child == 0:
            provider._flags["news"] = InMemoryFlag("no", {"yes": True, "no": False})
            end = time.monotonic() + 30
            while NEWS and time.monotonic() < end:
                time.sleep(0.01)
            os._exit(0 if not NEWS else 7)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), bool(NEWS))
    """
    assert alone(code) == "0 True"


def test_flagd_holds_a_flag_off(
    made: Flag, following: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real provider of flagd, on a file that it watches."""
    file = tmp_path / "flagd.json"

    def say(variant: str, at: float) -> None:
        spare = tmp_path / "new.json"
        told = {
            "state": "ENABLED",
            "variants": {"on": True, "off": False},
            "defaultVariant": variant,
        }
        spare.write_text(json.dumps({"flags": {made.name: told}}))
        os.utime(spare, (at, at))
        spare.replace(file)

    say("off", 1e9)
    monkeypatch.setenv("FLAGD_OFFLINE_POLL_MS", "20")
    flagd = FlagdProvider(
        resolver_type=ResolverType.FILE,
        offline_flag_source_path=str(file),
    )
    following(made, client=serve(flagd, "flagd"), every=3600)
    until(lambda: not made)
    assert "flagd" in here.state.held[made.name].lower()
    say("on", 2e9)
    until(lambda: bool(made))
    api.clear_providers()


def test_a_policy_counts_the_refusals(made: Flag, following: Any) -> None:
    policy = Policy(f"{made.name}-policy", kill_switch(made), circuit_breaker())
    following(made, client=serve(Theirs(**{made.name: False})))
    until(lambda: not made)
    assert policy.try_call(lambda: 1).served == "error"
    assert policy.snapshot()["calls"]["refused"] == 1
