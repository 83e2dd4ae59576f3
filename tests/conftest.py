"""Hypothesis looks at the same examples in every run of `make test`; `make soak` looks at many more, and at others each time."""

import os

import pytest
from hypothesis import HealthCheck, settings

# The time that an example takes says nothing on a loaded machine, nor does the time that ten of them take to be drawn.
UNTIMED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("fast", UNTIMED, max_examples=10, stateful_step_count=15, derandomize=True)
settings.register_profile("test", UNTIMED, max_examples=100, stateful_step_count=30, derandomize=True)
settings.register_profile("soak", UNTIMED, max_examples=5000, stateful_step_count=60)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "test"))


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Run what is marked `anyio` on asyncio only."""
    return "asyncio"
