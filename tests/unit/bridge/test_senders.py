"""What the bridge counts of its senders, over real sockets: connections, refusals, the probe; and no personal data."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import orjson
import pytest

from bridge.http.ingress import WEBHOOK_PATHS, Ingress, WebhookEndpoint
from bridge.http.protocol import Limits
from bridge.http.receipts import ReceiptClock
from bridge.http.retries import Retries
from bridge.http.senders import Senders
from bridge.http.server import HttpServer
from bridge.http.survey_routes import survey_routes
from bridge.metrics import Metrics
from bridge.ops.survey.sender import BridgeSurvey, rows, sender_of
from tests.factories import body
from tests.fakes import FakeSpool, allow_good
from tests.unit.bridge.test_protocol import response_from, until
from voipex.errors import SpoolFull
from voipex.records import decode
from voipex.service.management import Readiness, build_management
from voipex.service.server import listening

LIMITS = Limits(max_connections=10, max_body_bytes=8192, request_timeout_s=5, idle_timeout_s=5)
NEW_CALL = body(EventName="NewCall")
GOOD = b"Authorization: Basic good"
Reader: TypeAlias = asyncio.StreamReader
Writer: TypeAlias = asyncio.StreamWriter


@dataclass
class Rig:
    """An ingress behind a socket, and a way to connect to it."""

    spool: FakeSpool
    retries: Retries
    senders: Senders
    server: HttpServer
    address: tuple[str, int]

    async def connect(self) -> tuple[Reader, Writer]:
        return await asyncio.open_connection(*self.address)

    async def answered(self, *requests: bytes) -> list[int]:
        """Send requests on one connection, close it, and return their statuses."""
        reader, writer = await self.connect()
        statuses = []
        for request in requests:
            writer.write(request)
            status, _ = await response_from(reader)
            statuses.append(int(status.split()[1]))
        writer.close()
        await self.all_closed()
        return statuses

    async def all_closed(self) -> None:
        await until(lambda: not self.server.describe())

    def survey(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(orjson.dumps(self.senders.to_json(self.server.describe())))
        return found

    def pbx(self) -> dict[str, Any]:
        found: dict[str, Any] = self.survey()["pbxs"]["voipex"]
        return found


def with_rig(story: Callable[[Rig], Awaitable[None]], limits: Limits = LIMITS) -> None:
    async def run() -> None:
        spool, retries, metrics = FakeSpool(), Retries(), Metrics("test")
        endpoint = WebhookEndpoint(
            spool,
            allow_good,
            ReceiptClock(),
            metrics,
            partitions_of=lambda _: 12,
            max_body_bytes=limits.max_body_bytes,
            retries=retries,
        )
        senders = Senders(retries, lambda peer, _: peer)
        ingress = Ingress(dict.fromkeys(WEBHOOK_PATHS, endpoint), metrics, retries=retries)
        server = HttpServer(ingress, limits, observer=senders)
        with listening("127.0.0.1", 0, "port") as sock:
            serving = asyncio.create_task(server.serve(sock))
            await server.started.wait()
            try:
                async with asyncio.timeout(20):
                    await story(Rig(spool, retries, senders, server, sock.getsockname()[:2]))
            finally:
                server.stop()
                await serving

    asyncio.run(run())


def request(raw: bytes = NEW_CALL, *headers: bytes, target: bytes = b"/voipex") -> bytes:
    lines = (b"POST %b HTTP/1.1" % target, b"Host: x", b"Content-Length: %d" % len(raw), *headers, b"", raw)
    return b"\r\n".join(lines)


# ---------------------------------------------------------------- connections


def test_a_connection_is_counted_with_its_habits_at_its_end() -> None:
    async def story(rig: Rig) -> None:
        habits = (b"User-Agent: GuzzleHttp/7", b"Content-Type: application/json; charset=UTF-8")

        await rig.answered(*[request(NEW_CALL, GOOD, *habits)] * 3)

        found = rig.pbx()
        assert {name: list(kinds) for name, kinds in found["habits"].items()} == {
            "http_version": ["1.1"],
            "connection": ["none"],
            "framing": ["Content-Length"],
            "content_type": ["application/json"],
            "charset": ["utf-8"],
            "user_agent": ["guzzlehttp"],
            "authentication": ["basic"],
            "tls": ["none"],
            "expect": ["none"],
            "proxy": ["none"],
        }
        assert (found["connections"], found["addresses"]) == (1, 1)
        assert (found["requests_per_connection"], found["ends"]) == ({"2 to 9": 1}, {"sender_idle": 1})
        assert sum(found["idle_s"].values()) == 1

    with_rig(story)


def test_a_sender_that_asks_for_a_close_and_one_with_chunks() -> None:
    async def story(rig: Rig) -> None:
        chunked = b"%x\r\n%b\r\n0\r\n\r\n" % (len(NEW_CALL), NEW_CALL)
        head = (b"POST /voipex HTTP/1.1", b"Host: x", b"Transfer-Encoding: chunked", GOOD, b"Via: 1.1 x")

        await rig.answered(request(NEW_CALL, GOOD, b"Connection: close"))
        await rig.answered(b"\r\n".join((*head, b"", chunked)))

        found = rig.pbx()
        assert found["ends"] == {"bridge_after_answer": 1, "sender_idle": 1}
        assert found["habits"]["connection"] == {"close": 1, "none": 1}
        assert found["habits"]["framing"] == {"Content-Length": 1, "chunked": 1}
        assert found["habits"]["proxy"] == {"none": 1, "through a proxy": 1}

    with_rig(story)


def test_a_connection_that_stays_open_is_counted_when_asked() -> None:
    async def story(rig: Rig) -> None:
        reader, writer = await rig.connect()
        writer.write(request(NEW_CALL, GOOD))
        await response_from(reader)

        asked = [rig.pbx()["ends"], rig.pbx()["ends"]]
        writer.close()
        await rig.all_closed()

        assert asked == [{"open": 1}, {"open": 1}]
        assert rig.pbx()["ends"] == {"sender_idle": 1}

    with_rig(story)


def test_a_sender_that_leaves_before_the_answer_is_seen() -> None:
    async def story(rig: Rig) -> None:
        waiting: list[Callable[[Any], None]] = []
        rig.spool.append = lambda records, on_durable: waiting.append(on_durable)  # type: ignore[method-assign]  # noqa: ARG005
        _, writer = await rig.connect()
        writer.write(request(NEW_CALL, GOOD))
        await until(lambda: bool(waiting))

        writer.close()
        await until(lambda: rig.pbx()["ends"] == {"sender_before_answer": 1})
        waiting[0](None)
        await rig.all_closed()

        assert rig.pbx()["ends"] == {"sender_before_answer": 1}
        assert rig.pbx()["left_s"] == {"0": 1}

    with_rig(story)


def test_half_a_request_and_an_idle_connection_differ() -> None:
    limits = Limits(max_connections=10, max_body_bytes=1024, request_timeout_s=5, idle_timeout_s=0.3)

    async def story(rig: Rig) -> None:
        _, writer = await rig.connect()
        writer.write(request(NEW_CALL, GOOD)[:-1])
        await until(lambda: rig.pbx()["connections"] == 1 if rig.survey()["pbxs"] else False)
        writer.close()
        await rig.all_closed()
        reader, writer = await rig.connect()
        writer.write(request(NEW_CALL, GOOD))
        await response_from(reader)
        assert await reader.read() == b""
        writer.close()
        await rig.all_closed()

        assert rig.pbx()["ends"] == {"sender_within_request": 1, "bridge_idle": 1}

    with_rig(story, limits)


def test_connections_without_an_event_are_no_senders() -> None:
    async def story(rig: Rig) -> None:
        _, writer = await rig.connect()
        writer.close()
        await rig.answered(request(NEW_CALL))

        found = rig.survey()
        assert found["pbxs"] == {}
        assert found["before_authentication"]["connections"] == 2

    with_rig(story)


# ---------------------------------------------------------------- refusals


def test_a_refused_event_that_comes_again_is_recognized() -> None:
    async def story(rig: Rig) -> None:
        rig.spool.fault = SpoolFull("full")
        refused = await rig.answered(request(NEW_CALL, GOOD))
        rig.spool.fault = None

        accepted = await rig.answered(request(NEW_CALL, GOOD))

        found = rig.pbx()["refused"]["503"]
        assert (refused, accepted) == ([503], [200])
        assert (found["requests"], found["watched"], found["repeats"]) == (1, 1, {"1": {"0": 1}})

    with_rig(story)


@pytest.mark.parametrize("pieces", [1, 2])
def test_an_unauthorized_body_that_comes_again_is_recognized(pieces: int) -> None:
    async def story(rig: Rig) -> None:
        reader, writer = await rig.connect()
        sent = request(NEW_CALL)
        for start in range(pieces):
            writer.write(sent[start::pieces] if pieces == 1 else (sent[:-20], sent[-20:])[start])
            await writer.drain()
            await asyncio.sleep(0.01)
        await response_from(reader)
        writer.close()
        await rig.all_closed()

        await rig.answered(request(NEW_CALL, GOOD))

        found = rig.survey()["before_authentication"]["refused"]["401"]
        assert (found["requests"], sum(found["repeats"]["1"].values())) == (1, 1)

    with_rig(story)


def test_bodies_too_large_are_recognized_by_their_length() -> None:
    async def story(rig: Rig) -> None:
        for _ in range(2):
            reader, writer = await rig.connect()
            writer.write(b"POST /voipex HTTP/1.1\r\nHost: x\r\nContent-Length: 9000\r\n" + GOOD + b"\r\n\r\n")
            await response_from(reader)
            writer.close()
            await rig.all_closed()

        found = rig.pbx()["refused"]["413"]
        assert (found["requests"], found["watched"]) == (2, 1)
        assert found["repeats"] == {"1": {"0": 1}}

    with_rig(story)


def test_a_rejected_body_is_a_dead_letter_and_remembered() -> None:
    async def story(rig: Rig) -> None:
        statuses = await rig.answered(*[request(b'{"EventName":"NewCall"}', GOOD)] * 2)

        assert statuses == [422, 422]
        assert rig.pbx()["refused"]["422"]["repeats"] == {"1": {"0": 1}}

    with_rig(story)


# ---------------------------------------------------------------- probe


def test_a_probed_event_is_stored_and_answered_with_503() -> None:
    async def story(rig: Rig) -> None:
        rig.retries.start_probe("voipex", 60, 1)

        statuses = await rig.answered(*[request(NEW_CALL, GOOD)] * 3, request(body(), GOOD))

        assert statuses == [503, 503, 503, 200]
        assert [decode(record.value).type.value for record in rig.spool.records] == ["new_call"] * 3 + [
            "ringing"
        ]
        assert rig.pbx()["refused"]["503"]["repeats"] == {"1": {"0": 1}, "2": {"0": 1}}
        assert rig.survey()["probe"]["answers"] == 3

    with_rig(story)


def managed(
    retries: Retries, method: str, path: str, content: bytes = b"", content_type: str = "application/json"
) -> tuple[int, Any]:
    """Ask the management port; return status and JSON."""
    app = build_management(
        lambda: Readiness(True, {}),
        Metrics("test").registry,
        more_routes=survey_routes(retries, ("voipex",), dict),
    )
    headers = [(b"content-type", content_type.encode()), (b"content-length", b"%d" % len(content))]
    scope = {"type": "http", "method": method, "path": path, "query_string": b"", "headers": headers}
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": content, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    return sent[0]["status"], orjson.loads(sent[1]["body"]) if sent[0]["status"] != 405 else None


@pytest.mark.parametrize(
    ("content", "content_type", "status"),
    [
        (b'{"pbx":"voipex"}', "application/json", 200),
        (b'{"pbx":"voipex","seconds":5,"requests":1}', "application/json; charset=utf-8", 200),
        (b'{"pbx":"voipex"}', "text/plain", 415),
        (b'{"pbx":"brno"}', "application/json", 422),
        (b'{"pbx":"voipex","seconds":61}', "application/json", 422),
        (b'{"pbx":"voipex","requests":101}', "application/json", 422),
        (b"{}", "application/json", 422),
        (b"x" * 2000, "application/json", 413),
    ],
)
def test_only_a_right_order_starts_a_probe(content: bytes, content_type: str, status: int) -> None:
    retries = Retries()

    answered, _ = managed(retries, "POST", "/probe-retry", content, content_type)

    assert (answered, retries.is_probing) == (status, status == 200)


def test_a_second_probe_is_refused_and_the_first_can_be_stopped() -> None:
    retries = Retries()
    order = b'{"pbx":"voipex"}'

    statuses = [managed(retries, "POST", "/probe-retry", order)[0] for _ in range(2)]
    _, stopped = managed(retries, "DELETE", "/probe-retry")

    assert statuses == [200, 409]
    assert stopped["probe"]["ended"] == "stopped"
    assert managed(retries, "GET", "/probe-retry")[0] == 405


# ---------------------------------------------------------------- personal data


PERSONAL = ("777888999", "petr.novak", "jehofirma", "tajneheslo", "Podpora", "Svěrák", "10.66.77.88")


def test_no_value_of_a_header_or_a_url_leaves_the_bridge() -> None:
    planted = " ".join(PERSONAL).encode()

    async def story(rig: Rig) -> None:
        headers = (
            b"User-Agent: Ustredna petr.novak 777888999",
            b"Content-Type: application/petr.novak; charset=Podpora",
            b"Connection: keep-alive, 777888999",
            b"Referer: http://petr.novak:tajneheslo@jehofirma.cz/",
            b"X-Forwarded-For: 10.66.77.88",
            b"Via: 1.1 jehofirma",
            b"From: petr.novak@jehofirma.cz",
            b"Cookie: login=petr.novak",
            b"X-777888999: " + planted,
        )
        target = b"http://petr.novak:tajneheslo@jehofirma.cz/voipex?login=petr.novak&from=777888999"
        statuses = await rig.answered(
            request(NEW_CALL, GOOD, *headers, target=target),
            request(b"{" + planted, GOOD, *headers, target=target),
            request(planted, *headers, b"Authorization: Basic petr.novak", target=target),
        )
        rig.retries.start_probe("voipex", 60, 1)
        statuses += await rig.answered(request(NEW_CALL, GOOD, *headers, target=target))

        counted = rig.survey()
        survey = BridgeSurvey.model_validate(
            {"since": "2026-03-02T08:00:00.000000Z", "answers": {}, "slowest_answer_s": None, **counted}
        )
        shown = json.dumps(counted) + repr(list(rows(sender_of([survey], "voipex"))))
        assert statuses == [200, 400, 401, 503]
        assert [value for value in PERSONAL if value in shown] == []

    with_rig(story)
