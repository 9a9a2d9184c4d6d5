"""Policies whose first call is behind them: the interpreter takes that one, and not the fast path."""

from __future__ import annotations

from typing import Any

import pytest

from resilient.engine.policy_state import PolicyState


@pytest.fixture(autouse=True, params=["first call", "later call"])
def which_call(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run each test with policies that are new, and with policies that have been called."""
    if request.param == "later call":
        made = PolicyState.__init__

        def init(self: PolicyState, *args: Any, **kwargs: Any) -> None:
            made(self, *args, **kwargs)
            self.uncalled = False
            self.gate = self.compute_gate()
            self.roll_peak(self.now())

        monkeypatch.setattr(PolicyState, "__init__", init)
