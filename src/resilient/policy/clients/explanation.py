"""The types that `resilient.explain` returns."""

from __future__ import annotations

from typing import Any, Final, Literal

What = Literal["guarded", "bounded", "handed out", "left alone"]
ORDER: Final[tuple[What, ...]] = ("guarded", "bounded", "handed out", "left alone")
_HEADS: Final[dict[What, str]] = {
    "guarded": "goes through the policy",
    "bounded": "is never refused, but has a time limit",
    "handed out": "is looked at when it is read: what reaches back is guarded as well",
    "left alone": "is as it was",
}


class Explained:
    """One name of a wrapped client, as `resilient.explain` reports it.

    Attributes:
        name: the method or attribute; for a part's method ``part.method``.
        what: ``"guarded"``, ``"bounded"`` (never refused, but with a time limit), ``"handed out"``
            or ``"left alone"``.
        why: what bounds it, or why it is left alone.

    Example:
        >>> import resilient
        >>> from resilient import Policy, bulkhead
        >>> class Actors:
        ...     def find(self, name):
        ...         return [name]
        >>> actors = Policy("actors", bulkhead(5)).wrap(Actors())
        >>> resilient.explain(actors).rows[0]
        Explained('find', 'guarded', 'no time limit')
    """

    __slots__ = ("name", "what", "why")

    def __init__(self, name: str, what: What, why: str) -> None:
        self.name: str = name
        self.what: What = what
        self.why: str = why

    def as_data(self) -> dict[str, str]:
        """Return it as plain data.

        Returns:
            A dict of str, with the names of the attributes.
        """
        return {"name": self.name, "what": self.what, "why": self.why}

    def __repr__(self) -> str:
        return f"Explained({self.name!r}, {self.what!r}, {self.why!r})"


class Explanation:
    """What `resilient.explain` returns; `print` shows it as text.

    Attributes:
        policy: the name of the policy.
        client: the class of the client.
        rows: an `Explained` for each name that the client has.
        gaps: sentences on what the policy declares but can't do for this client, for which
            ``wrap(..., strict=True)`` raises.

    Example:
        >>> import resilient
        >>> from resilient import Policy, bulkhead, timeout
        >>> class Prints:
        ...     def order(self, title):
        ...         return title
        >>> policy = Policy("prints", bulkhead(5), timeout(1, sync="cooperative"))
        >>> [gap] = resilient.explain(policy.wrap(Prints())).gaps
        >>> gap.partition(":")[0]
        'sync="cooperative" bounds no call of it'
    """

    __slots__ = ("client", "gaps", "policy", "rows")

    def __init__(
        self, policy: str, client: str, rows: tuple[Explained, ...], gaps: tuple[str, ...]
    ) -> None:
        self.policy: str = policy
        self.client: str = client
        self.rows: tuple[Explained, ...] = rows
        self.gaps: tuple[str, ...] = gaps

    def as_data(self) -> dict[str, Any]:
        """Return it as plain data.

        Returns:
            A dict of str and lists, with the names of the attributes.
        """
        rows = [row.as_data() for row in self.rows]
        return {"policy": self.policy, "client": self.client, "rows": rows, "gaps": [*self.gaps]}

    def __str__(self) -> str:
        lines = [f"{self.client}, wrapped by the policy {self.policy}"]
        for what in ORDER:
            rows = [row for row in self.rows if row.what == what]
            if rows:
                width = min(max(len(row.name) for row in rows), 32)
                lines += ["", f"{what}: {_HEADS[what]}"]
                lines += [f"  {row.name:{width}}  {row.why}".rstrip() for row in rows]
        if self.gaps:
            lines += ["", "what the policy says and can't do here:"]
            lines += [f"  {gap}" for gap in self.gaps]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<Explanation of {self.client} by {self.policy}: {len(self.rows)} names>"
