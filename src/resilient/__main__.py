"""``python -m resilient``: as the command ``resilient``."""

from .cli import main

main()
