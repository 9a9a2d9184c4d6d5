"""Build the compiled core where that can be done; the library is whole without it.

RESILIENT_PURE=1 builds none, and the wheel is for any platform. Where a compiler or Python's
headers are missing the build goes on without it.
"""

import os
import sysconfig
from glob import glob

from setuptools import Extension, setup

pure = os.environ.get("RESILIENT_PURE", "").strip().lower() not in ("", "0", "false", "no", "off")
threads_run_at_once = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
core = Extension(
    "resilient._core",
    sources=sorted(glob("src/resilient/engine/core/*.c")),
    depends=sorted(glob("src/resilient/engine/core/*.h")),
    extra_compile_args=[] if os.name == "nt" else ["-O2", "-g0", "-fvisibility=hidden"],
    optional=True,
)
setup(ext_modules=[] if pure or threads_run_at_once else [core])
