"""Turns of several PBXs on the event loop."""

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.auth.authenticate import Principal
from bridge.http.fairness import NOBODY, Turns
from bridge.http.ingress import Exchange, Ingress, WebhookEndpoint
from bridge.http.messages import Response
from bridge.http.receipts import ReceiptClock
from bridge.metrics import Metrics
from tests.factories import body
from tests.spool_fixtures import EVERYTHING, open_spool
from voipex.webhook import DOCUMENTED_KEYS


class Loop:
    """An event loop whose calls take a millisecond each."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.scheduled: deque[Callable[[], object]] = deque()
        self.called: list[str] = []
        self.turns = Turns(self.scheduled.append, quantum_s=0.004, clock=lambda: self.now_s)

    def call(self, name: str) -> None:
        self.now_s += 0.001
        self.called.append(name)

    def add(self, pbx: str, count: int) -> None:
        for n in range(count):
            self.turns.add(pbx, self.call, f"{pbx}{n}")

    def iterate(self) -> list[str]:
        """Run what is scheduled now, and return what was called."""
        self.called = []
        for _ in range(len(self.scheduled)):
            self.scheduled.popleft()()
        return self.called


def test_pbxs_take_turns() -> None:
    loop = Loop()
    loop.add("a", 3)
    loop.add("b", 1)

    assert loop.iterate() == ["a0", "b0", "a1", "a2"]
    assert not loop.scheduled


def test_a_crowd_ends_its_iteration_after_the_quantum() -> None:
    """What arrives meanwhile is next, behind one call of the crowd."""
    loop = Loop()
    loop.add("a", 100)
    first = loop.iterate()
    loop.add("b", 2)

    assert first == ["a0", "a1", "a2", "a3"]
    assert loop.iterate() == ["a4", "b0", "a5", "b1"]


def test_a_pbx_alone_has_all_turns() -> None:
    loop = Loop()
    loop.add("a", 10)

    assert [len(loop.iterate()) for _ in range(4)] == [4, 4, 2, 0]


def test_a_call_may_add_calls() -> None:
    loop = Loop()
    loop.turns.add("a", loop.add, "a", 2)

    assert loop.iterate() == ["a0", "a1"]


def test_the_first_call_of_a_pbx_need_not_wait() -> None:
    """As long as nothing of it waits: its calls keep their order."""
    loop = Loop()
    loop.add("a", 2)
    for pbx in ("a", "b", "b", "c"):
        loop.turns.call(pbx, loop.call, pbx)
    at_once = list(loop.called)

    assert at_once == ["b", "c"]
    assert loop.iterate() == ["a0", "b", "a1", "a"]
    loop.turns.call("b", loop.call, "b")
    assert loop.called[-1] == "b"


def test_a_call_that_raises_does_not_end_the_turns() -> None:
    loop = Loop()
    loop.turns.add("a", {}.pop, "missing")
    loop.add("a", 1)
    with pytest.raises(KeyError):
        loop.iterate()

    assert loop.iterate() == ["a0"]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 9), st.booleans()), max_size=30))
def test_every_call_has_its_turn_in_its_order(added: list[tuple[str, int, bool]]) -> None:
    """And no PBX has two turns while another waits."""
    loop = Loop()
    expected: dict[str, list[str]] = {"a": [], "b": [], "c": []}
    called: list[str] = []
    for pbx, count, iterates in added:
        loop.add(pbx, count)
        expected[pbx] += [f"{pbx}{n}" for n in range(count)]
        if iterates:
            called += loop.iterate()
    late = len(called)
    while loop.scheduled:
        iteration = loop.iterate()
        assert 1 <= len(iteration) <= 4
        called += iteration

    assert {pbx: [each for each in called if each[0] == pbx] for pbx in expected} == expected
    rest = called[late:]
    for n, (one, next_one) in enumerate(pairwise(rest)):
        assert one[0] != next_one[0] or {each[0] for each in rest[n:]} == {one[0]}


@pytest.mark.anyio
async def test_a_crowd_of_requests_leaves_another_pbx_in_front(tmp_path: Path) -> None:
    """400 requests of one PBX are here when one of the other arrives: with a real spool, and responses in turn too."""
    turns = Turns(asyncio.get_running_loop().call_soon)
    spool = open_spool(tmp_path / "spool", pbxs=("voipex", "brno"))
    endpoint = WebhookEndpoint(
        spool,
        lambda header: Principal("demo", (header or b"").decode(), "CZ", DOCUMENTED_KEYS),
        ReceiptClock(),
        Metrics("1"),
        partitions_of=lambda _: 1,
        max_body_bytes=1 << 16,
        turns=turns,
    )
    ingress = Ingress({b"/voipex": endpoint}, Metrics("1"))
    responses: list[tuple[str, int]] = []

    def post(pbx: str, number: int) -> None:
        exchange = ingress.open(b"POST", b"/voipex", {b"authorization": pbx.encode()}, "")
        assert isinstance(exchange, Exchange)

        def respond(response: Response) -> None:
            responses.append((pbx, response.status))

        turns.schedule(exchange, body(UniqueId=f"1.{number}"), respond)

    for n in range(400):
        post("voipex", n)
    post("brno", 400)
    async with asyncio.timeout(60):
        while len(responses) < 401:  # noqa: ASYNC110
            await asyncio.sleep(0)
    records = [each.record for each in await spool.take(*EVERYTHING)]
    await spool.close()

    assert set(responses) == {("voipex", 200), ("brno", 200)}
    assert responses.index(("brno", 200)) < 100
    assert [each.key for each in records if each.topic.startswith("voipex")] == [
        b"1.%d" % n for n in range(400)
    ]


def test_requests_that_name_no_pbx_share_a_turn() -> None:
    loop = Loop()
    answered: list[bytes] = []

    class FromPbx:
        pbx = "a"

        def __call__(self, content: bytes, respond: object) -> None:  # noqa: ARG002
            answered.append(content)

    for n in range(3):
        loop.turns.schedule(partial(lambda content, _: answered.append(content)), b"%d" % n, lambda _: None)
    loop.turns.schedule(FromPbx(), b"a", lambda _: None)
    loop.iterate()

    assert answered == [b"0", b"a", b"1", b"2"]
    assert NOBODY == ""
