"""What the doctor makes of what it sees; the looking itself is in tests/service and tests/kafka."""

import os
import shutil
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
import trustme

from bridge.ops import doctor
from bridge.ops.doctor import Finding, Report, file_system_of, missing_rights
from bridge.settings import Settings
from voipex.kafka.permissions import Standing
from voipex.topics import declared

NOW_US = 1_772_438_400_000_000
ALL = frozenset({"Read", "Write", "Describe", "DescribeConfigs"})
REFUSED = "TopicAuthorizationFailedError"
MISSING = "UnknownTopicOrPartitionError"


def standing(name: str, rights: frozenset[str] | None = ALL, refusal: str | None = None) -> Standing:
    return Standing(name, refusal, rights, (), 1)


def test_with_all_rights_none_is_missing() -> None:
    topics = declared(["voipex"])

    assert missing_rights(topics, [standing(topic.name) for topic in topics]) == {}


def test_only_what_the_bridge_writes_must_be_writable() -> None:
    topics = declared(["voipex"])
    reader = ALL - {"Write"}

    missing = missing_rights(topics, [standing(topic.name, reader) for topic in topics])

    assert missing == {"Write": ["voipex.call.events.v1", "voipex.agent.events.v1", "voipex.dead-letters.v1"]}


def test_a_hidden_topic_lacks_every_right_and_a_missing_one_none() -> None:
    topics = declared(["voipex"])[:2]

    missing = missing_rights(
        topics, [standing(topics[0].name, refusal=REFUSED), standing(topics[1].name, refusal=MISSING)]
    )

    assert missing == {right: [topics[0].name] for right in ("Describe", "DescribeConfigs", "Write")}


def test_brokers_that_do_not_say_give_no_fault() -> None:
    topics = declared(["voipex"])

    assert missing_rights(topics, [standing(topic.name, None) for topic in topics]) == {}


MOUNTS = """overlay / overlay rw 0 0
tmpfs /run tmpfs rw 0 0
/dev/sda1 /var/lib ext4 rw 0 0
/dev/sdb1 /var/lib/my\\040spool xfs rw 0 0
"""


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/run/voipex", "tmpfs"),
        ("/var/lib/voipex", "ext4"),
        ("/var/lib/my spool/x", "xfs"),
        ("/opt", "overlay"),
        ("/running", "overlay"),
    ],
)
def test_the_file_system_is_that_of_the_nearest_mount(folder: str, kind: str) -> None:
    assert file_system_of(Path(folder), MOUNTS) == kind


def test_without_mounts_nothing_is_said_of_the_file_system() -> None:
    assert file_system_of(Path("/var"), "") is None


def test_exit_codes_tell_wrong_settings_from_faults_and_warnings() -> None:
    def code(*findings: Finding) -> int:
        return Report(findings).exit_code

    assert code(Finding("settings", "ok", "")) == 0
    assert code(Finding("settings", "warning", ""), Finding("kafka", "skipped", "")) == 0
    assert code(Finding("settings", "ok", ""), Finding("kafka", "fault", "")) == 1
    assert code(Finding("settings", "fault", ""), Finding("kafka", "fault", "")) == 2


@pytest.mark.parametrize(("now_us", "verdict"), [(0, "fault"), (-1, "fault"), (NOW_US * 4, "fault")])
def test_a_clock_of_another_age_is_a_fault(tmp_path: Path, now_us: int, verdict: str) -> None:
    finding = doctor._clock(Settings(spool_dir=tmp_path, credentials_file=tmp_path / "c"), now_us)

    assert finding.verdict == verdict
    assert finding.remedy is not None


def test_a_clock_behind_our_own_files_is_a_warning(tmp_path: Path) -> None:
    """It went back, or was set only after they were written: the order of events over a restart is lost."""
    file = tmp_path / "credentials.json"
    file.touch()
    now_us = file.stat().st_mtime_ns // 1000
    settings = Settings(spool_dir=tmp_path / "spool", credentials_file=file)
    os.utime(file, (now_us / 1e6 + 3600, now_us / 1e6 + 3600))

    behind = doctor._clock(settings, now_us)
    later = doctor._clock(settings, now_us + 3_600_000_000)

    assert (behind.verdict, later.verdict) == ("warning", "ok")
    assert str(file) in behind.found


@pytest.mark.parametrize(
    ("days_left", "verdict", "said"),
    [(90, "ok", "valid until"), (5, "warning", "valid until"), (-2, "fault", "expired")],
)
def test_a_certificate_is_told_before_it_expires(
    tmp_path: Path, days_left: int, verdict: str, said: str
) -> None:
    leaf = trustme.CA().issue_cert("bridge.example", not_after=datetime.now(UTC) + timedelta(days=days_left))
    cert_file, key_file = tmp_path / "tls.crt", tmp_path / "tls.key"
    cert_file.write_bytes(leaf.cert_chain_pems[0].bytes())
    key_file.write_bytes(leaf.private_key_pem.bytes())

    finding = doctor._certificate(
        Settings(tls_cert_file=cert_file, tls_key_file=key_file), time.time_ns() // 1000
    )

    assert finding.verdict == verdict
    assert said in finding.found


def test_a_certificate_that_cannot_be_loaded_is_a_fault(tmp_path: Path) -> None:
    settings = Settings(tls_cert_file=tmp_path / "none.crt", tls_key_file=tmp_path / "none.key")

    assert doctor._certificate(settings, NOW_US).verdict == "fault"


def test_a_full_disk_is_a_fault_and_one_that_fills_before_the_limit_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(spool_dir=tmp_path, spool_limit_bytes=1 << 30)

    def verdict(free: int, used: int) -> str:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
        return doctor._space(tmp_path, settings, used).verdict

    assert verdict(1 << 20, 0) == "fault"
    assert verdict(1 << 29, 0) == "warning"
    assert verdict(1 << 29, 700 << 20) == "ok"
    assert verdict(2 << 30, 0) == "ok"


def test_a_disk_that_refuses_and_a_slow_one_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(doctor, "_mounts", lambda: "/dev/sda1 / ext4 rw 0 0")
    monkeypatch.setattr(doctor, "_syncs_s", lambda _: [0.0004, 0.0005, 0.9])
    fast = doctor._disk(tmp_path)
    monkeypatch.setattr(doctor, "_syncs_s", lambda _: [0.04, 0.05, 0.06])
    slow = doctor._disk(tmp_path)
    monkeypatch.setattr(doctor, "_mounts", lambda: "tmpfs / tmpfs rw 0 0")
    passing = doctor._disk(tmp_path)
    monkeypatch.undo()
    monkeypatch.setattr(doctor, "_sync", refuse)
    broken = doctor._disk(tmp_path)

    assert [each.verdict for each in (fast, slow, passing, broken)] == ["ok", "warning", "warning", "fault"]
    assert "0.50 ms" in fast.found
    assert "tmpfs" in passing.found
    assert "Input/output error" in broken.found
