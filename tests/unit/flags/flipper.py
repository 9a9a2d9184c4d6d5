"""A process that flips two flags without a pause, and says which versions it knows are recorded."""

from __future__ import annotations

import sys

from resilient.flags.flip import Flip
from resilient.flags.stores.sqlite import SQLiteStore


def main() -> None:
    """Flip until killed."""
    store = SQLiteStore(sys.argv[1])
    for number in range(10**6):
        value = "on" if number % 2 else "off"
        made = store.flip(Flip(f"flag/f{number % 3}", value, by="x", reason="y"), None, None)
        print(made.version, made.lever, value, flush=True)


if __name__ == "__main__":
    main()
