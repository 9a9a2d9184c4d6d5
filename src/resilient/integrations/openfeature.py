"""OpenFeature: our flags for its clients, and what its providers say for our flags."""

# pyright: reportMissingTypeStubs=false
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

from openfeature.evaluation_context import EvaluationContext
from openfeature.event import ProviderEventDetails
from openfeature.exception import ErrorCode
from openfeature.flag_evaluation import FlagResolutionDetails, Reason
from openfeature.provider import Metadata

from ..admin.registry import registry
from ..events import Event
from ..flag_handle import Flag
from ..flags.flip import Flip
from ..flags.runtime import here
from .openfeature_following import NAME, follow

if TYPE_CHECKING:  # the SDK does not say that it is typed

    class AbstractProvider:
        def emit_provider_configuration_changed(self, details: ProviderEventDetails) -> None: ...
else:
    from openfeature.provider import AbstractProvider

__all__ = ("Provider", "follow")

Value = TypeVar("Value")

_ON: Final = "on"
_OFF: Final = "off"
_REASONS: Final = {
    "declared": Reason.DEFAULT,
    "environment": Reason.STATIC,
    "provider": Reason.CACHED,
    "store": Reason.STATIC,
    "test": Reason.STATIC,
}


class Provider(AbstractProvider):
    """Has OpenFeature's clients read the flags that this process declares.

    A flag is a boolean by its name, and `evaluation_context` plays no part. The variant is ``on``
    or ``off``; the reason is ``DEFAULT`` (as declared), ``STATIC`` (flipped, or forced off by the
    environment), ``CACHED`` (see `follow`), or ``STALE`` while the store can't be read and the last
    known state stands. `flag_metadata` has owner, impact, and of a flip by whom, why and its
    version. An undeclared name is ``FLAG_NOT_FOUND``, another type ``TYPE_MISMATCH``: the client
    then gives the default of its call. A change of a flag is ``PROVIDER_CONFIGURATION_CHANGED``.

    Example:
        >>> from openfeature import api
        >>> from resilient import flag
        >>> from resilient.integrations.openfeature import Provider
        >>> NEWS = flag("news", owner="team-home")
        >>> api.set_provider_and_wait(Provider())
        >>> api.get_client().get_boolean_value("news", False)
        True
        >>> api.clear_providers()
    """

    def __init__(self) -> None:
        super().__init__()
        self._forget: Callable[[], None] | None = None

    def get_metadata(self) -> Metadata:
        """Return the name of the provider: ``resilient``."""
        return Metadata(NAME)

    def initialize(self, evaluation_context: EvaluationContext) -> None:
        """Read the last known state, and tell OpenFeature of changes from now on."""
        here.first_read()
        if self._forget is None:
            self._forget = registry.subscribe(self._heard)

    def shutdown(self) -> None:
        """Tell of no change any more."""
        forget, self._forget = self._forget, None
        if forget is not None:
            forget()

    def _heard(self, event: Event) -> None:
        if event.kind == "flipped":
            told = ProviderEventDetails(flags_changed=[event.flag], message=event.reason)
            self.emit_provider_configuration_changed(told)

    def resolve_boolean_details(
        self,
        flag_key: str,
        default_value: bool,
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[bool]:
        """Return the value of a flag, and what decided it."""
        flag = here.flags.find(flag_key)
        if flag is None:
            return _unknown(flag_key, default_value)
        _ = bool(flag)  # a read like any other: the first one follows the store, tests see it
        on, source, flip = here.state.says(flag)
        return FlagResolutionDetails(
            value=on,
            reason=Reason.STALE if _is_stale() else _REASONS[source],
            variant=_ON if on else _OFF,
            flag_metadata=_metadata(flag, source, flip),
        )

    def resolve_string_details(
        self,
        flag_key: str,
        default_value: str,
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[str]:
        """Return the default: a flag is a boolean."""
        return _mismatch(flag_key, default_value)

    def resolve_integer_details(
        self,
        flag_key: str,
        default_value: int,
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[int]:
        """Return the default: a flag is a boolean."""
        return _mismatch(flag_key, default_value)

    def resolve_float_details(
        self,
        flag_key: str,
        default_value: float,
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[float]:
        """Return the default: a flag is a boolean."""
        return _mismatch(flag_key, default_value)

    def resolve_object_details(
        self,
        flag_key: str,
        default_value: Sequence[Any] | Mapping[str, Any],
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[Sequence[Any] | Mapping[str, Any]]:
        """Return the default: a flag is a boolean."""
        return _mismatch(flag_key, default_value)


def _unknown(key: str, default: Value) -> FlagResolutionDetails[Value]:
    try:
        here.flags.get(key)
        why = ""
    except LookupError as error:
        why = str(error)
    return FlagResolutionDetails(
        value=default, reason=Reason.ERROR, error_code=ErrorCode.FLAG_NOT_FOUND, error_message=why
    )


def _mismatch(key: str, default: Value) -> FlagResolutionDetails[Value]:
    if here.flags.find(key) is None:
        return _unknown(key, default)
    return FlagResolutionDetails(
        value=default,
        reason=Reason.ERROR,
        error_code=ErrorCode.TYPE_MISMATCH,
        error_message=f"the flag {key} is a boolean: it is on or off",
    )


def _is_stale() -> bool:
    follower = here.follower
    return follower is not None and bool(follower.error)


def _metadata(flag: Flag, source: str, flip: Flip | None) -> dict[str, bool | int | float | str]:
    told: dict[str, bool | int | float | str | None] = {
        "owner": flag.owner,
        "impact": flag.impact,
        "source": source,
    }
    if flip is not None:
        told |= {"by": flip.by, "why": flip.reason, "version": str(flip.version)}
        told["until"] = flip.until
    elif source == "provider":
        told["why"] = here.state.held.get(flag.name, "")
    return {name: value for name, value in told.items() if value is not None and value != ""}
