"""The HTTP interface of the board: JSON, who may look, the stream."""

import asyncio
import base64
import http.client
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import orjson
import pytest
import structlog
from prometheus_client import CollectorRegistry

from consumers.board.access import Access, add_user, read_users
from consumers.board.api import build_app
from consumers.board.board import Board
from consumers.board.stream import Stream
from consumers.explain.replay import Explanation
from tests.board_fixtures import START_US, Json, body_of, new_board, put, simulated
from voipex.errors import CredentialsInvalid
from voipex.events import Event
from voipex.service.management import Readiness, build_management
from voipex.service.server import Server, listening, server_config, started

NOW_US = START_US + 3_600_000_000

Answer = tuple[int, dict[str, str], bytes]
Ask = Callable[..., Answer]


@cache
def documents() -> Explanation:
    """What the board of these tests shows."""
    return simulated(700)


async def no_events(pbx: str, agent: str, since_us: int) -> list[Event]:
    return []


def filled_board() -> Board:
    board = new_board(lambda: NOW_US)
    put(board, documents())
    board.tick()
    return board


def talk(access: Access, conversation: Callable[[Ask, Board, Stream], Any]) -> Any:
    """Serve a board on a free port, and run *conversation* in a thread."""
    board = filled_board()

    async def story() -> Any:
        stream = Stream(board)
        management = build_management(lambda: Readiness(True, {}), CollectorRegistry())
        server = Server(server_config(build_app(board, stream, access, no_events, management)))
        with listening("127.0.0.1", 0, "port") as sock:
            serving = asyncio.create_task(server.serve([sock]))
            await started(server)
            port = sock.getsockname()[1]

            def ask(path: str, method: str = "GET", **headers: str) -> Answer:
                if path.startswith("/api/stream"):
                    stream.close()  # it ends after what there is
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
                connection.request(method, path, headers=headers)
                answer = connection.getresponse()
                content = answer.read()
                connection.close()
                return answer.status, {name.lower(): value for name, value in answer.getheaders()}, content

            try:
                return await asyncio.to_thread(conversation, ask, board, stream)
            finally:
                stream.close()
                server.should_exit = True
                await serving

    return asyncio.run(story())


def get(path: str, access: Access | None = None, **headers: str) -> Answer:
    answer: Answer = talk(access or Access(None), lambda ask, _board, _stream: ask(path, **headers))
    return answer


def rows(path: str, name: str) -> list[Json]:
    status, _, content = get(path)
    assert status == 200
    found: list[Json] = orjson.loads(content)[name]
    return found


# ---------------------------------------------------------------- JSON


def test_calls_come_newest_first_and_page_by_page() -> None:
    def conversation(ask: Ask, _board: Board, _stream: Stream) -> list[str]:
        seen: list[str] = []
        more, path = True, "/api/calls?limit=7"
        while more:
            answer = orjson.loads(ask(path)[2])
            seen += [row["call_id"] for row in answer["calls"]]
            more, path = answer["more"], f"/api/calls?limit=7&after={seen[-1]}"
        return seen

    seen = talk(Access(None), conversation)
    assert sorted(seen) == sorted(each["call_id"] for each in documents().timelines)
    starts = {each["call_id"]: each["started_at"] for each in documents().timelines}
    assert [starts[each] for each in seen] == sorted(starts.values(), reverse=True)


@pytest.mark.parametrize(
    ("query", "holds"),
    [
        ("outcome=missed", lambda row: row["outcome"] == "missed"),
        ("quality=exact", lambda row: row["quality"] == "exact"),
        ("direction=outgoing", lambda row: row["direction"] == "outgoing"),
        ("status=open", lambda row: row["status"] not in ("ended", "stale")),
        ("queue=Podpora", lambda row: "Podpora" in row["queues"]),
        ("agent=novak", lambda row: any(leg["login"] == "novak" for leg in row["legs"])),
        ("since=2026-03-02T08:02:00Z", lambda row: row["started_at"] >= "2026-03-02T08:02"),
    ],
)
def test_calls_are_filtered(query: str, holds: Callable[[Json], bool]) -> None:
    found = rows(f"/api/calls?limit=1000&{query}", "calls")
    assert found
    assert all(map(holds, found))
    assert len(found) < len(documents().timelines)


@pytest.mark.parametrize("query", ["since=yesterday", "limit=many", "limit=0", "limit=-1", "limit=%C2%B2"])
def test_a_filter_that_cannot_be_read_is_400(query: str) -> None:
    assert get(f"/api/calls?{query}")[0] == 400


def test_a_call_is_its_whole_timeline() -> None:
    wanted = documents().timelines[0]
    assert orjson.loads(get(f"/api/calls/{wanted['call_id']}")[2]) == wanted


def test_an_agent_is_his_whole_status() -> None:
    wanted = documents().agents[0]
    assert orjson.loads(get(f"/api/agents/{wanted['agent']}")[2]) == wanted


def test_a_day_of_an_agent_has_his_legs_and_sums() -> None:
    wanted = next(each for each in documents().agents if each["days"])
    day = orjson.loads(get(f"/api/agents/{wanted['agent']}/days/2026-03-02")[2])
    assert day["sums"] == wanted["days"]["2026-03-02"]
    logins = {leg["login"] for leg in day["legs"]}
    assert logins <= {wanted["login"], None}
    assert day["legs"]


