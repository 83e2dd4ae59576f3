"""The composition root of the consumers."""

import resource
from collections.abc import Iterator

import pytest

from consumers.service import _raise_file_limit


@pytest.fixture
def limits() -> Iterator[tuple[int, int]]:
    held = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield held
    resource.setrlimit(resource.RLIMIT_NOFILE, held)


def test_the_limit_of_open_files_is_raised(limits: tuple[int, int]) -> None:
    _, hard = limits
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))

    _raise_file_limit()

    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (65_536 if hard == -1 else min(65_536, hard), hard)


def test_a_higher_limit_of_open_files_stays(limits: tuple[int, int]) -> None:
    _, hard = limits
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    _raise_file_limit()

    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
