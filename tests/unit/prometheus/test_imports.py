"""Who imports first, in fresh interpreters: we follow, and never lead."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

HEAVY = [
    "prometheus_client", "wrapt", "anyio", "trio", "asyncio", "inspect", "dataclasses", "logging",
]  # fmt: skip
SHOW = """
from prometheus_client import REGISTRY, generate_latest
text = generate_latest(REGISTRY).decode()
count = text.count("# TYPE resilient_policies gauge")
print("on" if "resilient_policies 0.0" in text else "off", count)
import sys
print([f for f in sys.meta_path if type(f).__module__.startswith("resilient")])
"""
ON, OFF = ["on 1", "[]"], ["off 0", "[]"]


def run(code: str, *options: str, **env: str) -> tuple[list[str], str]:
    """Return what code printed in a new interpreter, and what it complained of."""
    done = subprocess.run(
        [sys.executable, *options, "-c", code], capture_output=True, text=True, timeout=50,
        env={**os.environ, **env}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines(), done.stderr


def test_import_alone_loads_nothing_heavy() -> None:
    code = f"""
import sys
before = set(sys.modules)
import resilient
print([name for name in {HEAVY} if name in sys.modules and name not in before])
import resilient.metrics
print([name for name in {HEAVY} if name in sys.modules and name not in before])
"""
    assert run(code)[0] == ["[]", "[]"]


@pytest.mark.parametrize(
    "first",
    [
        "import resilient",
        "import prometheus_client, resilient",
        "import resilient, prometheus_client",
        "import resilient.metrics, prometheus_client",
        "import resilient, prometheus_client.core",
        "import resilient, importlib; importlib.reload(resilient)",
        "import resilient, prometheus_client, importlib; importlib.reload(resilient)",
        "import resilient, prometheus_client, importlib; importlib.reload(prometheus_client)",
        "import resilient, wrapt; wrapt.when_imported('prometheus_client')(id)",
        "import wrapt; wrapt.when_imported('prometheus_client')(id); import resilient",
        "import resilient; from resilient import metrics; metrics.register()",
        "import resilient.metrics; resilient.metrics.unregister(); resilient.metrics.register()",
        "import resilient, importlib.util; importlib.util.find_spec('prometheus_client')",
    ],
)
def test_either_order_registers_once(first: str) -> None:
    seen, complaints = run(first + "\n" + SHOW, "-Werror")
    assert (seen, complaints) == (ON, "")


@pytest.mark.parametrize(
    "first",
    [
        "from resilient import metrics; metrics.unregister()",
        "import prometheus_client; from resilient import metrics; metrics.unregister()",
        "import resilient, prometheus_client; from resilient import metrics; metrics.unregister()",
    ],
)
def test_unregister_holds_in_either_order(first: str) -> None:
    assert run(first + "\n" + SHOW, "-Werror")[0] == OFF
    again = "\nimport importlib, resilient; importlib.reload(resilient)\n"
    assert run(first + again + SHOW, "-Werror")[0] == OFF


@pytest.mark.parametrize("order", ["resilient, prometheus_client", "prometheus_client, resilient"])
@pytest.mark.parametrize("word", ["off", "OFF", " Off "])
def test_the_environment_switches_it_off(order: str, word: str) -> None:
    code = f"import {order}\n{SHOW}"
    assert run(code, "-Werror", RESILIENT_METRICS=word)[0] == OFF
    explicit = "from resilient import metrics; metrics.register()\n"
    assert run(explicit + SHOW, "-Werror", RESILIENT_METRICS=word)[0] == ON


@pytest.mark.parametrize("word", ["", "on", "ON"])
def test_the_environment_may_say_on(word: str) -> None:
    assert run("import resilient\n" + SHOW, "-Werror", RESILIENT_METRICS=word) == (ON, "")


def test_any_other_word_is_warned_of_and_means_on() -> None:
    seen, complaints = run("import resilient\n" + SHOW, RESILIENT_METRICS="nope")
    assert seen == ON
    assert (
        "RESILIENT_METRICS must be 'on' or 'off'; got 'nope', which is taken as 'on'" in complaints
    )


def test_a_name_that_is_taken_does_not_break_the_import() -> None:
    code = """
