"""The settings of the consumers: names, defaults, and faults that name what to mend."""

from pathlib import Path

import pytest

from consumers.settings import MANAGEMENT_PORTS, load
from voipex.errors import SettingsInvalid


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VOIPEX_SECRETS_DIR", str(tmp_path))


def test_without_any_setting_it_is_the_demo_on_this_machine() -> None:
    settings = load()

    assert settings.host == "127.0.0.1"
    assert settings.management_port is None
    assert MANAGEMENT_PORTS == {"timelines": 8082, "agents": 8083, "all": 8082}
    assert settings.time_zone == "Europe/Prague"
    assert (settings.ringing_limit_s, settings.waiting_limit_s, settings.talking_limit_s) == (
        180,
        3600,
        14400,
    )
    assert settings.state_dir == Path("state")


def test_the_environment_is_read_and_the_command_line_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOIPEX_COMMIT_INTERVAL_MS", "100")
    monkeypatch.setenv("VOIPEX_STATE_DIR", "/var/lib/voipex")
    monkeypatch.setenv("VOIPEX_PBXS", "voipex, brno")

    settings = load({"commit_interval_ms": 50})

    assert (settings.commit_interval_ms, settings.state_dir) == (50, Path("/var/lib/voipex"))
    assert settings.pbxs == ("voipex", "brno")


def test_a_secret_file_is_a_setting_too(tmp_path: Path) -> None:
    (tmp_path / "VOIPEX_TIME_ZONE").write_text("Europe/Bratislava")

    assert load().time_zone == "Europe/Bratislava"


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("VOIPEX_TIME_ZONE", "Europe/Brno", "no such time zone; Europe/Prague is one"),
        ("VOIPEX_TIME_ZONE", "../etc/passwd", "no such time zone; Europe/Prague is one"),
        ("VOIPEX_COMMIT_INTERVAL_MS", "1", "greater than or equal to 5"),
        ("VOIPEX_TRANSACTION_TIMEOUT_S", "0", "greater than or equal to 1"),
        ("VOIPEX_RINGING_LIMIT_S", "0", "greater than 0"),
        ("VOIPEX_MANAGEMENT_PORT", "80a0", "valid integer"),
        ("VOIPEX_PBXS", "Brno", "a PBX name is 1 to 32 of a-z, 0-9 and -"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, message: str
) -> None:
    monkeypatch.setenv(variable, value)

    with pytest.raises(SettingsInvalid) as refused:
        load()

    assert variable in str(refused.value)
    assert message in str(refused.value)


def test_all_faults_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOIPEX_TIME_ZONE", "Mars")
    monkeypatch.setenv("VOIPEX_SESSION_TIMEOUT_S", "0")

    with pytest.raises(SettingsInvalid) as refused:
        load()

    assert "VOIPEX_TIME_ZONE" in str(refused.value)
    assert "VOIPEX_SESSION_TIMEOUT_S" in str(refused.value)
