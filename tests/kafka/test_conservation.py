"""
No webhook answered with 2xx is lost, none is invented, order holds: through kills of the bridge and every fault of the broker.

A process outside the bridge records each 2xx as an obligation; when the faults are over, they are compared with the records in Kafka.
"""

import json
import random
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bridge.ops.reader import ConsumerRecord
from tests.kafka.conftest import apply_topics, bring_up, read_all
from tests.kafka.pausable import LocalKafka
from tests.processes import BridgeProcess
from tests.recording_pbx import Obligations, RecordingPbx
from tests.waiting import eventually, outlast


def compare(obligations: Obligations, records: Sequence[ConsumerRecord]) -> dict[str, int]:
    """Count missing, invented, changed and disordered first copies; a further copy has a known event_id."""
    first_copies: dict[str, tuple[str, int]] = {}
    changed = copies = 0
    values: dict[str, bytes] = {}
    order: dict[str, list[int]] = {}
    for record in records:
        assert record.key is not None
        assert record.value is not None
        event = json.loads(record.value)
        if event["event_id"] in first_copies:
            copies += 1
            changed += values[event["event_id"]] != record.value
            continue
        place = (event["unique_id"], event["extra"]["Place"])
        first_copies[event["event_id"]] = place
        values[event["event_id"]] = record.value
        order.setdefault(place[0], []).append(place[1])
        changed += (
            record.key != place[0].encode() or dict(record.headers)["ce_id"] != event["event_id"].encode()
        )
    published = list(first_copies.values())
    sent = {(key, place) for key, places in obligations.sent.items() for place in places}
    return {
        "missing": len(obligations.promised - set(published)),
        "invented": len(set(published) - sent) + len(published) - len(set(published)),
        "changed": changed,
        "out_of_order": sum(places != sorted(places) for places in order.values()),
        "copies": copies,
        "promised": len(obligations.promised),
    }


PERFECT = {"missing": 0, "invented": 0, "changed": 0, "out_of_order": 0}


def record_outcome(record_property: Any, outcome: Mapping[str, int]) -> None:
    """Record a comparison among the figures of a test."""
    record_property("events answered with 2xx", outcome["promised"])
    for name in PERFECT:
        record_property(name.replace("_", " "), outcome[name])
    record_property("further copies", outcome["copies"])


def test_no_accepted_event_is_lost_in_kills_and_broker_outages(
    own_kafka: LocalKafka, pbx: str, tmp_path: Path, record_property: Any
) -> None:
    """12 times kill -9 of the bridge at random, while the broker is running, stopped for a minute, killed and frozen."""
    dice = random.Random(20261124)
    apply_topics(own_kafka.bootstrap_servers, pbx)

    def kill_and_restart(times: int) -> None:
        for _ in range(times):
            time.sleep(dice.uniform(0.05, 0.6))  # anywhere in what it does
            bridge.kill()
            bridge.start()
        phones.await_more(300)

    with (
        BridgeProcess(tmp_path, own_kafka.bootstrap_servers, pbx).start() as bridge,
        RecordingPbx(bridge) as phones,
    ):
        kill_and_restart(4)  # the broker is well
        own_kafka.stop()
        kill_and_restart(4)
        outlast(45, "every time-out of the producer, with the restarts before")
        bring_up(own_kafka)
        kill_and_restart(1)
        own_kafka.kill()
        kill_and_restart(2)  # killed
        bring_up(own_kafka)
        eventually(lambda: bridge.ready_details()["kafka"]["reachable"], bridge.log)
        own_kafka.pause()
        kill_and_restart(1)  # frozen: connections stay open and nothing answers
        eventually(lambda: bridge.ready_details()["kafka"]["last_error"], bridge.log)
        own_kafka.resume()
        phones.await_more(500)
        phones.stop()
        bridge.await_drained()
        bridge.terminate()
        exit_code = bridge.ended()

    outcome = compare(phones.obligations, read_all(own_kafka.bootstrap_servers, f"{pbx}.call.events.v1"))
    assert exit_code == 0
    assert outcome["promised"] >= 2000
    assert {name: outcome[name] for name in PERFECT} == PERFECT
    record_property("kills", 12)
    record_outcome(record_property, outcome)


def test_sigterm_under_load_drains_and_the_next_start_resumes(
    own_kafka: LocalKafka, pbx: str, tmp_path: Path, record_property: Any
) -> None:
    """Every event answered with 2xx is in Kafka or on disk; exit code 0 after VOIPEX_DRAIN_S, even without a broker."""
    apply_topics(own_kafka.bootstrap_servers, pbx)
    with BridgeProcess(tmp_path, own_kafka.bootstrap_servers, pbx, VOIPEX_DRAIN_S="3").start() as bridge:
        with RecordingPbx(bridge) as phones:
            phones.await_more(200)
            bridge.stop()
            after_the_first = read_all(own_kafka.bootstrap_servers, f"{pbx}.call.events.v1")
            own_kafka.stop()
            bridge.start()
            phones.await_more(200)
            bridge.stop()
            gave_up = "drain incomplete" in bridge.log()
        bring_up(own_kafka)
        bridge.start()
        bridge.await_drained()
        bridge.stop()

    outcome = compare(phones.obligations, read_all(own_kafka.bootstrap_servers, f"{pbx}.call.events.v1"))
    assert len(after_the_first) >= 200  # the first stop drained
    assert gave_up
    assert {name: outcome[name] for name in PERFECT} == PERFECT
    record_outcome(record_property, outcome)