from prometheus_client import Gauge
Gauge("resilient_limit", "someone else's")
import resilient
print(resilient.Policy("p").call(int))
"""
    seen, complaints = run(code)
    assert seen == ["0"]
    assert "metrics are not registered" in complaints
    assert "resilient_limit" in complaints


def test_the_module_and_its_spec_bear_no_trace() -> None:
    code = """
import importlib.util, pkgutil, sys
import resilient
spec = importlib.util.find_spec("prometheus_client")
print(spec.loader.is_package("prometheus_client"), spec.origin.endswith("__init__.py"))
import prometheus_client
loader = prometheus_client.__spec__.loader
print(type(loader).__name__, type(prometheus_client.__loader__).__name__)
print(len(pkgutil.get_data("prometheus_client", "__init__.py")) > 100)
print("REGISTRY" in vars(importlib.reload(prometheus_client)))
"""
    assert run(code)[0] == ["True True", "SourceFileLoader SourceFileLoader", "True", "True"]


def test_absent_it_is_the_usual_error_and_can_come_later() -> None:
    code = f"""
import sys
path, sys.path = sys.path, [p for p in sys.path if "site-packages" not in p]
sys.path += [{os.path.dirname(os.path.dirname(__import__("resilient").__file__))!r}]
import resilient
for _ in range(2):
    try:
        import prometheus_client
    except ModuleNotFoundError as error:
        print(error)
sys.path = path
{SHOW}"""
    absent = "No module named 'prometheus_client'"
    assert run(code)[0] == [absent, absent, *ON]


def test_an_import_that_fails_halfway_is_tried_again(tmp_path) -> None:
    package = tmp_path / "prometheus_client"
    package.mkdir()
    (package / "__init__.py").write_text("raise OSError('halfway')")
    code = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
import resilient
try:
    import prometheus_client
except OSError as error:
    print(error)
sys.path.pop(0)
sys.path_importer_cache.clear()
{SHOW}"""
    assert run(code)[0] == ["halfway", *ON]


@pytest.mark.parametrize("first", [True, False])
def test_another_hook_that_asks_all_finders_is_no_endless_loop(first: bool) -> None:
    install = "sys.meta_path.insert(0, Other())"
    code = f"""
import sys
class Other:
    def find_spec(self, name, path=None, target=None):
        if name == "prometheus_client":
            for finder in sys.meta_path:
                if finder is not self and (spec := finder.find_spec(name, path, target)):
                    return spec
{install if first else ""}
import resilient
{"" if first else install}
{SHOW}"""
    assert run(code)[0] == ON


def test_threads_that_import_at_once_register_once() -> None:
    code = f"""
import sys, threading
sys.setswitchinterval(1e-6)
gate = threading.Barrier(8)
failed = []
def work(number):
    gate.wait()
    try:
        if number % 2:
            import resilient, json.tool, colorsys, wave
        else:
            import prometheus_client, csv, sched, zipapp
    except BaseException as error:
        failed.append(error)
threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
[t.start() for t in threads]
[t.join(30) for t in threads]
assert not any(t.is_alive() for t in threads), "deadlock"
assert not failed, failed
import resilient
{SHOW}"""
    for _ in range(5):
        assert run(code)[0] == ON


def test_multiprocess_mode_is_decided_by_the_application(tmp_path) -> None:
    code = """
import os, resilient, resilient.metrics
os.environ["PROMETHEUS_MULTIPROC_DIR"] = PLACE
from prometheus_client import Counter, values
print(values.ValueClass.__qualname__)
""".replace("PLACE", repr(str(tmp_path)))
    assert "MultiProcessValue" in run(code)[0][0]
