"""
Golden outputs: what both processes emitted before, byte for byte. A change of the code's structure must not change a file here.

    tests/golden/scenarios/<name>.txt   every record that the services write for a scenario, and `explain` at each `as_of`
    tests/golden/responses.txt          responses of the HTTP endpoint to a table of requests
    tests/golden/metrics.txt            names, types and label names of all metrics of both processes

`python -m tests.unit.test_golden` writes the files again; a change of behaviour commits them with its reason. Left out is what
differs between two runs or is meant to change: the date, access tokens, and the version of the folds. docs/contract is generated and
held to the code by `make check`.

What is imported from `bridge` and `consumers` is used in the first section only.
"""

import http.client
import re
import socket
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, count
from pathlib import Path
from typing import Any, ClassVar, Final, NamedTuple

import orjson
import pytest
from prometheus_client import CollectorRegistry

from bridge.metrics import Metrics as BridgeMetrics
from consumers.agents.projection import AgentProjection
from consumers.calls.projection import CallProjection
from consumers.engine.batch import Batch
from consumers.engine.metrics import Metrics as ConsumerMetrics
from consumers.engine.metrics import ServiceSnapshot
from consumers.engine.records import DueState, InputRecord, ProducerRecord, Source, TaskId, TopicPartition
from consumers.explain.replay import explain
from consumers.explain.trace import read_trace
from tests.processes import BridgeProcess, free_port
from tests.unit.consumers.tally import fired, folded
from tests.unit.consumers.traces import lines_of, moment, scenario, scenario_names
from voipex.events import Event
from voipex.normalize import NormalizedEvent
from voipex.records import encode
from voipex.timestamps import parse_rfc3339
from voipex.topics import AGENT_ACTIVITY, AGENT_EVENTS, AGENT_LINES, CALL_EVENTS, topic_name

GOLDEN: Final = Path(__file__).parents[1] / "golden"


# ================================================================ the services

TIME_ZONE: Final = "Europe/Prague"
UNPINNED_HEADERS: Final = {"bridge-fold-version"}


