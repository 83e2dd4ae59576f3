"""`voipex-bridge serve` on a disk that is not what it seems, without any Kafka: nothing is acknowledged that is not on it."""

import base64
import json
import shutil
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bridge.auth import manage
from tests.clock import WrongClock
from tests.commands import voipex_bridge
from tests.factories import body
from tests.processes import BridgeProcess, free_port
from tests.spool_fixtures import segments
from tests.waiting import eventually


@pytest.fixture
def nowhere() -> str:
    """An address without a broker."""
    return f"127.0.0.1:{free_port()}"


def log_line(bridge: BridgeProcess, event: str) -> dict[str, object]:
    """The first log line of that name."""
    return eventually(
        lambda: next((line for line in map(json.loads, lines_of(bridge)) if line["event"] == event), None),
        bridge.log,
    )


def lines_of(bridge: BridgeProcess) -> list[str]:
    return [line for line in bridge.log().splitlines() if line.startswith("{")]


def metric(bridge: BridgeProcess, name: str) -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{bridge.management_port}/metrics", timeout=5) as answer:
        [line] = [line for line in answer.read().decode().splitlines() if line.startswith(f"{name} ")]
    return float(line.rpartition(" ")[2])


# ---------------------------------------------------------------- removed


def remove_spool(root: Path) -> None:
    shutil.rmtree(root)


def remove_segment(root: Path) -> None:
    segments(root)[0].unlink()


@pytest.mark.parametrize("remove", [remove_spool, remove_segment])
def test_no_event_is_acknowledged_after_its_file_was_removed(
    tmp_path: Path, nowhere: str, remove: Callable[[Path], None], record_property: Any
) -> None:
    with BridgeProcess(tmp_path, nowhere, VOIPEX_DRAIN_S="60").start() as bridge:
        before = bridge.post(body(UniqueId="1.1"))[0]
        remove(tmp_path / "spool")
        status, answer = bridge.post(body(UniqueId="1.2"))
        ready, details = bridge.ready()[0], bridge.ready_details()
        doctor = voipex_bridge(bridge.environment, "doctor", "--offline", "--json")
        line = log_line(bridge, "spool failed")
        bridge.terminate()  # a second one ends the drain
        bridge.terminate()
        code = bridge.ended()

    assert before == 200
    assert (status, json.loads(answer)["title"]) == (503, "Spool broken")
    assert (ready, details["spool"]["failed"]) == (503, True)
    assert [each["verdict"] for each in doctor.json["checks"] if each["check"] == "bridge"] == ["error"]
    assert "removed or replaced" in str(line["fault"])
    assert code == 1
    record_property("removed", 1)
    record_property("answers 200 afterwards", int(status == 200))


def test_a_bridge_without_requests_finds_its_spool_removed(tmp_path: Path, nowhere: str) -> None:
    """Its supervisor starts it again, on a new directory."""
    with BridgeProcess(tmp_path, nowhere, VOIPEX_DRAIN_S="0").start() as bridge:
        bridge.post(body(UniqueId="1.1"))
        shutil.rmtree(tmp_path / "spool")
        code = bridge.ended()
        line = log_line(bridge, "spool failed")
        bridge.start()
        status = bridge.post(body(UniqueId="1.2"))[0]

    assert (code, line["waiting"], status) == (1, 1, 200)


# ---------------------------------------------------------------- full


