"""Batch: one document per key, dead letters for records that cannot be folded, exact headers. Pure."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import pytest

from consumers.engine.batch import MAX_VALUE_BYTES, Batch, BatchResult
from consumers.engine.errors import InvalidState
from consumers.engine.projection import NO_LIMIT_US, NO_PARTS, PartsNeeded
from consumers.engine.record_time import AHEAD_US
from consumers.engine.records import (
    DueState,
    InputRecord,
    PartKey,
    ProducerRecord,
    Source,
    StateChange,
    TaskId,
)
from tests.unit.consumers.tally import (
    T0_US,
    FakeRecord,
    Tally,
    TallyProjection,
    add,
    fired,
    folded,
    keys_in,
    resumed,
)
from voipex.timestamps import format_rfc3339, parse_rfc3339
from voipex.topics import AGENT_ACTIVITY, CALL_EVENTS, CALL_TIMELINES, TopicSpec

PARTITIONS = 12
TASK_ID = TaskId("brno", 4)
A, B = keys_in(4, PARTITIONS, 2)
(ELSEWHERE,) = keys_in(5, PARTITIONS, 1)
EVENTS, TIMELINES, STATE, DEAD = (
    f"brno.{suffix}" for suffix in ("call.events.v1", "call.timelines.v1", "call.state.v1", "dead-letters.v1")
)
SECOND_US = 1_000_000
TRACE = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def fold(*inputs: InputRecord, states: Mapping[str, bytes] | None = None) -> BatchResult:
    return folded(Batch(TallyProjection(), TASK_ID, PARTITIONS), inputs, states or {})


def outputs(result: BatchResult, topic: str) -> list[ProducerRecord]:
    return [each for (name, _), records in result.outputs.items() if name == topic for each in records]


def documents(result: BatchResult) -> list[tuple[str, int]]:
    """Return (key, total) of each document."""
    return [
        ((each.key or b"").decode(), json.loads(each.value or b"")["total"])
        for each in outputs(result, TIMELINES)
    ]


def stored(key: str, *inputs: InputRecord) -> bytes:
    """The state of a key after these records."""
    value = fold(*inputs).changes[key].value
    assert value is not None
    return value


def test_a_key_emits_one_document_per_batch() -> None:
    result = fold(add(A, 1), add(B, 10, 1), add(A, 2, 2), add(A, 3, 7, AGENT_ACTIVITY))

    assert documents(result) == [(A, 6), (B, 10)]
    assert (result.documents, result.dead_letters) == (2, 0)
    assert [each.key for each in outputs(result, STATE)] == [A.encode(), B.encode()]
    assert sorted(result.changes) == sorted([A, B])


def test_folding_continues_from_the_stored_state() -> None:
    kept = stored(A, add(A, 5))

    result = fold(add(A, 2, 1), states={A: kept})

    assert documents(result) == [(A, 7)]
    assert outputs(result, TIMELINES)[0].headers[4] == ("bridge-fold-version", b"3")
    assert dict(outputs(result, TIMELINES)[0].headers)["ce_id"] == f"{A}@2".encode()


class Decoding(TallyProjection):
    """Counts how often it decodes."""

    def __init__(self) -> None:
        self.decoded = 0

    def decode(self, value: bytes, parts: Mapping[str, bytes] = NO_PARTS) -> Tally:
        self.decoded += 1
        return super().decode(value, parts)


def test_a_cached_state_is_decoded_only_if_the_store_differs() -> None:
    projection = Decoding()
    batch = Batch(projection, TASK_ID, PARTITIONS)
    first = folded(batch, [add(A, 5)], {}).changes[A].value or b""
    second = folded(batch, [add(A, 2, 1)], {A: first}).changes[A].value or b""
    (due,) = fired(batch, [DueState(A, "", second)], T0_US, None).changes
    assert (projection.decoded, due) == (0, A)

    # A transaction may have failed: the store decides.
    assert documents(folded(batch, [add(A, 1, 2)], {A: first})) == [(A, 6)]
    assert documents(folded(batch, [add(A, 1, 3)], {})) == [(A, 1)]
    assert projection.decoded == 1


class Parted(TallyProjection):
    """A tally whose amounts are in a part; a state that was decoded needs it to fold."""

    def __init__(self) -> None:
        self.parts: dict[str, bytes] = {}

    def decode(self, value: bytes, parts: Mapping[str, bytes] = NO_PARTS) -> Tally:
        self.parts = dict(parts)
        return super().decode(value, parts)

    def fold(self, state: Tally, kind: TopicSpec, value: bytes) -> Tally:
        if state.revision and "amounts" not in self.parts:
            raise PartsNeeded(["amounts"])
        return super().fold(state, kind, value)

    def take_parts(self, state: Tally) -> tuple[Tally, Mapping[str, bytes | None]]:
        is_over = state.expires_us is not None and state.expires_us <= T0_US
        return state, {"amounts": None if is_over else b"%d" % state.total}


def test_a_key_waits_for_its_parts_while_others_are_folded() -> None:
    batch = Batch(Parted(), TASK_ID, PARTITIONS)
    first = folded(batch, [add(A, 5)], {})
    again = folded(
        batch,
        [add(B, 7, 1), InputRecord(CALL_EVENTS, FakeRecord(2, A.encode(), b"?")), add(A, 2, 3)],
        {A: first.changes[A].value or b""},
    )

    assert documents(again) == [(B, 7)]
    assert (again.waiting[A].names, again.dead_letters) == (("amounts",), 0)
    resumed(batch, again, {A: {"amounts": b"5"}})
    assert (documents(again), again.dead_letters, again.waiting) == ([(B, 7), (A, 7)], 1, {})
    assert again.parts == {PartKey(B, "amounts"): b"7", PartKey(A, "amounts"): b"7"}


def test_a_timer_waits_for_parts_and_fails_without_them() -> None:
    class Needs(Parted):
        def emit(self, state: Tally, as_of_us: int, limit_us: int = NO_LIMIT_US) -> Any:
            if "amounts" not in self.parts:
                raise PartsNeeded(["amounts"])
            return super().emit(state, as_of_us, limit_us)

    batch = Batch(Needs(), TASK_ID, PARTITIONS)
    value = TallyProjection().encode(Tally("brno", A, 3, 1, 1))
    result = fired(batch, [DueState(A, "odd", value)], T0_US, None)
    assert result.waiting[A].names == ("amounts",)
    resumed(batch, result, {A: {"amounts": b"3"}})
    assert documents(result) == [(A, 3)]

    batch = Batch(Needs(), TASK_ID, PARTITIONS)
    missing = fired(batch, [DueState(B, "odd", value)], T0_US, None)
    with pytest.raises(InvalidState):
        resumed(batch, missing, {B: {}})


def test_parts_lie_in_the_partition_of_their_key_and_go_with_it() -> None:
    batch = Batch(Parted(), TASK_ID, PARTITIONS)
    written = outputs(folded(batch, [add(A, 5)], {}), STATE)
    deleted = outputs(folded(batch, [add(B, 5, expires=T0_US)], {}), STATE)

    assert [(each.partition, each.key, each.value) for each in written[1:]] == [
        (4, A.encode() + b"\xffamounts", b"5")
    ]
    assert [(each.key, each.value) for each in deleted] == [
        (B.encode(), None),
        (B.encode() + b"\xffamounts", None),
    ]


def test_the_state_cache_drops_the_oldest_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("consumers.engine.batch.MAX_CACHED_STATES", 1)
    projection = Decoding()
    batch = Batch(projection, TASK_ID, PARTITIONS)
    kept = folded(batch, [add(A, 5), add(B, 7, 1)], {}).changes

    result = folded(
        batch, [add(B, 1, 2), add(A, 1, 3)], {key: change.value or b"" for key, change in kept.items()}
    )

    assert documents(result) == [(B, 8), (A, 6)]
    assert projection.decoded == 1


def test_a_document_is_as_of_the_latest_receipt_in_the_batch() -> None:
    """The document is the same whether the batch is folded as it arrives or hours later."""
    later = format_rfc3339(T0_US + 700).encode()
    first = ("ce_time", format_rfc3339(T0_US).encode())

    result = fold(
        add(A, 1, 0, headers=[first]),
        add(A, 1, 1, headers=[("ce_time", later)]),
        add(A, 1, 2, headers=[first]),
    )

    document = outputs(result, TIMELINES)[0]
    assert json.loads(document.value or b"")["as_of"] == T0_US + 700
    assert dict(document.headers)["ce_time"] == later
    assert document.timestamp_ms == T0_US // 1000


def test_ce_time_is_bounded_by_the_record_timestamp() -> None:
    """A foreign producer may claim any time; it would hide all events of its key until then."""
    result = fold(add(A, 1, headers=[("ce_time", b"9999-12-31T23:59:59Z")]))

    assert {each.timestamp_ms for records in result.outputs.values() for each in records} == {T0_US // 1000}


LIMIT_US = T0_US + AHEAD_US
HOUR_US = 3600 * SECOND_US
YEAR_2999_US = parse_rfc3339("2999-01-01T00:00:00Z")


def fold_now(*inputs: InputRecord) -> BatchResult:
    """Fold with a clock, which shows T0_US."""
    return folded(Batch(TallyProjection(), TASK_ID, PARTITIONS, lambda: T0_US), inputs, {})


@pytest.mark.parametrize(
    ("at_us", "as_of_us", "is_reported"),
    [
        (LIMIT_US - 1000, LIMIT_US - 1, False),
        (LIMIT_US, LIMIT_US + 999, True),
        (T0_US + 23 * HOUR_US, T0_US + 23 * HOUR_US + 999, True),
        (T0_US + 25 * HOUR_US, LIMIT_US, True),
        (YEAR_2999_US, LIMIT_US, True),
    ],
)
def test_times_beyond_now_are_reported_and_believed_for_a_day(
    at_us: int, as_of_us: int, is_reported: bool
) -> None:
    """Whatever they claim, Kafka gets no time from beyond the limit: it would keep the record, and those after it, until then."""
    result = fold_now(add(A, 1, at_us=at_us))

    assert json.loads(outputs(result, TIMELINES)[0].value or b"")["as_of"] == as_of_us
    assert [source.offset for source, _ in result.ahead] == [0] * is_reported
    assert {each.timestamp_ms for records in result.outputs.values() for each in records} == {
        min(as_of_us, LIMIT_US) // 1000
    }


def test_a_record_without_ce_time_claims_its_received_at() -> None:
    event = json.dumps({"add": 1, "received_at": "2999-01-01T00:00:00Z"}).encode()
    result = fold_now(InputRecord(CALL_EVENTS, FakeRecord(7, A.encode(), event)))

    assert result.ahead == [(Source(EVENTS, 7), YEAR_2999_US)]
    assert json.loads(outputs(result, TIMELINES)[0].value or b"")["as_of"] == T0_US + 999


def test_a_record_without_any_time_is_as_of_now() -> None:
    """Kafka takes -1 for none."""
    result = fold_now(InputRecord(CALL_EVENTS, FakeRecord(0, A.encode(), b'{"add": 1}', -1)))

    assert json.loads(outputs(result, TIMELINES)[0].value or b"")["as_of"] == LIMIT_US
    assert result.ahead == []


def test_ce_time_counts_where_the_timestamp_is_none() -> None:
    headers = [("ce_time", format_rfc3339(T0_US).encode())]
    result = fold_now(InputRecord(CALL_EVENTS, FakeRecord(0, A.encode(), b'{"add": 1}', -1, headers)))

    assert json.loads(outputs(result, TIMELINES)[0].value or b"")["as_of"] == T0_US


@pytest.mark.parametrize("timestamp_ms", [-1, YEAR_2999_US // 1000, 2**62])
def test_a_dead_letter_has_a_time_that_can_be_true(timestamp_ms: int) -> None:
    """Any number may stand in a record; years beyond 9999 cannot even be written."""
    unreadable = InputRecord(CALL_EVENTS, FakeRecord(0, A.encode(), b"?", timestamp_ms))
    [dead_letter] = outputs(fold_now(unreadable), DEAD)
    [of_a_trace] = outputs(fold(unreadable), DEAD)

    assert dead_letter.timestamp_ms == LIMIT_US // 1000
    assert dict(dead_letter.headers)["bridge-received-at"] == format_rfc3339(LIMIT_US).encode()
    assert of_a_trace.timestamp_ms > 0


def test_an_expired_key_is_not_believed_from_beyond_now() -> None:
    """Else one record of tomorrow could delete the state of today."""
    result = fold_now(add(A, 1, at_us=T0_US + 20 * HOUR_US, expires=T0_US + 10 * HOUR_US))

    assert result.changes[A].value is not None


@pytest.mark.parametrize("ce_time", [None, b"yesterday", b"\xff"])
def test_invalid_ce_time_falls_back_to_the_record_timestamp(ce_time: bytes | None) -> None:
    """The timestamp has milliseconds only: an earlier moment could hide the event from its own document."""
    result = fold(add(A, 1, headers=[("ce_time", ce_time)]))

    assert json.loads(outputs(result, TIMELINES)[0].value or b"")["as_of"] == T0_US + 999


def test_document_headers_are_those_of_the_contract() -> None:
    result = fold(
        add(A, 1, 40), add(A, 1, 41, headers=[("ce_type", b"voipex.call.ringing.v1"), ("traceparent", TRACE)])
    )

    (document,) = outputs(result, TIMELINES)
    assert (document.topic, document.partition, document.key) == (TIMELINES, 4, A.encode())
    assert sorted(document.headers) == sorted(
        {
            "ce_specversion": b"1.0",
            "ce_id": f"{A}@1".encode(),
            "ce_source": b"/voipex/brno",
            "ce_type": b"voipex.tally.v1",
            "ce_time": format_rfc3339(T0_US + 999).encode(),
            "ce_subject": A.encode(),
            "ce_partitionkey": A.encode(),
            "content-type": b"application/json",
            "bridge-source-topic": EVENTS.encode(),
            "bridge-source-offset": b"41",
            "bridge-fold-version": b"3",
            "traceparent": TRACE,
        }.items()
    )


def test_changelog_headers_hold_what_a_restore_needs() -> None:
    result = fold(add(A, 1, 40), add(A, 2, 9, AGENT_ACTIVITY, due=T0_US + 5, expires=T0_US + 9_000))

    (state,) = outputs(result, STATE)
    assert (state.topic, state.partition, state.key) == (STATE, 4, A.encode())
    assert state.value == result.changes[A].value
    assert dict(state.headers) == {
        "bridge-fold-version": b"3",
        "bridge-source-topic": b"brno.agent.activity.v1",
        "bridge-source-offset": b"9",
        "bridge-due-us": str(T0_US + 5).encode(),
        "bridge-status": b"odd",
    }
    assert (result.changes[A].due_us, result.changes[A].status) == (T0_US + 5, "odd")


def test_due_is_the_earlier_of_next_timer_and_expiry() -> None:
    result = fold(add(A, due=T0_US + 9_000, expires=T0_US + 5_000), add(B, expires=T0_US + 7_000))

    assert (result.changes[A].due_us, result.changes[B].due_us) == (T0_US + 5_000, T0_US + 7_000)


def test_repartitioned_documents_go_to_their_keys_partition() -> None:
    """A call emits documents of agents, whose keys belong to other partitions."""

    class Elsewhere(TallyProjection):
        repartitioned: ClassVar[Sequence[TopicSpec]] = (CALL_TIMELINES,)

        def emit(self, state: Tally, as_of_us: int, limit_us: int = NO_LIMIT_US) -> Any:
            after, found = super().emit(state, as_of_us, limit_us)
            return after, [each.__class__(each.kind, ELSEWHERE, each.value, "t", "i", 1) for each in found]

    result = folded(Batch(Elsewhere(), TASK_ID, PARTITIONS), [add(A)], {})

    assert [(each.partition, each.key) for each in outputs(result, TIMELINES)] == [(5, ELSEWHERE.encode())]


def test_a_copy_of_an_event_writes_nothing() -> None:
    kept = stored(A, add(A, 5))

    result = fold(add(A, 0, 1), states={A: kept})

    assert (result.changes, result.outputs, result.documents) == ({}, {}, 0)


def test_keys_are_those_that_are_utf8() -> None:
    strange = [FakeRecord(0, key, b"{}") for key in (None, b"\xff\xfe", b"")]
    batch = Batch(TallyProjection(), TASK_ID, PARTITIONS)

    asked = batch.keys([add(A), add(B), add(A), *(InputRecord(CALL_EVENTS, each) for each in strange)])

    assert asked == {A, B, ""}


# -------------------------------------------------------------------------------- dead letters


def invalid_records() -> list[Any]:
    key = A.encode()
    headers: Sequence[tuple[str, bytes | None]] = (("ce_id", b"7"), ("ce_type", b"voipex.call.ringing.v1"))
    value = b'{"add": 1}'
    return [
        pytest.param(FakeRecord(3, key, b"no json", headers=headers), "JSONDecodeError", "the value cannot be read", id="broken"),
        pytest.param(FakeRecord(3, key, None, headers=headers), "InvalidRecord", "no value", id="tombstone"),
        pytest.param(FakeRecord(3, None, value, headers=headers), "InvalidRecord", "no key, or a key that is not UTF-8", id="no key"),
        pytest.param(FakeRecord(3, b"\xff\xfe", value), "InvalidRecord", "no key, or a key that is not UTF-8", id="key no text"),
        pytest.param(
            FakeRecord(3, key, value, headers=[("ce_type", b"voipex.call.ringing.v2")]),
            "InvalidRecord",
            "of a version that this service does not know",
            id="unknown version",
        ),
        pytest.param(
            FakeRecord(3, ELSEWHERE.encode(), value, headers=headers),
            "InvalidRecord",
            "the key belongs to another partition: the producer must use Kafka's default partitioner (murmur2)",
            id="wrong partition",
        ),
    ]  # fmt: skip


@pytest.mark.parametrize(("record", "error", "message"), invalid_records())
def test_an_invalid_record_becomes_a_dead_letter(record: FakeRecord, error: str, message: str) -> None:
    """Key, value, headers and partition are unchanged; the reason repeats nothing of the record. The other records are folded."""
    result = fold(add(A, 1, 2), InputRecord(CALL_EVENTS, record), add(A, 2, 4))

    (dead_letter,) = outputs(result, DEAD)
    assert documents(result) == [(A, 3)]
    assert result.dead_letters == 1
    assert (dead_letter.key, dead_letter.value) == (record.key, record.value or b"")
    assert (dead_letter.partition, dead_letter.timestamp_ms) == (4, T0_US // 1000)
    assert dead_letter.headers == (
        *record.headers,
        ("bridge-error-class", error.encode()),
        ("bridge-error-message", message.encode()),
        ("bridge-stage", b"tallies"),
        ("bridge-pbx", b"brno"),
        ("bridge-received-at", format_rfc3339(T0_US).encode()),
        ("__dlq.errors.topic", EVENTS.encode()),
        ("__dlq.errors.partition", b"4"),
        ("__dlq.errors.offset", b"3"),
    )


class Failing(TallyProjection):
    """Rules with a bug."""

    def fold(self, state: Tally, kind: TopicSpec, value: bytes) -> Tally:
        folded = super().fold(state, kind, value)
        if folded.total == 13:
            raise OverflowError("13")
        return folded

    def emit(self, state: Tally, as_of_us: int, limit_us: int = NO_LIMIT_US) -> Any:
        if state.total == 7:
            raise OverflowError("7")
        return super().emit(state, as_of_us, limit_us)


@pytest.mark.parametrize("total", [13, 7], ids=["fold", "emit"])
def test_a_failing_fold_is_reported_and_dead_lettered(total: int) -> None:
    """A bug in the rules must not stop a partition."""
    kept = stored(A, add(A, 1))

    result = folded(Batch(Failing(), TASK_ID, PARTITIONS), [add(A, total - 1, 5), add(B, 2, 6)], {A: kept})

    (dead_letter,) = outputs(result, DEAD)
    assert list(result.changes) == [B]
    assert dict(dead_letter.headers)["bridge-error-class"] == b"OverflowError"
    assert dict(dead_letter.headers)["bridge-error-message"] == b"the rules failed on it"
    assert [(each.source, type(each.error)) for each in result.failures] == [
        (Source(EVENTS, 5), OverflowError)
    ]


def test_a_failing_timer_is_reported_and_fires_again_later() -> None:
    rows = [DueState(A, "odd", stored(A, add(A, 6))), DueState(B, "odd", stored(B, add(B, 3)))]

    result = fired(Batch(Overdue(), TASK_ID, PARTITIONS), rows, T0_US, None)

    assert documents(result) == [(B, 4)]
    assert result.changes[A] == StateChange(rows[0].value, T0_US + 3600 * SECOND_US, "odd")
    assert [(each.source, type(each.error)) for each in result.failures] == [(None, OverflowError)]


def test_a_batch_of_invalid_records_changes_no_state() -> None:
    result = fold(
        InputRecord(CALL_EVENTS, FakeRecord(0, A.encode(), b"?")),
        InputRecord(CALL_EVENTS, FakeRecord(1, None, b"?")),
    )

    assert result.changes == {}
    assert {topic for topic, _ in result.outputs} == {DEAD}
    assert result.dead_letters == 2


def test_a_document_has_no_trace_of_a_dead_letter() -> None:
    refused = FakeRecord(1, A.encode(), b"no json", headers=[("traceparent", TRACE)])

    result = fold(add(A, 1), InputRecord(CALL_EVENTS, refused))

    assert "traceparent" not in dict(outputs(result, TIMELINES)[0].headers)


@pytest.mark.parametrize(
    "what", [{"pad": MAX_VALUE_BYTES}, {"big": MAX_VALUE_BYTES}], ids=["state", "document"]
)
def test_records_that_make_a_state_too_large_are_dead_letters(
    what: dict[str, Any],
) -> None:
    """No topic accepts it: the partition would stop. The key keeps its state."""
    kept = stored(A, add(A, 5))

    result = fold(add(A, 2, 1, **what), add(A, 2, 2), add(B, 1, 3), states={A: kept})

    dead_letters = outputs(result, DEAD)
    assert documents(result) == [(B, 1)]
    assert list(result.changes) == [B]
    assert result.dead_letters == 2
    assert [dict(each.headers)["__dlq.errors.offset"] for each in dead_letters] == [b"1", b"2"]
    assert {dict(each.headers)["bridge-error-message"] for each in dead_letters} == {
        b"the key has more events than a state can hold (900000 bytes)"
    }


# -------------------------------------------------------------------------------- time


def fire_timers(due: Sequence[DueState], at_us: int, source: Source | None = None) -> BatchResult:
    return fired(Batch(TallyProjection(), TASK_ID, PARTITIONS), due, at_us, source)


class Late(TallyProjection):
    """Time alone changes the document."""

    def emit(self, state: Tally, as_of_us: int, limit_us: int = NO_LIMIT_US) -> Any:
        grown = Tally(state.pbx, state.key, state.total + 1, state.emitted, state.revision)
        return super().emit(grown, as_of_us, limit_us)


class Overdue(Late):
    """Time alone changes the document; for one key the rules have a bug."""

    def emit(self, state: Tally, as_of_us: int, limit_us: int = NO_LIMIT_US) -> Any:
        if state.total == 6:
            raise OverflowError("6")
        return super().emit(state, as_of_us, limit_us)


def test_a_timer_emits_what_time_alone_changed() -> None:
    kept = stored(A, add(A, 1, due=T0_US + 5))

    result = fired(
        Batch(Late(), TASK_ID, PARTITIONS), [DueState(A, "odd", kept)], T0_US + 7, Source(EVENTS, 41)
    )

    (document,) = outputs(result, TIMELINES)
    assert documents(result) == [(A, 2)]
    assert dict(document.headers)["bridge-source-offset"] == b"41"
    assert dict(document.headers)["ce_time"] == format_rfc3339(T0_US + 7).encode()
    assert result.changes[A].due_us is None
    assert result.changes[A].status == "even"


def test_a_timer_before_any_record_has_no_source_headers() -> None:
    row = DueState(A, "odd", stored(A, add(A, 1, due=T0_US + 5)))

    result = fired(Batch(Late(), TASK_ID, PARTITIONS), [row], T0_US + 7, None)

    for topic in (STATE, TIMELINES):
        (record,) = outputs(result, topic)
        assert "bridge-source-offset" not in dict(record.headers)


def test_a_timer_that_changes_nothing_fires_again_an_hour_later() -> None:
    """A fold that returns a past deadline must not cause a loop of transactions."""
    row = DueState(A, "odd", stored(A, add(A, 1, due=T0_US + 5)))

    result = fire_timers([row], T0_US + 7)

    assert result.documents == 0
    assert result.changes[A].due_us == T0_US + 7 + 3600 * SECOND_US


def test_an_expired_key_becomes_a_tombstone() -> None:
    """Also without a document to emit, as for a call that ended a month ago."""
    row = DueState(A, "odd", stored(A, add(A, 1, expires=T0_US + 5_000)))

    result = fire_timers([row], T0_US + 5_000)

    (state,) = outputs(result, STATE)
    assert (state.key, state.value) == (A.encode(), None)
    assert result.changes == {A: StateChange(None, None, "")}


def test_a_timer_whose_document_is_too_large_never_fires_again() -> None:
    class Swelling(TallyProjection):
        def emit(self, state: Tally, as_of_us: int, limit_us: int = NO_LIMIT_US) -> Any:
            grown = Tally(state.pbx, state.key, state.total + 1, big=MAX_VALUE_BYTES)
            return super().emit(grown, as_of_us, limit_us)

    kept = stored(A, add(A, 1, due=T0_US + 5))

    result = fired(Batch(Swelling(), TASK_ID, PARTITIONS), [DueState(A, "odd", kept)], T0_US + 7, None)

    assert result.outputs == {}
    assert result.changes == {A: StateChange(kept, None, "odd")}


def test_a_task_id_reads_as_pbx_and_partition() -> None:
    assert str(TASK_ID) == "brno/4"
