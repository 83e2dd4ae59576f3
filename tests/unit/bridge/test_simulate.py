"""The simulated PBX: the traffic it generates, and the player that sends it to a bridge."""

import io
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice, pairwise
from typing import Any

import orjson
import pytest
from typer.testing import CliRunner, Result

from sandbox import simulator
from sandbox.cli import app
from sandbox.player import Player, SimulationReport, Target, Timing
from sandbox.simulator import SimulationPlan, events
from tests.factories import receipt
from tests.processes import free_port
from voipex.events import EVENT_TYPES, EventType, split_unique_id
from voipex.normalize import normalize
from voipex.webhook import parse

Timed = tuple[float, dict[str, str]]

HOUR = SimulationPlan(seed=7, agents=10, queues=3, calls_per_s=0.5, calls_for_s=3600)
ONE_HOUR: list[Timed] = list(events(HOUR))


def calls(timed: list[Timed]) -> dict[str, list[Timed]]:
    by_call: dict[str, list[Timed]] = defaultdict(list)
    for at_s, body in timed:
        if "UniqueId" in body:
            by_call[body["UniqueId"]].append((at_s, body))
    return by_call


# ---------------------------------------------------------------- the traffic


def test_the_same_plan_gives_the_same_events_at_the_same_times() -> None:
    assert list(islice(events(HOUR), 500)) == ONE_HOUR[:500]


def test_another_seed_gives_other_calls() -> None:
    assert list(islice(events(SimulationPlan(seed=8)), 100)) != list(
        islice(events(SimulationPlan(seed=9)), 100)
    )


def test_events_come_in_order_of_time() -> None:
    assert all(earlier <= later for (earlier, _), (later, _) in pairwise(ONE_HOUR))


def test_every_documented_event_occurs() -> None:
    assert {body["EventName"] for _, body in ONE_HOUR} == set(EVENT_TYPES)


def test_every_body_is_an_event_in_the_documented_shape() -> None:
    for _, body in ONE_HOUR[:2000]:
        event = normalize(parse(orjson.dumps(body)), "voipex", receipt()).to_event()

        assert event.type is not EventType.UNKNOWN
        assert event.extra == {}


def test_every_call_is_from_new_call_to_hangup_or_cdr() -> None:
    for timed in calls(ONE_HOUR).values():
        names = [body["EventName"] for _, body in timed]

        assert names[0] == "NewCall"
        assert names.count("NewCall") == 1
        assert names[-1] in ("Hangup", "CDR")


def test_open_calls_end_after_the_last_new_call() -> None:
    begun = [at_s for at_s, body in ONE_HOUR if body["EventName"] == "NewCall"]

    assert begun[-1] < 3600 < ONE_HOUR[-1][0] < 3600 + 120


