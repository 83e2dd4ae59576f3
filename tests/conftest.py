"""Hypothesis looks at the same examples in every run of `make test`; `make soak` looks at many more, and at others each time."""

import os

import pytest
from hypothesis import settings

settings.register_profile("fast", max_examples=10, stateful_step_count=15, deadline=None, derandomize=True)
settings.register_profile("test", max_examples=100, stateful_step_count=30, deadline=None, derandomize=True)
settings.register_profile("soak", max_examples=5000, stateful_step_count=60, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "test"))


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Run what is marked `anyio` on asyncio only."""
    return "asyncio"
