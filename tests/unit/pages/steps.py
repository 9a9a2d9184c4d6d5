"""Kills a process at each line of some modules, one after the other. Imported by processes."""

from __future__ import annotations

import dis
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import CodeType, FrameType
from typing import Any


def killed_at(line: int, files: tuple[str, ...], act: Callable[[], object]) -> bool:
    """Do something in a forked child that is killed before it runs so many lines of some files.

    Returns:
        Whether it was killed; else it has done all of it.
    """
    pid = os.fork()
    if pid == 0:
        try:
            _die_at(line, files)
            act()
        finally:
            sys.settrace(None)
            os._exit(0)
    _, status = os.waitpid(pid, 0)
    return os.WIFSIGNALED(status)


def _die_at(line: int, files: tuple[str, ...]) -> None:
    left = [line]

    def trace(frame: FrameType, event: str, arg: Any) -> Any:
        if not _is_in(frame, files):
            return None
        if event == "line":
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    sys.settrace(trace)


def _is_in(frame: FrameType, files: tuple[str, ...]) -> bool:
    """Tell whether a frame is of some files, or of functions of some: "writer.py:add"."""
    file, name = frame.f_code.co_filename, frame.f_code.co_name
    return file.endswith(files) or f"{file}:{name}".endswith(files)


class Interrupt(BaseException):
    """What a signal handler raises."""


def interrupted_at(moment: int, files: tuple[str, ...], act: Callable[[], object]) -> bool:
    """Do something that is interrupted where a signal handler may run, at the so-manieth such place.

    CPython looks for signals where a Python function begins, where a loop jumps back, and after a
    call of what is no Python function.
    """
    left = [moment]
    before: dict[FrameType | None, str] = {}

    def calls(frame: FrameType) -> None:
        before.pop(frame.f_back, None)  # it called a Python function

    def steps(frame: FrameType, at: int) -> None:
        if before.pop(frame, "") in _LOOKED:
            left[0] -= 1
            if left[0] == -1:
                raise Interrupt
        before[frame] = dis.opname[frame.f_code.co_code[at]]

    watched = _watched_by_tracing if sys.version_info < (3, 12) else _watched_by_monitoring
    try:
        with watched(files, calls, steps):
            act()
    except Interrupt:
        return True
    return left[0] < 0


Calls = Callable[[FrameType], None]
Steps = Callable[[FrameType, int], None]


@contextmanager
def _watched_by_tracing(files: tuple[str, ...], calls: Calls, steps: Steps) -> Iterator[None]:
    def trace(frame: FrameType, event: str, arg: Any) -> Any:
        if event == "call":
            calls(frame)
        if not _is_in(frame, files):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        if event == "opcode":
            steps(frame, frame.f_lasti)
        return trace

    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(None)


@contextmanager
def _watched_by_monitoring(files: tuple[str, ...], calls: Calls, steps: Steps) -> Iterator[None]:
    """Do the same where tracing misses opcodes: in 3.13, those of a function's first call."""
    monitoring, me = sys.monitoring, threading.get_ident()
    tool, events = monitoring.DEBUGGER_ID, monitoring.events

    def starts(code: CodeType, at: int) -> None:
        if threading.get_ident() == me:
            calls(sys._getframe(1))

    def instruction(code: CodeType, at: int) -> None:
        frame = sys._getframe(1)
        if threading.get_ident() == me and _is_in(frame, files):
            steps(frame, at)

    monitoring.use_tool_id(tool, "interrupts")
    monitoring.register_callback(tool, events.PY_START, starts)
    monitoring.register_callback(tool, events.INSTRUCTION, instruction)
    monitoring.set_events(tool, events.PY_START | events.INSTRUCTION)
    try:
        yield
    finally:
        monitoring.set_events(tool, 0)
        monitoring.free_tool_id(tool)


_LOOKED = frozenset({"RESUME", "JUMP_BACKWARD", "CALL", "CALL_FUNCTION_EX"})


def each_line(
    files: tuple[str, ...],
    act: Callable[[], object],
    check: Callable[[], Any],
    *,
    step: int = 1,
) -> list[Any]:
    """Kill at the first line, the next, and so on; return what the checks say in between."""
    found: list[Any] = []
    while True:
        killed = killed_at(len(found) * step, files, act)
        found.append(check())
        if not killed:
            return found
