"""The command line in processes of its own, forked from one that has read what others wrote.

Each reads ``resilient`` itself, under its own environment, as one does that a shell starts. The
interpreter and the libraries are there already: to start those costs more than all a command does.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from typing import IO, Any

from tests.kit.paths import ROOT

# What a new interpreter alone obeys, at its start.
_AT_START = ("PYTHON", "LC_", "LANG", "TZ")


class WarmCommands:
    """A process that forks a command whenever it is asked to."""

    def __init__(self) -> None:
        self._environ = {
            name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ
        }
        self._line, its = socket.socketpair()
        with its:
            self._process = subprocess.Popen(
                [sys.executable, "-W", "error", "-m", __name__],
                stdin=its,
                cwd=ROOT,
                env=self._environ,
            )
        self._turn = threading.Lock()
        atexit.register(self.close)

    def close(self) -> None:
        """End the process; commands that run go on."""
        self._line.close()
        self._process.wait()

    def can(self, environ: Mapping[str, str]) -> bool:
        """Return whether nothing in a command's environment needs an interpreter of its own."""
        return _at_start(environ) == _at_start(self._environ)

    def run(
        self, words: Sequence[str | bytes], environ: Mapping[str, str], timeout: float
    ) -> tuple[int, bytes, bytes]:
        """Run a command to its end; return its exit code, and what it printed and complained of.

        Raises:
            subprocess.TimeoutExpired: it took longer than the timeout, in seconds, and was killed.
        """
        said = [os.fsdecode(word) for word in words]
        mine, its = socket.socketpair()
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, mine:
            with its, self._turn:
                socket.send_fds(self._line, [b"."], [its.fileno(), out.fileno(), err.fileno()])
            told = {"words": said, "environ": dict(environ), "cwd": os.getcwd()}
            mine.sendall(json.dumps(told).encode() + b"\n")
            mine.settimeout(timeout)
            with mine.makefile() as answers:
                pid = int(answers.readline())
                try:
                    code = int(answers.readline())
                except TimeoutError:
                    os.killpg(pid, signal.SIGKILL)
                    raise subprocess.TimeoutExpired(said, timeout) from None
            return code, _read(out), _read(err)


def _at_start(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environ.items() if name.startswith(_AT_START)}


def _read(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read()


def _serve() -> tuple[dict[str, Any], list[int]]:
    """Fork for each that asks; return in the children alone, with what they are to be."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(fileno=os.dup(0)) as line:
        while True:
            asked, files, _, _ = socket.recv_fds(line, 1, 3)
            if not asked:
                os._exit(0)
            if not os.fork():
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                return _begun(socket.socket(fileno=files[0])), files[1:]
            for each in files:
                os.close(each)


def _begun(asker: socket.socket) -> dict[str, Any]:
    """Fork once more: the parent tells the asker how it ends, the child returns what it is to be."""
    with asker:
        told = json.loads(asker.makefile().readline())
        pid = os.fork()
        if pid:
            asker.sendall(b"%d\n" % pid)
            _, status = os.waitpid(pid, 0)
            asker.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))
            os._exit(0)
    return dict(told)


def _become(told: dict[str, Any], files: list[int]) -> None:
    """Take on what a shell gives a command."""
    os.setsid()
    for number, file in enumerate([os.open(os.devnull, os.O_RDONLY), *files]):
        os.dup2(file, number)
        os.close(file)
    os.chdir(told["cwd"])
    sys.path[0] = told["cwd"]
    os.environ.clear()
    os.environ.update(told["environ"])
    sys.argv = ["resilient", *told["words"]]


if __name__ == "__main__":
    import inspect  # noqa: F401
    import sqlite3  # noqa: F401
    import ssl  # noqa: F401
    import statistics  # noqa: F401
    import urllib.request  # noqa: F401

    import click  # noqa: F401
    import redis  # noqa: F401
    import rich.console
    import rich.live
    import rich.table  # noqa: F401

    gc.collect()
    gc.freeze()  # the end of a command does not go through them
    _become(*_serve())
    runpy.run_module("resilient.cli", run_name="__main__", alter_sys=True)
