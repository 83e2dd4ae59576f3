"""Keys get the partition that Kafka's own clients choose."""

from collections import Counter
from typing import Any

import pytest
from aiokafka import partitioner as aiokafka_partitioner
from hypothesis import given
from hypothesis import strategies as st

from voipex.partitioner import murmur2, partition_for_key

AIOKAFKA_MURMUR2: Any = aiokafka_partitioner.murmur2

VECTORS = {
    "21": -973932308,
    "foobar": -790332482,
    "a-little-bit-long-string": -985981536,
    "a-little-bit-longer-string": -1486304829,
    "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    "abc": 479470107,
}
"""The vectors of Kafka's UtilsTest, as signed numbers of Java."""


@pytest.mark.parametrize(("key", "expected"), VECTORS.items())
def test_murmur2_matches_java(key: str, expected: int) -> None:
    assert murmur2(key.encode()) == expected & 0xFFFFFFFF


@pytest.mark.parametrize(("key", "expected"), VECTORS.items())
def test_partition_is_the_positive_hash_modulo_partitions(key: str, expected: int) -> None:
    assert partition_for_key(key.encode(), 12) == (expected & 0x7FFFFFFF) % 12


@given(st.binary(max_size=40))
def test_murmur2_matches_aiokafka(key: bytes) -> None:
    assert murmur2(key) == AIOKAFKA_MURMUR2(key) & 0xFFFFFFFF


@pytest.mark.parametrize("length", range(5))
def test_keys_of_any_length_have_a_partition(length: int) -> None:
    assert 0 <= partition_for_key("é".encode() * length, 7) < 7


def test_unique_ids_spread_over_all_partitions() -> None:
    load = Counter(partition_for_key(f"1412256225.{n}".encode(), 12) for n in range(2400))

    assert len(load) == 12
    assert max(load.values()) < 2 * min(load.values())
