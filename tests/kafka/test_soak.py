"""Long fault tests for `make soak`: hundreds of kills, and a full disk."""

import random
import time
from pathlib import Path
from typing import Any

import pytest

from tests.kafka.conftest import apply_topics, bring_up, read_all
from tests.kafka.pausable import LocalKafka
from tests.kafka.test_conservation import PERFECT, compare, record_outcome
from tests.processes import BridgeProcess
from tests.recording_pbx import RecordingPbx
from tests.waiting import soak_rounds

pytestmark = pytest.mark.slow


def test_two_hundred_kills_at_random_moments_lose_nothing(
    own_kafka: LocalKafka, pbx: str, tmp_path: Path, record_property: Any
) -> None:
    """Now and then the broker is killed, frozen or stopped too. Each run has its own seed and prints it."""
    seed = time.time_ns()
    print(f"seed {seed}")
    dice = random.Random(seed)
    kills, outages = soak_rounds(200), 0
    apply_topics(own_kafka.bootstrap_servers, pbx)
    with (
        BridgeProcess(tmp_path, own_kafka.bootstrap_servers, pbx).start() as bridge,
        RecordingPbx(bridge) as phones,
    ):
        for _ in range(kills):
            time.sleep(dice.uniform(0.02, 1.0))
            trouble = dice.random()
            outages += trouble < 0.1
            if trouble < 0.05:
                own_kafka.kill()
            elif trouble < 0.1:
                own_kafka.pause()
            bridge.kill()
            bridge.start()
            if trouble < 0.1:
                time.sleep(dice.uniform(0, 8))
                own_kafka.resume()
                if own_kafka.pid is None:
                    bring_up(own_kafka)
        phones.stop()
        bridge.await_drained()
        bridge.stop()

    outcome = compare(phones.obligations, read_all(own_kafka.bootstrap_servers, f"{pbx}.call.events.v1"))
    assert {name: outcome[name] for name in PERFECT} == PERFECT
    record_property("kills", kills)
    record_property("outages of the broker", outages)
    record_outcome(record_property, outcome)


def test_a_full_disk_answers_503_and_recovers_without_loss(
    own_kafka: LocalKafka, pbx: str, tmp_path: Path, record_property: Any
) -> None:
    """A tmpfs of 6 MiB in a mount namespace of its own (Linux, `unshare`); the spool's own limit lies above it."""
    apply_topics(own_kafka.bootstrap_servers, pbx)
    disk = tmp_path / "disk"
    disk.mkdir()
    bridge = BridgeProcess(
        tmp_path,
        own_kafka.bootstrap_servers,
        pbx,
        VOIPEX_SPOOL_DIR=str(disk / "spool"),
        VOIPEX_SPOOL_LIMIT_BYTES=str(8 << 20),
    )
    mount = f'mount -t tmpfs -o size=6m none {disk} && exec "$@"'
    bridge.wrapper = ("unshare", "--map-root-user", "--mount", "sh", "-c", mount, "sh")
    with bridge.start():
        own_kafka.stop()
        with RecordingPbx(bridge) as phones:
            phones.await_more(100, status=503)
            refused = phones.count(503)
            bring_up(own_kafka)
            phones.await_more(100)
        bridge.await_drained()
        bridge.stop()

    outcome = compare(phones.obligations, read_all(own_kafka.bootstrap_servers, f"{pbx}.call.events.v1"))
    assert refused > 0
    assert {name: outcome[name] for name in PERFECT} == PERFECT
    record_property("answers 503", refused)
    record_outcome(record_property, outcome)
