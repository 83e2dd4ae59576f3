"""Settings of the consumers: names, defaults, and errors that name the variable."""

from pathlib import Path

import pytest

from consumers.settings import MANAGEMENT_PORTS, load
from voipex.errors import SettingsInvalid


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VOIPEX_SECRETS_DIR", str(tmp_path))


def test_defaults_suit_a_local_run() -> None:
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


def test_overrides_win_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOIPEX_COMMIT_INTERVAL_MS", "100")
    monkeypatch.setenv("VOIPEX_STATE_DIR", "/var/lib/voipex")
    monkeypatch.setenv("VOIPEX_PBXS", "voipex, brno")

    settings = load({"commit_interval_ms": 50})

    assert (settings.commit_interval_ms, settings.state_dir) == (50, Path("/var/lib/voipex"))
    assert settings.pbxs == ("voipex", "brno")


def test_secret_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "VOIPEX_TIME_ZONE").write_text("Europe/Bratislava")

    assert load().time_zone == "Europe/Bratislava"


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("VOIPEX_TIME_ZONE", "Europe/Brno", "no such time zone; Europe/Prague is one"),
        ("VOIPEX_TIME_ZONE", "../etc/passwd", "no such time zone; Europe/Prague is one"),
        ("VOIPEX_COMMIT_INTERVAL_MS", "1", "must be at least 5ms"),
        ("VOIPEX_TRANSACTION_TIMEOUT_S", "0", "must be at least 1s"),
        ("VOIPEX_RINGING_LIMIT_S", "0", "must be more than 0s"),
        ("VOIPEX_MANAGEMENT_PORT", "80a0", "not a whole number"),
        ("VOIPEX_PBXS", "Brno", "a PBX name is 1 to 32 of a-z, 0-9 and -"),
    ],
)
def test_an_invalid_value_is_refused_with_its_variable(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, message: str
) -> None:
    monkeypatch.setenv(variable, value)

    with pytest.raises(SettingsInvalid) as refused:
        load()

    assert variable in str(refused.value)
    assert message in str(refused.value)


def test_all_invalid_values_are_reported_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOIPEX_TIME_ZONE", "Mars")
    monkeypatch.setenv("VOIPEX_SESSION_TIMEOUT_S", "0")

    with pytest.raises(SettingsInvalid) as refused:
        load()

    assert "VOIPEX_TIME_ZONE" in str(refused.value)
    assert "VOIPEX_SESSION_TIMEOUT_S" in str(refused.value)
