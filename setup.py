"""Build the compiled core where that can be done; the library is whole without it.

RESILIENT_PURE=1 builds none, and the wheel is for any platform. Where a compiler or Python's
headers are missing the build goes on without it.
"""

import os
import re
import sysconfig
import tomllib
from glob import glob
from pathlib import Path

from setuptools import Extension, setup

HERE = Path(__file__).parent


def readme() -> str:
    """Return the README with links and pictures that work where its files are not beside it."""
    project = tomllib.loads((HERE / "pyproject.toml").read_text("utf-8"))["project"]
    source = f"{project['urls']['Source']}/{{}}/v{project['version']}/"

    def absolute(link: re.Match[str]) -> str:
        return link[1] + source.format("raw" if link[1].startswith("!") else "blob") + link[2]

    text = (HERE / "README.md").read_text("utf-8")
    return re.sub(r"(!?\[[^\]]*\]\()(?!https?:|#)([^)]+)", absolute, text)


pure = os.environ.get("RESILIENT_PURE", "").strip().lower() not in ("", "0", "false", "no", "off")
threads_run_at_once = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
core = Extension(
    "resilient._core",
    sources=sorted(glob("src/resilient/engine/core/*.c")),
    depends=sorted(glob("src/resilient/engine/core/*.h")),
    extra_compile_args=[] if os.name == "nt" else ["-O2", "-g0", "-fvisibility=hidden"],
    optional=True,
)
setup(
    ext_modules=[] if pure or threads_run_at_once else [core],
    long_description=readme(),
    long_description_content_type="text/markdown",
)
