"""`voipex-bridge doctor` and `dead-letters` where no Kafka is: what is wrong is named, with what to do, and nothing is left behind."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from bridge.auth import manage
from tests.commands import CommandResult, voipex_bridge
from tests.factories import body
from tests.processes import BridgeProcess, free_port


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Everything is as it should be, but for a Kafka."""
    path = tmp_path / "credentials.json"
    manage.create(path, "site-7", "voipex", pbxs=("voipex",), now_us=1_772_438_400_000_000)
    (tmp_path / "spool").mkdir()
    return {
        "VOIPEX_SPOOL_DIR": str(tmp_path / "spool"),
        "VOIPEX_CREDENTIALS_FILE": str(path),
        "VOIPEX_PORT": str(free_port()),
        "VOIPEX_MANAGEMENT_PORT": str(free_port()),
        "VOIPEX_KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{free_port()},127.0.0.1:{free_port()}",
        "VOIPEX_SPOOL_LIMIT_BYTES": str(1 << 20),
    }


def doctor(
    environment: Mapping[str, str], *options: str
) -> tuple[CommandResult, dict[str, list[dict[str, Any]]]]:
    """What it says, by check."""
    done = voipex_bridge(environment, "doctor", "--json", *options)
    checks: dict[str, list[dict[str, Any]]] = {}
    for finding in done.json["checks"]:
        checks.setdefault(finding["check"], []).append(finding)
    assert all(
        finding["remedy"]
        for findings in checks.values()
        for finding in findings
        if finding["verdict"] in ("warning", "fault")
    ), "whatever is wrong comes with what to do"
    return done, checks


def verdicts(checks: Mapping[str, list[dict[str, Any]]]) -> dict[str, str]:
    return {check: findings[0]["verdict"] for check, findings in checks.items()}


def test_offline_all_is_well_and_nothing_is_left_in_the_spool(
    environment: dict[str, str], tmp_path: Path
) -> None:
    done, checks = doctor(environment, "--offline")

    found = verdicts(checks)
    assert (done.code, done.err) == (0, "")
    assert found.pop("spool disk") in ("ok", "warning")  # the disk of whoever runs this
    assert found == {
        "settings": "ok",
        "spool directory": "ok",
        "spool space": "ok",
        "spool": "ok",
        "credentials": "ok",
        "certificate": "ok",
        "clock": "ok",
        "ports": "ok",
        "kafka": "skipped",
        "cluster": "skipped",
        "rights": "skipped",
        "topics": "skipped",
    }
    assert list((tmp_path / "spool").iterdir()) == []
    assert "ms (median of 20)" in checks["spool disk"][0]["found"]


def test_doctor_without_kafka_names_the_cause_per_address(
    environment: dict[str, str],
) -> None:
    done, checks = doctor(environment)

    assert done.code == 1
    addresses = environment["VOIPEX_KAFKA_BOOTSTRAP_SERVERS"].split(",")
    for address, finding in zip(addresses, checks["kafka"], strict=True):
        assert finding["verdict"] == "fault"
        assert finding["found"].startswith(f"{address} ConnectionRefusedError")
    assert [checks[check][0]["found"] for check in ("cluster", "rights", "topics")] == [
        "not looked at: Kafka is out of reach"
    ] * 3


def test_all_that_is_wrong_on_this_machine_is_said_at_once(
    environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "credentials.json").chmod(0o644)
    environment |= {
        "VOIPEX_SPOOL_DIR": str(tmp_path / "file"),
        "VOIPEX_PBXS": "voipex,brno",
        "VOIPEX_SPOL_DIR": "x",
    }

    done, checks = doctor(environment, "--offline")

    assert done.code == 1
    assert verdicts(checks)["spool directory"] == "fault"
    assert checks["spool"][0]["found"] == "not looked at: the spool directory has a fault"
    assert "did you mean VOIPEX_SPOOL_DIR" in checks["settings"][0]["found"]
    message = " ".join(finding["found"] for finding in checks["credentials"])
    assert "everyone" in message
    assert "no credential for brno" in message


