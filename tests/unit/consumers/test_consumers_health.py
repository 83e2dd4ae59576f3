"""`voipex-consumers health`: the port of each service."""

import pytest
from typer.testing import CliRunner

from consumers.cli import main as cli
from voipex.service import health

Requests = list[tuple[str, int, str]]


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> Requests:
    """Record the health requests; only /live succeeds."""
    seen: Requests = []

    def ask(host: str, port: int, what: str) -> health.Health:
        seen.append((host, port, what))
        return health.Health(what == "live", f"result of {what}")

    monkeypatch.setattr(health, "probe", ask)
    for name in ("VOIPEX_HOST", "VOIPEX_MANAGEMENT_HOST", "VOIPEX_MANAGEMENT_PORT"):
        monkeypatch.delenv(name, raising=False)
    return seen


def health_command(*arguments: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(cli.app, ["health", *arguments])
    return done.exit_code, done.stdout, done.stderr


def test_each_service_has_its_own_port(requests: Requests) -> None:
    for service in ("timelines", "agents", "all"):
        assert health_command(service) == (1, "", "result of ready\n")
    assert health_command("--live") == (0, "result of live\n", "")
    assert requests == [
        ("127.0.0.1", 8082, "ready"),
        ("127.0.0.1", 8083, "ready"),
        ("127.0.0.1", 8082, "ready"),
        ("127.0.0.1", 8082, "live"),
    ]


def test_a_configured_port_wins(requests: Requests, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOIPEX_MANAGEMENT_PORT", "8081")
    monkeypatch.setenv("VOIPEX_MANAGEMENT_HOST", "192.0.2.1")
    health_command("agents")
    assert requests == [("192.0.2.1", 8081, "ready")]


def test_an_unknown_service_is_a_usage_error(requests: Requests) -> None:
    code, _, _ = health_command("board")
    assert (code, requests) == (2, [])
