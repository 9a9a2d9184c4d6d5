"""`python -m resilient` is the command, also where the command's own script is not in PATH."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.kit.command import Cli
from tests.kit.waiting import WAIT


def run(cli: Cli, module: str, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a module as a program."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", module, *words],
        env=cli.env(**environ), stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=WAIT, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    "words", [("--help",), ("flags", "--json"), ("flags", "show", "none"), ("nonsense",)]
)
def test_it_says_and_does_what_the_command_does(cli: Cli, words: tuple[str, ...]) -> None:
    """The same words, the same exit code; and it calls itself by the command's name."""
    cli.flip("flags", "off", "recs", "--declare").said(0)
    ours, theirs = (run(cli, module, *words) for module in ("resilient", "resilient.cli"))
    assert (ours.returncode, ours.stdout, ours.stderr) == (
        theirs.returncode,
        theirs.stdout,
        theirs.stderr,
    )
    assert "__main__" not in ours.stdout + ours.stderr


@pytest.mark.parametrize("missing", ["click", "rich"])
def test_without_the_extra_it_says_what_to_install(cli: Cli, missing: str) -> None:
    """It exits with 2, and without a traceback."""
    stubs = cli.home / "stubs"
    stubs.mkdir()
    (stubs / f"{missing}.py").write_text(
        f'raise ImportError("No module named {missing!r}", name="{missing}")\n'
    )
    path = ":".join(filter(None, [str(stubs), cli.env().get("PYTHONPATH")]))
    done = run(cli, "resilient", "flags", PYTHONPATH=path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "pip install 'resilient-guards[cli]'" in done.stderr
    assert "Traceback" not in done.stderr
