"""A PBX that does not exist."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from itertools import islice, pairwise
from pathlib import Path
from unittest.mock import patch

import orjson
import pytest

from sandbox import simulator as simulate
from sandbox.simulator import SimulationPlan, SimulationReport, events, play
from tests.factories import receipt
from voipex.events import EVENT_TYPES, EventType, split_unique_id
from voipex.normalize import normalize
from voipex.webhook import parse

Said = tuple[float, dict[str, str]]

HOUR = SimulationPlan(seed=7, agents=10, queues=3, calls_per_s=0.5, calls_for_s=3600)
AN_HOUR: list[Said] = list(events(HOUR))


def calls(said: list[Said]) -> dict[str, list[Said]]:
    by_call: dict[str, list[Said]] = defaultdict(list)
    for at_s, body in said:
        if "UniqueId" in body:
            by_call[body["UniqueId"]].append((at_s, body))
    return by_call


# ---------------------------------------------------------------- the traffic


def test_the_same_plan_gives_the_same_events_at_the_same_times() -> None:
    assert list(islice(events(HOUR), 500)) == AN_HOUR[:500]


def test_another_seed_gives_other_calls() -> None:
    assert list(islice(events(SimulationPlan(seed=8)), 100)) != list(
        islice(events(SimulationPlan(seed=9)), 100)
    )


def test_events_come_in_order_of_time() -> None:
    assert all(earlier <= later for (earlier, _), (later, _) in pairwise(AN_HOUR))


def test_every_documented_event_occurs() -> None:
    assert {body["EventName"] for _, body in AN_HOUR} == set(EVENT_TYPES)


def test_every_body_is_an_event_in_the_documented_shape() -> None:
    for _, body in AN_HOUR[:2000]:
        event = normalize(parse(orjson.dumps(body)), "voipex", receipt())

        assert event.type is not EventType.UNKNOWN
        assert event.extra == {}


def test_every_call_begins_with_new_call_and_ends_with_a_hangup_or_its_cdr() -> None:
    for said in calls(AN_HOUR).values():
        names = [body["EventName"] for _, body in said]

        assert names[0] == "NewCall"
        assert names.count("NewCall") == 1
        assert names[-1] in ("Hangup", "CDR")


def test_no_new_calls_come_after_the_planned_time_but_those_under_way_end() -> None:
    begun = [at_s for at_s, body in AN_HOUR if body["EventName"] == "NewCall"]

    assert begun[-1] < 3600 < AN_HOUR[-1][0] < 3600 + 120


def test_calls_come_at_the_planned_rate_and_most_end_within_a_minute() -> None:
    by_call = calls(AN_HOUR)
    lengths = sorted(said[-1][0] - said[0][0] for said in by_call.values())

    assert len(by_call) == pytest.approx(1800, rel=0.1)
    assert lengths[len(lengths) * 95 // 100] < 60


def test_unique_ids_are_those_of_asterisk_and_tell_when_the_call_began() -> None:
    start_s = 1_800_000_000
    plan = SimulationPlan(seed=1, started_at_s=start_s, calls_for_s=100)
    sequences = []
    for unique_id, said in calls(list(events(plan))).items():
        parts = split_unique_id(unique_id)
        assert parts is not None
        assert parts[1] == start_s + int(said[0][0])
        sequences.append(parts[2])

    assert sequences == list(range(1, len(sequences) + 1))


def test_the_same_agent_is_rung_again_after_five_seconds_with_identical_bytes() -> None:
    """VOIPEX has nothing in an event that would tell the second ring from a copy of the first."""
    gaps = []
    for said in calls(AN_HOUR).values():
        rings = [(at_s, orjson.dumps(body)) for at_s, body in said if body["EventName"] == "Ringing"]
        gaps += [
            later - earlier
            for n, (earlier, first) in enumerate(rings)
            for later, second in rings[n + 1 : n + 2 * simulate._RING_AT_ONCE]
            if first == second
        ]

    assert len(gaps) > 20
    assert min(gaps) >= 5


def test_when_one_answers_a_ring_all_the_others_hang_up_as_answered_elsewhere() -> None:
    elsewhere = 0
    for said in calls(AN_HOUR).values():
        lines = [body["Line"] for _, body in said if body.get("Reason") == "Answered elsewhere"]
        if lines:
            elsewhere += 1
            assert any(body["EventName"] == "Answered" and body["Line"] not in lines for _, body in said)

    assert elsewhere > 100


def test_consultations_go_from_the_line_of_the_colleague_who_asks() -> None:
    for said in calls(AN_HOUR).values():
        for n, (_, body) in enumerate(said):
            if body["EventName"] in ("AttendedTransfer", "CancelAttendedTransfer"):
                before = [each for _, each in said[:n]]
                assert any(
                    each["EventName"] == "Ringing"
                    and each["From"] == body["Line"]
                    and each["To"] == each["Line"]
                    for each in before
                )


def test_outgoing_calls_are_answered_busy_rejected_or_fail() -> None:
    outcomes = Counter(
        said[-2][1].get("Reason")
        for said in calls(AN_HOUR).values()
        if said[0][1]["Direction"] == "outgoing" and len(said) > 2
    )

    assert {"Normal Clearing", "User busy", "No user response", "Call Rejected"} <= set(outcomes)


def test_directions_cover_incoming_outgoing_internal_and_barge() -> None:
    assert {"incoming", "outgoing", "incomingLocal", "incominglocal", "barge"} == {
        body["Direction"] for _, body in AN_HOUR if "Direction" in body
    }


def test_nobody_who_paused_in_all_queues_or_left_is_rung() -> None:
    away: dict[str, set[str]] = defaultdict(set)
    queues: dict[str, set[str]] = defaultdict(set)
    for _, body in AN_HOUR:
        login, queue = body["Login"], body.get("Queue", "")
        match body["EventName"]:
            case "AgentLogin":
                queues[login].add(queue)
            case "AgentLogout":
                queues[login].discard(queue)
            case "AgentPaused":
                away[login].add(queue)
            case "AgentUnPaused":
                away[login].discard(queue)
            case "Ringing" if login in queues and body["Direction"] == "incoming":
                assert queues[login] - away[login]


def test_some_agents_never_log_in() -> None:
    logged_in = {body["Login"] for _, body in AN_HOUR if body["EventName"] == "AgentLogin"}
    rung = {body["Login"] for _, body in AN_HOUR if body["EventName"] == "Ringing"} - {"vedouci"}

    assert len(logged_in) == 8
    assert len(rung - logged_in) == 2


def test_numbers_and_e_mails_belong_to_nobody() -> None:
    for _, body in AN_HOUR:
        for number in (body[key] for key in ("From", "To") if key in body):
            assert len(number) == len("200") or number.startswith(("60100", "+447700900", "222333"))
        assert body["Email"] == "" or body["Email"].endswith("@example.cz")


def test_a_plan_for_a_rate_reaches_it_within_seconds() -> None:
    per_s = Counter(int(at_s) for at_s, _ in islice(events(SimulationPlan.at_rate(1000)), 8000))

    assert sum(per_s[second] for second in range(4, 7)) / 3 == pytest.approx(1000, rel=0.15)


@pytest.mark.parametrize("changes", [{"agents": 0}, {"queues": 0}, {"calls_per_s": 0.0}, {"speed": -1.0}])
def test_a_plan_without_people_or_calls_is_refused(changes: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="above zero"):
        SimulationPlan(**changes)  # type: ignore[arg-type]


# ---------------------------------------------------------------- playing it

AT_ONCE: list[Said] = [(0.0, body) for _, body in AN_HOUR[:200]]
"""As fast as the bridge takes them."""

Answering = Callable[[dict[str, str]], bytes | None]
"""What a bridge answers to a body; None: it closes the connection without a word."""

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


class FakeBridge:
    """Answers as told, and notes what came."""

    def __init__(self, answering: Answering) -> None:
        self._answering = answering
        self.bodies: list[dict[str, str]] = []
        self.heads: list[bytes] = []
        self.connections = 0
        self.under_way: Counter[str] = Counter()
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while head := await _head_of(reader):
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                body = orjson.loads(await reader.readexactly(length))
                key = body.get("UniqueId") or body["Login"]
                self.under_way[key] += 1
                assert self.under_way[key] == 1, "the next event came before the answer to the last"
                await asyncio.sleep(0)
                self.under_way[key] -= 1
                self.heads.append(head)
                self.bodies.append(body)
                answer = self._answering(body)
                if answer is None:
                    break
                writer.write(answer)
                if b"close" in answer:
                    break
        finally:
            writer.close()


async def _head_of(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return b""


@asynccontextmanager
async def bridge(answering: Answering = lambda _: OK) -> AsyncIterator[FakeBridge]:
    fake = FakeBridge(answering)
    server = await asyncio.start_server(fake.serve, "127.0.0.1", 0)
    async with server:
        fake.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/voipex"
        yield fake


def played(
    answering: Answering = lambda _: OK,
    planned: Iterable[Said] = AT_ONCE,
    duration_s: float | None = None,
    record_to: Path | None = None,
    on_progress: Callable[[SimulationReport], None] | None = None,
    connections: int = 4,
) -> tuple[SimulationReport, FakeBridge]:
    async def scene() -> tuple[SimulationReport, FakeBridge]:
        async with bridge(answering) as fake:
            report = await play(
                HOUR,
                fake.url,
                "demo",
                "secret:with-colon",
                duration_s=duration_s,
                record_to=record_to,
                on_progress=on_progress,
                connections=connections,
                now_us=lambda: 1_772_438_400_000_000,
            )
            return report, fake

    with patch.object(simulate, "events", lambda _: iter(planned)):
        return asyncio.run(asyncio.wait_for(scene(), timeout=10))


def test_events_are_posted_with_authentication_over_connections_that_stay_open() -> None:
    report, fake = played()

    assert report.accepted == report.sent == len(fake.bodies) == len(AT_ONCE)
    assert report.answers == {200: report.sent}
    assert (report.given_up, report.broken_connections) == (0, 0)
    assert fake.connections == 4
    assert fake.heads[0].startswith(b"POST /voipex HTTP/1.1\r\nHost: 127.0.0.1:")
    assert b"\r\nAuthorization: Basic ZGVtbzpzZWNyZXQ6d2l0aC1jb2xvbg==\r\n" in fake.heads[0]


def test_events_of_one_call_arrive_in_the_order_of_the_plan() -> None:
    """The fake bridge also fails if a call's next event is sent before the last one was answered."""
    _, fake = played()

    arrived: dict[str, list[dict[str, str]]] = defaultdict(list)
    for body in fake.bodies:
        arrived[body.get("UniqueId") or body["Login"]].append(body)
    planned: dict[str, list[dict[str, str]]] = defaultdict(list)
    for _, body in AT_ONCE:
        planned[body.get("UniqueId") or body["Login"]].append(body)
    assert arrived == planned


