"""
Records and frames as bytes: what a segment of the spool consists of.

    salt          8   first bytes of the spool's id: marks the next frame behind corrupt bytes, and no body can forge it
    crc32         4   of everything that follows
    length        4   of the records, in bytes
    count         4   of records
    first         8   sequence number of the first record
    records           each: length of metadata, length of value (4 and 4), metadata (a JSON array, bytes as latin-1), value

Numbers are little-endian.
"""

from collections.abc import Callable, Iterator
from struct import Struct
from typing import Final, NamedTuple
from zlib import crc32

import orjson

from voipex.records import Record

_HEADER: Final = Struct("<8sIIIQ")
_AFTER_CRC: Final = 12  # where the bytes begin that the crc covers
_LENGTHS: Final = Struct("<II")

ReadAt = Callable[[int, int], bytes]
"""(size, offset) -> that part of a file, shorter at its end: `os.pread` of a descriptor."""


def encode_record(record: Record) -> bytes:
    topic, partition, key, value, headers, timestamp_ms = record
    flat = [topic, partition, timestamp_ms, None if key is None else key.decode("latin-1")]
    for name, content in headers:
        flat.append(name)
        flat.append(content.decode("latin-1"))
    metadata = orjson.dumps(flat)
    return _LENGTHS.pack(len(metadata), len(value)) + metadata + value


def decode_records(body: bytes, count: int) -> Iterator[Record]:
    offset = 0
    for _ in range(count):
        metadata_bytes, value_bytes = _LENGTHS.unpack_from(body, offset)
        offset += _LENGTHS.size
        topic, partition, timestamp_ms, key, *flat = orjson.loads(body[offset : offset + metadata_bytes])
        offset += metadata_bytes
        contents = [text.encode("latin-1") for text in flat[1::2]]
        yield Record(
            topic,
            partition,
            None if key is None else key.encode("latin-1"),
            body[offset : offset + value_bytes],
            tuple(zip(flat[::2], contents, strict=True)),
            timestamp_ms,
        )
        offset += value_bytes


def encode_frame(salt: bytes, first_seq: int, record_count: int, body: bytes) -> bytes:
    header = _HEADER.pack(salt, 0, len(body), record_count, first_seq)[_AFTER_CRC:]
    return b"".join((salt, crc32(body, crc32(header)).to_bytes(4, "little"), header, body))


class ScannedFrame(NamedTuple):
    """An intact frame of a file."""

    first_seq: int
    record_count: int
    body: bytes
    stop: int
    """File offset of its end."""

    @property
    def end_seq(self) -> int:
        """Sequence number after its last record."""
        return self.first_seq + self.record_count


def scan_frames(read: ReadAt, salt: bytes, start: int, stop: int, chunk_bytes: int) -> Iterator[ScannedFrame]:
    """Yield the intact frames between two file offsets in order, skipping all other bytes. Blocks; holds about one chunk in memory."""
    window = FileWindow(read, stop, chunk_bytes)
    offset = start
    while offset + _HEADER.size <= stop:
        content, i = window.read_at(offset, _HEADER.size)
        if len(content) - i < _HEADER.size:
            return
        found_salt, crc, length, record_count, first_seq = _HEADER.unpack_from(content, i)
        frame_stop = offset + _HEADER.size + length
        if found_salt == salt and frame_stop <= stop:
            frame_bytes = frame_stop - offset
            content, i = window.read_at(offset, frame_bytes)
            if crc32(memoryview(content)[i + _AFTER_CRC : i + frame_bytes]) == crc:
                body = content[i + _HEADER.size : i + frame_bytes]
                yield ScannedFrame(first_seq, record_count, body, frame_stop)
                offset = frame_stop
                continue
        offset = window.find(salt, offset + 1)


class FileWindow:
    """A sliding window over a file."""

    def __init__(self, read: ReadAt, stop: int, chunk_bytes: int) -> None:
        self._read, self._stop, self._chunk_bytes = read, stop, chunk_bytes
        self._start, self._content = 0, b""

    def read_at(self, offset: int, size: int) -> tuple[bytes, int]:
        """Return the window, moved to contain *size* bytes at *offset* (fewer at the end of the file), and the index of *offset* in it."""
        if not self._start <= offset <= offset + size <= self._start + len(self._content):
            self._start = offset
            self._content = self._read(max(size, min(self._chunk_bytes, self._stop - offset)), offset)
        return self._content, offset - self._start

    def find(self, salt: bytes, offset: int) -> int:
        """Return the file offset of the next *salt*, or of the end."""
        while offset + len(salt) <= self._stop:
            content, i = self.read_at(offset, min(self._chunk_bytes, self._stop - offset))
            if (found := content.find(salt, i)) >= 0:
                return self._start + found
            if len(content) - i < len(salt):
                break
            offset = self._start + len(content) - len(salt) + 1
        return self._stop
