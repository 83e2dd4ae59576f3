"""Java-compatible partitioning: the same key lands where Kafka's own clients put it."""

from functools import lru_cache

_M = 0x5BD1E995
_MASK = 0xFFFFFFFF
_SEED = 0x9747B28C


def murmur2(key: bytes) -> int:
    """Hash as `org.apache.kafka.common.utils.Utils.murmur2` does, as an unsigned 32-bit number."""
    length = len(key)
    hashed = _SEED ^ length
    whole = length & ~3
    for start in range(0, whole, 4):
        k = int.from_bytes(key[start : start + 4], "little") * _M & _MASK
        k ^= k >> 24
        k = k * _M & _MASK
        hashed = hashed * _M & _MASK ^ k
    rest = key[whole:]
    if rest:
        hashed ^= int.from_bytes(rest, "little")
        hashed = hashed * _M & _MASK
    hashed ^= hashed >> 13
    hashed = hashed * _M & _MASK
    return hashed ^ hashed >> 15


@lru_cache(
    maxsize=8192
)  # the events of one call come close together; hashing in Python costs as much as a JSON parse
def partition_for_key(key: bytes, partitions: int) -> int:
    """Where Java's default partitioner puts *key* in a topic of *partitions* partitions."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions
