"""`voipex-consumers health`: which port it asks."""

import pytest
from typer.testing import CliRunner

from consumers import cli
from voipex.service import health

Asked = list[tuple[str, int, str]]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    """Record the requests; only /live answers well."""
    seen: Asked = []

    def ask(host: str, port: int, what: str) -> health.Health:
        seen.append((host, port, what))
        return health.Health(what == "live", f"asked for {what}")

    monkeypatch.setattr(health, "probe", ask)
    for name in ("VOIPEX_HOST", "VOIPEX_MANAGEMENT_HOST", "VOIPEX_MANAGEMENT_PORT"):
        monkeypatch.delenv(name, raising=False)
    return seen


def health_command(*arguments: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(cli.app, ["health", *arguments])
    return done.exit_code, done.stdout, done.stderr


def test_each_service_has_its_own_port(asked: Asked) -> None:
    for service in ("timelines", "agents", "all"):
        assert health_command(service) == (1, "", "asked for ready\n")
    assert health_command("--live") == (0, "asked for live\n", "")
    assert asked == [
        ("127.0.0.1", 8082, "ready"),
        ("127.0.0.1", 8083, "ready"),
        ("127.0.0.1", 8082, "ready"),
        ("127.0.0.1", 8082, "live"),
    ]


def test_a_configured_port_wins(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOIPEX_MANAGEMENT_PORT", "8081")
    monkeypatch.setenv("VOIPEX_MANAGEMENT_HOST", "192.0.2.1")
    health_command("agents")
    assert asked == [("192.0.2.1", 8081, "ready")]


def test_an_unknown_service_is_a_usage_error(asked: Asked) -> None:
    code, _, _ = health_command("board")
    assert (code, asked) == (2, [])
