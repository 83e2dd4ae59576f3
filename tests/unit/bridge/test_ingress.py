"""The ingress: its responses, and the records that are durable before each."""

import asyncio
import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest
import structlog

from bridge.auth.authenticate import Credentials, Principal, authenticate
from bridge.http.messages import Response
from bridge.metrics import Metrics
from tests.factories import body
from tests.fakes import AsgiResponse, FakeSpool, asgi_request, webhook_ingress
from voipex.errors import ShuttingDown, SpoolFailed, SpoolFull
from voipex.records import Record, decode

GOOD = (b"authorization", b"Basic good")


def answer_to(spool: FakeSpool, *chunks: bytes, **request: object) -> AsgiResponse:
    return asyncio.run(asgi_request(webhook_ingress(spool), *chunks, **request))  # type: ignore[arg-type]


def test_an_accepted_event_is_stored_before_the_response() -> None:
    spool = FakeSpool()

    answer = answer_to(spool, body())

    assert (answer.status, answer.body) == (200, b"")
    assert decode(spool.records[0].value).unique_id == "1412256225.1941"
    assert spool.records[0].topic == "voipex.call.events.v1"


def test_status_and_body_of_the_response_are_settings() -> None:
    app = webhook_ingress(FakeSpool(), accepted=(202, b"OK"))

    answer = asyncio.run(asgi_request(app, body()))

    assert (answer.status, answer.body) == (202, b"OK")
    assert answer.headers[b"content-length"] == b"2"


def test_a_204_has_neither_body_nor_length() -> None:
    answer = asyncio.run(asgi_request(webhook_ingress(FakeSpool(), accepted=(204, b"OK")), body()))

    assert (answer.status, answer.body, answer.headers) == (204, b"", {})


@pytest.mark.parametrize("path", ["/voipex", "/voipex/"])
def test_one_trailing_slash_is_accepted(path: str) -> None:
    assert answer_to(FakeSpool(), body(), path=path).status == 200


@pytest.mark.parametrize(
    "content_type", [None, b"application/json", b"text/plain", b"application/x-www-form-urlencoded"]
)
def test_any_or_no_content_type_is_accepted(content_type: bytes | None) -> None:
    headers = [GOOD] if content_type is None else [GOOD, (b"content-type", content_type)]

    assert answer_to(FakeSpool(), body(), headers=headers).status == 200


def test_a_body_in_pieces_is_one_event() -> None:
    spool = FakeSpool()
    whole = body()

    answer = answer_to(spool, whole[:10], whole[10:30], whole[30:])

    assert answer.status == 200
    assert len(spool.records) == 1


@pytest.mark.parametrize(
    ("headers"), [[], [(b"authorization", b"Basic bad")], [GOOD, GOOD], [(b"authorization", b"")]]
)
def test_unauthorized_requests_are_refused_without_their_body(headers: Sequence[tuple[bytes, bytes]]) -> None:
    spool = FakeSpool()

    answer = answer_to(spool, body(), headers=headers)

    assert (answer.status, answer.reads, spool.records) == (401, 0, [])
    assert answer.headers[b"www-authenticate"].startswith(b"Basic ")


def test_two_authorization_headers_have_a_reason_of_their_own() -> None:
    nobody = partial(authenticate, credentials=Credentials([]), now_s=0.0)
    app = webhook_ingress(FakeSpool(), authenticate=nobody)

    answer = asyncio.run(asgi_request(app, body(), headers=[GOOD, GOOD]))

    assert answer.status == 401
    assert json.loads(answer.body)["detail"] == "the Authorization header is empty, or there is more than one"


@pytest.mark.parametrize(
    ("sent", "status", "error"),
    [
        (b"9" * 500, 422, b"InvalidEvent"),
        (b"[" * 420 + b"1.10" + b"]" * 420, 422, b"InvalidEvent"),
        (b"1e400", 422, b"InvalidEvent"),
        (b"[" * 420, 400, b"InvalidJson"),
    ],
)
def test_json_that_no_event_can_hold_is_a_dead_letter_as_sent(sent: bytes, status: int, error: bytes) -> None:
    spool = FakeSpool()
    raw = b'{"EventName":"CDR","UniqueId":"1.2","x":%s}' % sent

    answer = answer_to(spool, raw)

    assert answer.status == status
    assert (spool.records[0].topic, spool.records[0].value) == ("voipex.dead-letters.v1", raw)
    assert dict(spool.records[0].headers)["bridge-error-class"] == error


def test_a_content_length_over_the_limit_is_413_without_reading() -> None:
    answer = answer_to(FakeSpool(), b"x", headers=[GOOD, (b"content-length", b"1025")])

    assert (answer.status, answer.reads) == (413, 0)
    assert answer.headers[b"connection"] == b"close"


def test_an_endless_body_is_refused_as_soon_as_it_is_too_long() -> None:
    answer = answer_to(FakeSpool(), *[b"x" * 400] * 100)

    assert (answer.status, answer.reads) == (413, 3)


