"""
Records and frames as bytes: what a segment of the spool is made of.

    mark      8   the first bytes of the spool's id: frames are found again behind damage, and no body can forge one
    crc32     4   of all that follows
    length    4   of the records
    count     4   of records
    first     8   sequence number
    records       each: length of metadata, length of value (4 and 4), metadata (a JSON array, bytes as latin-1), value

Numbers are little-endian.
"""

from collections.abc import Iterator
from struct import Struct
from typing import Final, NamedTuple
from zlib import crc32

import orjson

from voipex.records import Record

HEAD: Final = Struct("<8sIIIQ")
AFTER_CRC: Final = 12  # the crc covers everything behind itself
_SIZES: Final = Struct("<II")


def encode_record(record: Record) -> bytes:
    topic, partition, key, value, headers, timestamp_ms = record
    flat = [topic, partition, timestamp_ms, None if key is None else key.decode("latin-1")]
    for name, content in headers:
        flat.append(name)
        flat.append(content.decode("latin-1"))
    metadata = orjson.dumps(flat)
    return _SIZES.pack(len(metadata), len(value)) + metadata + value


def decode_records(body: bytes, count: int) -> Iterator[Record]:
    at = 0
    for _ in range(count):
        metadata_bytes, value_bytes = _SIZES.unpack_from(body, at)
        at += _SIZES.size
        topic, partition, timestamp_ms, key, *flat = orjson.loads(body[at : at + metadata_bytes])
        at += metadata_bytes
        contents = [text.encode("latin-1") for text in flat[1::2]]
        yield Record(
            topic,
            partition,
            None if key is None else key.encode("latin-1"),
            body[at : at + value_bytes],
            tuple(zip(flat[::2], contents, strict=True)),
            timestamp_ms,
        )
        at += value_bytes


class Found(NamedTuple):
    """A good frame in a file."""

    first: int
    records: int
    body: bytes
    stop: int  # where it ends

    @property
    def end(self) -> int:
        return self.first + self.records


def frame_bytes(mark: bytes, first: int, count: int, body: bytes) -> bytes:
    head = HEAD.pack(mark, 0, len(body), count, first)[AFTER_CRC:]
    return b"".join((mark, crc32(body, crc32(head)).to_bytes(4, "little"), head, body))
