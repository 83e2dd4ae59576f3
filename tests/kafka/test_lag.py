"""`voipex-consumers lag`."""

import json
import subprocess
import sys
from pathlib import Path

from tests.document_oracle import await_published
from tests.kafka.conftest import Broker, apply_topics
from tests.processes import ConsumerProcess
from tests.traffic import Traffic
from tests.waiting import eventually


def lag(environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "consumers", "lag", "--json"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def lag_of_at_most(records: int, environment: dict[str, str]) -> "subprocess.CompletedProcess[str] | None":
    done = lag(environment)
    return done if json.loads(done.stdout)["lag"] <= records else None


def test_lag_counts_unfolded_records_and_falls_to_zero(kafka: Broker, pbx: str, tmp_path: Path) -> None:
    apply_topics(kafka.bootstrap_servers, pbx, 3)
    Traffic(kafka.bootstrap_servers, pbx).publish(200)
    timelines, agents = (
        ConsumerProcess(tmp_path, name, kafka.bootstrap_servers, pbx) for name in ("timelines", "agents")
    )

    before = lag(timelines.environment)
    with timelines.start(), agents.start():
        await_published(kafka.bootstrap_servers, pbx)
        # Positions pass the last transactions' markers once it is quiet.
        after = eventually(lambda: lag_of_at_most(6, timelines.environment), every_s=0.5)

    assert before.returncode == 1
    assert "has committed nothing" in before.stderr
    assert json.loads(before.stdout)["lag"] == 200
    assert after.returncode == 0, after.stderr


def test_lag_without_kafka_is_an_error(tmp_path: Path) -> None:
    away = ConsumerProcess(tmp_path, "timelines", "127.0.0.1:1", "voipex")

    shown = lag(away.environment)

    assert shown.returncode == 1
    assert "127.0.0.1:1" in shown.stderr
    assert "Traceback" not in shown.stderr
