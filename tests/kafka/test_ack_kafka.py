"""`ack=kafka`, without a disk: 2xx once all in-sync replicas have acknowledged the record, else 503."""

import json
from pathlib import Path
from typing import Any

from tests.kafka.conftest import apply_topics, read_all
from tests.kafka.pausable import LocalKafka
from tests.processes import BridgeProcess
from tests.waiting import eventually


def test_ack_kafka_answers_200_after_kafka_and_503_in_an_outage(
    own_kafka: LocalKafka, pbx: str, tmp_path: Path, record_property: Any
) -> None:
    apply_topics(own_kafka.bootstrap_servers, pbx)
    topic = f"{pbx}.call.events.v1"
    body = b'{"EventName":"Ringing","UniqueId":"1.%d"}'
    bridge = BridgeProcess(
        tmp_path,
        own_kafka.bootstrap_servers,
        pbx,
        VOIPEX_ACK="kafka",
        VOIPEX_ACK_TIMEOUT_S="10",  # a loaded broker may need a second for the first record
        VOIPEX_DRAIN_S="2",
    )
    with bridge.start():
        accepted = [bridge.post(body % n)[0] for n in range(20)]
        at_once = [
            json.loads(record.value or b"")["unique_id"]
            for record in read_all(own_kafka.bootstrap_servers, topic)
        ]
        own_kafka.pause()
        refused, problem = bridge.post(body % 20)
        own_kafka.resume()
        eventually(lambda: bridge.post(body % 21)[0] == 200, bridge.log)
        bridge.terminate()
        exit_code = bridge.ended()

    assert accepted == [200] * 20
    assert sorted(at_once) == sorted(f"1.{n}" for n in range(20))
    assert refused == 503
    assert "may still arrive" in json.loads(problem)["detail"]
    assert exit_code == 0
    assert not (tmp_path / "spool").exists()
    record_property("answers 200", len(accepted))
    record_property("of them not in Kafka at once", len(accepted) - len(at_once))