def test_calls_have_the_planned_rate_and_last_under_a_minute() -> None:
    by_call = calls(ONE_HOUR)
    lengths = sorted(timed[-1][0] - timed[0][0] for timed in by_call.values())

    assert len(by_call) == pytest.approx(1800, rel=0.1)
    assert lengths[len(lengths) * 95 // 100] < 60


def test_unique_ids_hold_the_start_and_a_sequence_number() -> None:
    start_s = 1_800_000_000
    plan = SimulationPlan(seed=1, started_at_s=start_s, calls_for_s=100)
    sequences = []
    for unique_id, timed in calls(list(events(plan))).items():
        parts = split_unique_id(unique_id)
        assert parts is not None
        assert parts[1] == start_s + int(timed[0][0])
        sequences.append(parts[2])

    assert sequences == list(range(1, len(sequences) + 1))


def test_a_second_ring_after_five_seconds_has_the_same_bytes() -> None:
    """No field of VOIPEX distinguishes the second ring from a copy of the first."""
    gaps = []
    for timed in calls(ONE_HOUR).values():
        rings = [(at_s, orjson.dumps(body)) for at_s, body in timed if body["EventName"] == "Ringing"]
        gaps += [
            later - earlier
            for n, (earlier, first) in enumerate(rings)
            for later, second in rings[n + 1 : n + 2 * simulator._RING_AT_ONCE]
            if first == second
        ]

    assert len(gaps) > 20
    assert min(gaps) >= 5


def test_an_answer_ends_the_other_rings_as_answered_elsewhere() -> None:
    elsewhere = 0
    for timed in calls(ONE_HOUR).values():
        lines = [body["Line"] for _, body in timed if body.get("Reason") == "Answered elsewhere"]
        if lines:
            elsewhere += 1
            assert any(body["EventName"] == "Answered" and body["Line"] not in lines for _, body in timed)

    assert elsewhere > 100


def test_a_consultation_comes_from_the_line_of_the_transferor() -> None:
    for timed in calls(ONE_HOUR).values():
        for n, (_, body) in enumerate(timed):
            if body["EventName"] in ("AttendedTransfer", "CancelAttendedTransfer"):
                before = [each for _, each in timed[:n]]
                assert any(
                    each["EventName"] == "Ringing"
                    and each["From"] == body["Line"]
                    and each["To"] == each["Line"]
                    for each in before
                )


def test_outgoing_calls_are_answered_busy_rejected_or_fail() -> None:
    outcomes = Counter(
        timed[-2][1].get("Reason")
        for timed in calls(ONE_HOUR).values()
        if timed[0][1]["Direction"] == "outgoing" and len(timed) > 2
    )

    assert {"Normal Clearing", "User busy", "No user response", "Call Rejected"} <= set(outcomes)


def test_directions_are_incoming_outgoing_internal_and_barge() -> None:
    assert {"incoming", "outgoing", "incomingLocal", "incominglocal", "barge"} == {
        body["Direction"] for _, body in ONE_HOUR if "Direction" in body
    }


def test_an_agent_paused_in_all_queues_is_not_rung() -> None:
    away: dict[str, set[str]] = defaultdict(set)
    queues: dict[str, set[str]] = defaultdict(set)
    for _, body in ONE_HOUR:
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
    logged_in = {body["Login"] for _, body in ONE_HOUR if body["EventName"] == "AgentLogin"}
    rung = {body["Login"] for _, body in ONE_HOUR if body["EventName"] == "Ringing"} - {"vedouci"}

    assert len(logged_in) == 8
    assert len(rung - logged_in) == 2


def test_numbers_and_addresses_are_reserved_examples() -> None:
    for _, body in ONE_HOUR:
        for number in (body[key] for key in ("From", "To") if key in body):
            assert len(number) == len("200") or number.startswith(("60100", "+447700900", "222333"))
        assert body["Email"] == "" or body["Email"].endswith("@example.cz")


def test_a_plan_for_a_rate_reaches_it_within_seconds() -> None:
    per_s = Counter(int(at_s) for at_s, _ in islice(events(SimulationPlan.at_rate(1000)), 8000))

    assert sum(per_s[second] for second in range(4, 7)) / 3 == pytest.approx(1000, rel=0.15)


@pytest.mark.parametrize("changes", [{"agents": 0}, {"queues": 0}, {"calls_per_s": 0.0}, {"speed": -1.0}])
def test_a_plan_without_agents_or_calls_is_invalid(changes: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="above zero"):
        SimulationPlan(**changes)  # type: ignore[arg-type]


# ---------------------------------------------------------------- the player

AT_ONCE: list[Timed] = [(0.0, body) for _, body in ONE_HOUR[:200]]
"""As fast as the bridge accepts them."""

IMPATIENT = Timing(reconnect_after_s=0.0, retry_after_s=0.0, last_tries_s=0.0)

Respond = Callable[[dict[str, str]], tuple[int, dict[str, str]] | bytes]
"""Maps an event to status and headers, or to bytes to send before the connection is closed."""

OK = (200, {"Content-Length": "0"})
FULL = (503, {"Content-Length": "0", "Retry-After": "0"})


class FakeBridge(ThreadingHTTPServer):
    """Responds with the result of `respond` and records the events."""

    def __init__(self, respond: Respond) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.respond = respond
        self.lock = threading.Lock()
        self.bodies: list[dict[str, str]] = []
        self.headers: list[dict[str, str]] = []
        self.connections = 0
        self.in_flight: Counter[str] = Counter()
        self.overlaps = 0
        self.url = f"http://127.0.0.1:{self.server_port}/voipex"

    def get_request(self) -> Any:
        self.connections += 1
        return super().get_request()

    def take(self, body: dict[str, str], headers: dict[str, str]) -> tuple[int, dict[str, str]] | bytes:
        key = body.get("UniqueId") or body["Login"]
        with self.lock:
            self.in_flight[key] += 1
            self.overlaps += self.in_flight[key] > 1
        with self.lock:
            self.bodies.append(body)
            self.headers.append(headers)
            response = self.respond(body)
            self.in_flight[key] -= 1
        return response


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FakeBridge

    def do_POST(self) -> None:
        body = orjson.loads(self.rfile.read(int(self.headers["Content-Length"])))
        response = self.server.take(body, {**dict(self.headers), "path": self.path})
        if isinstance(response, bytes):
            self.wfile.write(response)
            self.close_connection = True
            return
        status, headers = response
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def bridge(respond: Respond = lambda _: OK) -> Iterator[FakeBridge]:
    with FakeBridge(respond) as fake:
        thread = threading.Thread(target=fake.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield fake
        finally:
            fake.shutdown()
            thread.join()


def play(
    respond: Respond = lambda _: OK,
    planned: Iterable[Timed] = AT_ONCE,
    duration_s: float | None = None,
    record: io.StringIO | None = None,
    connections: int = 4,
    timing: Timing | None = None,
) -> tuple[SimulationReport, FakeBridge]:
    with bridge(respond) as fake:
        player = Player(
            planned,
            Target.parse(fake.url, "demo", "secret:with-colon"),
            duration_s=duration_s,
            record=record,
            connections=connections,
            timing=timing,
            now_us=lambda: 1_772_438_400_000_000,
        )
        player.run()
    return player.report(), fake


def by_key(bodies: Iterable[dict[str, str]]) -> dict[str, list[dict[str, str]]]:
    grouped: dict[str, list[dict[str, str]]] = defaultdict(list)
    for body in bodies:
        grouped[body.get("UniqueId") or body["Login"]].append(body)
    return grouped


def test_events_are_posted_over_connections_that_stay_open() -> None:
    report, fake = play()

    assert report.accepted == report.sent == len(fake.bodies) == len(AT_ONCE)
    assert report.answers == {200: report.sent}
    assert (report.given_up, report.broken_connections) == (0, 0)
    assert fake.connections == 4
    assert fake.headers[0]["path"] == "/voipex"
    assert fake.headers[0]["Authorization"] == "Basic ZGVtbzpzZWNyZXQ6d2l0aC1jb2xvbg=="


def test_events_of_one_call_arrive_in_order_one_at_a_time() -> None:
    _, fake = play()

    assert by_key(fake.bodies) == by_key(body for _, body in AT_ONCE)
    assert fake.overlaps == 0


def test_a_503_is_repeated_after_its_retry_after() -> None:
    unavailable = iter([FULL] * 5)

    report, fake = play(lambda _: next(unavailable, OK))

    assert report.answers == {503: 5, 200: report.sent}
    assert report.accepted == report.sent == len(fake.bodies) - 5


def test_any_other_error_is_counted_and_not_repeated() -> None:
    report, fake = play(lambda _: (401, {"Content-Length": "0"}))

    assert report.answers == {401: len(fake.bodies)}
    assert (report.accepted, report.given_up) == (0, report.sent)


@pytest.mark.parametrize("last_bytes", [b"", b"not HTTP\r\n\r\n"])
def test_after_a_broken_connection_the_event_is_sent_again(last_bytes: bytes) -> None:
    broken = iter([last_bytes] * 3)

    report, fake = play(lambda _: next(broken, OK), timing=Timing(reconnect_after_s=0.0))

    assert report.broken_connections == 3
    assert report.accepted == report.sent == len(fake.bodies) - 3


def test_a_bridge_may_close_the_connection_after_each_response() -> None:
    report, fake = play(lambda _: (202, {"Content-Length": "0", "Connection": "close"}))

    assert report.answers == {202: report.sent}
    assert fake.connections == report.sent
    assert report.broken_connections == 0


def test_an_idle_connection_that_was_closed_is_no_broken_one() -> None:
    """A bridge closes idle connections; the event on the next one is sent only once."""
    closing = threading.Event()

    def planned() -> Iterator[Timed]:
        yield 0.0, AT_ONCE[0][1]
        assert closing.wait(10)
        yield 0.1, AT_ONCE[0][1]

    class Closing(_Handler):
        def do_POST(self) -> None:
            super().do_POST()
            self.close_connection = True  # unannounced

        def finish(self) -> None:
            super().finish()
            self.connection.close()
            closing.set()

    with bridge() as fake:
        fake.RequestHandlerClass = Closing
        player = Player(planned(), Target.parse(fake.url, "a", "b"), connections=1)
        player.run()

    assert (player.report().accepted, player.report().broken_connections) == (2, 0)
    assert (fake.connections, len(fake.bodies)) == (2, 2)


def test_events_that_stay_unaccepted_are_given_up() -> None:
    report, _ = play(lambda _: FULL, timing=IMPATIENT)

    assert (report.accepted, report.given_up) == (0, report.sent)


def test_without_a_bridge_all_events_are_given_up() -> None:
    target = Target.parse(f"http://127.0.0.1:{free_port()}/voipex", "a", "b")
    player = Player(AT_ONCE, target, timing=IMPATIENT)

    player.run()

    report = player.report()
    assert report.accepted == 0
    assert report.given_up == report.sent == len(AT_ONCE)
    assert report.broken_connections >= report.sent


def test_a_recording_holds_accepted_events_in_response_order() -> None:
    rejected = iter([(422, {"Content-Length": "0"})])
    recording = io.StringIO()

    report, fake = play(lambda _: next(rejected, OK), record=recording)

    lines = [orjson.loads(line) for line in recording.getvalue().splitlines()]
    assert len(lines) == report.accepted == report.sent - 1
    assert {line["pbx"] for line in lines} == {"voipex"}
    assert all(line["body"] in fake.bodies for line in lines)
    times = [line["received_at"] for line in lines]
    assert times[0] == "2026-03-02T08:00:00.000000Z"
    assert times == sorted(set(times))


def test_nothing_is_sent_after_the_duration() -> None:
    report, fake = play(planned=[*AT_ONCE[:3], (3600.0, AT_ONCE[3][1])], duration_s=60.0)

    assert report.accepted == len(fake.bodies) == 3


def test_no_event_is_sent_before_its_time() -> None:
    report, _ = play(planned=[(0.02, AT_ONCE[0][1])])

    assert report.elapsed_s >= 0.02


def test_a_slow_bridge_does_not_prolong_the_duration() -> None:
    endless = ((n / 1e6, AT_ONCE[0][1]) for n in range(10**9))

    report, _ = play(planned=endless, duration_s=0.02, connections=1)

    assert report.accepted == report.sent
    assert report.behind_s > 0


def test_an_interrupted_player_reports_what_it_sent() -> None:
    """Ctrl-C raises KeyboardInterrupt in the main thread."""

    def interrupted() -> Iterator[Timed]:
        yield from AT_ONCE[:10]
        while not player.report().accepted:
            time.sleep(0.001)
        raise KeyboardInterrupt

    with bridge() as fake:
        player = Player(interrupted(), Target.parse(fake.url, "a", "b"))
        with pytest.raises(KeyboardInterrupt):
            player.run()
        report = player.report()

    assert 0 < report.accepted <= report.sent <= 10
    assert report.given_up == 0
    assert player.report() == report, "nothing is counted after the end"


def test_a_failure_in_a_lane_ends_the_player() -> None:
    recording = io.StringIO()
    recording.close()

    with pytest.raises(ValueError, match="closed file"):
        play(record=recording)


@pytest.mark.parametrize("url", ["127.0.0.1:8080", "ftp://127.0.0.1/voipex", "http:///voipex"])
def test_an_invalid_url_is_an_error(url: str) -> None:
    with pytest.raises(ValueError, match="not the URL of a bridge"):
        Target.parse(url, "a", "b")


# ---------------------------------------------------------------- the command


def simulate(url: str, *options: str) -> Result:
    arguments = ["simulate", "--url", url, "--rate", "500", "--duration", "0.2", *options]
    return CliRunner().invoke(app, arguments, env={"VOIPEX_SIMULATE_PASSWORD": "secret"})


def test_the_command_prints_its_report_as_json() -> None:
    with bridge() as fake:
        result = simulate(fake.url, "--json")

    report = orjson.loads(result.stdout)
    assert result.exit_code == 0
    assert report["accepted"] == report["sent"] == len(fake.bodies) > 0
    assert report["answers"] == {"200": report["sent"]}


def test_the_command_fails_if_events_are_not_accepted() -> None:
    with bridge(lambda _: (401, {"Content-Length": "0"})) as fake:
        result = simulate(fake.url)

    assert result.exit_code == 1
    assert f"accepted 0, given up {len(fake.bodies)}; answers: {len(fake.bodies)} x 401" in result.stdout


def test_the_command_reports_an_invalid_url() -> None:
    result = simulate("localhost")

    assert result.exit_code == 2
    assert "--url: 'localhost' is not the URL of a bridge" in result.stderr
