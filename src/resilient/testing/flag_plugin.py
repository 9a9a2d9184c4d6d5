"""The flags' part of the pytest plugin: see ``docs/howto/test-a-flag-off.md``."""

from __future__ import annotations

import itertools
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from ..flag_handle import Flag
from ..flags.runtime import here
from . import fixture_scope
from .assertions import unawaited
from .flag_coverage import OffReport
from .flag_overrides import Overrides, Reads, listen, never_read, unlisten

_STATES: Final = "_resilient_flag_states"
_MARKERS: Final = (
    "flag_off(*flags): run the test with these flags off; it fails where one is never read",
    "flag_on(*flags): run the test with these flags on",
    "flag_states(*flags, product=False): run it with all on, and with each one off, or all ways",
)
_REPORT: Final = pytest.StashKey[OffReport]()
_nested: Final[list[bool]] = []  # nested sessions, which share their flags
_OVERRIDES: Final = pytest.StashKey[list[Overrides]]()
_READS: Final = pytest.StashKey[Reads]()
_PASSED: Final = pytest.StashKey[bool]()


class Flags:
    """The fixture `flags`: turns flags on or off for the rest of a test, in every thread.

    A test that turned a flag off without reading it off fails.
    """

    def __init__(self, overrides: Overrides) -> None:
        self._overrides = overrides

    def off(self, *flags: str | Flag) -> None:
        """Turn flags off until the test ends.

        Args:
            *flags: the flags, or their names.

        Raises:
            LookupError: no flag of that name is declared; the message names the nearest one.
            RuntimeError: a marker or a block has set the flag.
        """
        self.set(dict.fromkeys(flags, False))

    def on(self, *flags: str | Flag) -> None:
        """Turn flags on until the test ends.

        Args:
            *flags: the flags, or their names.

        Raises:
            LookupError: no flag of that name is declared; the message names the nearest one.
            RuntimeError: a marker or a block has set the flag.
        """
        self.set(dict.fromkeys(flags, True))

    def set(self, states: Mapping[Any, bool]) -> None:
        """Turn some flags on and some off until the test ends.

        Args:
            states: by flag or name, True for on.

        Raises:
            LookupError: no flag of that name is declared; the message names the nearest one.
            RuntimeError: a marker or a block has set the flag.
        """
        for flag, on in states.items():
            self._overrides.set(flag, on)


@pytest.fixture
def flags(request: pytest.FixtureRequest) -> Generator[Flags]:
    """Turn flags on and off; the end of the test restores each."""
    overrides = Overrides("the fixture `flags`")
    request.node.stash[_OVERRIDES].append(overrides)
    yield Flags(overrides)
    overrides.restore()


@pytest.fixture(name=_STATES)
def _flag_states() -> None:
    """The name that flag_states parametrizes; pytest_runtest_setup sets the states."""


