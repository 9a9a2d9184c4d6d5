"""The Hypothesis profile of the model tests: small enough for every push, repeatable under CI."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, Phase, settings

settings.register_profile(
    "model",
    max_examples=60,
    stateful_step_count=30,
    deadline=None,
    derandomize="CI" in os.environ,
    database=None,
    phases=[Phase.explicit, Phase.generate, Phase.shrink],  # explaining costs a minute here
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("model")
