"""Bad input: refused with what is wrong, before anything is recorded, and printed clean."""

from __future__ import annotations

import pytest

from tests.kit.command import Cli
from tests.kit.workers import Worker

DIRTY = {
    "escape": "\x1b[2J\x1b[31mred",
    "line": "one\ntwo",
    "return": "over\rwritten",
    "bell": "\a",
    "null-like": "\x01",
    "delete": "\x7f",
    "c1": "\x9b31m",
    "bidi": "safe\u202egnp.exe",
    "isolate": "\u2066x\u2069",
    "zero width": "a\u200bb",
    "line separator": "a\u2028b",
    "tag": "a\U000e0041b",
}


def untouched(cli: Cli) -> None:
    """Check that nothing was recorded."""
    assert cli("flags", "log", "--json").said(0).json == []


@pytest.mark.parametrize("dirty", DIRTY.values(), ids=DIRTY)
def test_dirty_words_are_refused(cli: Cli, dirty: str) -> None:
    """Control characters and such are refused in a reason, in --by and in a name alike."""
    declare = ("flags", "off", "x", "--declare")
    cli.flip(*declare, reason=dirty).said(2, "printable")
    cli.flip(*declare, "--by", dirty).said(2, "printable")
    cli.flip("flags", "off", dirty, "--declare").said(2)
    cli("flags", "show", dirty).said(2, "no process declares")
    cli("forget", dirty).said(2)
    cli.flip("policies", "set", "x", f"bulkhead.a={dirty}", "--declare").said(2)
    untouched(cli)


@pytest.mark.parametrize("variable", ["RESILIENT_BY", "SUDO_USER", "LOGNAME"])
def test_who_is_clean_wherever_it_comes_from(cli: Cli, variable: str) -> None:
    """A name with control characters in the environment is refused, or recorded clean."""
    done = cli.flip("flags", "off", "x", "--declare", **{variable: "eve\x1b[2J\u202e"})
    assert done.code in (0, 2)
    for flip in cli("flags", "log", "--json").json:
        assert flip["by"].isprintable(), flip


@pytest.mark.parametrize("reason", ["", " ", "   \u3000 ", "x" * 501])
def test_a_reason_says_something(cli: Cli, reason: str) -> None:
    """A blank reason, or one that is too long, is refused."""
    cli.flip("flags", "off", "x", "--declare", reason=reason).said(2, "reason")
    untouched(cli)


@pytest.mark.parametrize(
    "words",
    [
        ("flags", "off", "x", "--declare"),
        ("flags", "on", "x", "--declare"),
        ("policies", "force-open", "x", "--declare"),
        ("policies", "force-closed", "x", "--declare"),
        ("policies", "release", "x", "--declare"),
        ("policies", "set", "x", "bulkhead.max_concurrent=1", "--declare"),
        ("policies", "unset", "x", "bulkhead.max_concurrent", "--declare"),
        ("policies", "metrics-only", "x", "--declare"),
    ],
)
def test_every_flip_needs_a_reason(cli: Cli, words: tuple[str, ...]) -> None:
    """Without --reason nothing is flipped."""
    cli(*words).said(2, "--reason")
    untouched(cli)


def test_the_longest_reason_and_name_are_taken(cli: Cli) -> None:
    """500 characters of reason and 100 of a name are allowed, in any script."""
    name = "n" * 100
    reason = "Ausfall bei Zürich: 停電 " + "x" * 478
    cli.flip("flags", "off", name, "--declare", reason=reason[:500]).said(0, reason[:500])
    assert cli("flags", "log", "--json").json[0]["reason"] == reason[:500]
    cli("flags").said(0)
    cli.flip("flags", "off", name + "n", "--declare").said(2, "100 characters")
    cli.flip("flags", "off", "x", "--declare", "--by", "b" * 101).said(2, "100 characters")