# -- options, and the beginning and end of a run ---------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("resilient", "kill-switch flags")
    group.addoption(
        "--flags-require-off", action="store_true",
        help="fail when a declared flag was read off by no passing test",
    )  # fmt: skip
    group.addoption(
        "--flags-all-off", action="store_true", help="run with every flag off that a test sets not"
    )
    group.addoption(
        "--flags-report", metavar="FILE", type=Path, help="write the table of flags as JSON"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Ignore environment and store, and listen to every read."""
    for line in _MARKERS:
        config.addinivalue_line("markers", line)
    config.stash[_REPORT] = OffReport()
    _nested.append(here.state.isolated)
    here.stop()
    here.state.isolate(True)
    here.state.read(fresh=False)
    here.state.set_all_off(bool(config.getoption("--flags-all-off")))


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop ignoring environment and store."""
    here.state.set_all_off(False)
    if _nested and not _nested.pop():
        here.state.isolate(False)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Send a worker's table; fail the run if a flag was never proved off."""
    report = session.config.stash[_REPORT]
    for flag in here.flags.all():
        report.declare(flag)
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["resilient_flags"] = report.as_data()
        return
    target = session.config.getoption("--flags-report")
    if target is not None:
        report.write(target)
    ran_well = session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)
    strict = session.config.getoption("--flags-require-off")
    if strict and report.unproved and ran_well and not session.config.option.collectonly:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """Merge the table of a worker of pytest-xdist."""
    report = node.config.stash[_REPORT]
    report.merge(getattr(node, "workeroutput", {}).get("resilient_flags", {}))


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Print the table, and the result of --flags-require-off."""
    report = config.stash[_REPORT]
    lines, unproved = report.lines(), report.unproved
    strict = config.getoption("--flags-require-off") and not config.option.collectonly
    if not lines or not (strict or unproved or int(config.getoption("verbose") or 0) > 0):
        return
    terminalreporter.section("kill-switch flags")
    for line in lines:
        terminalreporter.write_line(line)
    if unproved:
        said = f"never read off by a passing test: {', '.join(unproved)}"
        if strict:
            said += " (--flags-require-off: the run fails)"
        terminalreporter.write_line(said, red=strict, yellow=not strict)


# -- one test ---------------------------------------------


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make a test of each state that flag_states lists."""
    wanted: list[Flag] = []
    product = False
    for mark in metafunc.definition.iter_markers("flag_states"):
        wanted += [here.flags.get(each) for each in mark.args]
        product = product or bool(mark.kwargs.get("product"))
    if not wanted:
        return
    alone = [tuple(other is not each for other in wanted) for each in wanted]
    cases = list(itertools.product((True, False), repeat=len(wanted))) if product else (
        [(True,) * len(wanted), *alone]
    )  # fmt: skip
    states = [list(zip(wanted, case, strict=True)) for case in cases]
    ids = [",".join(f"{f.name}={'on' if on else 'off'}" for f, on in case) for case in states]
    metafunc.fixturenames.append(_STATES)
    metafunc.parametrize(_STATES, states, ids=ids, indirect=True)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Collect the reads of a test, and forget the flags that it declared."""
    reads = item.stash[_READS] = listen()
    item.stash[_OVERRIDES] = []
    made: list[Flag] = []
    # Flags that a block of a page declares belong to the whole page.
    passing = not isinstance(item, pytest.Function)
    here.flags.on_made = None if passing else lambda flag: _keep(flag, made)
    try:
        return (yield)
    finally:
        here.flags.on_made = None
        unlisten(reads)
        for flag in made:
            here.flags.forget(flag)
        off = {name for name, on in reads if not on} - {flag.name for flag in made}
        report = item.config.stash[_REPORT]
        report.ended(item.nodeid, off, passed=item.stash.get(_PASSED, False))


def _keep(flag: Flag, made: list[Flag]) -> None:
    if not (flag.place.importing or fixture_scope.wide()):
        made.append(flag)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    """Record whether a test passes, up to the end of its teardown."""
    report = yield
    item.stash[_PASSED] = report.passed and (report.when == "setup" or item.stash[_PASSED])
    return report


@pytest.hookimpl(wrapper=True, trylast=True)  # inside the other hooks: it may raise
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, None, None]:
    """Set the markers' flags before any fixture is set up."""
    item.stash[_KEPT] = here.state.keep(), _untested()
    case = getattr(item, "callspec", None)
    states = case.params.get(_STATES, ()) if case is not None else ()
    mark = item.get_closest_marker("flag_states")
    if mark is not None and not states:
        raise pytest.UsageError(
            "flag_states can't make two tests of a method of unittest.TestCase; use flag_off and "
            "flag_on there"
        )
    product = any(each.kwargs.get("product") for each in item.iter_markers("flag_states"))
    overrides = Overrides("a marker", any_of=product)
    item.stash[_OVERRIDES].append(overrides)
    for word, on in (("flag_off", False), ("flag_on", True)):
        for mark in item.iter_markers(word):
            if not mark.args:
                raise pytest.UsageError(f"{word} needs at least one flag")
            for flag in mark.args:
                overrides.set(flag, on)
    for flag, on in states:
        overrides.set(flag, on)
    yield


_KEPT: Final = pytest.StashKey[tuple[Any, dict[str, bool]]]()


def _untested() -> dict[str, bool]:
    """Return the value of every flag without regard to tests' overrides."""
    return {flag.name: here.state.says_untested(flag)[0] for flag in here.flags.all()}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """Fail a test that turned a flag off without reading it, or that made half an assertion."""
    unawaited()  # of whoever ran before
    yield
    left = unawaited()
    if left:
        pytest.fail(f"nobody has awaited {', '.join(left)}: nothing was asserted", pytrace=False)
    unread = [name for each in item.stash[_OVERRIDES] for name in each.unread()]
    if unread:
        pytest.fail(never_read(unread), pytrace=False)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, None, None]:
    """Restore every flag, and fail a test that left one changed by other means."""
    try:
        yield
    finally:
        for each in item.stash[_OVERRIDES]:
            each.restore()
    if _KEPT not in item.stash or not isinstance(item, pytest.Function):
        return
    kept, before = item.stash[_KEPT]
    changed = [n for n, on in _untested().items() if before.get(n, on) != on]
    if here.state.flips != kept[0]:
        here.forget_own()
        here.state.put_back(kept)
    if changed:
        pytest.fail(
            f"the test left {', '.join(changed)} changed, for the tests after it; it was put back. "
            "Use the fixture `flags`, which does that by itself",
            pytrace=False,
        )
