"""Ask a running bridge and a running board, by their `/ready`. Blocks for two seconds at most for each."""

import http.client
import json
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from typing import Any, Final

from bridge.ops.doctor.report import Check, skipped
from bridge.settings import Settings
from voipex.service.health import fetch

BOARD_CHECK: Final = "board"
_TIMEOUT_S: Final = 2.0


def check_running(settings: Settings) -> list[Check]:
    """Return what a running bridge says about itself; skipped if none answers."""
    host, port = settings.management_host or settings.host, settings.management_port
    details = _ready_details(host, port, {"spool", "kafka"})
    if details is None:
        return skipped(("bridge",), f"no bridge answers on {host}:{port}")
    return list(rate_running(details)) or [Check("bridge", "ok", "it reports no problem")]


def check_board(host: str, port: int) -> list[Check]:
    """Return what a board says about itself; skipped if none answers."""
    details = _ready_details(host, port, {"board"})
    if details is None:
        return skipped((BOARD_CHECK,), f"no board answers on {host}:{port}; `--board` names another address")
    return list(rate_board(details["board"])) or [
        Check(BOARD_CHECK, "ok", f"{host}:{port} shows what is now; calls: {details['board']['calls']:,}")
    ]


def _ready_details(host: str, port: int, parts: AbstractSet[str]) -> Mapping[str, Any] | None:
    try:
        details = json.loads(fetch(host, port, "/ready", _TIMEOUT_S)[1])
    except (OSError, http.client.HTTPException, ValueError):
        return None
    return details if isinstance(details, dict) and parts <= details.keys() else None


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
    if probe := details.get("retry_probe"):
        yield Check(
            "bridge",
            "warning",
            f"a probe answers 503 to stored events of the PBX {probe['pbx']}, for {probe['ends_in_s']:.0f} s more; {probe['answers']} until now",
            "it ends by itself; Ctrl-C in `voipex-bridge survey --probe-retry` ends it now",
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


_STALE_S: Final = 10.0  # its pages are grey then


def rate_board(board: Mapping[str, Any]) -> Iterator[Check]:
    """Yield a result for each problem in the board's part of its `/ready`."""
    age_s, behind = board["kafka_age_s"], board["lag_records"]
    since = "since its start" if age_s is None else f"for {age_s:.0f} s"
    if board["fault"] is not None:
        yield Check(
            BOARD_CHECK,
            "error",
            f"it does not read {since}, and shows an old picture in grey: {board['fault']}",
            "see the check of Kafka; the board goes on by itself",
        )
    elif age_s is None or age_s > _STALE_S:
        yield Check(
            BOARD_CHECK,
            "error" if age_s is not None else "warning",
            f"it has not been at the ends of its topics {since}: {behind:,} records are left",
            "after a start wait; else its core is busy: give it one, or another board for a part of the readers",
        )
    if board["crowded_out_calls"]:
        yield Check(
            BOARD_CHECK,
            "warning",
            f"{board['crowded_out_calls']:,} calls left it before their time: lists and figures lack them",
            "raise VOIPEX_BOARD_MAX_CALLS, or shorten VOIPEX_BOARD_WINDOW_S",
        )
    if board["broken_documents"]:
        yield Check(
            BOARD_CHECK,
            "warning",
            f"{board['broken_documents']} records of its topics are no documents; its calls view lists them",
            "find who else writes to the topics",
        )
