"""Hypothesis looks at the same examples in every run of `make test`; `make soak` looks at many more, and at others each time."""

import os
from importlib.util import find_spec

from hypothesis import settings

settings.register_profile("fast", max_examples=10, stateful_step_count=15, deadline=None, derandomize=True)
settings.register_profile("test", max_examples=100, stateful_step_count=30, deadline=None, derandomize=True)
settings.register_profile("soak", max_examples=5000, stateful_step_count=60, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "test"))


def pytest_report_header() -> str:
    """What is tested: the source, or the services compiled as they are shipped (ADR 9)."""
    spec = find_spec("voipex.records")
    return f"services: {'none' if spec is None else spec.origin}"
