"""Unit tests: no network."""

import pytest


@pytest.fixture
def anyio_backend() -> str:
    """Run tests marked `anyio` on asyncio only."""
    return "asyncio"
