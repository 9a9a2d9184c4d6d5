"""A process that does what it is told, line by line, over a socket; and each of its forks too."""

from __future__ import annotations

import ast
import faulthandler
import json
import os
import re
import signal
import socket
import sys
from typing import Any

import resilient
from resilient import metrics
from resilient.admin.registry import registry

_LINE = re.compile(r"resilient_(\w+?)(\{.*\})? (\S+)")


def scrape() -> dict[str, float]:
    """Return the samples that /metrics has, by their text."""
    text = metrics.exposition()[0].decode()
    found = [_LINE.fullmatch(line) for line in text.splitlines() if not line.startswith("#")]
    return {each[1] + _labels(each[2] or ""): float(each[3]) for each in found if each is not None}


def _labels(text: str) -> str:
    return "{" + ",".join(sorted(text[1:-1].split(",")) if text else []) + "}"


def core(name: str) -> Any:
    """Return the core of a policy."""
    return registry.find(name)


def fail(error: BaseException | None = None) -> None:
    """Do what a guarded function does that fails."""
    raise error or ConnectionError("down")


def told(namespace: dict[str, Any], code: str) -> Any:
    """Run some lines; return the value of the last one, where it is an expression."""
    tree = ast.parse(code)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "<told>", "exec"), namespace)
    if not isinstance(last, ast.Expr):
        return None
    return eval(compile(ast.Expression(last.value), "<told>", "eval"), namespace)  # noqa: S307 - a test tells what to do


def fork(namespace: dict[str, Any]) -> int:
    """Fork: the child has what the parent had, and listens on its own."""
    pid = os.fork()
    if pid == 0:
        try:
            serve(namespace)
        finally:
            os._exit(0)
    return pid


def serve(namespace: dict[str, Any]) -> None:
    """Do what comes, until the other end goes away."""
    line = socket.socket(socket.AF_UNIX)
    line.connect(sys.argv[1])
    stream = line.makefile("rw")
    stream.write(f"{os.getpid()}\n")
    stream.flush()
    for words in stream:
        signal.alarm(150)  # says where it hangs, and ends it
        try:
            answer = {"value": told(namespace, json.loads(words))}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        stream.write(json.dumps(answer, default=repr) + "\n")
        stream.flush()


_WORDS = """
import gc, os, signal, sys, threading, time
from resilient import *
from resilient.pages.sharing import here
from resilient.testing import ManualClock
"""

if __name__ == "__main__":
    everything: dict[str, Any] = {
        "scrape": scrape,
        "core": core,
        "fail": fail,
        "resilient": resilient,
    }
    everything["metrics"] = metrics
    everything["fork"] = lambda: fork(everything)
    told(everything, _WORDS)
    faulthandler.enable()
    faulthandler.register(signal.SIGALRM, chain=True)  # says where it hangs, and ends it
    serve(everything)
