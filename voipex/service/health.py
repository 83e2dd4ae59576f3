"""
What a management port answers, in words: `voipex-bridge health` and `voipex-consumers health`.

Containers ask by `python -m voipex.service.health [--live]`, twice a minute for as long as they live: it loads nothing else of ours, a ninth of
what the commands need, and so answers in time on a machine that is busy. It knows the port from the environment alone.
"""

import http.client
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Final, Literal, NamedTuple

_TIMEOUT_S: Final = 5.0
_ANY_ADDRESS: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # what listens everywhere is asked here


class Health(NamedTuple):
    """Whether it is as asked, and what to tell a person."""

    ok: bool
    message: str


def probe(
    host: str, port: int, what: Literal["live", "ready"] = "ready", timeout_s: float = _TIMEOUT_S
) -> Health:
    """Ask `/live` or `/ready` once. No answer is an answer too: not good, and why."""
    connection = http.client.HTTPConnection(_ANY_ADDRESS.get(host, host), port, timeout=timeout_s)
    try:
        connection.request("GET", f"/{what}")
        answer = connection.getresponse()
        body = answer.read().decode(errors="replace").strip()
    except (OSError, http.client.HTTPException) as error:
        return Health(False, f"no answer on {host}:{port}: {error or type(error).__name__}")
    finally:
        connection.close()
    if answer.status == http.client.OK:
        return Health(True, what)
    return Health(False, f"not {what}: {body or answer.status}")


def main(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """Ask the service of this container; the exit code."""
    host = environment.get("VOIPEX_MANAGEMENT_HOST") or environment.get("VOIPEX_HOST") or "127.0.0.1"
    port = int(environment.get("VOIPEX_MANAGEMENT_PORT") or "8081")
    result = probe(host, port, "live" if "--live" in arguments else "ready")
    print(result.message, file=sys.stdout if result.ok else sys.stderr)
    return 0 if result.ok else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
