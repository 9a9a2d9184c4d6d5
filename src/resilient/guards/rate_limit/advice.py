"""What of a rate limit can't work as it seems to."""

from __future__ import annotations

from ..advising import FAR, Advises, Seen


class RateAdvice(Advises):
    """The part of a rate limit that gives advice."""

    @classmethod
    def advise(cls, seen: Seen) -> list[str] | None:
        options = seen.options(cls.kind)
        calls, period = options.get("max_calls"), options.get("period")
        if options.get("scope") == "fleet":  # the others' calls are not seen here
            return None
        if not isinstance(calls, int) or not isinstance(period, (int, float)):
            return []
        if seen.refused(cls.kind) or seen.rate * FAR >= calls / period:
            return []
        text = (
            f"{seen.rate:.2f} calls of a process begin in a second, of {calls / period:g} that it "
            "lets begin; none was ever refused"
        )
        return [text]
