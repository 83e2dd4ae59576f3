"""How the doctor rates what it measured; the measuring is tested in tests/service and tests/kafka."""

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme

from bridge.ops.doctor.host import check_certificate, check_disk, file_system_of, rate_disk, rate_space
from bridge.ops.doctor.kafka import missing_rights
from bridge.ops.doctor.report import Check, Report, format_bytes
from bridge.ops.doctor.running import rate_board, rate_running
from bridge.settings import Settings
from voipex.kafka.permissions import TopicAccess
from voipex.topics import topics_for

NOW_US = 1_772_438_400_000_000
ALL = frozenset({"Read", "Write", "Describe", "DescribeConfigs"})
UNAUTHORIZED = "TopicAuthorizationFailedError"
UNKNOWN = "UnknownTopicOrPartitionError"

MIB, GIB = 1 << 20, 1 << 30


# ---------------------------------------------------------------- rights


def access(name: str, rights: frozenset[str] | None = ALL, refusal: str | None = None) -> TopicAccess:
    return TopicAccess(name, refusal, rights, (), 1)


def test_with_all_rights_none_is_missing() -> None:
    topics = topics_for(["voipex"])

    assert missing_rights(topics, [access(topic.name) for topic in topics]) == {}


def test_only_the_topics_of_the_bridge_need_write() -> None:
    topics = topics_for(["voipex"])

    missing = missing_rights(topics, [access(topic.name, ALL - {"Write"}) for topic in topics])

    assert missing == {"Write": ["voipex.call.events.v1", "voipex.agent.events.v1", "voipex.dead-letters.v1"]}


def test_a_hidden_topic_lacks_all_rights_a_missing_one_none() -> None:
    hidden, missing = topics_for(["voipex"])[:2]

    found = missing_rights(
        [hidden, missing], [access(hidden.name, refusal=UNAUTHORIZED), access(missing.name, refusal=UNKNOWN)]
    )

    assert found == {right: [hidden.name] for right in ("Describe", "DescribeConfigs", "Write")}


def test_brokers_that_do_not_report_rights_are_no_error() -> None:
    topics = topics_for(["voipex"])

    assert missing_rights(topics, [access(topic.name, None) for topic in topics]) == {}


# ---------------------------------------------------------------- disk and space


MOUNTS = """overlay / overlay rw 0 0
tmpfs /run tmpfs rw 0 0
/dev/sda1 /var/lib ext4 rw 0 0
/dev/sdb1 /var/lib/my\\040spool xfs rw 0 0
"""


@pytest.mark.parametrize(
    ("directory", "kind"),
    [
        ("/run/voipex", "tmpfs"),
        ("/var/lib/voipex", "ext4"),
        ("/var/lib/my spool/x", "xfs"),
        ("/opt", "overlay"),
        ("/running", "overlay"),
    ],
)
def test_the_nearest_mount_determines_the_file_system(directory: str, kind: str) -> None:
    assert file_system_of(Path(directory), MOUNTS) == kind


def test_without_mounts_the_file_system_is_unknown() -> None:
    assert file_system_of(Path("/var"), "") is None


@pytest.mark.parametrize(
    ("sync_ms", "file_system", "verdict", "message"),
    [
        (0.5, "ext4", "ok", "0.50 ms"),
        (0.5, None, "ok", "0.50 ms"),
        (50.0, "ext4", "warning", "50.00 ms"),
        (0.5, "tmpfs", "warning", "tmpfs (memory)"),
        (0.5, "overlay", "warning", "overlay (the container's own layer)"),
    ],
)
def test_a_slow_or_volatile_disk_is_a_warning(
    sync_ms: float, file_system: str | None, verdict: str, message: str
) -> None:
    check = rate_disk(sync_ms, file_system)

    assert check.verdict == verdict
    assert message in check.message


def test_a_disk_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    check = check_disk(tmp_path / "missing")

    assert check.verdict == "error"
    assert "No such file or directory" in check.message


@pytest.mark.parametrize(
    ("free", "used", "verdict"),
    [
        (1 * MIB, 0, "error"),
        (512 * MIB, 0, "warning"),
        (512 * MIB, 700 * MIB, "ok"),
        (2 * GIB, 0, "ok"),
    ],
)
def test_too_little_space_for_the_limit_is_a_warning(free: int, used: int, verdict: str) -> None:
    assert rate_space(free, used, limit=1 * GIB).verdict == verdict


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "2 KiB"), (3 * MIB, "3 MiB"), (5 * GIB // 2, "2.5 GiB")],
)
def test_sizes_are_printed_with_their_unit(count: int, text: str) -> None:
    assert format_bytes(count) == text


