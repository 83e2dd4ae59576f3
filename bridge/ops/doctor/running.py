"""Ask a running bridge on this host, by the `/ready` of its management port. Blocks for two seconds at most."""

import http.client
import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from bridge.ops.doctor.report import Check, skipped
from bridge.settings import Settings
from voipex.service.health import connectable

_TIMEOUT_S: Final = 2.0


def check_running(settings: Settings) -> list[Check]:
    """Return what a running bridge says about itself; skipped if none answers."""
    host, port = settings.management_host or settings.host, settings.management_port
    details = _ready_details(host, port)
    if details is None:
        return skipped(("bridge",), f"no bridge answers on {host}:{port}")
    return list(rate_running(details)) or [Check("bridge", "ok", "it reports no problem")]


def _ready_details(host: str, port: int) -> Mapping[str, Any] | None:
    connection = http.client.HTTPConnection(connectable(host), port, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", "/ready")
        details = json.loads(connection.getresponse().read())
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()
    return details if isinstance(details, dict) and {"spool", "kafka"} <= details.keys() else None


def rate_running(details: Mapping[str, Any]) -> Iterator[Check]:
    """Yield a result for each problem in the body of `/ready`."""
    for refusal in details["kafka"].get("refused", ()):
        yield Check(
            "bridge",
            "error",
            f"Kafka refuses the records of {refusal['topic']} since {refusal['since']} ({refusal['error']}); they wait in the spool",
            refusal["remedy"],
        )
