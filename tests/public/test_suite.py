"""How the suite itself is run: over workers, by any interpreter, and on a loaded machine."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
DOCUMENTS = [
    "README.md",
    "docs/howto",
    "src/resilient/policy/policy.py",
    "src/resilient/policy/decorators.py",
]

pytestmark = pytest.mark.skipif(
    not (ROOT / "Makefile").exists(), reason="a source distribution has neither make nor CI"
)


def test_the_examples_of_a_document_are_run_by_one_worker() -> None:
    """Each builds upon the names of those before it; different documents go to both workers."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", "2", "-v", "-p", "no:randomly", *DOCUMENTS],
        cwd=ROOT, capture_output=True, text=True, timeout=200, check=False,
        env={name: value for name, value in os.environ.items() if "PYTEST" not in name},
    )  # fmt: skip
    workers: dict[str, set[str]] = defaultdict(set)
    for worker, document in re.findall(r"\[(gw\d+)\].* PASSED (\S+?)::line:", done.stdout):
        workers[document].add(worker)
    assert done.returncode == 0, done.stdout[-3000:]
    assert len(workers) > 10, done.stdout[-3000:]
    assert {len(each) for each in workers.values()} == {1}
    assert set.union(*workers.values()) == {"gw0", "gw1"}


def found(name: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Ask for an interpreter."""
    return subprocess.run(
        [str(ROOT / ".ci" / "find-python"), name],
        capture_output=True, text=True, timeout=60, check=False, env={**os.environ, **environ},
    )  # fmt: skip


def version_of(python: str) -> str:
    """Return the version of an interpreter."""
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    return subprocess.run(
        [python, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()


def test_an_interpreter_is_found_by_its_path_and_by_its_name() -> None:
    """By a path it is that one, by a name one of that version."""
    path = found(sys.executable).stdout.strip()
    assert os.path.samefile(path, sys.executable)
    name = f"python{VERSION}"
    assert version_of(found(name).stdout.strip()) == name.removeprefix("python")


@pytest.fixture
def elsewhere(tmp_path: Path) -> dict[str, str]:
    """A PATH with a shim of pyenv that does not run, and an interpreter among its versions."""
    shims, version = tmp_path / "shims", tmp_path / "versions" / "9.9.9" / "bin"
    shims.mkdir()
    version.mkdir(parents=True)
    name = f"python{VERSION}"
    (shims / name).write_text("#!/bin/sh\necho 'version not set' >&2\nexit 127\n")
    (shims / name).chmod(0o755)
    (version / name).write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (version / name).chmod(0o755)
    return {"PATH": f"{shims}:/usr/bin:/bin", "PYENV_ROOT": str(tmp_path)}


def test_a_shim_that_does_not_run_is_passed_over(elsewhere: dict[str, str]) -> None:
    """What pyenv has is found all the same."""
    name = f"python{VERSION}"
    done = found(name, **elsewhere)
    assert os.path.samefile(done.stdout.strip(), sys.executable), done


def test_one_of_another_version_is_passed_over(elsewhere: dict[str, str], tmp_path: Path) -> None:
    """A name that lies about its version is not believed."""
    liar = tmp_path / "shims" / "python3.99"
    liar.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    liar.chmod(0o755)
    done = found("python3.99", **elsewhere)
    assert (done.returncode, done.stdout) == (1, "")
    assert "no python3.99 was found" in done.stderr


def commands(*words: str) -> str:
    """Return what make would do."""
    return subprocess.run(
        ["make", "--dry-run", "--always-make", *words],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=True,
        env={
            name: value for name, value in os.environ.items()
            if name != "PYTHON" and not name.startswith("MAKE")
        },
    ).stdout  # fmt: skip


def test_each_interpreter_has_an_environment_of_its_own() -> None:
    """`make test PYTHON=...` uses none that another interpreter made."""
    assert "\n.venv/bin/python -m pytest" in commands("test")
    own = f".venv-{VERSION}{sys.abiflags}"
    said = commands("test", f"PYTHON={sys.executable}")
    assert f"\n{own}/bin/python -m pytest" in said
    assert "\n.venv/bin" not in said


@pytest.mark.parametrize("group", ["ALONE", "WAITING", "SLOW"])
def test_each_path_of_a_group_is_there(group: str) -> None:
    """A folder that was moved would be run with the rest, and nobody would see it."""
    paths = subprocess.run(
        ["make", "--no-print-directory", f"--eval=show: ; @echo $({group})", "show"],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=True,
    ).stdout.split()  # fmt: skip
    assert len(paths) > 1
    assert [path for path in paths if not (ROOT / path).exists()] == []
