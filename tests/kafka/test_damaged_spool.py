"""Bytes that changed on the disk of a bridge that was killed, as a process, against a real broker."""

import json
import urllib.request
from pathlib import Path
from typing import Any

from bridge.spool.inspect import quarantined
from tests.commands import voipex_bridge
from tests.factories import body
from tests.kafka.conftest import Broker, apply_topics, read_all
from tests.processes import BridgeProcess, free_port
from tests.spool_fixtures import frame_starts, segments
from tests.waiting import eventually


def test_damaged_frames_are_counted_and_all_others_published(
    kafka: Broker, pbx: str, tmp_path: Path, record_property: Any
) -> None:
    """In the middle of the log, and in its last frame, which looks like a write that was cut off."""
    apply_topics(kafka.bootstrap_servers, pbx)
    root = tmp_path / "spool"
    bridge = BridgeProcess(tmp_path, f"127.0.0.1:{free_port()}", pbx)
    with bridge.start():
        for n in range(20):
            assert bridge.post(body(UniqueId=f"1.{n}"))[0] == 200
        cursor = root / bridge.ready_details()["spool"]["id"] / "cursor"
        eventually(lambda: cursor.exists() and b" 20 " in cursor.read_bytes())
        bridge.kill()
    [path] = segments(root)
    starts = frame_starts(path)
    content = bytearray(path.read_bytes())
    for start in (starts[5], starts[-1]):
        content[start + 60] ^= 0xFF
    path.write_bytes(content)

    bridge.environment["VOIPEX_KAFKA_BOOTSTRAP_SERVERS"] = kafka.bootstrap_servers
    with bridge.start():
        bridge.await_drained()
        with urllib.request.urlopen(
            f"http://127.0.0.1:{bridge.management_port}/metrics", timeout=5
        ) as answer:
            metrics = answer.read().decode()
        bridge.stop()
    doctor = voipex_bridge(bridge.environment, "doctor", "--offline", "--json")

    lines = [json.loads(line) for line in bridge.log().splitlines()]
    assert [line["missing_records"] for line in lines if line["event"] == "spool corrupt"] == [1, 1]
    assert "voipex_bridge_spool_corrupt_frames_total 2.0" in metrics
    records = read_all(kafka.bootstrap_servers, f"{pbx}.call.events.v1")
    published = {json.loads(record.value or b"")["unique_id"] for record in records}
    assert published == {f"1.{n}" for n in range(19) if n != 5}
    assert quarantined(root) == [root / "corrupt" / f"{path.parent.name}-{path.name}"]
    assert [each["verdict"] for each in doctor.json["checks"] if each["check"] == "spool"] == ["warning"]
    record_property("events", 20)
    record_property("on damaged frames", 20 - len(published))
    record_property("published", len(published))