@pytest.mark.parametrize(
    "path", ["/api/calls/none", "/api/agents/none", "/api/agents/none/days/2026-03-02", "/no"]
)
def test_what_is_not_there_is_404(path: str) -> None:
    assert get(path)[0] == 404


def test_queues_and_missed_are_the_figures_of_the_board() -> None:
    board = filled_board()
    assert rows("/api/queues", "queues") == board.queues()
    found = rows("/api/missed", "missed")
    assert [{**row, "caller": ""} for row in found] == [{**row, "caller": ""} for row in board.missed()]


def test_pages_load_nothing_from_elsewhere() -> None:
    status, headers, content = get("/")
    assert status == 200
    assert b"://" not in content.replace(b"http://www.w3.org", b"")
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_nothing_can_be_changed(method: str) -> None:
    answer = talk(Access(None), lambda ask, _board, _stream: ask("/api/calls", method))
    assert answer[0] == 405


# ---------------------------------------------------------------- who may look


@pytest.fixture(scope="module")
def users(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("board") / "users.json"
    add_user(path, "team", "desk", "right horse")
    add_user(path, "screen", "wall", "battery")
    return path


def basic(name: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (basic("team", "right horse"), 200),
        (basic("screen", "battery"), 200),
        (basic("team", "wrong"), 401),
        (basic("nobody", "right horse"), 401),
        ("Bearer abc", 401),
        ("Basic !!!", 401),
        (None, 401),
    ],
)
@pytest.mark.parametrize("path", ["/", "/api/calls", "/static/app.mjs"])
def test_a_user_is_required(users: Path, path: str, header: str | None, status: int) -> None:
    headers = {} if header is None else {"Authorization": header}
    answer = get(path, Access(read_users(users)), **headers)
    assert answer[0] == status
    if status == 401:
        assert answer[1]["www-authenticate"].startswith("Basic ")


def test_a_page_with_many_files_is_one_sign_in(users: Path) -> None:
    access = Access(read_users(users))
    headers = {"Authorization": basic("team", "right horse")}

    def conversation(ask: Ask, _board: Board, _stream: Stream) -> list[int]:
        with ThreadPoolExecutor(12) as pool:
            return [answer[0] for answer in pool.map(lambda _: ask("/static/app.mjs", **headers), range(12))]

    with structlog.testing.capture_logs() as lines:
        statuses = talk(access, conversation)

    assert statuses == [200] * 12
    assert [line["event"] for line in lines] == ["user signed in"]


def test_guesses_do_not_queue_up_without_end(users: Path) -> None:
    access = Access(read_users(users))

    def conversation(ask: Ask, _board: Board, _stream: Stream) -> set[int]:
        with ThreadPoolExecutor(80) as pool:
            guesses = [{"Authorization": basic("team", f"guess {n}")} for n in range(160)]
            return {answer[0] for answer in pool.map(lambda headers: ask("/", **headers), guesses)}

    assert talk(access, conversation) == {401, 429}


@pytest.mark.parametrize("path", ["/live", "/ready", "/metrics"])
def test_probes_need_no_user(users: Path, path: str) -> None:
    assert get(path, Access(read_users(users)))[0] == 200


def test_a_wall_gets_masked_numbers(users: Path) -> None:
    wanted = next(each for each in documents().timelines if each["direction"] == "incoming")
    access = Access(read_users(users))
    headers = {"Authorization": basic("screen", "battery")}
    for path in ("/api/calls?limit=1000", f"/api/calls/{wanted['call_id']}", "/api/missed", "/api/stream"):
        assert wanted["from"].encode() not in get(path, access, **headers)[2]


def test_another_site_cannot_read_an_open_board() -> None:
    assert get("/api/calls", Host="evil.example")[0] == 421


@pytest.mark.parametrize("host", ["localhost:8084", "127.0.0.1", "[::1]:8084"])
def test_this_host_can_read_an_open_board(host: str) -> None:
    assert get("/api/calls", Host=host)[0] == 200


def test_the_users_file_is_private_and_has_no_password(users: Path) -> None:
    assert users.stat().st_mode & 0o777 == 0o600
    assert b"horse" not in users.read_bytes()


@pytest.mark.parametrize("content", ["", "[]", '{"users": [{"name": "a"}]}'])
def test_a_users_file_that_cannot_be_used_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "users.json"
    path.write_text(content)
    with pytest.raises(CredentialsInvalid, match="not valid"):
        read_users(path)


# ---------------------------------------------------------------- stream


def events_of(content: bytes) -> Iterator[tuple[str, Json]]:
    for each in content.split(b"\n\n")[:-1]:
        yield each.partition(b"event: ")[2].partition(b"\n")[0].decode(), body_of(each)


def test_a_stream_begins_with_a_snapshot() -> None:
    def conversation(ask: Ask, board: Board, stream: Stream) -> bytes:
        return ask("/api/stream")[2]

    kind, body = next(events_of(talk(Access(None), conversation) + b"\n\n"))
    assert kind == "snapshot"
    assert body["boot"] == "boot"


def test_a_stream_resumes_after_the_last_frame() -> None:
    def conversation(ask: Ask, board: Board, stream: Stream) -> bytes:
        last = board.ring.last
        board.put_call("voipex", "1772438400.1", None)
        board.put_call("voipex", documents().timelines[0]["call_id"], None)
        board.tick()
        return ask(f"/api/stream?since=boot-{last}")[2]

    [(kind, body)] = events_of(talk(Access(None), conversation))
    assert kind == "change"
    assert body["calls"][f"voipex/{documents().timelines[0]['call_id']}"] is None
