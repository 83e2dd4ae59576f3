"""Any bytes through the whole ingress, 2,000 in `make test` and 100,000 in `make soak`: stored and answered, never with 5xx."""

import asyncio
import logging
import os

import pytest
import structlog
from hypothesis import HealthCheck, given, settings

from tests.fakes import FakeSpool, asgi_request, webhook_ingress
from tests.unit.voipex.webhook_bodies import bodies
from voipex.records import decode

EXAMPLES = {"fast": 100, "test": 2000, "soak": 100_000}[os.environ.get("HYPOTHESIS_PROFILE", "test")]


@settings(
    max_examples=EXAMPLES, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(body=bodies)
def test_any_body_is_stored_and_answered_and_never_logged(
    body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    spool = FakeSpool()
    app = webhook_ingress(spool, max_body_bytes=64 * 1024)
    caplog.clear()

    with structlog.testing.capture_logs() as logged, caplog.at_level(logging.DEBUG):
        response = asyncio.run(asgi_request(app, body))

    assert response.status in (200, 400, 422)
    (record,) = spool.records
    if response.status == 200:
        assert decode(record.value).event_id == dict(record.headers)["ce_id"].decode()
    else:
        assert record.value == body
    output = repr(logged) + caplog.text + response.body.decode()
    assert len(body) < 12 or body.decode("latin-1") not in output
    assert not [each for each in logged if each["log_level"] == "error"]
