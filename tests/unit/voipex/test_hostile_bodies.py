"""Any bytes at all through the whole front door, 2,000 in `make test` and 100,000 in `make soak`: an answer, kept or refused, never 5xx."""

import asyncio
import logging
import os

import pytest
import structlog
from hypothesis import HealthCheck, given, settings

from tests.fakes import FakeOutbox, ask, webhook_ingress
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
    outbox = FakeOutbox()
    app = webhook_ingress(outbox, max_body_bytes=64 * 1024)
    caplog.clear()

    with structlog.testing.capture_logs() as said, caplog.at_level(logging.DEBUG):
        answer = asyncio.run(ask(app, body))

    assert answer.status in (200, 400, 422)
    assert len(outbox.kept) == 1
    kept = outbox.kept[0]
    if answer.status == 200:
        assert decode(kept.value).event_id == dict(kept.headers)["ce_id"].decode()
    else:
        assert kept.value == body
    told = repr(said) + caplog.text + answer.body.decode()
    assert len(body) < 12 or body.decode("latin-1") not in told
    assert not [each for each in said if each["log_level"] == "error"]
