"""``python -m resilient`` runs the command ``resilient``."""

from .cli import main

main()
