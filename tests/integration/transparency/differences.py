"""In what a wrapped client differs from a bare one, each with its reason: the docs have this table."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import NamedTuple


class Difference(NamedTuple):
    """What differs, by patterns, and why that has to be so."""

    library: str  # a pattern, of the name of the tests' module
    what: str  # a pattern, of the operation or attribute and what of it was compared
    reason: str


DIFFERENCES: tuple[Difference, ...] = (
    Difference("*", "*.has __wrapped__", "it leads to the bare client: this is how to get at it"),
    Difference("*", "*.has __copy__", "a copy of a proxy is a proxy of the copy"),
    Difference("*", "*.has __deepcopy__", "a copy of a proxy is a proxy of the copy"),
    Difference("*", "*.has __getattr__", "that is how attributes are found on the client"),
    Difference("*", "*.has __annotations__", "annotations of a class are seen on its instances"),
    Difference(
        "*", "*pickled/*", "a policy stays in its process: pickling is refused with a TypeError"
    ),
    Difference(
        "httpx transport",
        "at the end/2/0",
        "a short body is read at once, so that its connection is "
        "kept where a caller who does not read it would close it",
    ),
    Difference("requests adapter", "adapters/*", "the adapter is ours"),
    Difference(
        "sqlalchemy",
        "connect_events/3/1/0*",
        "one listener of ours has the engine connect by a class that keeps to the deadline",
    ),
    Difference(
        "boto3", "handlers/*", "one handler of ours looks at the deadline before each attempt"
    ),
    Difference("grpc", "*sends_deadline/*", "the deadline goes with the call"),
    Difference(
        "grpc",
        "acancelled/3/1/0/1/1/1",
        "an interceptor waits for the call, so that its call is only "
        "`cancelled()` when the event loop has turned once",
    ),
    Difference(
        "sqlalchemy", "at the end/2/2", "the same: an engine with a listener has `dispatch`"
    ),
    Difference(
        "*", "* context.func kind", "what makes the context manager is found on it, guarded"
    ),
    Difference(
        "requests wrapped",
        "adapters/*",
        "the session's own adapters send within the deadline, by a "
        "function of ours in the place of their `send`",
    ),
    Difference("requests", "HTTPAdapter.send*", "the same"),
    Difference("requests", "HTTPAdapter.vars()", "the same"),
    Difference("requests", "HTTPAdapter.get_connection*", "the same"),
    Difference("requests", "Session.get_adapter*", "the same"),
    Difference("requests", "Session.vars()", "the same"),
    Difference(
        "requests wrapped",
        "at the end/2/1",
        "the session finds its adapters by a function of ours, which has also those keep to the "
        "deadline that are mounted later",
    ),
    Difference(
        "httpx*",
        "*at the end/2/2",
        "the client finds its transports by a function of ours, which has also those keep to the "
        "deadline that are mounted later",
    ),
    Difference("httpx", "*Client.vars()", "the same"),
    Difference(
        "requests adapter",
        "deep_copied/*",
        "the adapter is not copied, since a policy is not; "
        "copy.deepcopy of its session is refused with a TypeError",
    ),
    Difference("httpx *", "*/timeout/*", "the request's own time limits end with the deadline"),
    Difference(
        "*", "method *.vars()", "a guarded method has __wrapped__, as what functools.wraps made"
    ),
    Difference("*", "method *.dir()", "the same"),
)

OPEN: tuple[Difference, ...] = ()


def is_listed(library: str, what: str) -> bool:
    """Tell whether a difference is one of the table."""
    return any(
        fnmatchcase(library, each.library) and fnmatchcase(what, each.what)
        for each in (*DIFFERENCES, *OPEN)
    )
