"""
Probe the management port of a service: `voipex-bridge health` and `voipex-consumers health`.

Containers run `python -m voipex.service.health [--live]` twice a minute. It loads no other module of the project, a ninth of what the
commands load, and therefore answers in time on a busy machine. It reads the port from the environment only.
"""

import http.client
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Final, Literal, NamedTuple

_TIMEOUT_S: Final = 5.0
_ANY_ADDRESS: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # addresses to listen on, not to connect to


class Health(NamedTuple):
    """Result of a probe, with a message for the operator."""

    ok: bool
    message: str


def probe(
    host: str, port: int, check: Literal["live", "ready"] = "ready", timeout_s: float = _TIMEOUT_S
) -> Health:
    """Request `/live` or `/ready` once. A failed connection is a result, too: not ok, with the cause."""
    try:
        status, body = fetch(host, port, f"/{check}", timeout_s)
    except (OSError, http.client.HTTPException) as error:
        return Health(False, f"no answer on {host}:{port}: {error or type(error).__name__}")
    if status == http.client.OK:
        return Health(True, check)
    return Health(False, f"not {check}: {body.strip() or status}")


def fetch(host: str, port: int, path: str, timeout_s: float) -> tuple[int, str]:
    """Return status and body of a GET. Raises OSError and HTTPException."""
    connection = http.client.HTTPConnection(_ANY_ADDRESS.get(host, host), port, timeout=timeout_s)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode(errors="replace")
    finally:
        connection.close()


def main(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """Probe the service of this container. Returns the exit code."""
    host = environment.get("VOIPEX_MANAGEMENT_HOST") or environment.get("VOIPEX_HOST") or "127.0.0.1"
    port = int(environment.get("VOIPEX_MANAGEMENT_PORT") or "8081")
    result = probe(host, port, "live" if "--live" in arguments else "ready")
    print(result.message, file=sys.stdout if result.ok else sys.stderr)
    return 0 if result.ok else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
