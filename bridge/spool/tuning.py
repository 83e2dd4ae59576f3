"""Sizes and intervals of the spool that no setting changes; tests pass small ones."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SpoolTuning:
    """How the spool groups, reads and stores; the defaults were measured with `benchmarks.bench_spool`."""

    segment_bytes: int = 32 << 20
    """Length of a segment file, allocated ahead."""

    max_pending_appends: int = 4096
    """Appends that may wait for the disk; beyond it they are rejected."""
    max_pending_bytes: int = 32 << 20
    """The same in bytes: events are below 1 KiB, but 4,096 large dead letters would be 512 MiB."""

    refusal_delay_s: float = 0.25
    """Until an append is refused whose PBX has filled its share: slows down a client that sends without a pause."""
    max_delayed_refusals: int = 256
    """More are refused at once: each holds a connection, and there are 1,000 by default."""

    group_max_records: int = 512
    group_max_bytes: int = 4 << 20
    """A group that has reached either takes no more appends, so that one commit takes milliseconds."""
    busy_appends: int = 8
    """After a group of so many appends more are on their way: the next group waits until arrivals pause."""
    idle_iterations: int = 2
    """Iterations of the event loop without a new append that count as a pause."""
    busy_group_appends: int = 128
    """A waiting group is committed at this size: more would save little, and its first append would wait for the last."""

    yield_s: float = 0.001
    """How long the publisher waits for a group at most: the crowd may have been the last."""

    read_ahead_bytes: int = 4 << 20
    """Written frames that stay in memory for the publisher: about 5,000 records, 15 MB of objects."""
    chunk_bytes: int = 1 << 20
    """Read from a segment at once."""
    inline_read_bytes: int = 64 << 10
    """So little is read on the event loop: it was just written, and the page cache answers sooner than a thread would."""
    decode_records: int = 100
    """Decoded between two turns of the event loop: 0.6 ms."""

    cursor_interval_s: float = 1.0
    """From an acknowledgement to the write of the cursor file."""