def test_missing_credentials_are_a_fault_and_name_the_command(environment: dict[str, str]) -> None:
    environment["VOIPEX_CREDENTIALS_FILE"] = "/nowhere/credentials.json"

    done, checks = doctor(environment, "--offline")

    assert done.code == 1
    assert checks["credentials"][0]["verdict"] == "fault"
    assert "credentials create" in checks["credentials"][0]["remedy"]


def test_doctor_names_all_wrong_settings_and_skips_the_rest(environment: dict[str, str]) -> None:
    done, checks = doctor({**environment, "VOIPEX_PORT": "x", "VOIPEX_PBXS": "Praha"})

    assert done.code == 2
    assert [finding["found"].partition("=")[0] for finding in checks["settings"]] == [
        "VOIPEX_PBXS",
        "VOIPEX_PORT",
    ]
    assert set(verdicts({name: each for name, each in checks.items() if name != "settings"}).values()) == {
        "skipped"
    }


def test_doctor_sees_spool_and_ports_with_and_without_a_bridge(
    environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "bridge").mkdir()
    with BridgeProcess(tmp_path / "bridge", environment["VOIPEX_KAFKA_BOOTSTRAP_SERVERS"]).start() as bridge:
        bridge.post(body())
        beside = doctor(bridge.environment, "--offline")[1]
        elsewhere = doctor({**environment, "VOIPEX_PORT": str(bridge.port)}, "--offline")
        bridge.kill()
    after = doctor(bridge.environment, "--offline")[1]

    assert beside["ports"][0]["found"].startswith("not looked at: a bridge runs")
    assert "1 waiting for Kafka" in beside["spool"][0]["found"]
    assert elsewhere[0].code == 1
    assert "VOIPEX_PORT" in elsewhere[1]["ports"][0]["remedy"]
    assert after["spool"][0]["verdict"] == "warning"
    assert "no bridge runs" in after["spool"][0]["found"]


def test_without_a_spool_no_disk_is_looked_at(environment: dict[str, str]) -> None:
    done, checks = doctor(
        {**environment, "VOIPEX_ACK": "kafka", "VOIPEX_SPOOL_DIR": "/proc/nowhere"}, "--offline"
    )

    assert done.code == 0
    assert [
        checks[check][0]["found"] for check in ("spool directory", "spool disk", "spool space", "spool")
    ] == ["not looked at: VOIPEX_ACK=kafka keeps nothing on disk"] * 4


def test_people_get_aligned_lines_with_what_to_do(environment: dict[str, str]) -> None:
    environment["VOIPEX_CREDENTIALS_FILE"] = "/nowhere/credentials.json"

    done = voipex_bridge(environment, "doctor", "--offline")

    lines = done.out.splitlines()
    assert done.code == 1
    assert lines[0] == "ok       settings         all can be read"
    assert "fault    credentials      /nowhere/credentials.json does not exist" in done.out
    assert any(line.startswith(" " * 26 + "-> voipex-bridge credentials create") for line in lines)
    assert lines[-1].startswith("1 fault, ")
    assert "\x1b" not in done.out


# ---------------------------------------------------------------- dead letters


@pytest.mark.parametrize("command", [["list"], ["show", "0:0"], ["replay"], ["replay", "--dry-run"]])
def test_dead_letters_without_kafka_fail_with_the_addresses(
    environment: dict[str, str], command: list[str]
) -> None:
    done = voipex_bridge(environment, "dead-letters", *command)

    assert (done.code, done.out) == (1, "")
    assert environment["VOIPEX_KAFKA_BOOTSTRAP_SERVERS"].split(",")[0] in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["list", "--since", "yesterday"], "--since 'yesterday'"),
        (["list", "--pbx", "brno"], "--pbx 'brno' is not in VOIPEX_PBXS"),
        (["show", "three"], "PARTITION:OFFSET"),
        (["replay", "--credential", "nobody"], "--credential 'nobody'"),
    ],
)
def test_dead_letters_usage_errors_come_before_any_request(
    environment: dict[str, str], arguments: list[str], message: str
) -> None:
    done = voipex_bridge(environment, "dead-letters", *arguments)

    assert done.code == 2
    assert message in done.err
