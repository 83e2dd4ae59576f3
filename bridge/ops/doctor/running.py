"""Ask a running bridge on this host, by the `/ready` of its management port. Blocks for two seconds at most."""

import http.client
import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from bridge.ops.doctor.report import Check, skipped
from bridge.settings import Settings
from voipex.service.health import fetch

_TIMEOUT_S: Final = 2.0


def check_running(settings: Settings) -> list[Check]:
    """Return what a running bridge says about itself; skipped if none answers."""
    host, port = settings.management_host or settings.host, settings.management_port
    details = _ready_details(host, port)
    if details is None:
        return skipped(("bridge",), f"no bridge answers on {host}:{port}")
    return list(rate_running(details)) or [Check("bridge", "ok", "it reports no problem")]


def _ready_details(host: str, port: int) -> Mapping[str, Any] | None:
    try:
        details = json.loads(fetch(host, port, "/ready", _TIMEOUT_S)[1])
    except (OSError, http.client.HTTPException, ValueError):
        return None
    return details if isinstance(details, dict) and {"spool", "kafka"} <= details.keys() else None


_SKEW_S: Final = 300.0
_AHEAD_S: Final = 1.0


def rate_running(details: Mapping[str, Any]) -> Iterator[Check]:
    """Yield a result for each problem in the body of `/ready`."""
    for refusal in details["kafka"].get("refused", ()):
        yield Check(
            "bridge",
            "error",
            f"Kafka refuses the records of {refusal['topic']} since {refusal['since']} ({refusal['error']}); they wait in the spool",
            refusal["remedy"],
        )
    if details["spool"].get("failed"):
        yield Check(
            "bridge",
            "error",
            "its spool failed: it accepts nothing and is stopping",
            "see its log; check the disk",
        )
    elif details["spool"].get("full"):
        yield Check(
            "bridge",
            "error",
            "its spool is full: events get 503",
            "restore Kafka, or free some space on the disk",
        )
    clock = details.get("clock", {})
    for pbx, skew_s in clock.get("skew_s", {}).items():
        if abs(skew_s) > _SKEW_S:
            yield Check(
                "bridge",
                "warning",
                f"this host's clock is {abs(skew_s):.0f} s {'ahead of' if skew_s > 0 else 'behind'} that of the PBX {pbx}",
                "correct the clock that is wrong; if it is this host's, restart the bridge then",
            )
    ahead_s = clock.get("received_at_ahead_s", 0.0)
    if ahead_s > _AHEAD_S:
        yield Check(
            "bridge",
            "warning",
            f"this host's clock was set back: received_at is {ahead_s:.0f} s ahead of it",
            "restart the bridge once the clock is right",
        )
