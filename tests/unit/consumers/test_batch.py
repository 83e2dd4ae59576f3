"""What a batch of records comes to: one document per key, dead letters for what cannot be read, exact headers. Pure."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from structlog.testing import capture_logs

from consumers.engine.batch import MAX_VALUE_BYTES, Batch, Input, Output, Overlay, Place, Source
from consumers.engine.store import Change, Row
from tests.unit.consumers.tally import T0_US, FakeRecord, Tally, TallyProjection, add, keys_in
from voipex.partitioner import partition_of
from voipex.timestamps import rfc3339
from voipex.topics import AGENT_ACTIVITY, CALL_EVENTS, TopicKind

PARTITIONS = 12
PLACE = Place("brno", 4)
A, B = keys_in(4, PARTITIONS, 2)
(ELSEWHERE,) = keys_in(5, PARTITIONS, 1)
EVENTS, TIMELINES, STATE, DEAD = (
    f"brno.{suffix}" for suffix in ("call.events.v1", "call.timelines.v1", "call.state.v1", "dead-letters.v1")
)
SECOND_US = 1_000_000
TRACE = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def fold(*inputs: Input, states: Mapping[str, bytes] | None = None) -> Overlay:
    return Batch(TallyProjection(), PLACE, PARTITIONS).fold(inputs, states or {})


def outputs(overlay: Overlay, topic: str) -> list[Output]:
    return [each for (name, _), records in overlay.outputs.items() if name == topic for each in records]


def documents(overlay: Overlay) -> list[tuple[str, int]]:
    """(key, total) of each document."""
    return [
        ((each.key or b"").decode(), json.loads(each.value or b"")["total"])
        for each in outputs(overlay, TIMELINES)
    ]


def told(key: str, *inputs: Input) -> bytes:
    """The state of a key after these."""
    value = fold(*inputs).changes[key].value
    assert value is not None
    return value


def test_a_key_tells_one_document_however_many_records_it_got() -> None:
    overlay = fold(add(A, 1), add(B, 10, 1), add(A, 2, 2), add(A, 3, 7, AGENT_ACTIVITY))

    assert documents(overlay) == [(A, 6), (B, 10)]
    assert (overlay.documents, overlay.dead_letters) == (2, 0)
    assert [each.key for each in outputs(overlay, STATE)] == [A.encode(), B.encode()]
    assert sorted(overlay.changes) == sorted([A, B])


def test_folding_goes_on_from_the_state_that_was_kept() -> None:
    kept = told(A, add(A, 5))

    overlay = fold(add(A, 2, 1), states={A: kept})

    assert documents(overlay) == [(A, 7)]
    assert outputs(overlay, TIMELINES)[0].headers[4] == ("bridge-fold-version", b"3")
    assert dict(outputs(overlay, TIMELINES)[0].headers)["ce_id"] == f"{A}@2".encode()


class Decoding(TallyProjection):
    """Counts how often it decodes."""

    def __init__(self) -> None:
        self.decoded = 0

    def decode(self, value: bytes) -> Tally:
        self.decoded += 1
        return super().decode(value)


def test_the_state_that_was_told_last_is_not_decoded_again_unless_another_one_was_kept() -> None:
    projection = Decoding()
    batch = Batch(projection, PLACE, PARTITIONS)
    first = batch.fold([add(A, 5)], {}).changes[A].value or b""
    second = batch.fold([add(A, 2, 1)], {A: first}).changes[A].value or b""
    (due,) = batch.fire([Row(A, "", second)], T0_US, None).changes
    assert (projection.decoded, due) == (0, A)

    # What was written in the end is what the store says.
    assert documents(batch.fold([add(A, 1, 2)], {A: first})) == [(A, 6)]
    assert documents(batch.fold([add(A, 1, 3)], {})) == [(A, 1)]
    assert projection.decoded == 1


def test_of_more_keys_those_that_were_told_last_are_at_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("consumers.engine.batch.KEPT_STATES", 1)
    projection = Decoding()
    batch = Batch(projection, PLACE, PARTITIONS)
    kept = batch.fold([add(A, 5), add(B, 7, 1)], {}).changes

    overlay = batch.fold(
        [add(B, 1, 2), add(A, 1, 3)], {key: change.value or b"" for key, change in kept.items()}
    )

    assert documents(overlay) == [(B, 8), (A, 6)]
    assert projection.decoded == 1


def test_a_document_is_as_of_the_latest_receipt_in_the_batch_wherever_it_lies() -> None:
    """So it is the same whether the batch is folded as it comes or hours later."""
    later = rfc3339(T0_US + 700).encode()
    first = ("ce_time", rfc3339(T0_US).encode())

    overlay = fold(
        add(A, 1, 0, headers=[first]),
        add(A, 1, 1, headers=[("ce_time", later)]),
        add(A, 1, 2, headers=[first]),
    )

    document = outputs(overlay, TIMELINES)[0]
    assert json.loads(document.value or b"")["as_of"] == T0_US + 700
    assert dict(document.headers)["ce_time"] == later
    assert document.timestamp_ms == T0_US // 1000


def test_a_record_that_claims_the_future_is_as_of_its_timestamp() -> None:
    """Brokers refuse what is written with a timestamp of the future: one such record would break its partition for good."""
    overlay = fold(add(A, 1, headers=[("ce_time", b"9999-12-31T23:59:59Z")]))

    assert {each.timestamp_ms for records in overlay.outputs.values() for each in records} == {T0_US // 1000}


@pytest.mark.parametrize("ce_time", [None, b"yesterday", b"\xff"])
def test_a_record_without_a_readable_time_is_as_of_the_end_of_its_milliseconds(ce_time: bytes | None) -> None:
    """The timestamp lost what is below: an earlier moment would hide the event from its own document."""
    overlay = fold(add(A, 1, headers=[("ce_time", ce_time)]))

    assert json.loads(outputs(overlay, TIMELINES)[0].value or b"")["as_of"] == T0_US + 999


def test_a_document_carries_the_headers_that_the_contract_names_and_no_others() -> None:
    overlay = fold(
        add(A, 1, 40), add(A, 1, 41, headers=[("ce_type", b"voipex.call.ringing.v1"), ("traceparent", TRACE)])
    )

    (document,) = outputs(overlay, TIMELINES)
    assert (document.topic, document.partition, document.key) == (TIMELINES, 4, A.encode())
    assert sorted(document.headers) == sorted(
        {
            "ce_specversion": b"1.0",
            "ce_id": f"{A}@1".encode(),
            "ce_source": b"/voipex/brno",
            "ce_type": b"voipex.tally.v1",
            "ce_time": rfc3339(T0_US + 999).encode(),
            "ce_subject": A.encode(),
            "ce_partitionkey": A.encode(),
            "content-type": b"application/json",
            "bridge-source-topic": EVENTS.encode(),
            "bridge-source-offset": b"41",
            "bridge-fold-version": b"3",
            "traceparent": TRACE,
        }.items()
    )


def test_a_state_carries_what_a_restore_must_know_without_decoding_it() -> None:
    overlay = fold(add(A, 1, 40), add(A, 2, 9, AGENT_ACTIVITY, due=T0_US + 5, expires=T0_US + 9_000))

    (state,) = outputs(overlay, STATE)
    assert (state.topic, state.partition, state.key) == (STATE, 4, A.encode())
    assert state.value == overlay.changes[A].value
    assert dict(state.headers) == {
        "bridge-fold-version": b"3",
        "bridge-source-topic": b"brno.agent.activity.v1",
        "bridge-source-offset": b"9",
        "bridge-due-us": str(T0_US + 5).encode(),
        "bridge-standing": b"odd",
    }
    assert (overlay.changes[A].due_us, overlay.changes[A].standing) == (T0_US + 5, "odd")


def test_a_key_is_due_when_it_changes_or_expires_whichever_is_first() -> None:
    overlay = fold(add(A, due=T0_US + 9_000, expires=T0_US + 5_000), add(B, expires=T0_US + 7_000))

    assert (overlay.changes[A].due_us, overlay.changes[B].due_us) == (T0_US + 5_000, T0_US + 7_000)


def test_documents_go_to_the_partition_of_their_own_key() -> None:
    """A call tells of agents, whose keys lie elsewhere."""

    class Elsewhere(TallyProjection):
        def produce(self, state: Tally, as_of_us: int) -> Any:
            after, found = super().produce(state, as_of_us)
            return after, [each.__class__(each.kind, ELSEWHERE, each.value, "t", "i", 1) for each in found]

    overlay = Batch(Elsewhere(), PLACE, PARTITIONS).fold([add(A)], {})

    assert [(each.partition, each.key) for each in outputs(overlay, TIMELINES)] == [(5, ELSEWHERE.encode())]


def test_what_changes_nothing_writes_nothing() -> None:
    """A copy of a known event."""
    kept = told(A, add(A, 5))

    overlay = fold(add(A, 0, 1), states={A: kept})

    assert (overlay.changes, overlay.outputs, overlay.documents) == ({}, {}, 0)


def test_the_keys_that_a_batch_asks_for_are_those_that_are_text() -> None:
    strange = [FakeRecord(0, key, b"{}") for key in (None, b"\xff\xfe", b"")]
    batch = Batch(TallyProjection(), PLACE, PARTITIONS)

    asked = batch.keys([add(A), add(B), add(A), *(Input(CALL_EVENTS, each) for each in strange)])

    assert asked == {A, B, ""}


# -------------------------------------------------------------------------------- dead letters


def unreadable() -> list[Any]:
    key = A.encode()
    ours: Sequence[tuple[str, bytes | None]] = (("ce_id", b"7"), ("ce_type", b"voipex.call.ringing.v1"))
    value = b'{"add": 1}'
    return [
        pytest.param(FakeRecord(3, key, b"no json", headers=ours), "JSONDecodeError", "the value cannot be read", id="broken"),
        pytest.param(FakeRecord(3, key, None, headers=ours), "Unreadable", "no value", id="tombstone"),
        pytest.param(FakeRecord(3, None, value, headers=ours), "Unreadable", "no key, or one that is no text", id="no key"),
        pytest.param(FakeRecord(3, b"\xff\xfe", value), "Unreadable", "no key, or one that is no text", id="key no text"),
        pytest.param(
            FakeRecord(3, key, value, headers=[("ce_type", b"voipex.call.ringing.v2")]),
            "Unreadable",
            "of a version that this service does not know",
            id="unknown version",
        ),
        pytest.param(
            FakeRecord(3, ELSEWHERE.encode(), value, headers=ours),
            "Unreadable",
            "the key belongs to another partition: the producer must use Kafka's default partitioner (murmur2)",
            id="wrong partition",
        ),
    ]  # fmt: skip


@pytest.mark.parametrize(("record", "error", "message"), unreadable())
def test_what_cannot_be_read_becomes_a_dead_letter_and_holds_nothing_back(
    record: FakeRecord, error: str, message: str
) -> None:
    """Key, value and headers are untouched; the reason is ours and repeats nothing of the record."""
    overlay = fold(add(A, 1, 2), Input(CALL_EVENTS, record), add(A, 2, 4))

    (letter,) = outputs(overlay, DEAD)
    assert documents(overlay) == [(A, 3)]
    assert overlay.dead_letters == 1
    assert (letter.key, letter.value) == (record.key, record.value or b"")
    assert (letter.partition, letter.timestamp_ms) == (
        partition_of(record.key or b"", PARTITIONS),
        T0_US // 1000,
    )
    assert letter.headers == (
        *record.headers,
        ("bridge-error-class", error.encode()),
        ("bridge-error-message", message.encode()),
        ("bridge-stage", b"tallies"),
        ("bridge-pbx", b"brno"),
        ("bridge-received-at", rfc3339(T0_US).encode()),
        ("__dlq.errors.topic", EVENTS.encode()),
        ("__dlq.errors.partition", b"4"),
        ("__dlq.errors.offset", b"3"),
    )


class Failing(TallyProjection):
    """Rules with a fault."""

    def fold(self, state: Tally, kind: TopicKind, value: bytes) -> Tally:
        folded = super().fold(state, kind, value)
        if folded.total == 13:
            raise OverflowError("13")
        return folded

    def produce(self, state: Tally, as_of_us: int) -> Any:
        if state.total == 7:
            raise OverflowError("7")
        return super().produce(state, as_of_us)


@pytest.mark.parametrize("total", [13, 7], ids=["folding", "telling"])
def test_a_record_on_which_the_rules_fail_becomes_a_dead_letter_and_holds_nothing_back(total: int) -> None:
    """One fault of ours must not stop a partition for ever."""
    kept = told(A, add(A, 1))
    with capture_logs() as logged:
        overlay = Batch(Failing(), PLACE, PARTITIONS).fold([add(A, total - 1, 5), add(B, 2, 6)], {A: kept})

    (letter,) = outputs(overlay, DEAD)
    assert list(overlay.changes) == [B]
    assert dict(letter.headers)["bridge-error-class"] == b"OverflowError"
    assert dict(letter.headers)["bridge-error-message"] == b"the rules failed on it"
    assert [(each["log_level"], each["offset"]) for each in logged] == [("error", 5)]


def test_a_deadline_on_which_the_rules_fail_is_tried_again_later_and_the_others_fire() -> None:
    rows = [Row(A, "odd", told(A, add(A, 6))), Row(B, "odd", told(B, add(B, 3)))]
    with capture_logs() as logged:
        overlay = Batch(Overdue(), PLACE, PARTITIONS).fire(rows, T0_US, None)

    assert documents(overlay) == [(B, 4)]
    assert overlay.changes[A] == Change(rows[0].value, T0_US + 3600 * SECOND_US, "odd")
    assert [each["event"] for each in logged] == ["a deadline failed"]


def test_a_batch_of_nothing_readable_changes_no_state() -> None:
    overlay = fold(
        Input(CALL_EVENTS, FakeRecord(0, A.encode(), b"?")), Input(CALL_EVENTS, FakeRecord(1, None, b"?"))
    )

    assert overlay.changes == {}
    assert {topic for topic, _ in overlay.outputs} == {DEAD}
    assert overlay.dead_letters == 2


def test_a_document_never_carries_the_trace_of_a_record_that_was_refused() -> None:
    refused = FakeRecord(1, A.encode(), b"no json", headers=[("traceparent", TRACE)])

    overlay = fold(add(A, 1), Input(CALL_EVENTS, refused))

    assert "traceparent" not in dict(outputs(overlay, TIMELINES)[0].headers)


@pytest.mark.parametrize(
    "what", [{"pad": MAX_VALUE_BYTES}, {"big": MAX_VALUE_BYTES}], ids=["state", "document"]
)
def test_records_that_make_a_key_too_large_are_dead_letters_and_the_key_stays_as_it_was(
    what: dict[str, Any],
) -> None:
    """No topic would take it: the partition would stand for ever."""
    kept = told(A, add(A, 5))

    overlay = fold(add(A, 2, 1, **what), add(A, 2, 2), add(B, 1, 3), states={A: kept})

    letters = outputs(overlay, DEAD)
    assert documents(overlay) == [(B, 1)]
    assert list(overlay.changes) == [B]
    assert overlay.dead_letters == 2
    assert [dict(each.headers)["__dlq.errors.offset"] for each in letters] == [b"1", b"2"]
    assert {dict(each.headers)["bridge-error-message"] for each in letters} == {
        b"the key has more events than a state can hold (900000 bytes)"
    }


# -------------------------------------------------------------------------------- time


def fire(rows: Sequence[Row], at_us: int, source: Source | None = None) -> Overlay:
    return Batch(TallyProjection(), PLACE, PARTITIONS).fire(rows, at_us, source)


class Late(TallyProjection):
    """Time alone makes another document."""

    def produce(self, state: Tally, as_of_us: int) -> Any:
        grown = Tally(state.pbx, state.key, state.total + 1, state.told, state.revision)
        return super().produce(grown, as_of_us)


class Overdue(Late):
    """Time alone makes another document, but of one key none."""

    def produce(self, state: Tally, as_of_us: int) -> Any:
        if state.total == 6:
            raise OverflowError("6")
        return super().produce(state, as_of_us)


def test_a_deadline_tells_what_changed_by_time_alone() -> None:
    kept = told(A, add(A, 1, due=T0_US + 5))

    overlay = Batch(Late(), PLACE, PARTITIONS).fire([Row(A, "odd", kept)], T0_US + 7, Source(EVENTS, 41))

    (document,) = outputs(overlay, TIMELINES)
    assert documents(overlay) == [(A, 2)]
    assert dict(document.headers)["bridge-source-offset"] == b"41"
    assert dict(document.headers)["ce_time"] == rfc3339(T0_US + 7).encode()
    assert overlay.changes[A].due_us is None
    assert overlay.changes[A].standing == "even"


def test_before_any_record_was_read_a_deadline_names_no_source() -> None:
    row = Row(A, "odd", told(A, add(A, 1, due=T0_US + 5)))

    overlay = Batch(Late(), PLACE, PARTITIONS).fire([row], T0_US + 7, None)

    for topic in (STATE, TIMELINES):
        (record,) = outputs(overlay, topic)
        assert "bridge-source-offset" not in dict(record.headers)


def test_a_deadline_that_changes_nothing_does_not_fire_without_end() -> None:
    """A fold that names a past deadline must not make a loop of transactions."""
    row = Row(A, "odd", told(A, add(A, 1, due=T0_US + 5)))

    overlay = fire([row], T0_US + 7)

    assert overlay.documents == 0
    assert overlay.changes[A].due_us == T0_US + 7 + 3600 * SECOND_US


def test_a_key_whose_time_has_passed_is_forgotten_with_a_tombstone() -> None:
    """Also when there is nothing left to tell of it, as of a call that ended a month ago."""
    row = Row(A, "odd", told(A, add(A, 1, expires=T0_US + 5_000)))

    overlay = fire([row], T0_US + 5_000)

    (state,) = outputs(overlay, STATE)
    assert (state.key, state.value) == (A.encode(), None)
    assert overlay.changes == {A: Change(None, None, "")}


def test_a_document_that_time_makes_too_large_leaves_its_key_as_it_was_and_fires_no_more() -> None:
    class Swelling(TallyProjection):
        def produce(self, state: Tally, as_of_us: int) -> Any:
            grown = Tally(state.pbx, state.key, state.total + 1, big=MAX_VALUE_BYTES)
            return super().produce(grown, as_of_us)

    kept = told(A, add(A, 1, due=T0_US + 5))

    overlay = Batch(Swelling(), PLACE, PARTITIONS).fire([Row(A, "odd", kept)], T0_US + 7, None)

    assert overlay.outputs == {}
    assert overlay.changes == {A: Change(kept, None, "odd")}


def test_a_place_is_named_by_its_pbx_and_number() -> None:
    assert str(PLACE) == "brno/4"
