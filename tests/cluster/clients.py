"""
The clients of the drill. It runs in a pod of the image, beside the bridges.

    clients.py send             post a simulated PBX's events on kept connections until /data/stop exists
    clients.py post PASSWORD    post one event to each bridge; print the statuses
    clients.py verify           compare what was acknowledged with what Kafka holds; print it as JSON, exit 1 if anything is missing

Each client keeps one connection and posts the events of its calls and agents in order; like any pool it replaces a connection that was closed
while idle. What is not answered with 2xx is counted as failed, and posted again until it is. /data/acknowledged has a line for every 2xx: number
and key of the event. /data/counts.json has the figures of each step; /data/step names the present one.
"""

import asyncio
import base64
import contextlib
import json
import socket
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from zlib import crc32

from sandbox.simulator import SimulationPlan, events

DATA: Final = Path("/data")
SERVICE: Final = "voipex-bridge"
PODS: Final = "voipex-bridge-pods"
PORT: Final = 8080
USER: Final = "site-7"
CLIENTS: Final = 200
CALLS_PER_S: Final = 6.0
AGENTS: Final = 24
NUMBER: Final = "DrillNumber"
"""A key of its own in every body; the bridge keeps it in `extra`."""

RESPONSE_S: Final = 30.0
AGAIN_S: Final = 0.5
"""After a failure, before the same event is posted again."""
EVERY_S: Final = 0.2
"""Between two readings of the step and the password, and two writings of the counts."""

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(slots=True)
class Step:
    """
    The figures of a step.

    slowest_s: the slowest response, from the request's first byte.
    """

    accepted: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    slowest_s: float = 0.0


class Clients:
    """All clients, and what they have in common: step, password, figures."""

    def __init__(self) -> None:
        self.password = ""
        self.step = ""
        self.steps: dict[str, Step] = defaultdict(Step)
        self.queues: list[asyncio.Queue[dict[str, str]]] = [asyncio.Queue() for _ in range(CLIENTS)]
        self._acknowledged = (DATA / "acknowledged").open("a", encoding="utf-8", buffering=1)

    async def run(self) -> None:
        while not self._read():  # noqa: ASYNC110 - a file is awaited
            await asyncio.sleep(EVERY_S)
        clients = [asyncio.create_task(self._client(queue)) for queue in self.queues]
        watching = asyncio.create_task(self._watch())
        await self._hand_out()
        await asyncio.gather(*(queue.join() for queue in self.queues))
        for task in (*clients, watching):
            task.cancel()
        await asyncio.gather(*clients, watching, return_exceptions=True)
        self._write(done=True)

    def _read(self) -> bool:
        with contextlib.suppress(FileNotFoundError):
            self.step = (DATA / "step").read_text().strip()
            self.password = (DATA / "password").read_text().strip()
        return bool(self.password)

    def _write(self, *, done: bool) -> None:
        steps = {
            name: {"accepted": step.accepted, "failed": dict(step.failed), "slowest_s": step.slowest_s}
            for name, step in self.steps.items()
        }
        new = DATA / "counts.new"
        new.write_text(json.dumps({"steps": steps, "done": done}))
        new.replace(DATA / "counts.json")

    async def _watch(self) -> None:
        while True:
            self._read()
            self._write(done=False)
            await asyncio.sleep(EVERY_S)

    async def _hand_out(self) -> None:
        """Give each event to the client of its call or agent, at its time."""
        plan = SimulationPlan(calls_per_s=CALLS_PER_S, agents=AGENTS, queues=3, started_at_s=int(time.time()))
        started = time.monotonic()
        for number, (at_s, body) in enumerate(events(plan)):
            early_s = started + at_s - time.monotonic()
            if early_s > 0:
                await asyncio.sleep(early_s)
            if (DATA / "stop").exists():
                return
            key = body.get("UniqueId") or body["Login"]
            self.queues[crc32(key.encode()) % CLIENTS].put_nowait({**body, NUMBER: str(number)})

    async def _client(self, queue: "asyncio.Queue[dict[str, str]]") -> None:
        connection: Connection | None = None
        while True:
            body = await queue.get()
            while True:
                step = self.steps[self.step]
                started = time.monotonic()
                try:
                    if connection is None or connection[0].at_eof():
                        connection = await asyncio.open_connection(SERVICE, PORT)
                    status, closes = await asyncio.wait_for(post(connection, body, self.password), RESPONSE_S)
                except (OSError, EOFError, TimeoutError) as error:
                    status, closes = type(error).__name__, True
                step.slowest_s = max(step.slowest_s, time.monotonic() - started)
                if closes and connection is not None:
                    connection[1].close()
                    connection = None
                if status.startswith("2"):
                    step.accepted += 1
                    self._acknowledged.write(f"{body[NUMBER]} {body.get('UniqueId') or ''}\n")
                    break
                step.failed[status] += 1
                await asyncio.sleep(AGAIN_S)
            queue.task_done()


