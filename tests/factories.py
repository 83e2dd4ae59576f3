"""Factories of webhook bodies and receipts."""

from typing import Any

import orjson

from voipex.normalize import Receipt

RINGING: dict[str, str] = {
    "EventName": "Ringing",
    "From": "777888999",
    "To": "222333444",
    "Line": "444",
    "Email": "petr.novak@jehofirma.cz",
    "Login": "petr.novak",
    "UniqueId": "1412256225.1941",
}


def body(**changes: Any) -> bytes:
    """The documented Ringing, changed; a value of None leaves the key out."""
    return orjson.dumps({key: value for key, value in {**RINGING, **changes}.items() if value is not None})


def receipt(
    at_us: int = 1_772_438_400_000_000,
    event_id: str = "019cade5-4c00-7000-8000-000000000001",
    traceparent: str | None = None,
) -> Receipt:
    return Receipt(at_us, "2026-03-02T08:00:00.000000Z", event_id, traceparent)
