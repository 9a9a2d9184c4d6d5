"""Flags that a provider of OpenFeature can hold off, asked by a thread and never by a call."""

# pyright: reportMissingTypeStubs=false
from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Final

from openfeature import api
from openfeature.client import OpenFeatureClient
from openfeature.evaluation_context import EvaluationContext
from openfeature.event import EventDetails, ProviderEvent
from openfeature.flag_evaluation import FlagEvaluationDetails
from openfeature.provider.no_op_provider import NoOpProvider

from .. import validation
from ..events import bus
from ..flag_handle import Flag
from ..flags.runtime import FIRST_WAIT, here
from ..process import at_fork
from ..validation import clean

NAME: Final = "resilient"  # of our own provider
_EVENTS: Final = (ProviderEvent.PROVIDER_CONFIGURATION_CHANGED, ProviderEvent.PROVIDER_READY)

_SAYS_ON: Final = "its OpenFeature provider says on"
_LET_GO: Final = "its OpenFeature provider is asked no more"

_followers: Final[dict[str, _Follower]] = {}  # by the name of the flag


def follow(
    *flags: Flag,
    client: OpenFeatureClient | None = None,
    every: float | timedelta = 5.0,
    context: EvaluationContext | None = None,
) -> Callable[[], None]:
    """Have a provider of OpenFeature hold flags off, beside the store, the environment and tests.

    A thread asks it for each flag by its name, at once and then every few seconds, and when it
    tells of a change; reading a flag costs what it did. Where it says False the flag is off in this
    process, whatever the store says; where it says True the store and the declaration decide. What
    it can't answer (an error, an unknown flag) changes nothing: the last known answer stands, and
    the log says so once. Its answers are not kept on disk.

    Args:
        *flags: the flags.
        client: asks. Default None: a client of the default domain.
        every: seconds, or a timedelta, between two rounds. Default 5.
        context: is handed to it with each question. Default None.

    Returns:
        A function that ends it, and lets the flags go; a second call does nothing.

    Raises:
        TypeError: an argument is of a wrong type.
        ValueError: there is no flag, one is followed already, or every is not above 0; or the
            provider is ours, which would ask the flag itself.

    Example:
        >>> from openfeature import api
        >>> from resilient import flag
        >>> from resilient.integrations.openfeature import follow
        >>> ADVICE = flag("advice")
        >>> end = follow(ADVICE, client=api.get_client("vendor"), every=10)
        >>> end()
    """
    for each in flags:
        if not isinstance(each, Flag):
            validation.refuse_type("flags", each, "flags, as resilient.flag returns them")
    if not flags:
        raise ValueError("flags: name at least one flag")
    if client is not None and not isinstance(client, OpenFeatureClient):
        validation.refuse_type("client", client, "a client of OpenFeature, or None")
    if context is not None and not isinstance(context, EvaluationContext):
        validation.refuse_type("context", context, "an EvaluationContext of OpenFeature, or None")
    seconds = validation.duration("every", every)
    asked = api.get_client() if client is None else client
    if _is_ours(asked):
        raise ValueError(
            "client: its provider is that of resilient, which would ask the flag itself"
        )
    follower = _Follower(flags, asked, seconds, context)
    try:
        for each in flags:
            if _followers.setdefault(each.name, follower) is not follower:
                raise ValueError(f"the flag {each.name} follows a provider already; end that first")
        follower.start()
    except BaseException:  # nobody else could end it
        follower.end()
        raise
    return follower.end


def _is_ours(client: OpenFeatureClient) -> bool:
    return client.provider.get_metadata().name == NAME


def _nobody(client: OpenFeatureClient) -> str:
    """Return why nobody can answer for a client, or ""."""
    if _is_ours(client):
        return "its provider is that of resilient by now"
    stand_in = isinstance(client.provider, NoOpProvider)
    return f"no provider is set for its domain {client.domain!r}" if stand_in else ""


class _Follower:
    """Asks a client for some flags, and holds off those that are false there."""

    def __init__(
        self,
        flags: tuple[Flag, ...],
        client: OpenFeatureClient,
        every: float,
        context: EvaluationContext | None,
    ) -> None:
        self._flags: Final = flags
        self._client: Final = client
        self._every: Final = every
        self._context: Final = context
        self._errors: dict[str, str] = {}  # what was logged, by flag
        self._ended = False
        self._deciding = threading.Lock()  # so that no answer comes after the end
        self._wake = threading.Event()
        self._asked = threading.Event()  # the first round is over

    def start(self) -> None:
        """Listen, start the thread, and wait a moment for its first answers."""
        for event in _EVENTS:
            self._client.add_handler(event, self._heard)
        self._run_thread()
        self._asked.wait(FIRST_WAIT)

    def in_child(self) -> None:
        """Go on in a forked child, which has no thread but its own."""
        self._wake, self._asked = threading.Event(), threading.Event()
        self._deciding = threading.Lock()
        if self._ended:  # a thread that the child has not was about to let them go
            self._let_go()
        else:
            self._run_thread()

    def end(self) -> None:
        """Ask no more, and let the flags go."""
        with self._deciding:
            if self._ended:
                return
            self._ended = True
        self._let_go()
        for event in _EVENTS:
            with contextlib.suppress(KeyError, ValueError):  # api.clear_providers() removes all
                self._client.remove_handler(event, self._heard)
        self._wake.set()

    def _let_go(self) -> None:
        for flag in self._flags:
            if _followers.get(flag.name) is self:
                here.state.hold(flag.name, None, _LET_GO)
                _followers.pop(flag.name, None)

    def _heard(self, _: EventDetails) -> None:
        self._wake.set()

    def _run_thread(self) -> None:
        threading.Thread(target=self._run, name="resilient-openfeature", daemon=True).start()

    def _run(self) -> None:
        wake = self._wake
        bus.leave_to_others()  # a listener that hangs must not delay a flag
        while not self._ended:
            wake.clear()
            for flag in self._flags:
                self._ask(flag)
            self._asked.set()
            wake.wait(self._every)

    def _ask(self, flag: Flag) -> None:
        try:
            nobody = _nobody(self._client)
            if nobody:
                self._keep(flag, nobody)
                return
            known = flag.name not in here.state.held
            answer = self._client.get_boolean_details(flag.name, known, self._context)
        except Exception as error:
            self._keep(flag, str(error) or repr(error))
            return
        if answer.error_code is not None:
            self._keep(flag, f"{answer.error_code.value} {answer.error_message or ''}".strip())
            return
        self._errors.pop(flag.name, None)
        why = None if answer.value else _why(self._client, answer)
        with self._deciding:
            if not self._ended:
                here.state.hold(flag.name, why, _SAYS_ON)

    def _keep(self, flag: Flag, error: str) -> None:
        """Log once that the last known answer stands."""
        if self._errors.get(flag.name) == error or self._ended:
            return
        self._errors[flag.name] = error
        import logging

        logging.getLogger("resilient").warning(
            "OpenFeature does not answer for the flag %s, what is known of it stands: %s",
            flag.name, clean(error),
        )  # fmt: skip


def _why(client: OpenFeatureClient, answer: FlagEvaluationDetails[bool]) -> str:
    name = client.provider.get_metadata().name
    said = f"variant {answer.variant}" if answer.variant else "false"
    return clean(f"OpenFeature's {name} says {said} ({answer.reason})")


def _in_child() -> None:
    for follower in set(_followers.values()):
        follower.in_child()


at_fork("providers", in_child=_in_child)
