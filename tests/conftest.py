"""Hypothesis uses the same examples in every run of `make test`; `make soak` uses many more, new ones each time."""

import os

import pytest
from hypothesis import HealthCheck, settings

# No deadlines and no check for slow generation: on a loaded machine these times mean nothing.
UNTIMED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("fast", UNTIMED, max_examples=10, stateful_step_count=15, derandomize=True)
settings.register_profile("test", UNTIMED, max_examples=100, stateful_step_count=30, derandomize=True)
settings.register_profile("soak", UNTIMED, max_examples=5000, stateful_step_count=60)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "test"))


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Run tests marked `anyio` on asyncio only."""
    return "asyncio"
