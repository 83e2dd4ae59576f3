"""Fixtures of all unit tests."""

import pytest


@pytest.fixture
def anyio_backend() -> str:
    """Run `@pytest.mark.anyio` tests on asyncio, the only loop of the services."""
    return "asyncio"