class Read(NamedTuple):
    """A record as a consumer reads it."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]


class Service:
    """One consumer of one PBX with a single partition; its states are in memory."""

    def __init__(self, projection: Any, pbx: str) -> None:
        self._batch: Batch[Any] = Batch(projection, TaskId(pbx, 0), partitions=1)
        self._changelog = topic_name(pbx, projection.changelog)
        self._states: dict[str, DueState] = {}
        self._due_us: dict[str, int] = {}
        self._source: Source | None = None

    def process(self, kind: Any, record: Read, topic: str) -> list[ProducerRecord]:
        """Fold one record; return the records that are published."""
        one = InputRecord(kind, record)
        values = {key: self._states[key].value for key in self._batch.keys([one]) if key in self._states}
        self._source = Source(topic, record.offset)
        return self._applied(folded(self._batch, [one], values))

    def fire(self, due_us: int) -> list[ProducerRecord]:
        """Fire the timers of a moment; return the records that are published."""
        keys = sorted(key for key, at_us in self._due_us.items() if at_us <= due_us)
        return self._applied(fired(self._batch, [self._states[key] for key in keys], due_us, self._source))

    def next_due_us(self) -> int | None:
        return min(self._due_us.values(), default=None)

    def _applied(self, overlay: Any) -> list[ProducerRecord]:
        for key, change in overlay.changes.items():
            self._states.pop(key, None)
            self._due_us.pop(key, None)
            if change.value is not None:
                self._states[key] = DueState(key, change.status, change.value)
            if change.due_us is not None:
                self._due_us[key] = change.due_us
        records = [record for batch in overlay.outputs.values() for record in batch]
        return [record for record in records if record.topic != self._changelog]


def events_of(lines: Iterable[bytes]) -> list[tuple[int, Event]]:
    """Events of a trace with the microsecond of their receipt, in this order."""
    return [(each.at_us, each.event) for each in read_trace(lines).received]


def written(pbx: str, events: Iterable[tuple[int, Event]], until_us: int) -> Iterator[Any]:
    """Every record of one PBX, in the order of writing: the bridge's, then what the consumers publish for it, timers in between."""
    calls, agents = Service(CallProjection(), pbx), Service(AgentProjection(TIME_ZONE), pbx)
    offsets: dict[str, Iterator[int]] = {}

    def consumed(kind: Any, record: Any) -> Iterator[Any]:
        yield record
        offset = next(offsets.setdefault(record.topic, count()))
        read = Read(offset, record.timestamp_ms, record.key, record.value, record.headers)
        yield from onwards((calls if kind == CALL_EVENTS else agents).process(kind, read, record.topic))

    def onwards(outputs: Iterable[ProducerRecord]) -> Iterator[Any]:
        for output in outputs:
            kind = {topic_name(pbx, each): each for each in (AGENT_ACTIVITY, AGENT_LINES)}.get(output.topic)
            if kind is not None:
                yield from consumed(kind, output)
            else:
                yield output

    def fire_until(end_us: int) -> Iterator[Any]:
        while True:
            due = [(at_us, service) for service in (calls, agents) if (at_us := service.next_due_us())]
            if not due or min(at_us for at_us, _ in due) > end_us:
                return
            due_us, service = min(due, key=lambda each: each[0])
            yield from onwards(service.fire(due_us))

    for at_us, event in events:
        yield from fire_until(at_us - 1)  # an event at a deadline precedes it
        record = encode(NormalizedEvent.from_event(event), at_us // 1000, partitions=1)
        kind = AGENT_EVENTS if record.topic == topic_name(pbx, AGENT_EVENTS) else CALL_EVENTS
        yield from consumed(kind, record)
    yield from fire_until(until_us)


def explained(lines: Iterable[bytes], as_of: str) -> bytes:
    """The documents of all calls and agents at a moment, as `voipex-consumers explain` shows them."""
    return orjson.dumps(explain(read_trace(lines), parse_rfc3339(as_of), TIME_ZONE).to_json())


def registries() -> Mapping[str, CollectorRegistry]:
    """The registries of both processes with every metric."""
    bridge, consumers = BridgeMetrics("0"), ConsumerMetrics("0")
    bridge.watch_certificate(lambda: 0.0)
    bridge.watch_spool(_NoSpool, lambda: 0, lambda: 0)
    bridge.watch_clock(lambda: 0.0, lambda: {"x": 0.0})
    bridge.watch_topics(lambda: {"missing": 0})
    bridge.watch_probe(lambda: False)
    consumers.watch(
        lambda: [
            ServiceSnapshot(
                service="agents",
                group="group",
                lag={TopicPartition("topic", 0): 0},
                partitions={"running": 1},
                keys={("pbx", "x"): 1},
                partitions_with_due_timers=0,
                store_bytes=0,
                topic_faults={"missing": 0},
            )
        ]
    )
    return {"bridge": bridge.registry, "consumers": consumers.registry}


class _NoSpool:
    appended_total = acknowledged_total = bytes = limit_bytes = corrupt_frames_total = 0
    oldest_waiting_ms = None
    stalled_s = 0.0
    used_bytes_by_pbx: ClassVar = {"x": 0}
    refused_by_pbx: ClassVar = {"x": 0}


# ================================================================ scenarios


def scenario_output(name: str) -> str:
    recorded = scenario(name)
    lines = lines_of(recorded)
    moments = [moment(recorded["base"], expected["as_of"]) for expected in recorded["expect"]]
    by_pbx: dict[str, list[tuple[int, Event]]] = {}
    for at_us, event in events_of(lines):
        by_pbx.setdefault(event.pbx, []).append((at_us, event))
    until_us = max(map(parse_rfc3339, moments))
    rows = [
        _row(record) for pbx, events in sorted(by_pbx.items()) for record in written(pbx, events, until_us)
    ]
    rows += [f"explain {as_of}\n{explained(lines, as_of).decode()}\n" for as_of in moments]
    return "\n".join(rows)


def _row(record: Any) -> str:
    headers = "\n".join(
        f"  {name}: {value.decode()}" for name, value in record.headers if name not in UNPINNED_HEADERS
    )
    value = "(tombstone)" if record.value is None else record.value.decode()
    return (
        f"{record.topic} {record.partition} {record.key.decode()} {record.timestamp_ms}\n{headers}\n{value}\n"
    )


# ================================================================ responses

EVENT: Final = b'{"EventName":"Ringing","UniqueId":"1412256225.1941","Line":"444"}'
MAX_BODY_BYTES: Final = 128 * 1024
SPOOL_LIMIT_BYTES: Final = 1024 * 1024
WRONG: Final = b"Authorization: Basic c2l0ZS03Ondyb25n"
FORM: Final = b"Content-Type: application/x-www-form-urlencoded"


def post(path: str, *headers: bytes, body: bytes = EVENT, length: int | None = None) -> bytes:
    size = b"Content-Length: %d" % (len(body) if length is None else length)
    return _request(b"POST", path, size, *headers) + body


def other(method: bytes, path: str, *headers: bytes) -> bytes:
    return _request(method, path, *headers)


def chunked(path: str, *headers: bytes, body: bytes = EVENT) -> bytes:
    return _request(b"POST", path, b"Transfer-Encoding: chunked", *headers) + b"%x\r\n%b\r\n0\r\n\r\n" % (
        len(body),
        body,
    )


def _request(method: bytes, path: str, *headers: bytes, version: bytes = b"HTTP/1.1") -> bytes:
    return b"\r\n".join((b"%b %b %b" % (method, path.encode(), version), b"Host: bridge", *headers, b"", b""))


def accepted(basic: bytes, bearer: bytes) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of each request; `basic` and `bearer` are good Authorization headers."""
    yield "accepted", post("/voipex", basic)
    yield "accepted, trailing slash", post("/voipex/", basic)
    yield "accepted, chunked", chunked("/voipex", basic)
    yield "accepted, expects 100", post("/voipex", basic, b"Expect: 100-continue")
    yield "accepted, then close", post("/voipex", basic, b"Connection: close")
    yield (
        "accepted, HTTP/1.0",
        _request(b"POST", "/voipex", b"Content-Length: %d" % len(EVENT), basic, version=b"HTTP/1.0") + EVENT,
    )
    yield "accepted, query", post("/voipex?site=7", basic)
    yield "accepted, identity encoding", post("/voipex", basic, b"Content-Encoding: identity")
    yield "accepted, bearer", post("/voipex", bearer)
    yield (
        "accepted, relaxed notation",
        post("/voipex", basic, body=b"{EventName: 'Ringing', UniqueId: '1.2'}"),
    )
    yield "accepted, agent event", post("/voipex", basic, body=b'{"EventName":"AgentLogin","Login":"ada"}')


def rejected(basic: bytes, bearer: bytes) -> Iterator[tuple[str, bytes]]:
    yield "400 not JSON", post("/voipex", basic, body=b"not json")
    yield "400 empty", post("/voipex", basic, body=b"")
    yield "400 not JSON, chunked", chunked("/voipex", basic, body=b"[")
    yield "400 malformed request line", b"POST\r\n\r\n"
    yield "400 two lengths", post("/voipex", basic, b"Content-Length: 1")
    yield "400 length beside chunks", chunked("/voipex", basic, b"Content-Length: 5")
    yield (
        "400 other transfer coding",
        _request(b"POST", "/voipex", basic, b"Transfer-Encoding: gzip, chunked") + b"0\r\n\r\n",
    )
    yield "401 no credentials", post("/voipex")
    yield "401 no credentials, chunked", chunked("/voipex")
    yield "401 wrong password", post("/voipex", WRONG)
    yield "401 unknown user", post("/voipex", b"Authorization: Basic bm9ib2R5OndobwA=")
    yield "401 not base64", post("/voipex", b"Authorization: Basic ***")
    yield "401 other scheme", post("/voipex", b"Authorization: Digest x")
    yield "401 two Authorization headers", post("/voipex", basic, basic)
    yield "401 foreign token", post("/voipex", b"Authorization: Bearer vpt1~site-7~1~9999999999~AAAA")
    yield "401 changed token", post("/voipex", bearer + b"A")
    yield "404 root", post("/", basic)
    yield "404 below", post("/voipex/x", basic)
    yield "404 GET", other(b"GET", "/favicon.ico")
    for method in (b"GET", b"HEAD", b"PUT", b"PATCH", b"DELETE", b"OPTIONS"):
        yield f"405 {method.decode()}", other(method, "/voipex", basic)
    yield "413 announced", post("/voipex", basic, body=b"", length=MAX_BODY_BYTES + 1)
    yield "413 chunked", chunked("/voipex", basic, body=b"x" * (MAX_BODY_BYTES + 1))
    yield "415 gzip", post("/voipex", basic, b"Content-Encoding: gzip")
    yield "415 gzip, chunked", chunked("/voipex", basic, b"Content-Encoding: gzip")
    yield "422 no object", post("/voipex", basic, body=b"[]")
    yield "422 no EventName", post("/voipex", basic, body=b"{}")
    yield "422 no key", post("/voipex", basic, body=b'{"EventName":"Ringing"}')
    yield "422 nested too deeply", post("/voipex", basic, body=b'{"a":' * 200 + b"1" + b"}" * 200)
    yield "431 long header", post("/voipex", basic, b"X-Long: " + b"x" * 40_000)


def for_tokens(basic: bytes, password: str) -> Iterator[tuple[str, bytes]]:
    client = f"grant_type=client_credentials&client_id=site-7&client_secret={password}".encode()
    as_json = orjson.dumps(
        {"grant_type": "client_credentials", "client_id": "site-7", "client_secret": password}
    )

    yield "token: form", post("/token", FORM, body=client)
    yield "token: JSON", post("/token", body=as_json)
    yield "token: basic", post("/token", basic, FORM, body=b"grant_type=client_credentials")
    yield "token: chunked", chunked("/token", FORM, body=client)
    yield "token: 400 empty", post("/token", body=b"")
    yield "token: 400 not JSON", post("/token", body=b"{")
    yield (
        "token: 400 other grant",
        post("/token", FORM, body=client.replace(b"client_credentials", b"password")),
    )
    yield "token: 400 no grant", post("/token", basic, FORM, body=b"scope=all")
    yield "token: 400 client in two places", post("/token", basic, FORM, body=client)
    yield "token: 401 no client", post("/token", FORM, body=b"grant_type=client_credentials")
    yield "token: 401 wrong secret", post("/token", FORM, body=client + b"x")
    yield "token: 401 wrong basic", post("/token", WRONG, FORM, body=b"grant_type=client_credentials")
    yield "token: 405", other(b"GET", "/token", basic)
    yield "token: 404 trailing slash", post("/token/", FORM, body=client)
    yield "token: 413", post("/token", FORM, body=b"", length=5000)
    yield "token: 415", post("/token", FORM, b"Content-Encoding: gzip", body=client)


def when_full(basic: bytes) -> Iterator[tuple[str, bytes]]:
    yield "503 spool full", post("/voipex", basic)
    yield "503 spool full, chunked", chunked("/voipex", basic)
    yield "503 spool full, not JSON", post("/voipex", basic, body=b"not json")
    yield "503 spool full, but 401", post("/voipex")


def responses_output(folder: Path) -> str:
    """The responses of a bridge without Kafka, one connection for each."""
    nowhere = f"127.0.0.1:{free_port()}"
    limits = {"VOIPEX_MAX_BODY_BYTES": MAX_BODY_BYTES, "VOIPEX_SPOOL_LIMIT_BYTES": SPOOL_LIMIT_BYTES}
    with BridgeProcess(
        folder, nowhere, **{name: str(limit) for name, limit in limits.items()}
    ).start() as bridge:
        basic = f"Authorization: {bridge.authorization()['Authorization']}".encode()
        issued = _response(
            bridge.port, post("/token", basic, FORM, body=b"grant_type=client_credentials"), hide_token=False
        )
        bearer = b"Authorization: Bearer " + issued.split('"access_token":"')[1].split('"')[0].encode()
        requests = chain(accepted(basic, bearer), rejected(basic, bearer), for_tokens(basic, bridge.password))
        shown = [f"== {name}\n{_response(bridge.port, request)}\n" for name, request in requests]
        for size in (MAX_BODY_BYTES - 1000, 10_000, 1000, 0):
            filler = orjson.dumps({"EventName": "Ringing", "UniqueId": "1.1", "Text": "x" * size})
            statuses = {bridge.post(filler)[0] for _ in range(20)}
            assert 503 in statuses, f"{size} bytes: {statuses}"
        shown += [f"== {name}\n{_response(bridge.port, request)}\n" for name, request in when_full(basic)]
    return "\n".join(shown)


def _response(port: int, request: bytes, *, hide_token: bool = True) -> str:
    """
    Status, headers by name without the date, and body; an interim response is skipped. The reason phrase means nothing (RFC 9112, 4)
    and Python's table of them changes.
    """
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(request)
        response = http.client.HTTPResponse(connection, method=request.split(b" ", 1)[0].decode())
        try:
            response.begin()
            body = response.read().decode()
            headers = [(name.lower(), value) for name, value in response.getheaders()]
        finally:
            response.close()
    if hide_token:
        body = re.sub(r'"access_token":"[^"]+"', '"access_token":"(hidden)"', body)
        headers = [
            (name, "(of a token)" if name == "content-length" and "(hidden)" in body else value)
            for name, value in headers
        ]
    lines = sorted(f"{name}: {value}" for name, value in headers if name != "date")
    return "\n".join(
        (f"HTTP/{response.version / 10} {response.status}", *lines, *(["", body] if body else []))
    )


# ================================================================ metrics


def metrics_output() -> str:
    return "\n".join(
        f"{process} {line}" for process, registry in registries().items() for line in _families(registry)
    ) + "\n"  # fmt: skip


def _families(registry: CollectorRegistry) -> list[str]:
    """`name type label,label` of each family, sorted."""
    for collector in list(registry._collector_to_names):
        labels = getattr(collector, "_labelnames", None) or getattr(collector, "_labels", ())
        if labels:  # without a child there is no sample that would show them
            make_child: Any = getattr(collector, "labels", None) or getattr(collector, "inc", None)
            make_child(*labels)
    return sorted(
        f"{family.name} {family.type} {','.join(sorted({label for sample in family.samples for label in sample.labels}))}".rstrip()
        for family in registry.collect()
    )


# ================================================================ comparing and writing


def _outputs(folder: Path) -> Iterator[tuple[str, Callable[[], str]]]:
    """File below tests/golden, and how its content is made."""
    for name in scenario_names():
        yield f"scenarios/{name}.txt", lambda name=name: scenario_output(name)  # type: ignore[misc]
    yield "responses.txt", lambda: responses_output(folder)
    yield "metrics.txt", metrics_output


def golden(file: str) -> str:
    return (GOLDEN / file).read_bytes().decode()


@pytest.mark.parametrize("name", scenario_names())
def test_records_and_documents_of_a_scenario(name: str) -> None:
    assert scenario_output(name) == golden(f"scenarios/{name}.txt")


@pytest.mark.process
def test_responses_of_the_http_endpoint(tmp_path: Path) -> None:
    assert responses_output(tmp_path) == golden("responses.txt")


def test_names_types_and_labels_of_all_metrics() -> None:
    assert metrics_output() == golden("metrics.txt")


def test_no_golden_file_is_left_over(tmp_path: Path) -> None:
    """A file without its scenario compares nothing."""
    files = {str(path.relative_to(GOLDEN)) for path in GOLDEN.rglob("*") if path.is_file()}
    assert files == {file for file, _ in _outputs(tmp_path)}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for file, output in _outputs(Path(folder)):
            path = GOLDEN / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(output().encode())
            print(path.relative_to(GOLDEN.parents[1]))


if __name__ == "__main__":
    main()