def test_a_body_of_exactly_the_limit_is_read() -> None:
    assert answer_to(FakeSpool(), b"x" * 1024).status == 400


def test_a_compressed_body_is_refused_without_reading() -> None:
    answer = answer_to(FakeSpool(), body(), headers=[GOOD, (b"content-encoding", b"gzip")])

    assert (answer.status, answer.reads) == (415, 0)
    assert answer_to(FakeSpool(), body(), headers=[GOOD, (b"content-encoding", b"identity")]).status == 200


@pytest.mark.parametrize(
    ("raw", "status", "fault"),
    [
        (b"not json", 400, b"InvalidJson"),
        (b"", 400, b"InvalidJson"),
        (b"[1]", 422, b"InvalidEvent"),
        (b"{}", 422, b"InvalidEvent"),
        (body(UniqueId=None), 422, b"InvalidEvent"),
    ],
)
def test_a_body_without_an_event_is_a_dead_letter_and_refused(raw: bytes, status: int, fault: bytes) -> None:
    spool = FakeSpool()

    answer = answer_to(spool, raw)

    dead_letter = spool.records[0]
    assert answer.status == status
    assert (dead_letter.topic, dead_letter.key, dead_letter.value) == ("voipex.dead-letters.v1", None, raw)
    assert dict(dead_letter.headers)["bridge-error-class"] == fault
    assert dict(dead_letter.headers)["bridge-stage"] == b"ingress"


@pytest.mark.parametrize(
    "fault", [SpoolFull("full"), SpoolFailed("broken"), ShuttingDown("going"), RuntimeError("bug")]
)
@pytest.mark.parametrize("raw", [body(), b"not json"])
def test_a_record_that_is_not_stored_is_answered_503(fault: Exception, raw: bytes) -> None:
    answer = answer_to(FakeSpool(fault=fault), raw)

    assert answer.status == 503
    assert int(answer.headers[b"retry-after"]) >= 1


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE", "BREW"])
def test_only_post_is_allowed(method: str) -> None:
    answer = answer_to(FakeSpool(), method=method)

    assert (answer.status, answer.headers[b"allow"]) == (405, b"POST")


@pytest.mark.parametrize("path", ["/", "/voipex//", "/VOIPEX", "/metrics", "/ready"])
def test_other_paths_are_404(path: str) -> None:
    assert answer_to(FakeSpool(), path=path).status == 404


def test_a_connection_that_ends_within_the_body_stores_nothing() -> None:
    spool = FakeSpool()

    answer = answer_to(spool, body(), ends=False)

    assert (answer.status, spool.records) == (400, [])


def test_a_problem_says_what_is_wrong_and_never_repeats_the_body() -> None:
    answer = answer_to(
        FakeSpool(), b'{"EventName":"Ringing","From":"+420777888999","Login":"novak@firma.cz"}'
    )

    problem = json.loads(answer.body)
    assert answer.headers[b"content-type"] == b"application/problem+json"
    assert problem == {
        "type": "urn:voipex-bridge:problem:InvalidEvent",
        "title": "Not an event",
        "status": 422,
        "detail": "no UniqueId, and no agent to key it by",
    }


def test_only_a_valid_traceparent_goes_into_the_record() -> None:
    spool = FakeSpool()
    good = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

    answer_to(spool, body(), headers=[GOOD, (b"traceparent", good)])
    answer_to(spool, body(), headers=[GOOD, (b"traceparent", b"00-" + b"0" * 32 + b"-b7ad6b7169203331-01")])
    answer_to(spool, b"not json", headers=[GOOD, (b"traceparent", good)])

    traces = [dict(record.headers).get("traceparent") for record in spool.records]
    assert traces == [good, None, good]


def test_metrics_count_what_was_answered() -> None:
    metrics = Metrics("test")
    app = webhook_ingress(FakeSpool(), metrics)

    async def traffic() -> None:
        await asgi_request(app, body())
        await asgi_request(app, body(EventName="Hangup"))
        await asgi_request(app, b"not json")
        await asgi_request(app, body(), headers=[])
        await asgi_request(app, body(), path="/nowhere", method="BREW")

    asyncio.run(traffic())

    value = metrics.registry.get_sample_value
    assert value("voipex_bridge_events_received_total", {"pbx": "voipex", "type": "ringing"}) == 1
    assert value("voipex_bridge_events_rejected_total", {"reason": "InvalidJson"}) == 1
    assert value("voipex_bridge_events_rejected_total", {"reason": "Unauthorized"}) == 1
    assert (
        value("voipex_bridge_dead_letters_total", {"topic": "voipex.dead-letters.v1", "stage": "ingress"})
        == 1
    )
    assert (
        value("voipex_bridge_http_requests_total", {"route": "/voipex", "method": "POST", "code": "200"}) == 2
    )
    assert (
        value("voipex_bridge_http_requests_total", {"route": "other", "method": "other", "code": "404"}) == 1
    )
    assert value("voipex_bridge_http_request_duration_seconds_count") == 2