async def post(connection: Connection, body: Mapping[str, str], password: str) -> tuple[str, bool]:
    """
    Post *body*; return the status, and whether the bridge closes the connection.

    Raises:
        OSError, EOFError: the connection broke before the response.
    """
    reader, writer = connection
    raw = json.dumps(body).encode()
    credentials = base64.b64encode(f"{USER}:{password}".encode()).decode()
    head = f"POST /voipex HTTP/1.1\r\nHost: {SERVICE}\r\nAuthorization: Basic {credentials}\r\nContent-Length: {len(raw)}\r\n\r\n"
    writer.write(head.encode() + raw)
    await writer.drain()
    answer = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    length = next(
        (line for line in answer.split("\r\n") if line.startswith("content-length:")), "content-length: 0"
    )
    await reader.readexactly(int(length.partition(":")[2]))
    return answer[9:12], "connection: close" in answer


async def post_to_each(password: str) -> list[str]:
    """Post an event that nobody counts to each pod of the headless Service; return the statuses."""
    found = await asyncio.get_running_loop().getaddrinfo(PODS, PORT, type=socket.SOCK_STREAM)
    statuses = []
    for address in sorted({str(each[4][0]) for each in found}):
        connection = await asyncio.open_connection(address, PORT)
        body = {"EventName": "Ringing", "UniqueId": f"{int(time.time())}.0", NUMBER: "-1"}
        statuses.append((await post(connection, body, password))[0])
        connection[1].close()
    return statuses


def records(topic: str) -> Iterator[dict[str, Any]]:
    """Yield the committed records of a topic, as `voipex-bridge tail` prints them."""
    command = ["voipex-bridge", "tail", topic, "--from-beginning", "--no-follow", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=sys.stderr) as process:
        assert process.stdout is not None
        for line in process.stdout:
            yield json.loads(line)
    if process.returncode:
        raise RuntimeError(f"voipex-bridge tail {topic} ended with {process.returncode}")


def verify() -> dict[str, Any]:
    """
    Compare what was acknowledged with the topics.

    missing_in_kafka: acknowledged events that no event topic has.
    missing_in_timelines: call events, acknowledged or not, whose event_id is not in the newest timeline of their call.
    invented: events in Kafka that no client has sent.
    published_twice: documents with a revision that was published before, or out of order.
    copies: records in Kafka with an event_id that was there before.
    """
    acknowledged = {int(line.split(" ")[0]) for line in (DATA / "acknowledged").read_text().splitlines()}
    found: set[int] = set()
    calls: dict[str, set[str]] = defaultdict(set)
    agents: set[str] = set()
    seen: set[str] = set()
    copies = 0
    for topic in ("voipex.call.events.v1", "voipex.agent.events.v1"):
        for record in records(topic):
            event = record["value"]
            number = int(event["extra"][NUMBER])
            if number < 0:
                continue
            copies += event["event_id"] in seen
            seen.add(event["event_id"])
            found.add(number)
            if topic == "voipex.call.events.v1":
                calls[record["key"]].add(event["event_id"])
            else:
                agents.add(record["key"])
    folded, twice = _timelines()
    status = {record["key"] for record in records("voipex.agent.status.v1")}
    return {
        "acknowledged": len(acknowledged),
        "calls": len(calls),
        "missing_in_kafka": len(acknowledged - found),
        "missing_in_timelines": sum(len(ids - folded.get(key, set())) for key, ids in calls.items()),
        "agents_without_status": len(agents - status),
        "invented": len([number for number in found - acknowledged if number > max(acknowledged)]),
        "published_twice": twice,
        "copies": copies,
    }


def _timelines() -> tuple[dict[str, set[str]], int]:
    """Return the event_ids of each call's newest timeline, and how many documents do not have the next revision."""
    folded: dict[str, set[str]] = {}
    revisions: dict[str, int] = {}
    twice = 0
    for record in records("voipex.call.timelines.v1"):
        document = record["value"]
        twice += document["revision"] <= revisions.get(record["key"], 0)
        revisions[record["key"]] = document["revision"]
        folded[record["key"]] = {event["event_id"] for event in document["events"]}
    return folded, twice


def main(mode: str, *arguments: str) -> int:
    """Run one of the three modes."""
    if mode == "send":
        asyncio.run(Clients().run())
        while True:  # the pod keeps its data for `verify`
            time.sleep(3600)
    if mode == "post":
        print(*asyncio.run(post_to_each(*arguments)))
        return 0
    result = verify()
    print(json.dumps(result))
    wrong = (
        "missing_in_kafka",
        "missing_in_timelines",
        "agents_without_status",
        "invented",
        "published_twice",
    )
    return 1 if any(result[name] for name in wrong) else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
