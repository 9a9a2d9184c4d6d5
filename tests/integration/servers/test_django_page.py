"""The page on Django, run as one project in a process of its own: settings are set once in one."""

from __future__ import annotations

import re
import subprocess
import sys

from tests.kit.paths import ROOT

PAGE = ROOT / "docs" / "howto" / "django.md"

BEGIN = """
import django, sys
from django.conf import settings
"""
SETTINGS = """
settings.configure(
    ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="of the tests", DATABASES={},
    LOGGING_CONFIG=None,
    **{name: value for name, value in dict(globals()).items()
       if name == "MIDDLEWARE" or name.startswith("RESILIENT_")},
)
django.setup()
"""


def test_the_page_on_django_runs() -> None:
    policies, options, *rest = re.findall(r"```py\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert len(rest) == 4
    code = "\n".join([BEGIN, policies, options, SETTINGS, *rest])
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=60)