@pytest.mark.parametrize("option", ["--for", "--wait"])
@pytest.mark.parametrize(
    "given",
    [
        "0s", "0m0s", "-1s", "10", "30x", "99999999d", "", " ", "1h 30m", "1.s", "s", "1e3s",
        "nan", "infs", "1h30", "30m;", "0.0000001s", "9" * 400 + "s", "1" * 5000,
    ],
)  # fmt: skip
def test_a_bad_duration_is_refused(cli: Cli, option: str, given: str) -> None:
    """What is no duration, or one that nobody means, is refused with an example."""
    done = cli.flip("flags", "off", "x", "--declare", f"{option}={given}")
    done.said(2, "resilient: ")
    assert len(done.err) < 500
    untouched(cli)


@pytest.mark.parametrize("option", ["--for", "--wait"])
def test_a_bad_duration_is_refused_by_the_name_of_its_option(cli: Cli, option: str) -> None:
    """The message names the option that is wrong."""
    cli.flip("flags", "off", "x", "--declare", f"{option}=30x").said(2, f"{option} must be")


@pytest.mark.parametrize(
    ("given", "seconds"),
    [("90s", 90), ("30m", 1800), ("1h30m", 5400), ("2d", 172_800), ("1w", 604_800), ("1.5h", 5400)],
)
def test_durations(cli: Cli, given: str, seconds: float) -> None:
    """Durations are what they say."""
    flip = cli.flip("flags", "off", "x", "--declare", "--for", given, "--json").said(0).json["flip"]
    assert flip["until"] - flip["at"] == pytest.approx(seconds, abs=0.01)


@pytest.mark.parametrize(
    "name",
    ["", " ", "a b", "a/b", "a/b/c.d", "../x", ".x", "é", "a*", "'; DROP TABLE log;--", "x\\y",
     "%s", "{x}", "n" * 101, "[bold]x[/bold]"],
)  # fmt: skip
def test_an_odd_name_is_refused(cli: Cli, name: str) -> None:
    """What can be no name is refused, also with --declare, for flags and policies."""
    said = ("--declare", "--reason", "x", "--", name)
    cli("flags", "off", *said).said(2, "resilient: ")
    cli("policies", "force-open", *said).said(2, "resilient: ")
    cli("policies", "set", *said, "bulkhead.x=1").said(2, "resilient: ")
    untouched(cli)


def test_an_unknown_name_has_the_nearest(cli: Cli, worker: Worker) -> None:
    """A name that is not there is an error with the nearest one, wherever it is asked for."""
    near = "no process declares a flag named rec. Did you mean recs?"
    cli.flip("flags", "off", "rec").said(2, near)
    cli.flip("flags", "on", "rec").said(2, near)
    cli("flags", "show", "rec").said(2, near)
    cli("flags", "log", "rec").said(2, near)
    cli.flip("policies", "force-open", "shopp").said(2, "policy named shopp. Did you mean shop?")
    cli.flip("policies", "set", "shpo", "bulkhead.x=1").said(2, "Did you mean shop?")
    cli.flip("flags", "off", "zzzzzz").said(2, "There is: beta, recs.")
    assert worker.ask("read") == "True"
    untouched(cli)


@pytest.mark.parametrize("most", ["0", "-1", "x", "1.5", "99999999999999999999"])
def test_a_bad_number_of_flips_is_refused(cli: Cli, most: str) -> None:
    """--most is a whole number from 1 on."""
    cli("flags", "log", f"--most={most}").said(2, "--most")


@pytest.mark.parametrize(
    "words",
    [
        ("flag",), ("flags", "of", "x"), ("flags", "off"), ("flags", "off", "x", "y"),
        ("status", "x"), ("--jsn",), ("flags", "--nope"), ("policies", "set", "x"), ("forget",),
    ],
)  # fmt: skip
def test_a_command_that_is_none(cli: Cli, words: tuple[str, ...]) -> None:
    """What can't be understood exits with 2, and says how to ask."""
    cli(*words).said(2, "Usage:")


def test_bytes_that_are_no_text(cli: Cli) -> None:
    """Arguments that are no UTF-8 are refused like any dirty word."""
    cli("flags", "off", "x", "--declare", "--reason", b"caf\xe9").said(2)
    cli("flags", "show", b"caf\xe9").said(2)
    untouched(cli)
