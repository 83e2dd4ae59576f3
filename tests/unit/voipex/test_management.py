"""The liveness probe: it fails with the reason when nothing moves any more."""

from typing import Any

import orjson
import pytest
from prometheus_client import CollectorRegistry

from voipex.service.management import Readiness, build_management


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("reason", "status", "body"),
    [
        (None, 200, {"live": True}),
        ("the poll loop stands", 503, {"live": False, "reason": "the poll loop stands"}),
    ],
    ids=["progress", "stalled"],
)
async def test_liveness_asks_for_progress(reason: str | None, status: int, body: dict[str, Any]) -> None:
    app = build_management(lambda: Readiness(True, {}), CollectorRegistry(), lambda: reason)
    [live] = [each for each in app.routes if getattr(each, "path", "") == "/live"]

    response = await live.endpoint(None)  # type: ignore[attr-defined]

    assert (response.status_code, orjson.loads(response.body)) == (status, body)