def test_a_full_disk_is_not_ready_until_there_is_room(
    tmp_path: Path, nowhere: str, record_property: Any
) -> None:
    """A tmpfs of 3 MiB in a mount namespace of its own; the spool's limit lies far above it."""
    disk = tmp_path / "disk"
    disk.mkdir()
    bridge = BridgeProcess(tmp_path, nowhere, VOIPEX_SPOOL_DIR=str(disk / "spool"), VOIPEX_DRAIN_S="0")
    mount = f'mount -t tmpfs -o size=3m none {disk} && exec "$@"'
    bridge.wrapper = ("unshare", "--map-root-user", "--mount", "sh", "-c", mount, "sh")

    with bridge.start():
        seen_inside = Path("/proc", str(bridge.running.pid), "root", *disk.parts[1:])
        warned = log_line(bridge, "disk smaller than the spool's limit")
        (seen_inside / "filler").write_bytes(bytes(shutil.disk_usage(seen_inside).free - 8192))
        statuses = [bridge.post(body(UniqueId=f"1.{n}"))[0] for n in range(59)]
        ready, details = bridge.ready()[0], bridge.ready_details()
        (seen_inside / "filler").unlink()
        bridge.await_ready()  # no request came that would have found out
        afterwards = bridge.post(body(UniqueId="1.59"))[0]
        waiting = bridge.waiting()

    assert warned["level"] == "warning"
    assert statuses[-1] == 503
    assert (ready, details["spool"]["full"]) == (503, True)
    assert details["spool"]["bytes"] < details["spool"]["limit_bytes"] / 100
    assert (afterwards, waiting) == (200, statuses.count(200) + 1)
    record_property("answers 503", statuses.count(503))
    record_property("answers 200", statuses.count(200) + 1)
    record_property("in the spool", waiting)


# ---------------------------------------------------------------- the clock


def test_a_clock_that_is_set_back_is_reported_until_a_restart(tmp_path: Path, nowhere: str) -> None:
    clock = WrongClock(tmp_path / "clock", 7200.0)
    with BridgeProcess(tmp_path, nowhere, VOIPEX_DRAIN_S="0", **clock.environment).start() as bridge:
        bridge.post(body(UniqueId="1.1"))
        clock.set_ahead(0.0)
        line = log_line(bridge, "clock set back")
        bridge.post(body(UniqueId="1.2"))
        ahead_s = bridge.ready_details()["clock"]["received_at_ahead_s"]
        exported_s = metric(bridge, "voipex_bridge_clock_ahead_seconds")
        bridge.stop()
        bridge.start()
        after_restart_s = bridge.ready_details()["clock"]["received_at_ahead_s"]

    assert "restart the bridge" in str(line["remedy"])
    assert 7000 < exported_s <= ahead_s <= 7200
    assert after_restart_s == 0


# ---------------------------------------------------------------- several PBXs


def test_a_flood_of_one_pbx_leaves_room_and_readiness(
    tmp_path: Path, nowhere: str, record_property: Any
) -> None:
    """While Kafka is away, a PBX fills its share of the spool; the events of the other are accepted, also after a kill."""
    pbxs = ("voipex", "brno")
    bridge = BridgeProcess(
        tmp_path,
        nowhere,
        VOIPEX_PBXS=",".join(pbxs),
        VOIPEX_SPOOL_LIMIT_BYTES=str(2 << 20),
        VOIPEX_DRAIN_S="0",
    )
    quiet = manage.create(tmp_path / "credentials.json", "brno-1", "brno", pbxs=pbxs, now_us=1).secret
    authorization = {"Authorization": "Basic " + base64.b64encode(f"brno-1:{quiet}".encode()).decode()}
    large = body(UniqueId="1.1", Reason="x" * 16_000)

    with bridge.start():
        statuses = [bridge.post(large)[0] for _ in range(100)]
        answer = json.loads(bridge.post(large)[1])
        others = [bridge.post(body(UniqueId=f"2.{n}"), authorization)[0] for n in range(20)]
        ready = bridge.ready()[0]
        refused = metric(bridge, 'voipex_bridge_spool_pbx_refused_total{pbx="voipex"}')
        eventually(lambda: b"brno" in next((tmp_path / "spool").glob("*/cursor")).read_bytes(), bridge.log)
        bridge.kill()
        bridge.start()
        after_kill = bridge.post(large)[0], bridge.post(large, authorization)[0]

    assert statuses.count(200) > 50
    assert statuses[-1] == 503
    assert answer["type"].endswith("SpoolShareFull")
    assert others == [200] * 20
    assert (ready, refused) == (200, statuses.count(503) + 1)
    assert after_kill == (503, 200)
    record_property("answers 503 to the flooding PBX", statuses.count(503))
    record_property("of 20 answers to the other PBX 200", others.count(200))