def test_what_is_refused_for_now_is_sent_again_after_retry_after() -> None:
    refused = iter([b"HTTP/1.1 503 Full\r\nRetry-After: 0\r\nContent-Length: 2\r\n\r\nno"] * 5)

    report, fake = played(lambda _: next(refused, OK))

    assert report.answers == {503: 5, 200: report.sent}
    assert report.accepted == report.sent == len(fake.bodies) - 5


def test_a_refusal_for_good_is_counted_and_not_sent_again() -> None:
    report, fake = played(lambda _: b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")

    assert report.answers == {401: len(fake.bodies)}
    assert (report.accepted, report.given_up) == (0, report.sent)


@pytest.mark.parametrize("last_word", [None, b"not HTTP\r\n\r\n"])
def test_a_broken_connection_is_made_anew_and_the_event_sent_again(
    last_word: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(simulate, "_RECONNECT_AFTER_S", 0.0)
    broken = iter([last_word] * 3)

    report, fake = played(lambda _: next(broken, OK))

    assert report.broken_connections == 3
    assert report.accepted == report.sent == len(fake.bodies) - 3


def test_a_bridge_that_closes_after_each_answer_is_served_all_the_same() -> None:
    report, fake = played(
        lambda _: b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    )

    assert report.answers == {202: report.sent}
    assert fake.connections == report.sent
    assert report.broken_connections == 0


def test_what_is_never_accepted_is_given_up_soon_after_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulate, "_LAST_TRIES_S", 0.0)

    report, _ = played(lambda _: b"HTTP/1.1 503 Full\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n")

    assert (report.accepted, report.given_up) == (0, report.sent)


def test_a_bridge_that_is_not_there_ends_nothing_but_the_events(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulate, "_LAST_TRIES_S", 0.0)
    monkeypatch.setattr(simulate, "_RECONNECT_AFTER_S", 0.0)

    with patch.object(simulate, "events", lambda _: iter(AT_ONCE)):
        report = asyncio.run(play(HOUR, "http://127.0.0.1:1/voipex", "a", "b"))

    assert report.accepted == 0
    assert report.given_up == report.sent == len(AT_ONCE)
    assert report.broken_connections >= report.sent


def test_a_record_holds_what_was_accepted_in_order_of_the_answers(tmp_path: Path) -> None:
    refused = iter([b"HTTP/1.1 422 No\r\nContent-Length: 0\r\n\r\n"])
    path = tmp_path / "sent.jsonl"

    report, fake = played(lambda _: next(refused, OK), record_to=path)

    lines = [orjson.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert len(lines) == report.accepted == report.sent - 1
    assert {line["pbx"] for line in lines} == {"voipex"}
    assert all(line["body"] in fake.bodies for line in lines)
    times = [line["received_at"] for line in lines]
    assert times[0] == "2026-03-02T08:00:00.000000Z"
    assert times == sorted(set(times))


def test_after_its_duration_nothing_more_is_sent() -> None:
    report, fake = played(planned=[*AT_ONCE[:3], (3600.0, AT_ONCE[3][1])], duration_s=1.0)

    assert report.accepted == len(fake.bodies) == 3
    assert report.elapsed_s < 60


def test_no_event_is_sent_before_its_time() -> None:
    report, _ = played(planned=[(0.02, AT_ONCE[0][1])])

    assert report.elapsed_s >= 0.02


def test_progress_is_told_while_it_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulate, "_PROGRESS_EVERY_S", 0.0)
    told: list[SimulationReport] = []

    report, _ = played(on_progress=told.append)

    assert len(told) > 1
    assert told[-1].accepted == report.accepted
    assert [each.sent for each in told] == sorted(each.sent for each in told)


def test_a_bridge_that_is_too_slow_does_not_prolong_the_duration() -> None:
    endless = ((n / 1e6, AT_ONCE[0][1]) for n in range(10**9))

    report, _ = played(planned=endless, duration_s=0.02, connections=1)

    assert report.accepted == report.sent
    assert report.behind_s > 0


def test_the_unique_ids_begin_now_unless_the_plan_says_when() -> None:
    """Else a second run with the same seed would tell of the same calls again."""
    with patch.object(simulate, "events", return_value=iter([])) as planned:
        asyncio.run(play(SimulationPlan(), "http://127.0.0.1:1/", "a", "b", now_us=lambda: 7_000_000))
        asyncio.run(play(SimulationPlan(started_at_s=3), "http://127.0.0.1:1/", "a", "b"))

    assert [call.args[0].started_at_s for call in planned.call_args_list] == [7, 3]


def test_progress_is_told_at_the_end_also_when_cancelled() -> None:
    told: list[SimulationReport] = []

    async def scene() -> None:
        tenth = asyncio.Event()
        came = iter([lambda: None] * 9 + [tenth.set])

        def answering(_: dict[str, str]) -> bytes:
            next(came, lambda: None)()
            return OK

        async with bridge(answering) as fake:
            playing = asyncio.create_task(
                play(SimulationPlan(calls_per_s=4000), fake.url, "a", "b", on_progress=told.append)
            )
            await tenth.wait()
            playing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await playing

    asyncio.run(asyncio.wait_for(scene(), timeout=10))

    assert 0 < told[-1].accepted <= told[-1].sent


@pytest.mark.parametrize("url", ["127.0.0.1:8080", "ftp://127.0.0.1/voipex", "http:///voipex"])
def test_what_is_no_url_is_refused_before_anything_is_sent(url: str) -> None:
    with pytest.raises(ValueError, match="no URL of a bridge"):
        asyncio.run(play(HOUR, url, "a", "b"))