def test_the_response_waits_until_the_record_is_durable() -> None:
    class SlowSpool(FakeSpool):
        def __init__(self) -> None:
            super().__init__()
            self.sure: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def append(self, records: Sequence[Record], on_durable: Callable[[Any], None]) -> None:
            self.sure.add_done_callback(lambda _: super(SlowSpool, self).append(records, on_durable))

    async def story() -> tuple[bool, int]:
        spool = SlowSpool()
        asked = asyncio.create_task(asgi_request(webhook_ingress(spool), body()))
        for _ in range(20):
            await asyncio.sleep(0)
        early = asked.done()
        spool.sure.set_result(None)
        return early, (await asked).status

    assert asyncio.run(story()) == (False, 200)


@pytest.mark.parametrize(
    ("raw", "headers", "fault"),
    [
        (body(), (GOOD,), None),
        (body(), (), None),
        (body(), (GOOD, GOOD), None),
        (body(), (GOOD, (b"content-encoding", b"gzip")), None),
        (body(), (GOOD, (b"content-length", b"1025")), None),
        (b"{", (GOOD,), None),
        (b"[]", (GOOD,), None),
        (body(), (GOOD,), SpoolFull("full")),
        (body(), (GOOD,), RuntimeError("a bug")),
        (b"{", (GOOD,), SpoolFull("full")),
    ],
)
def test_core_and_asgi_give_the_same_response_and_metrics(
    raw: bytes, headers: tuple[tuple[bytes, bytes], ...], fault: Exception | None
) -> None:
    def after(way: str) -> tuple[object, ...]:
        metrics, spool, answers = Metrics("test"), FakeSpool(fault=fault), list[object]()
        ingress = webhook_ingress(spool, metrics)
        if way == "core":
            last_wins = {
                name: b"" if sum(each == name for each, _ in headers) > 1 else value
                for name, value in headers
            }
            opened = ingress.open(b"POST", b"/voipex", last_wins, "192.0.2.1")
            if isinstance(opened, Response):
                answers.append((opened.status, opened.body))
            else:
                opened(raw, lambda answer: answers.append((answer.status, answer.body)))
        else:
            answer = asyncio.run(asgi_request(ingress, raw, headers=headers))
            answers.append((answer.status, answer.body))
        figures = {
            (sample.name, *sample.labels.items()): sample.value
            for family in metrics.registry.collect()
            for sample in family.samples
            if sample.name.endswith("_total")
        }
        return answers, figures, [record.topic for record in spool.records]

    by_asgi, by_core = after("asgi"), after("core")

    assert by_core == by_asgi


def test_debug_log_has_a_line_per_request_without_its_body() -> None:
    ingress = webhook_ingress(FakeSpool(), log_requests=True)

    with structlog.testing.capture_logs() as lines:
        asyncio.run(asgi_request(ingress, body()))
        asyncio.run(asgi_request(ingress, b"not json"))
        asyncio.run(asgi_request(ingress, path="/elsewhere/+420777888999", method="BREW"))

    requests = [line for line in lines if line["event"] == "request"]
    assert [(line["method"], line["route"], line["status"]) for line in requests] == [
        ("POST", "/voipex", 200),
        ("POST", "/voipex", 400),
        ("other", "other", 404),
    ]
    assert all(0 <= line["duration_ms"] < 10_000 for line in requests)
    assert {name for line in requests for name in line} == {
        *("component", "event", "log_level"),
        *("method", "route", "status", "duration_ms"),
    }


def test_without_debug_there_is_no_line_per_request() -> None:
    with structlog.testing.capture_logs() as lines:
        asyncio.run(asgi_request(webhook_ingress(FakeSpool()), body()))

    assert lines == []


def test_an_unexpected_error_is_503_and_logged_without_the_body() -> None:
    def broken(_: bytes | None) -> Principal:
        raise RuntimeError("+420777888999")

    with structlog.testing.capture_logs() as lines:
        answer = asyncio.run(asgi_request(webhook_ingress(FakeSpool(), authenticate=broken), body()))

    assert (answer.status, answer.headers[b"retry-after"], answer.reads) == (503, b"2", 0)
    assert b"777888999" not in answer.body
    assert [line["event"] for line in lines] == ["request failed", "refused"]
    assert all("777888999" not in str(line.get("detail")) for line in lines)


def test_refusals_are_logged_once_a_second_for_each_reason() -> None:
    ingress = webhook_ingress(FakeSpool())

    with structlog.testing.capture_logs() as lines:
        for _ in range(5):
            asyncio.run(asgi_request(ingress, body(), headers=()))

    assert [(line["event"], line["reason"], line["status"]) for line in lines] == [
        ("refused", "Unauthorized", 401)
    ]
