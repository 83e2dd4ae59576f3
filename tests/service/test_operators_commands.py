"""`voipex-bridge doctor` and `dead-letters` without Kafka: each problem is named with its remedy, and nothing is left behind."""

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
    """Everything the bridge needs, except Kafka."""
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
    """Run the doctor; return its results by check."""
    done = voipex_bridge(environment, "doctor", "--json", *options)
    checks: dict[str, list[dict[str, Any]]] = {}
    for each in done.json["checks"]:
        checks.setdefault(each["check"], []).append(each)
    assert all(
        each["remedy"]
        for results in checks.values()
        for each in results
        if each["verdict"] in ("warning", "error")
    ), "every problem comes with its remedy"
    return done, checks


def verdicts(checks: Mapping[str, list[dict[str, Any]]]) -> dict[str, str]:
    return {check: results[0]["verdict"] for check, results in checks.items()}


def test_offline_checks_pass_and_leave_nothing_in_the_spool(
    environment: dict[str, str], tmp_path: Path
) -> None:
    done, checks = doctor(environment, "--offline")

    found = verdicts(checks)
    assert (done.code, done.err) == (0, "")
    assert found.pop("spool disk") in ("ok", "warning")  # it depends on this machine
    assert found == {
        "settings": "ok",
        "spool directory": "ok",
        "spool space": "ok",
        "spool": "ok",
        "bridge": "skipped",
        "board": "skipped",
        "credentials": "ok",
        "certificate": "ok",
        "ports": "ok",
        "kafka": "skipped",
        "cluster": "skipped",
        "rights": "skipped",
        "topics": "skipped",
    }
    assert list((tmp_path / "spool").iterdir()) == []
    assert "ms (median of 20)" in checks["spool disk"][0]["message"]


def test_without_kafka_each_address_is_reported_with_its_cause(
    environment: dict[str, str],
) -> None:
    done, checks = doctor(environment)

    assert done.code == 1
    addresses = environment["VOIPEX_KAFKA_BOOTSTRAP_SERVERS"].split(",")
    for address, each in zip(addresses, checks["kafka"], strict=True):
        assert each["verdict"] == "error"
        assert each["message"].startswith(f"{address} ConnectionRefusedError")
    assert [checks[check][0]["message"] for check in ("cluster", "rights", "topics")] == [
        "skipped: Kafka is unreachable"
    ] * 3


def test_all_problems_of_the_host_are_reported_at_once(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "credentials.json").chmod(0o644)
    environment |= {
        "VOIPEX_SPOOL_DIR": str(tmp_path / "file"),
        "VOIPEX_PBXS": "voipex,brno",
        "VOIPEX_SPOL_DIR": "x",
    }

    done, checks = doctor(environment, "--offline")

    assert done.code == 1
    assert verdicts(checks)["spool directory"] == "error"
    assert checks["spool"][0]["message"] == "skipped: the spool directory cannot be used"
    assert "did you mean VOIPEX_SPOOL_DIR" in checks["settings"][0]["message"]
    messages = " ".join(each["message"] for each in checks["credentials"])
    assert "everyone" in messages
    assert "no credential for brno" in messages


def test_missing_credentials_are_an_error_with_the_command(environment: dict[str, str]) -> None:
    environment["VOIPEX_CREDENTIALS_FILE"] = "/nowhere/credentials.json"

    done, checks = doctor(environment, "--offline")

    assert done.code == 1
    assert checks["credentials"][0]["verdict"] == "error"
    assert "credentials create" in checks["credentials"][0]["remedy"]


def test_invalid_settings_are_all_named_and_the_rest_skipped(environment: dict[str, str]) -> None:
    done, checks = doctor({**environment, "VOIPEX_PORT": "x", "VOIPEX_PBXS": "Praha"})

    assert done.code == 2
    assert [each["message"].partition("=")[0] for each in checks["settings"]] == [
        "VOIPEX_PBXS",
        "VOIPEX_PORT",
    ]
    assert set(verdicts({name: each for name, each in checks.items() if name != "settings"}).values()) == {
        "skipped"
    }


def test_waiting_events_and_ports_in_use_are_reported(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "bridge").mkdir()
    with BridgeProcess(tmp_path / "bridge", environment["VOIPEX_KAFKA_BOOTSTRAP_SERVERS"]).start() as bridge:
        bridge.post(body())
        beside = doctor(bridge.environment, "--offline")[1]
        elsewhere = doctor({**environment, "VOIPEX_PORT": str(bridge.port)}, "--offline")
        bridge.kill()
    after = doctor(bridge.environment, "--offline")[1]

    assert beside["ports"][0]["message"].startswith("skipped: a bridge is running")
    assert "1 waiting for Kafka" in beside["spool"][0]["message"]
    assert elsewhere[0].code == 1
    assert "VOIPEX_PORT" in elsewhere[1]["ports"][0]["remedy"]
    assert after["spool"][0]["verdict"] == "warning"
    assert "no bridge is running" in after["spool"][0]["message"]


def test_without_a_spool_the_disk_is_not_checked(environment: dict[str, str]) -> None:
    done, checks = doctor(
        {**environment, "VOIPEX_ACK": "kafka", "VOIPEX_SPOOL_DIR": "/proc/nowhere"}, "--offline"
    )

    assert done.code == 0
    assert [
        checks[check][0]["message"] for check in ("spool directory", "spool disk", "spool space", "spool")
    ] == ["skipped: VOIPEX_ACK=kafka uses no disk"] * 4


def test_the_report_is_aligned_with_remedies_below(environment: dict[str, str]) -> None:
    environment["VOIPEX_CREDENTIALS_FILE"] = "/nowhere/credentials.json"

    done = voipex_bridge(environment, "doctor", "--offline")

    lines = done.out.splitlines()
    assert done.code == 1
    assert lines[0] == "ok       settings         all are valid"
    assert "error    credentials      /nowhere/credentials.json does not exist" in done.out
    assert any(line.startswith(" " * 26 + "-> voipex-bridge credentials create") for line in lines)
    assert lines[-1].startswith("1 error, ")
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
def test_wrong_options_of_dead_letters_are_reported(
    environment: dict[str, str], arguments: list[str], message: str
) -> None:
    done = voipex_bridge(environment, "dead-letters", *arguments)

    assert done.code == 2
    assert message in done.err
