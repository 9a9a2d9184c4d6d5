"""The values of all flags at one instant."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ..flag_handle import Flag
from ..locks import tally
from .declarations import Flags


class Snapshot(Mapping[str, bool]):
    """The values of all flags at one instant; made by `resilient.flags.snapshot`.

    Look a value up by flag or by name. Later flips do not change it. A look-up by flag counts as a
    read of the flag; one by name, as in a listing, does not.
    """

    def __init__(self, flags: Flags, table: dict[str, bool]) -> None:
        self._flags = flags
        self._table = table

    def __getitem__(self, flag: Flag | str) -> bool:
        try:
            found = self._flags.get(flag)
        except LookupError as error:
            raise KeyError(str(error)) from None
        on, seen = self._table.get(found.name, found.state), found.seen
        if isinstance(flag, Flag):  # one by name may be a listing, which tests nothing
            if seen is not None:
                seen(found, on)
            if not on:
                with tally:
                    found.off_reads += 1
        return on

    def __iter__(self) -> Iterator[str]:
        return iter(self._table)

    def __len__(self) -> int:
        return len(self._table)

    def __repr__(self) -> str:
        off = [name for name, on in self._table.items() if not on]
        return f"<snapshot of {len(self._table)} flags; off: {', '.join(off) or 'none'}>"