# ---------------------------------------------------------------- certificate


@pytest.mark.parametrize(
    ("days_left", "verdict", "message"),
    [(90, "ok", "valid until"), (5, "warning", "valid until"), (-2, "error", "expired")],
)
def test_a_certificate_is_reported_before_it_expires(
    tmp_path: Path, days_left: int, verdict: str, message: str
) -> None:
    leaf = trustme.CA().issue_cert("bridge.example", not_after=datetime.now(UTC) + timedelta(days=days_left))
    cert_file, key_file = tmp_path / "tls.crt", tmp_path / "tls.key"
    cert_file.write_bytes(leaf.cert_chain_pems[0].bytes())
    key_file.write_bytes(leaf.private_key_pem.bytes())

    check = check_certificate(
        Settings(tls_cert_file=cert_file, tls_key_file=key_file), time.time_ns() // 1000
    )

    assert check.verdict == verdict
    assert message in check.message


def test_a_certificate_that_cannot_be_loaded_is_an_error(tmp_path: Path) -> None:
    settings = Settings(tls_cert_file=tmp_path / "none.crt", tls_key_file=tmp_path / "none.key")

    assert check_certificate(settings, NOW_US).verdict == "error"


# ---------------------------------------------------------------- report


READY = {"spool": {"full": False, "failed": False}, "kafka": {"refused": []}, "clock": {"skew_s": {}}}
REFUSAL = {"topic": "t", "reason": "timestamp", "error": "E", "since": "2026-01-01", "remedy": "do"}


@pytest.mark.parametrize(
    ("details", "verdicts"),
    [
        ({}, []),
        ({"kafka": {"refused": [REFUSAL, REFUSAL]}}, ["error", "error"]),
        ({"spool": {"full": True, "failed": False}}, ["error"]),
        ({"spool": {"full": True, "failed": True}}, ["error"]),
        ({"clock": {"skew_s": {"voipex": 3600.0, "brno": 2.0}}}, ["warning"]),
        ({"clock": {"skew_s": {"voipex": -400.0}, "received_at_ahead_s": 7200.0}}, ["warning", "warning"]),
    ],
)
def test_a_running_bridge_reports_its_own_problems(details: dict[str, Any], verdicts: list[str]) -> None:
    checks = list(rate_running({**READY, **details}))

    assert [each.verdict for each in checks] == verdicts
    assert all(each.name == "bridge" and each.remedy for each in checks)


BOARD = {
    "fault": None,
    "kafka_age_s": 1.2,
    "lag_records": 0,
    "calls": 7,
    "agents": 3,
    "broken_documents": 0,
    "crowded_out_calls": 0,
}


@pytest.mark.parametrize(
    ("details", "found"),
    [
        ({}, []),
        ({"kafka_age_s": 9.9, "lag_records": 500}, []),
        ({"kafka_age_s": 34.0, "lag_records": 1500}, [("error", "for 34 s: 1,500 records")]),
        ({"kafka_age_s": None, "lag_records": 1500}, [("warning", "since its start: 1,500 records")]),
        ({"kafka_age_s": None, "fault": "topics are missing"}, [("error", "topics are missing")]),
        ({"kafka_age_s": 70.0, "fault": "no brokers"}, [("error", "does not read for 70 s")]),
        ({"crowded_out_calls": 12}, [("warning", "12 calls left it before their time")]),
        ({"broken_documents": 2}, [("warning", "2 records of its topics are no documents")]),
    ],
)
def test_a_board_that_is_behind_or_stale_says_so(
    details: dict[str, Any], found: list[tuple[str, str]]
) -> None:
    checks = list(rate_board({**BOARD, **details}))

    assert [each.verdict for each in checks] == [verdict for verdict, _ in found]
    for check, (_, text) in zip(checks, found, strict=True):
        assert text in check.message
        assert check.remedy


def test_exit_code_2_is_for_invalid_settings_only() -> None:
    def exit_code(*checks: Check) -> int:
        return Report(checks).exit_code

    assert exit_code(Check("settings", "ok", "")) == 0
    assert exit_code(Check("settings", "warning", ""), Check("kafka", "skipped", "")) == 0
    assert exit_code(Check("settings", "ok", ""), Check("kafka", "error", "")) == 1
    assert exit_code(Check("settings", "error", ""), Check("kafka", "error", "")) == 2
